"""Half of the training batches, and whether what is learned of them holds for the other half."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from gradcheck_kit.experiments import NotApplicable
from gradcheck_kit.experiments.evaluation import evaluate
from gradcheck_kit.experiments.held_out import look_at_held_out
from gradcheck_kit.experiments.learning_rate_response import respond_to_learning_rates
from gradcheck_kit.experiments.training import train
from gradcheck_kit.facts import Evaluation, LearningRateResponse, Training


def rows(n=512, *, shuffled, seed=1):
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(0, 4, (n,), generator=generator)
    x = 2 * nn.functional.one_hot(y, 8).float() + torch.randn(n, 8, generator=generator)
    return TensorDataset(x, y[torch.randperm(n, generator=generator)] if shuffled else y)


def held_out(probe_of, mlp, data, *, test=None, lr=1e-2, **settings):
    torch.manual_seed(0)
    model = mlp(8, 128, 4)
    probe = probe_of(
        model,
        train=DataLoader(data, 32, shuffle=True),
        test=None if test is None else DataLoader(test, 64),
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=lr),
        steps=60,
        **settings,
    )
    probe.facts = {Training: train(probe)}
    if test is not None:
        probe.facts[Evaluation] = evaluate(probe)
    if probe.facts[Training].harm:
        probe.facts[LearningRateResponse] = respond_to_learning_rates(probe)
    return look_at_held_out(probe), probe.facts[Training]


def test_labels_that_were_shuffled_are_learned_by_heart(probe_of, mlp):
    found, run = held_out(probe_of, mlp, rows(shuffled=True), test=rows(shuffled=False, seed=2))
    assert found.trained_on < 0.9 * run.constant_loss < found.others
    assert found.samples == 256
    assert found.says_nothing(run.constant_loss)


def test_what_is_learned_slowly_holds_for_the_other_half(probe_of, mlp):
    found, run = held_out(probe_of, mlp, rows(shuffled=False), lr=1e-5)
    assert found.factor > 1
    assert found.correct > 150
    assert not found.says_nothing(run.constant_loss)


@pytest.mark.parametrize(
    ("data", "settings", "reason"),
    [
        (rows(shuffled=False), {}, "is worth more than a constant prediction"),
        (rows(96, shuffled=True), {"lr": 1e-5, "quick": True}, "left out by --quick"),
        (rows(96, shuffled=True), {"lr": 3e-4}, "fewer than four batches"),
    ],
    ids=["learns", "quick", "three batches"],
)
def test_is_not_made_without_need_or_batches(probe_of, mlp, data, settings, reason):
    with pytest.raises(NotApplicable, match=reason):
        held_out(probe_of, mlp, data, **settings)
