"""Samples that come out the same after a training without targets."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from gradcheck_kit.experiments import NotApplicable
from gradcheck_kit.experiments.sample_collapse import look_at_sample_collapse
from gradcheck_kit.experiments.training import train
from gradcheck_kit.facts import Training


class Views(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 8))

    def forward(self, x):
        return self.encoder(x + 0.1 * torch.randn_like(x)), self.encoder(x + 0.1 * torch.randn_like(x))


def alike(model, batch):
    one, other = model(batch[0])
    return 1 - F.cosine_similarity(one, other).mean()


def contrasted(model, batch):
    one, other = (F.normalize(z) for z in model(batch[0]))
    return F.cross_entropy(5 * one @ other.T, torch.arange(len(one)))


def look(probe_of, step, **given):
    torch.manual_seed(0)
    model = Views()
    data = DataLoader(TensorDataset(torch.randn(256, 8)), 32, shuffle=True)
    sgd = torch.optim.Adam(model.parameters(), lr=1e-2)
    probe = probe_of(model, train=data, training_step=step, optimizer=sgd, steps=60, **given)
    probe.facts = {Training: train(probe)}
    return look_at_sample_collapse(probe)


def test_sees_a_loss_that_only_draws_together(probe_of):
    found = look(probe_of, alike)
    assert found.collapsed
    assert found.equal_loss < 1e-3


def test_sees_that_negatives_keep_samples_apart(probe_of):
    found = look(probe_of, contrasted)
    assert not found.collapsed
    assert found.equal_loss > found.loss


def test_is_not_made_where_a_constant_prediction_has_a_known_loss(probe_of, mlp, blobs):
    probe = probe_of(mlp(4, 8, 2), train=blobs(), loss_fn=nn.CrossEntropyLoss())
    probe.facts = {Training: train(probe)}
    with pytest.raises(NotApplicable, match="constant prediction"):
        look_at_sample_collapse(probe)


def test_is_not_made_where_the_loss_compares_outputs_with_the_data(probe_of):
    with pytest.raises(NotApplicable, match="compares outputs with the data"):
        look(probe_of, lambda model, batch: F.mse_loss(model(batch[0])[0], batch[0]))
