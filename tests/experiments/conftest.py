"""A target, prepared, from a few lines of a user's program."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from gradcheck_kit.experiments import Probe
from gradcheck_kit.target import ProbeSettings, Target
from gradcheck_kit.target.prepare import prepare


@pytest.fixture
def probe_of():
    def make(model, *, train=None, test=None, loss_fn=None, optimizer=None, training_step=None, **settings):
        torch.manual_seed(0)
        target = Target(model, train, test, loss_fn, optimizer, training_step, name="model.py:model")
        return Probe(prepare(target, ProbeSettings(**{"steps": 12, **settings})))

    return make


@pytest.fixture
def blobs():
    """Two separable clusters in four dimensions: what any working model learns in a few steps."""

    def make(n=128, batch=16, classes=2):
        generator = torch.Generator().manual_seed(1)
        y = torch.randint(0, classes, (n,), generator=generator)
        x = torch.randn(n, 4, generator=generator) + 3 * nn.functional.one_hot(y, 4)
        return DataLoader(TensorDataset(x, y), batch, shuffle=True)

    return make


@pytest.fixture
def mlp():
    def make(*sizes, activation=nn.ReLU):
        torch.manual_seed(0)
        layers = []
        for a, b in pairwise(sizes[:-1]):
            layers += [nn.Linear(a, b), activation()]
        return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1]))

    return make
