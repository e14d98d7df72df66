"""What is connected to what."""

from __future__ import annotations

import random

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gradcheck_kit.experiments.wiring import look_at_wiring


def test_knows_which_parameters_an_optimizer_owns(probe_of, mlp, blobs):
    model = mlp(4, 8, 2)
    optimizer = torch.optim.SGD(model[2].parameters(), lr=0.1)
    wiring = look_at_wiring(probe_of(model, train=blobs(), loss_fn=nn.CrossEntropyLoss(), optimizer=optimizer))
    assert {p.name: p.optimized for p in wiring.parameters} == {
        "0.weight": False, "0.bias": False, "2.weight": True, "2.bias": True,
    }  # fmt: skip
    assert wiring.optimizer_given
    assert wiring.foreign_parameters == 0


def test_counts_what_the_optimizer_owns_of_another_model(probe_of, mlp, blobs):
    optimizer = torch.optim.SGD(mlp(4, 8, 2).parameters(), lr=0.1)
    wiring = look_at_wiring(probe_of(mlp(4, 8, 2), train=blobs(), loss_fn=nn.CrossEntropyLoss(), optimizer=optimizer))
    assert wiring.foreign_parameters == 4
    assert not any(p.optimized for p in wiring.parameters)


def test_counts_the_parameters_of_a_loss_as_nobody_elses(probe_of, blobs):
    class Weighted(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, output, target):
            return F.cross_entropy(output * self.scale, target)

    model, loss_fn = nn.Linear(4, 2), Weighted()
    optimizer = torch.optim.SGD([*model.parameters(), *loss_fn.parameters()], lr=0.1)
    wiring = look_at_wiring(probe_of(model, train=blobs(), loss_fn=loss_fn, optimizer=optimizer))
    assert wiring.foreign_parameters == 0


class Weighted(nn.Module):
    """A loss with a parameter of its own, and a network within it that is somebody else's."""

    def __init__(self):
        super().__init__()
        self.scale, self.teacher = nn.Parameter(torch.ones(())), nn.Linear(2, 2)

    def forward(self, output, target):
        return F.cross_entropy(self.teacher(output * self.scale), target)


@pytest.mark.parametrize("optimized", [False, True])
def test_sees_the_parameters_that_a_loss_registers_itself(probe_of, blobs, optimized):
    model, loss_fn = nn.Linear(4, 2), Weighted()
    optimizer = torch.optim.SGD([*model.parameters(), *([loss_fn.scale] if optimized else [])], lr=0.1)
    wiring = look_at_wiring(probe_of(model, train=blobs(), loss_fn=loss_fn, optimizer=optimizer))
    (found,) = wiring.loss_parameters
    assert (found.name, found.gradient, found.optimized) == ("scale", "nonzero", optimized)


class Bare(nn.Module):
    """Tensors that a module does not register, where people keep them."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 2)
        self.scales = [nn.Parameter(torch.ones(4)), nn.Parameter(torch.ones(4))]
        self.gain = torch.ones(4, requires_grad=True)
        self.unused, self.fixed = [nn.Parameter(torch.ones(4))], torch.ones(4)

    def forward(self, x):
        for scale in self.scales:
            x = x * scale
        return self.head(x * self.gain + self.fixed)


def test_finds_tensors_that_want_a_gradient_and_are_not_registered(probe_of, blobs):
    model = Bare()
    probe = probe_of(model, train=blobs(), loss_fn=nn.CrossEntropyLoss())
    found = look_at_wiring(probe).unregistered
    assert [(m.where, m.type) for m in found] == [
        ("scales[0]", "Parameter"), ("scales[1]", "Parameter"), ("gain", "Tensor"),
    ]  # fmt: skip
    assert not any(m.optimized for m in found)
    assert model.gain._backward_hooks in (None, {})


def test_knows_whether_an_optimizer_has_a_tensor_that_is_not_registered(probe_of, blobs):
    model = Bare()
    optimizer = torch.optim.SGD([*model.parameters(), *model.scales], lr=0.1)
    found = look_at_wiring(probe_of(model, train=blobs(), loss_fn=nn.CrossEntropyLoss(), optimizer=optimizer))
    assert [(m.where, m.optimized) for m in found.unregistered] == [
        ("scales[0]", True), ("scales[1]", True), ("gain", False),
    ]  # fmt: skip


class AtItsPoints(nn.Module):
    """A physics-informed model that keeps the points at which its equation shall hold."""

    def __init__(self):
        super().__init__()
        self.net, self.points = nn.Linear(1, 1), torch.rand(8, 1, requires_grad=True)

    def forward(self, x):
        (slope,) = torch.autograd.grad(self.net(self.points).tanh().sum(), self.points, create_graph=True)
        return self.net(x).tanh() + (self.points * slope).mean()


def test_takes_no_point_of_differentiation_for_a_weight(probe_of):
    train = [(torch.rand(8, 1), torch.rand(8, 1))] * 2
    wiring = look_at_wiring(probe_of(AtItsPoints(), train=train, loss_fn=nn.MSELoss()))
    assert wiring.unregistered == ()


class InList(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks, self.head = [nn.Linear(4, 4), nn.Sequential(nn.Linear(4, 4), nn.ReLU())], nn.Linear(4, 2)

    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return self.head(x)


class InDict(InList):
    def __init__(self):
        super().__init__()
        self.table = {"left": self.blocks[0]}
        self.blocks = []

    def forward(self, x):
        return self.head(self.table["left"](x))


class MadeInForward(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        return self.head(nn.Linear(4, 4)(x))


@pytest.mark.parametrize(
    ("kind", "places"),
    [(InList, ["blocks[0]", "blocks[1]"]), (InDict, ["table['left']"]), (MadeInForward, ["the model.forward"])],
)
def test_finds_where_an_unregistered_module_is_kept(kind, places, probe_of, blobs):
    wiring = look_at_wiring(probe_of(kind(), train=blobs()))
    assert [m.where for m in wiring.unregistered] == places
    assert all(m.trainable and not m.optimized for m in wiring.unregistered)


def test_finds_no_unregistered_module_where_there_is_none(probe_of, mlp, blobs):
    assert look_at_wiring(probe_of(mlp(4, 8, 2), train=blobs())).unregistered == ()


@pytest.mark.parametrize(
    ("loss_fn", "operation"),
    [
        (nn.MSELoss(), "mse_loss"),
        (F.smooth_l1_loss, "smooth_l1_loss"),
        (lambda out, y: (out - y).abs().mean(), "sub"),
        (lambda out, y: ((y.float() - out) ** 2).mean(), "sub"),
    ],
)
def test_sees_prediction_and_target_broadcast_against_each_other(loss_fn, operation, probe_of):
    data = [(torch.randn(8, 4), torch.randn(8))]
    (found, *_) = look_at_wiring(probe_of(nn.Linear(4, 1), train=data, loss_fn=loss_fn)).broadcasts
    assert operation in found.operation
    assert (found.prediction_shape, found.target_shape, found.result_shape) == ((8, 1), (8,), (8, 8))


def test_leaves_alone_what_the_user_reshaped(probe_of):
    data = [(torch.randn(8, 4), torch.randn(8))]
    wiring = look_at_wiring(
        probe_of(nn.Linear(4, 1), train=data, loss_fn=lambda out, y: (out - y[None]).square().mean())
    )
    assert wiring.broadcasts == ()


class ActorCritic(nn.Module):
    def __init__(self):
        super().__init__()
        self.policy, self.value = nn.Linear(4, 2), nn.Linear(4, 1)

    def forward(self, state):
        return self.policy(state), self.value(state)


def advantage(change):
    """A training step that weighs what was done by how much better it was than the value, which is a column."""

    def step(model, batch):
        state, action, worth = batch
        logits, value = model(state)
        weight = change(worth, value)
        return (weight.detach() * F.cross_entropy(logits, action, reduction="none")).mean() + value.square().mean()

    return step


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        (lambda worth, value: worth - value, True),
        (lambda worth, value: torch.exp(2 * worth[:, None] - value.detach()), True),  # a column all the same
        (lambda worth, value: worth - value.squeeze(-1), False),
        (lambda worth, value: (value - value.T).mean(1), False),
        (lambda worth, value: (value - value.squeeze(-1)).mean(1), False),  # nobody squeezes by mistake
    ],
)
def test_sees_a_column_of_the_model_against_a_row(probe_of, change, seen):
    data = [(torch.randn(8, 4), torch.randint(2, (8,)), torch.randn(8))]
    broadcasts = look_at_wiring(probe_of(ActorCritic(), train=data, training_step=advantage(change))).broadcasts
    assert [(b.prediction_shape, b.target_shape, b.known) for b in broadcasts[:1]] == [((8, 1), (8,), False)] * seen


def test_sees_the_values_of_actions_against_a_row_of_returns(probe_of):
    def step(model, batch):
        state, action, worth = batch
        return F.mse_loss(model(state).gather(1, action[:, None]), worth)

    data = [(torch.randn(8, 4), torch.randint(2, (8,)), torch.randn(8))]
    (found,) = look_at_wiring(probe_of(nn.Linear(4, 2), train=data, training_step=step)).broadcasts
    assert (found.operation, found.result_shape, found.known) == ("mse_loss", (8, 8), False)


def test_leaves_alone_what_a_model_does_within(probe_of):
    class GraphAttention(ActorCritic):
        def forward(self, x):
            scores = self.value(x) + self.policy(x)[:, 0]  # every node with every other, as it should be
            return self.policy(scores.softmax(1) @ x)

    data = [(torch.randn(8, 4), torch.randint(2, (8,)))]
    step = lambda model, batch: F.cross_entropy(model(batch[0]), batch[1])  # noqa: E731
    assert look_at_wiring(probe_of(GraphAttention(), train=data, training_step=step)).broadcasts == ()


def test_counts_how_often_modules_run(probe_of, blobs):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.twice, self.never, self.head = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)

        def forward(self, x):
            return self.head(self.twice(self.twice(x)))

    calls = {m.name: m.calls for m in look_at_wiring(probe_of(Net(), train=blobs())).modules}
    assert calls == {"twice": 2, "never": 0, "head": 1}


def test_proves_no_influence_of_a_model_that_draws_numbers_of_its_own(probe_of, blobs):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.head, self.unused = nn.Linear(4, 2), nn.Linear(4, 2)

        def forward(self, x):
            return self.head(x) + random.SystemRandom().random()

    wiring = look_at_wiring(probe_of(Net(), train=blobs(), loss_fn=lambda out, y: out.square().mean() + 0 * y.sum()))
    assert {p.matters for p in wiring.parameters if p.layer == "unused"} == {None}


class Branches(nn.Module):
    """Two layers whose product with zero, or with each other, is added to the output."""

    def __init__(self, joined):
        super().__init__()
        self.stem, self.a, self.b, self.head = (nn.Linear(4, 4) for _ in range(4))
        self.joined = joined
        for layer in (self.a, self.b):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x):
        h = self.stem(x)
        return self.head(h + (self.a(h) * self.b(h) if self.joined else 0 * self.a(h) + 0 * self.b(h)))


@pytest.mark.parametrize(("joined", "matters"), [(False, {False}), (True, {None})])
def test_tries_layers_whose_gradient_is_zero_all_together(joined, matters, probe_of, blobs):
    found = look_at_wiring(probe_of(Branches(joined), train=blobs())).parameters
    branches = [p for p in found if p.layer in ("a", "b")]
    assert {p.gradient for p in branches} == {"zero"}
    assert {p.matters for p in branches} == matters
