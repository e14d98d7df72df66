"""The test loss along the run: the same run, looked at; and only where it may have learned by heart."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from gradcheck_kit.experiments import NotApplicable
from gradcheck_kit.experiments.evaluation import evaluate
from gradcheck_kit.experiments.generalization import look_at_generalization
from gradcheck_kit.experiments.training import train
from gradcheck_kit.facts import Evaluation, Training, signed_rank


def noisy(n, seed, batch=16):
    """Labels that a direction tells, four in five."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 10, generator=generator)
    y = (3 * x[:, 0] + 3 * torch.randn(n, generator=generator) > 0).long()
    return DataLoader(TensorDataset(x, y), batch, shuffle=True)


def look(probe_of, mlp, samples, *, test=True, layers=None, **settings):
    model = mlp(10, 256, 256, 2) if layers is None else layers
    probe = probe_of(
        model,
        train=noisy(samples, 1),
        test=noisy(256, 2) if test else None,
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=torch.optim.Adam(model.parameters(), lr=0.01),
        **{"steps": 60, **settings},
    )
    probe.facts = {}
    probe.facts[Training] = train(probe)
    probe.facts[Evaluation] = evaluate(probe)
    return look_at_generalization(probe), probe.facts


def test_follows_the_test_loss_of_a_run_over_little_data(probe_of, mlp):
    facts, before = look(probe_of, mlp, 64)
    assert (facts.epochs, facts.training_samples, facts.samples) == (15.0, 64, 256)
    assert (facts.steps[0], facts.steps[-1], len(facts.steps)) == (0, 60, 13)
    assert 0 < facts.best < 12
    assert facts.losses[-1] > 1.1 * facts.losses[facts.best]
    assert facts.change(facts.best, 12) > 2.33
    assert facts.accuracies[-1] == before[Evaluation].accuracy
    assert facts.training_losses[-1] < 0.1


def test_the_run_ends_where_the_training_run_did(probe_of, mlp):
    """Dropout, BatchNorm and the order of the batches are those of the training run: looking changes nothing."""
    layers = nn.Sequential(nn.Linear(10, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 2))
    facts, before = look(probe_of, mlp, 32, layers=layers)
    assert facts.training_losses[0] == before[Training].losses[0]
    assert facts.training_losses[-1] == pytest.approx(sum(before[Training].losses[-5:]) / 5)


def test_makes_no_second_run_where_the_data_was_seen_about_once(probe_of, mlp):
    facts, _ = look(probe_of, mlp, 960)
    assert facts.epochs == 1.0
    assert facts.steps == ()


def test_makes_no_second_run_with_quick(probe_of, mlp):
    facts, _ = look(probe_of, mlp, 32, quick=True)
    assert facts.steps == ()


def test_says_nothing_without_test_data(probe_of, mlp):
    with pytest.raises(NotApplicable, match="there is no test data"):
        look(probe_of, mlp, 32, test=False)


def test_signed_ranks_weigh_large_differences_more():
    assert signed_rank([1.0] * 20) == pytest.approx(3.92, abs=0.01)
    assert signed_rank([-0.1] * 8 + [5.0] * 12) > 2
    assert signed_rank([0.0, 1.0, -1.0]) == 0.0
    assert signed_rank([float("nan"), *[1.0] * 9]) != signed_rank([1.0] * 10)
