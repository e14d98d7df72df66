"""What a learning-rate scheduler has set, and that nobody steps it."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from gradcheck_kit.target import ProbeSettings, Target
from gradcheck_kit.target.prepare import prepare
from gradcheck_kit.target.workspace import workspace


def notes(schedule=None, **settings):
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    if schedule is not None:
        schedule(optimizer)
    data = [(torch.randn(8, 4), torch.randint(2, (8,)))]
    return prepare(Target(model, data, None, nn.CrossEntropyLoss(), optimizer), ProbeSettings(**settings)).supplied


@pytest.mark.parametrize(
    "schedule",
    [
        lambda optimizer: lr_scheduler.StepLR(optimizer, 10),
        lambda optimizer: lr_scheduler.LambdaLR(optimizer, lambda step: min(1, step // 1000)),  # holds the rate at 0
    ],
)
def test_the_report_says_that_a_scheduler_is_not_stepped(schedule):
    assert notes(schedule) == ("the learning-rate scheduler is not stepped: the probe trains at 0.1 throughout",)


def test_the_rate_is_that_at_which_the_probe_starts():
    (note,) = notes(lambda optimizer: lr_scheduler.OneCycleLR(optimizer, max_lr=0.5, total_steps=100))
    assert note.endswith("trains at 0.02 throughout")


def test_nothing_is_said_without_a_scheduler_or_where_the_rate_is_chosen():
    assert notes() == ()
    assert notes(lambda optimizer: lr_scheduler.StepLR(optimizer, 10), lr=0.01) == ()


def noam(optimizer):
    """The schedule of "Attention is all you need": the optimizer's own rate is only a factor."""
    return lr_scheduler.LambdaLR(optimizer, lambda s: 64**-0.5 * min((s + 1) ** -0.5, (s + 1) * 400**-1.5))


def test_the_probe_trains_at_the_most_that_a_schedule_comes_to():
    (note,) = notes_of(noam)
    assert note.endswith(f"trains at {0.1 * 64**-0.5 * 400**-0.5:g} throughout")
    (note,) = notes_of(lambda optimizer: lr_scheduler.LinearLR(optimizer, 0.01, total_iters=50))
    assert note.endswith("trains at 0.1 throughout")


def notes_of(schedule):
    """As `notes`, of a scheduler that lives."""
    kept = []
    return notes(lambda optimizer: kept.append(schedule(optimizer)))


def hooked(*, limit):
    """An optimizer that clips before each step and steps its scheduler after it."""
    torch.manual_seed(0)
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    scheduler = lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    optimizer.register_step_pre_hook(lambda *_: nn.utils.clip_grad_norm_(model.parameters(), limit) and None)
    optimizer.register_step_post_hook(lambda *_: scheduler.step())
    data = [(torch.randn(8, 4), torch.randint(2, (8,)))]
    target = Target(model, data, None, nn.CrossEntropyLoss(), optimizer)
    return prepare(target, ProbeSettings()), model, optimizer, scheduler


def test_hooks_of_the_optimizer_act_on_what_is_probed_and_leave_no_trace():
    prepared, model, optimizer, scheduler = hooked(limit=1e-3)
    before, state = [p.detach().clone() for p in model.parameters()], dict(vars(scheduler))
    batch = next(iter(prepared.train))
    rates = []
    with workspace(prepared) as work:
        for _ in range(3):
            work.clear_gradients()
            work.backward(work.step(batch)[1])
            work.update(batch)
            rates.append(work.optimizers[0].param_groups[0]["lr"])
        moved = [(p.detach() - was).norm() for p, was in zip(work.model.parameters(), before, strict=True)]
    assert rates == [0.5, 0.25, 0.125]
    assert max(moved) <= 2e-3
    assert all(map(torch.equal, model.parameters(), before))
    assert vars(scheduler) == state
    assert optimizer.param_groups[0]["lr"] == 1.0
