"""How far the loss swings, and the calmer run: only where it may matter."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from gradcheck_kit import testing
from gradcheck_kit.experiments.oscillation import look_at_oscillation
from gradcheck_kit.experiments.training import train
from gradcheck_kit.facts import Training, swing


@pytest.fixture
def curve():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(256, 4, generator=generator)
    return DataLoader(TensorDataset(x, torch.tanh(x @ torch.ones(4, 1)) + x[:, :1] ** 2), 64, shuffle=True)


def look(probe_of, mlp, data, make, **settings):
    model = mlp(4, 32, 1, activation=nn.Tanh)
    optimizer = make(model.parameters())
    probe = probe_of(model, train=data, loss_fn=nn.MSELoss(), optimizer=optimizer, **{"steps": 60, **settings})
    probe.facts = {Training: train(probe)}
    return look_at_oscillation(probe), optimizer


def test_a_usual_momentum_and_a_smooth_loss_cost_no_second_run(probe_of, mlp, curve):
    facts, _ = look(probe_of, mlp, curve, lambda p: torch.optim.Adam(p, lr=1e-3))
    assert (facts.momentum, facts.momentum_name) == (0.9, "betas")
    assert facts.calm_losses == ()


def test_no_momentum_is_none(probe_of, mlp, curve):
    facts, _ = look(probe_of, mlp, curve, lambda p: torch.optim.SGD(p, lr=1e-3))
    assert facts.momentum is None


def test_a_high_momentum_is_lowered_in_a_second_run(probe_of, mlp, curve):
    facts, optimizer = look(probe_of, mlp, curve, lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.99))
    assert (facts.momentum, facts.momentum_name, facts.calm_momentum) == (0.99, "momentum", 0.9)
    assert facts.calm_swing < 0.5 * facts.swing
    assert facts.calm_losses[-1] < 0.5 * facts.calm_losses[0]
    assert optimizer.param_groups[0]["momentum"] == 0.99


def test_adams_first_beta_is_a_momentum(probe_of, mlp, curve):
    facts, optimizer = look(probe_of, mlp, curve, lambda p: torch.optim.Adam(p, lr=0.003, betas=(0.98, 0.999)))
    assert (facts.momentum, facts.momentum_name, facts.calm_momentum) == (0.98, "betas", 0.9)
    assert facts.calm_losses
    assert optimizer.param_groups[0]["betas"] == (0.98, 0.999)


def test_a_swing_under_a_usual_momentum_gets_a_smaller_rate(probe_of, mlp, curve):
    model = mlp(4, 32, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    probe = probe_of(model, train=curve, loss_fn=nn.MSELoss(), optimizer=optimizer, steps=60)
    wide = tuple(loss + 0.2 * (-1) ** i for i, loss in enumerate(testing.falling(end=1.0)))
    probe.facts = {Training: testing.training(losses=wide)}
    facts = look_at_oscillation(probe)
    assert facts.swing == pytest.approx(0.2, rel=0.2)
    assert (facts.calm_momentum, facts.calm_factor) == (None, 0.3)
    assert len(facts.calm_losses) == 60
    assert optimizer.param_groups[0]["lr"] == 0.02


def test_quick_makes_no_second_run(probe_of, mlp, curve):
    facts, _ = look(probe_of, mlp, curve, lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.99), quick=True)
    assert facts.calm_losses == ()


def test_a_swing_is_measured_about_the_trend():
    line = [10.0 - 0.1 * i for i in range(60)]
    assert swing(line) == pytest.approx(0.0, abs=1e-9)
    assert swing([loss + (-1) ** i for i, loss in enumerate(line)]) == pytest.approx(1.0, rel=0.01)
    assert swing([1.0, float("nan")]) == float("inf")
    assert swing([1e300 * (-1) ** i for i in range(20)]) == float("inf")
