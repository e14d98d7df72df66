"""The noise of the gradient, and the same samples in larger batches: only where the run does not learn."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from gradcheck_kit import testing
from gradcheck_kit.experiments import NotApplicable
from gradcheck_kit.experiments.gradient_noise import look_at_gradient_noise
from gradcheck_kit.experiments.training import train
from gradcheck_kit.facts import LearningRateResponse, Training


def noisy(batch, n=1024):
    """Three overlapping classes."""
    generator = torch.Generator().manual_seed(1)
    y = torch.randint(0, 3, (n,), generator=generator)
    x = torch.randn(n, 6, generator=generator) + 1.2 * nn.functional.one_hot(y, 6)
    return DataLoader(TensorDataset(x, y), batch, shuffle=True)


def look(probe_of, mlp, batch, lr, facts=None, **settings):
    model = mlp(6, 32, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    probe = probe_of(
        model, train=noisy(batch), loss_fn=nn.CrossEntropyLoss(), optimizer=optimizer, **{"steps": 40, **settings}
    )
    train(probe)
    stuck = testing.training(losses=testing.flat(), samples_per_step=batch, constant_loss=1.1)
    probe.facts = {Training: stuck, **(facts or {})}
    return look_at_gradient_noise(probe)


def test_a_run_that_learns_costs_nothing(probe_of, mlp, blobs):
    model = mlp(4, 16, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    probe = probe_of(model, train=blobs(), loss_fn=nn.CrossEntropyLoss(), optimizer=optimizer, steps=30)
    probe.facts = {Training: train(probe)}
    with pytest.raises(NotApplicable, match="the run learns, so noise does it no harm"):
        look_at_gradient_noise(probe)


def test_tries_the_same_samples_in_larger_batches(probe_of, mlp):
    facts = look(probe_of, mlp, 1, 0.2)
    assert facts.batch == 1
    assert max(facts.scale_at_start, facts.scale_at_end or 0.0) > 1
    assert facts.factor >= 8
    assert len(facts.large_losses) == 40
    assert facts.large_losses[-1] < 0.9 * facts.large_losses[0]
    assert len(facts.same_losses) <= 40  # of each as many samples as of a large batch


def test_measures_alone_where_more_steps_are_enough(probe_of, mlp):
    late = {LearningRateResponse: testing.learning_rate_response({1.0: 0.5})}
    facts = look(probe_of, mlp, 1, 0.2, late)
    assert facts.scale_at_start > 1
    assert facts.factor is None


def test_measures_alone_where_batches_are_large(probe_of, mlp):
    facts = look(probe_of, mlp, 64, 1e-9)
    assert facts.batch == 64
    assert facts.factor is None


def test_the_noise_scale_does_not_depend_on_the_batch(probe_of, mlp):
    scales = [look(probe_of, mlp, batch, 1e-9).scale_at_start for batch in (32, 128)]
    assert scales[0] == pytest.approx(scales[1], rel=0.7)


def test_quick_leaves_it_out(probe_of, mlp):
    with pytest.raises(NotApplicable, match="left out by --quick"):
        look(probe_of, mlp, 1, 0.2, quick=True)


def test_a_loss_scale_changes_no_noise(probe_of, mlp):
    plain = look(probe_of, mlp, 64, 1e-9)
    scaled = look(probe_of, mlp, 64, 1e-9, amp="fp16")
    assert scaled.scale_at_start == pytest.approx(plain.scale_at_start, rel=0.1)


def test_measures_alone_where_samples_cannot_be_put_together(probe_of, mlp):
    """Sequences of different lengths, padded batch by batch."""
    generator = torch.Generator().manual_seed(1)
    data = [(torch.randn(2, 3 + i % 4, 6, generator=generator), torch.tensor([i % 3, 0])) for i in range(64)]

    class Mean(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = mlp(6, 32, 3)

        def forward(self, x):
            return self.net(x.mean(1))

    model = Mean()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    probe = probe_of(model, train=data, loss_fn=nn.CrossEntropyLoss(), optimizer=optimizer, steps=20)
    train(probe)
    probe.facts = {Training: testing.training(losses=testing.flat(), samples_per_step=2, constant_loss=1.1)}
    assert look_at_gradient_noise(probe).factor is None
