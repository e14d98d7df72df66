"""What a learning-rate scheduler has set, and that nobody steps it."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from gradcheck_kit.target import ProbeSettings, Target
from gradcheck_kit.target.prepare import prepare


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
