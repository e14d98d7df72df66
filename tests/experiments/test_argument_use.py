"""Arguments that forward reads, and that change nothing."""

from __future__ import annotations

import linecache

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from gradcheck_kit.experiments import NotApplicable
from gradcheck_kit.experiments.argument_use import ignored_arguments
from gradcheck_kit.experiments.input_use import look_at_input_use
from gradcheck_kit.rules.input_ignored import input_ignored
from gradcheck_kit.testing import judge


class Net(nn.Module):
    """A layer for x, and two for the step t."""

    def __init__(self):
        super().__init__()
        self.layer, self.embed, self.scale = nn.Linear(4, 2), nn.Embedding(100, 2), nn.Linear(1, 2)


class Divided(Net):
    def forward(self, x, t):
        return self.layer(x) + self.embed(t // 100)


class Embedded(Net):
    def forward(self, x, t):
        return self.layer(x) + self.embed(t)


class StartsAtZero(Net):
    def __init__(self):
        super().__init__()
        nn.init.zeros_(self.embed.weight)

    def forward(self, x, t):
        return self.layer(x) + self.embed(t)


class LongestOnly(Net):
    def forward(self, x, t):
        return self.layer(x * (torch.arange(4, device=x.device) * 30 < t.max()))


class ShapeOnly(Net):
    def forward(self, x, t):
        assert t is not None
        return self.layer(x) + x.new_zeros(t.shape)[:, None] + len(t)


class Unread(Net):
    def forward(self, x, t):
        return self.layer(x)


class InTrainingOnly(Net):
    def forward(self, x, t):
        return self.layer(x) + (self.embed(t) if self.training else 0.0)


class Multiplied(Net):
    def forward(self, x, t):
        return self.layer(x) + self.scale(t.float()[:, None] * 0.0)


class Pair(nn.Module):
    """Compares two sentences."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(100, 4), nn.Linear(8, 2)

    def of(self, a, b):
        return self.head(torch.cat([self.embed(a).mean(1), self.embed(b).mean(1)], 1))


class Twice(Pair):
    def forward(self, a, b):
        return self.of(a, a)


class Both(Pair):
    def forward(self, a, b):
        return self.of(a, b)


def pairs(second=None):
    torch.manual_seed(0)
    a, b = torch.randint(0, 100, (2, 64, 6))
    return DataLoader(TensorDataset(a, b if second is None else second, torch.randint(0, 2, (64,))), 16)


def test_finds_the_second_of_a_pair_that_is_not_read(probe_of):
    (lost,) = use_of(probe_of, Twice, pairs()).arguments
    assert (lost.name, lost.twin, lost.source) == ("b", "a", "")


MASK = (torch.arange(64)[:, None] % 6 > torch.arange(6)).long()
POSITIONS = torch.arange(6).expand(64, 6)


@pytest.mark.parametrize(("kind", "second"), [(Both, None), (Twice, MASK), (Twice, POSITIONS)])
def test_leaves_pairs_that_are_read_and_masks_and_positions_alone(kind, second, probe_of):
    assert use_of(probe_of, kind, pairs(second)).arguments == ()


class ReturnsAnObject(Net):
    def forward(self, x, t):
        return torch.distributions.Normal(self.layer(x) + self.embed(t), 1.0)


def likelihood(model, batch):
    x, t, y = batch
    return -model(x, t).log_prob(F.one_hot(y, 2).float()).mean()


class KeepsALoss(Net):
    def forward(self, x, t):
        self.penalty = self.embed(t).square().mean()
        return self.layer(x)


def penalised(model, batch):
    x, t, y = batch
    return F.cross_entropy(model(x, t), y) + model.penalty


@pytest.mark.parametrize(("kind", "step"), [(ReturnsAnObject, likelihood), (KeepsALoss, penalised)])
def test_leaves_arguments_alone_that_reach_the_loss_on_another_way(kind, step, probe_of):
    assert ignored_arguments(probe_of(kind(), train=data(), training_step=step)) == ()


HEALTHY = [Embedded, StartsAtZero, LongestOnly, ShapeOnly, Unread, InTrainingOnly]


def data(t=None):
    torch.manual_seed(0)
    steps = torch.randint(0, 100, (64,)) if t is None else t
    return DataLoader(TensorDataset(torch.randn(64, 4), steps, torch.randint(0, 2, (64,))), 16)


def use_of(probe_of, kind, train=None):
    return look_at_input_use(probe_of(kind(), train=train or data(), loss_fn=nn.CrossEntropyLoss()))


@pytest.mark.parametrize(("kind", "way"), [(Divided, "t // 100"), (Multiplied, "t.float()")])
def test_finds_an_argument_that_is_read_and_lost(kind, way, probe_of):
    (lost,) = use_of(probe_of, kind).arguments
    assert (lost.name, lost.shape) == ("t", (16,))
    file, line = lost.source.split(":")
    assert file == "test_argument_use.py"
    assert way in linecache.getline(__file__, int(line))


@pytest.mark.parametrize("kind", HEALTHY)
def test_leaves_arguments_alone_that_change_something_or_are_never_read(kind, probe_of):
    assert use_of(probe_of, kind).arguments == ()


def test_does_not_know_of_an_argument_that_is_the_same_for_all_samples(probe_of):
    assert use_of(probe_of, Divided, data(torch.full((64,), 7))).arguments == ()


def test_finds_it_in_a_step_that_draws_the_argument(probe_of):
    def step(model, batch):
        x, _, y = batch
        t = torch.randint(0, 100, (len(x),))
        return F.cross_entropy(model(x, t) + torch.randn(len(x), 2), y) + 0 * model(x, t).sum()

    facts = look_at_input_use(probe_of(Divided(), train=data(), training_step=step))
    assert judge(input_ignored, facts).status == "warned"
    with pytest.raises(NotApplicable, match="what the model's input is"):
        look_at_input_use(probe_of(Embedded(), train=data(), training_step=step))
