from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from gradcheck_kit.experiments import NotApplicable
from gradcheck_kit.experiments.input_use import look_at_input_use
from gradcheck_kit.experiments.training import train


def used(probe):
    """The fact as it is made after a training run."""
    train(probe)
    return look_at_input_use(probe)


class Scaled(nn.Module):
    """An MLP whose output or input is multiplied by something."""

    def __init__(self, inner, *, before=1.0, after=None):
        super().__init__()
        self.inner, self.before, self.after = inner, before, after

    def forward(self, x):
        out = self.inner(x * self.before)
        return out if self.after is None else out * self.after


def test_it_takes_one_other_input_for_a_model_that_looks_at_its_input(probe_of, blobs, mlp):
    fact = used(probe_of(mlp(4, 8, 2), train=blobs()))
    assert not fact.ignored
    assert fact.changes == 1


def test_it_finds_an_input_that_is_multiplied_by_zero(probe_of, blobs, mlp):
    fact = used(probe_of(Scaled(mlp(4, 8, 2), before=0.0), train=blobs()))
    assert fact.ignored
    assert fact.changes == 10  # a neighbour, three kinds of noise and the next batch, before training and after
    assert fact.inputs == ((16, 4),)
    assert fact.targets_differ


def test_it_names_the_module_whose_result_goes_nowhere(probe_of, blobs):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.head = nn.GRU(1, 8, batch_first=True), nn.Linear(8, 2)

        def forward(self, x):
            start = torch.zeros(1, len(x), 8)
            self.rnn(x[..., None], start)
            return self.head(start[0])

    fact = used(probe_of(Net(), train=blobs()))
    assert fact.ignored
    assert (fact.unused, fact.unused_type) == ("rnn", "GRU")


@pytest.mark.parametrize(
    ("last", "operation"),
    [(nn.Softmax(1), "softmax"), (nn.LayerNorm(1), "layer_norm"), (nn.GroupNorm(1, 1), "group_norm")],
)
def test_it_names_the_operation_that_leaves_a_constant(probe_of, mlp, last, operation):
    x = torch.randn(64, 4)
    data = DataLoader(TensorDataset(x, (x[:, :1] > 0).float()), 16)
    fact = used(probe_of(nn.Sequential(*mlp(4, 8, 1), last), train=data, loss_fn=nn.MSELoss()))
    assert fact.ignored
    assert fact.operation.operation == operation
    assert fact.operation.module == "3"


def test_it_looks_past_zero_initialised_heads_and_gates(probe_of, blobs, mlp):
    head = mlp(4, 8, 2)
    nn.init.zeros_(head[-1].weight)
    nn.init.zeros_(head[-1].bias)
    gated = Scaled(mlp(4, 8, 2), after=nn.Parameter(torch.zeros(1)))
    for model in (head, gated):
        assert not used(probe_of(model, train=blobs())).ignored


def test_it_leaves_dead_units_to_the_rule_that_names_them(probe_of, mlp):
    tokens, y = torch.randint(0, 9, (64,)), torch.randint(0, 2, (64,))
    dead = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    nn.init.constant_(dead[1].bias, -50.0)
    probe = probe_of(dead, train=DataLoader(TensorDataset(tokens, y), 16))
    with pytest.raises(NotApplicable, match="2's relu is at its flat end"):
        used(probe)


def test_it_lets_be_what_draws_its_own_input(probe_of, mlp):
    class Generator(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = mlp(4, 8, 4)

        def forward(self, x):
            return self.net(torch.randn(len(x), 4))

    data = DataLoader(TensorDataset(torch.randn(64, 4)), 16)
    with pytest.raises(NotApplicable, match="draws its own random numbers"):
        used(probe_of(Generator(), train=data, loss_fn=lambda out, x: (out.mean(0) - x.mean(0)).square().sum()))


def test_it_cannot_tell_where_all_samples_are_the_same(probe_of):
    class Points(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = nn.Linear(1, 1)

        def forward(self, tick):
            return self.net(torch.linspace(0, 1, 16)[:, None])

    data = DataLoader(TensorDataset(torch.zeros(64, dtype=torch.long)), 16)
    with pytest.raises(NotApplicable, match="all samples are the same"):
        used(probe_of(Points(), train=data, loss_fn=lambda out, _: (out - 1).square().mean()))


def test_it_does_not_take_a_label_that_the_model_is_given_for_its_input(probe_of):
    class WithLoss(nn.Module):
        def __init__(self):
            super().__init__()
            self.bias = nn.Parameter(torch.zeros(2))

        def forward(self, x, labels):
            logits = self.bias.expand(len(x), 2)
            return {"loss": nn.functional.cross_entropy(logits, labels), "logits": logits}

    rows = [{"x": torch.randn(4), "labels": torch.tensor(i % 2)} for i in range(64)]
    fact = used(probe_of(WithLoss(), train=DataLoader(rows, 16)))
    assert fact.ignored
    assert fact.inputs == ((16, 4),)


def test_it_does_not_apply_to_a_training_step_that_calls_the_model_twice(probe_of, blobs, mlp):
    probe = probe_of(
        mlp(4, 2), train=blobs(), training_step=lambda model, batch: (model(batch[0]) + model(batch[0])).square().mean()
    )
    with pytest.raises(NotApplicable, match="training step"):
        look_at_input_use(probe)


def test_it_leaves_the_model_as_it_was(probe_of, blobs, mlp):
    model = Scaled(mlp(4, 8, 2), before=0.0)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    used(probe_of(model, train=blobs()))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training
