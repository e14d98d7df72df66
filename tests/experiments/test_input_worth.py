"""Whether what a model learned makes use of its input."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from gradcheck_kit.experiments.input_use import look_at_input_use
from gradcheck_kit.experiments.training import train
from gradcheck_kit.facts import Training


class Vae(nn.Module):
    def __init__(self):
        super().__init__()
        self.encode, self.decode = nn.Linear(16, 4), nn.Linear(2, 16)

    def forward(self, x):
        mean, log_variance = self.encode(x).chunk(2, 1)
        return self.decode(mean + torch.randn_like(mean) * (0.5 * log_variance).exp()), mean, log_variance


def step(weight):
    def training_step(model, batch):
        (x,) = batch
        reconstruction, mean, log_variance = model(x)
        divergence = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum() / len(x)
        return F.mse_loss(reconstruction, x, reduction="sum") / len(x) + weight * divergence

    return training_step


@pytest.fixture
def use_of(probe_of):
    def look(training_step, make=Vae):
        torch.manual_seed(0)
        data = torch.randn(256, 2) @ torch.randn(2, 16)
        model = make()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
        probe = probe_of(
            model,
            train=DataLoader(TensorDataset(data), 32, shuffle=True),
            training_step=training_step,
            optimizer=optimizer,
            steps=60,
        )
        probe.facts = {Training: train(probe)}
        return look_at_input_use(probe)

    return look


def test_a_divergence_that_outweighs_the_data_leaves_one_answer(use_of):
    found = use_of(step(1000.0))
    assert found.worthless
    assert not found.ignored


def test_a_usual_one_leaves_an_answer_for_each_input(use_of):
    assert not use_of(step(0.1)).worthless


def test_losses_that_do_not_ask_whose_output_it_is_are_left_alone(use_of):
    """An embedding of samples that is to be spread out."""
    found = use_of(lambda model, batch: -model(batch[0]).std(0).clamp(max=1).mean(), make=lambda: nn.Linear(16, 4))
    assert found.own_losses == ()


def test_similarities_between_samples_are_left_alone(use_of):
    """Whatever the order of the batch, its similarities are in the same order."""

    class Similar(nn.Module):
        def __init__(self):
            super().__init__()
            self.encode = nn.Linear(16, 4)

        def forward(self, x):
            return self.encode(x) @ x[:, :4].T

    def training_step(model, batch):
        return F.cross_entropy(model(batch[0]), torch.arange(len(batch[0])))

    assert not use_of(training_step, make=Similar).worthless
