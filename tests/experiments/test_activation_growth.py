"""How signals grow before training, and the run with norms: only where they do and the run suffers."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from gradcheck_kit.experiments import NotApplicable
from gradcheck_kit.experiments.activation_growth import look_at_activation_growth
from gradcheck_kit.experiments.training import train
from gradcheck_kit.facts import Training


class Added(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.layer = nn.Linear(width, width)
        nn.init.kaiming_normal_(self.layer.weight)

    def forward(self, x):
        return x + self.layer(torch.relu(x))


def look(probe_of, model, data, lr=0.1, **settings):
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    probe = probe_of(model, train=data, loss_fn=nn.CrossEntropyLoss(), optimizer=optimizer, **{"steps": 30, **settings})
    probe.facts = {Training: train(probe)}
    return look_at_activation_growth(probe)


def test_measures_the_outputs_of_layers_in_execution_order(probe_of, mlp, blobs):
    facts = look(probe_of, mlp(4, 16, 16, 2), blobs())
    assert [layer.name for layer in facts.layers] == ["0", "2", "4"]
    assert 0.1 < facts.growth < 5
    assert facts.norm_losses == ()


@pytest.fixture
def sums():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 32), *[Added(32) for _ in range(24)], nn.Linear(32, 2))


def test_a_sum_that_grows_gets_norms_in_a_second_run(sums, probe_of, blobs):
    before = [p.clone() for p in sums.parameters()]
    facts = look(probe_of, sums, blobs())
    assert facts.growth > 1000
    assert facts.largest_at == "24"
    assert facts.norm_largest < 0.01 * facts.largest
    assert facts.norm_losses[-1] < 0.5 * facts.norm_losses[0]
    assert all(torch.equal(a, b) for a, b in zip(before, sums.parameters(), strict=True))
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in sums.modules())


def test_growth_in_a_run_that_learns_costs_nothing(sums, probe_of, blobs):
    facts = look(probe_of, sums, blobs(), lr=1e-6, steps=12)
    assert facts.growth > 1000
    quick = look(probe_of, sums, blobs(), quick=True)
    assert quick.norm_losses == ()


def test_counts_what_is_infinite_as_largest(probe_of, blobs):
    class Overflows(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.big, self.b = nn.Linear(4, 8), nn.Identity(), nn.Linear(8, 2)

        def forward(self, x):
            return self.b(self.big(self.a(x) * math.inf))

    facts = look(probe_of, Overflows(), blobs())
    assert not facts.growth <= 100


def test_says_nothing_of_a_model_that_was_trained_before(probe_of, mlp, blobs):
    model = mlp(4, 16, 2)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(2, 4)).sum().backward()
    optimizer.step()
    probe = probe_of(model, train=blobs(), loss_fn=nn.CrossEntropyLoss(), optimizer=optimizer)
    with pytest.raises(NotApplicable, match="the weights are no initial ones"):
        look_at_activation_growth(probe)


def test_says_nothing_without_layers(probe_of):
    model = nn.Sequential(nn.EmbeddingBag(10, 2))
    data = [(torch.randint(0, 10, (8, 3)), torch.randint(0, 2, (8,))) for _ in range(4)]
    probe = probe_of(model, train=data, loss_fn=nn.CrossEntropyLoss())
    with pytest.raises(NotApplicable, match="no Linear or convolution layer"):
        look_at_activation_growth(probe)
