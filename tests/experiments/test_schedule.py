"""What a scheduler makes of the learning rate, seen without touching it."""

from __future__ import annotations

import gc

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from gradcheck_kit.experiments import NotApplicable
from gradcheck_kit.experiments.schedule import look_at_schedule


def scheduled(probe_of, blobs, *make):
    """The probe of an optimizer at 0.1, and its schedulers, which have to live somewhere."""
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    kept = [one(optimizer) for one in make]
    return probe_of(model, train=blobs(), loss_fn=nn.CrossEntropyLoss(), optimizer=optimizer), optimizer, kept


def test_follows_a_scheduler_without_stepping_it(probe_of, blobs):
    probe, optimizer, (scheduler,) = scheduled(probe_of, blobs, lambda o: lr_scheduler.StepLR(o, 20, gamma=0.1))
    before = scheduler.state_dict()
    found = look_at_schedule(probe)
    assert found.scheduler == "StepLR"
    assert found.rates[:20] == pytest.approx((0.1,) * 20)
    assert found.rates[20:40] == pytest.approx((0.01,) * 20)
    assert scheduler.state_dict() == before
    assert optimizer.param_groups[0]["lr"] == 0.1


@pytest.mark.parametrize(
    ("divide", "zeros"), [(lambda step: min(1.0, step / 10), 1), (lambda step: min(1, step // 1000), 61)]
)
def test_tells_a_warm_up_from_one_that_never_comes(probe_of, blobs, divide, zeros):
    probe, *_kept = scheduled(probe_of, blobs, lambda o: lr_scheduler.LambdaLR(o, divide))
    assert look_at_schedule(probe).rates.count(0.0) == zeros


def test_follows_a_warm_up_to_its_end_where_that_is_far(probe_of, blobs):
    probe, *_kept = scheduled(probe_of, blobs, lambda o: lr_scheduler.LambdaLR(o, lambda s: min(1.0, (s + 1) / 2000)))
    found = look_at_schedule(probe)
    assert (found.warm_up, found.highest, found.batches) == (1999, pytest.approx(0.1), len(probe.prepared.train))


def test_follows_no_warm_up_further_that_is_nearly_over(probe_of, blobs):
    probe, *_kept = scheduled(probe_of, blobs, lambda o: lr_scheduler.LambdaLR(o, lambda s: min(1.0, (s + 1) / 100)))
    assert look_at_schedule(probe).warm_up == 0


def test_follows_schedulers_within_a_scheduler(probe_of, blobs):
    def chained(optimizer):
        warm_up = lr_scheduler.LinearLR(optimizer, 0.1, total_iters=5)
        return lr_scheduler.SequentialLR(optimizer, [warm_up, lr_scheduler.ConstantLR(optimizer, 1.0)], [5])

    probe, _, _kept = scheduled(probe_of, blobs, chained)
    found = look_at_schedule(probe)
    assert found.scheduler == "SequentialLR"
    assert found.rates[0] == pytest.approx(0.01)
    assert found.rates[-1] == pytest.approx(0.1)


@pytest.mark.parametrize("make", [(), (lr_scheduler.ReduceLROnPlateau,)])
def test_is_not_made_without_one_that_can_be_followed(probe_of, blobs, make):
    probe, *_kept = scheduled(probe_of, blobs, *make)
    with pytest.raises(NotApplicable):
        look_at_schedule(probe)


def test_says_that_nobody_can_step_a_scheduler_that_is_gone(probe_of, blobs):
    probe, _, kept = scheduled(probe_of, blobs, lambda o: lr_scheduler.LambdaLR(o, lambda step: step // 1000))
    kept.clear()
    gc.collect()
    found = look_at_schedule(probe)
    assert (found.scheduler, found.rates) == ("", (0.0,))
