"""The size of the first weights, and the run again from weights that fit."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from gradcheck_kit.experiments import NotApplicable
from gradcheck_kit.experiments.initialization import look_at_initialization
from gradcheck_kit.experiments.training import train
from gradcheck_kit.facts import Training


def look(probe_of, model, data, **given):
    probe = probe_of(model, train=data, loss_fn=nn.CrossEntropyLoss(), steps=20, **given)
    probe.facts = {Training: train(probe)}
    return look_at_initialization(probe)


def scaled(model, factor):
    with torch.no_grad():
        for module in model:
            if isinstance(module, nn.Linear):
                module.weight.mul_(factor)
    return model


def test_tells_the_size_of_weights_and_what_suits_the_activation(probe_of, mlp, blobs):
    first, *_ = look(probe_of, mlp(4, 16, 16, 2), blobs()).weights
    assert (first.name, first.function) == ("0.weight", "relu")
    assert first.std == pytest.approx(1 / math.sqrt(3 * 4), rel=0.2)
    assert first.proposed == pytest.approx(math.sqrt(2 / 4))


def test_makes_no_second_run_from_torchs_own_weights(probe_of, mlp, blobs):
    facts = look(probe_of, mlp(4, 16, 16, 2), blobs())
    assert facts.odd == ()
    assert facts.twin_losses == ()


def test_learns_from_usual_weights_what_huge_ones_do_not_and_leaves_the_model_alone(probe_of, mlp, blobs):
    model = scaled(mlp(4, 16, 16, 16, 16, 2), 50.0)
    before = [p.clone() for p in model.parameters()]
    facts = look(probe_of, model, blobs(), optimizer=torch.optim.SGD(model.parameters(), lr=0.1))
    assert [w.layer for w in facts.odd] == ["0", "2", "4", "6", "8"]
    assert facts.twin_losses[-1] < 0.5 * facts.twin_losses[0]
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_sees_a_matrix_that_a_module_of_the_users_own_multiplies_with(probe_of, blobs):
    class Dense(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(8, 16))

        def forward(self, x):
            return x @ self.weight

    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), Dense(), nn.ReLU(), nn.Linear(16, 2))
    own = next(w for w in look(probe_of, model, blobs()).weights if w.name == "2.weight")
    assert own.initializer.startswith("torch.randn(8, 16) * ")
    assert own.proposed == pytest.approx(math.sqrt(2 / 8))


class Own(nn.Module):
    def __init__(self, forward, *shape):
        super().__init__()
        self.weight, self._forward = nn.Parameter(torch.randn(*shape)), forward

    def forward(self, x):
        return self._forward(x, self.weight)


@pytest.mark.parametrize(
    ("own", "proposed"),
    [
        (Own(lambda x, w: x @ w, 4, 16), math.sqrt(2 / 4)),
        (Own(nn.functional.linear, 16, 4), math.sqrt(2 / 4)),
        (Own(lambda x, w: torch.einsum("ni,oi->no", x, w), 16, 4), math.sqrt(2 / 4)),
        (Own(lambda x, w: nn.functional.conv1d(x[:, None], w, padding=1).mean(2), 16, 1, 3), math.sqrt(2 / 3)),
    ],
    ids=["x @ w", "F.linear", "einsum", "conv1d"],
)
def test_tells_inputs_and_units_of_a_parameter_by_what_it_is_multiplied_with(own, proposed, probe_of, blobs):
    weights = look(probe_of, nn.Sequential(own, nn.ReLU(), nn.Linear(16, 2)), blobs()).weights
    assert [w.name for w in weights] == ["0.weight", "2.weight"]
    assert weights[0].proposed == pytest.approx(proposed)


@pytest.mark.parametrize(
    "own",
    [
        Own(lambda x, w: x + w, 1, 4),
        Own(lambda x, w: x @ w, 4, 4),  # of so few numbers the size says little
        Own(lambda x, w: x @ (w / 2), 4, 16),  # drawn to a scale of its own
    ],
    ids=["added", "small", "scaled"],
)
def test_says_nothing_of_the_size_of_other_parameters(own, probe_of, blobs):
    model = nn.Sequential(own, nn.LazyLinear(2))
    model(torch.zeros(2, 4))
    assert [w.name for w in look(probe_of, model, blobs()).weights] == ["1.weight"]


def test_leaves_zeros_and_frozen_layers_out(probe_of, mlp, blobs):
    model = mlp(4, 8, 8, 2)
    nn.init.zeros_(model[4].weight)
    model[0].requires_grad_(requires_grad=False)
    assert [w.layer for w in look(probe_of, model, blobs()).weights] == ["2"]


def test_says_nothing_of_weights_that_were_trained_before(probe_of, mlp, blobs):
    model = mlp(4, 8, 2)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(3, 4)).sum().backward()
    optimizer.step()
    with pytest.raises(NotApplicable, match="has taken steps before"):
        look(probe_of, model, blobs(), optimizer=optimizer)
