"""Products with parameters that modules of the user's own hold."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gradcheck_kit.observe.products import CONVOLUTION, MATRIX, OTHER, Products, bare_parameters, products_of


class Hand(nn.Module):
    """A layer written by hand, and a bias."""

    def __init__(self, forward, *shape):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(*shape)), nn.Parameter(torch.zeros(5))
        self._forward = forward

    def forward(self, x):
        return self._forward(self, x)


def product(forward, *shape, given=(7, 3)):
    model = nn.Sequential(Hand(forward, *shape), nn.Identity())
    return products_of(model, lambda: model(torch.randn(*given))).get("0.weight")


@pytest.mark.parametrize(
    ("forward", "shape", "inputs", "outputs", "kind"),
    [
        (lambda m, x: x @ m.weight + m.bias, (3, 5), (0,), (1,), MATRIX),
        (lambda m, x: x @ m.weight.T, (5, 3), (1,), (0,), MATRIX),
        (lambda m, x: torch.addmm(m.bias, x, m.weight), (3, 5), (0,), (1,), MATRIX),
        (lambda m, x: torch.tensordot(x, m.weight, dims=1), (3, 5), (0,), (1,), MATRIX),
        (lambda m, x: torch.tensordot(x, m.weight, dims=([-1], [0])), (3, 5), (0,), (1,), MATRIX),
        (lambda m, x: F.linear(x, m.weight, m.bias), (5, 3), (1,), (0,), MATRIX),
        (lambda m, x: F.linear(x, weight=m.weight), (5, 3), (1,), (0,), MATRIX),
        (lambda m, x: F.linear(x, m.weight.t()), (3, 5), (0,), (1,), MATRIX),
        (lambda m, x: F.linear(x, m.weight[:4]), (5, 3), (1,), (0,), MATRIX),
        (lambda m, x: F.linear(x, 0.5 * m.weight.abs()), (5, 3), (1,), (0,), MATRIX),
        (lambda m, x: m.weight @ x.T, (5, 3), (1,), (0,), OTHER),
        (lambda m, x: torch.bmm(x[None], m.weight.expand(1, 3, 5)), (3, 5), (0,), (1,), MATRIX),
        (lambda m, x: torch.einsum("ni,io->no", x, m.weight), (3, 5), (0,), (1,), MATRIX),
        (lambda m, x: torch.einsum("oi,...i->...o", m.weight, x), (5, 3), (1,), (0,), MATRIX),
        (lambda m, x: torch.einsum("ni,hid->nhd", x, m.weight), (2, 3, 4), (1,), (0, 2), OTHER),
        (lambda m, x: F.conv1d(x[:, None], m.weight), (5, 1, 3), (1, 2), (0,), CONVOLUTION),
        (lambda m, x: F.conv_transpose1d(x[:, None], m.weight), (1, 5, 3), (0, 2), (1,), CONVOLUTION),
    ],
)
def test_tells_what_goes_in_and_what_comes_out(forward, shape, inputs, outputs, kind):
    found = product(forward, *shape)
    assert (found.inputs, found.outputs, found.kind, found.calls) == (inputs, outputs, kind, 1)


@pytest.mark.parametrize(
    ("forward", "shape"),
    [
        (lambda m, x: x * m.weight, (1, 3)),
        (lambda m, x: x + m.weight, (7, 3)),
        (lambda m, x: (x + m.weight) @ torch.ones(3, 2), (7, 3)),  # a position
        (lambda m, x: x @ torch.zeros_like(m.weight), (3, 5)),
        (lambda m, x: F.embedding(x[:, 0].abs().long().clamp(max=1), m.weight), (3, 5)),
        (lambda m, x: F.conv1d(x.T[None], m.weight, None, 1, 0, 1, 3), (3, 1, 2)),  # units that see other inputs
    ],
)
def test_takes_nothing_else_for_a_layer(forward, shape):
    assert product(forward, *shape) is None


def test_holds_what_came_out_with_its_bias_and_how_often():
    model = Hand(lambda m, x: (x @ m.weight + m.bias) @ m.weight.T, 3, 5)
    with Products(model) as products:
        model(torch.randn(7, 3))
    found = products.found["weight"]
    assert found.returned.grad_fn.name().startswith("Add")
    assert found.calls == 2
    assert found.direct


def test_prefers_the_product_with_a_signal_to_that_of_two_parameters():
    class Factors(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Parameter(torch.randn(2, 3)), nn.Parameter(torch.randn(5, 2))

        def forward(self, x):
            return x @ (self.b @ self.a).T + x @ self.a.T @ self.b.T

    model = Factors()
    found = products_of(model, lambda: model(torch.randn(7, 3)))
    assert {name: (p.inputs, p.outputs) for name, p in found.items()} == {"a": ((1,), (0,)), "b": ((1,), (0,))}


def test_says_the_weights_of_each_unit():
    weight = torch.randn(2, 3, 4)
    found = product(lambda m, x: torch.einsum("ni,hid->nhd", x, m.weight), 2, 3, 4)
    assert torch.equal(found.units_of(weight)[5], weight[1, :, 1])


def test_names_a_module_with_one_weight_and_the_parameter_of_others():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.more = Hand(lambda m, x: x @ m.weight, 3, 3), nn.ParameterList([torch.ones(3, 3)])

        def forward(self, x):
            return self.one(x) @ self.more[0]

    model = Two()
    found = products_of(model, lambda: model(torch.randn(7, 3)))
    assert [p.layer for p in found.values()] == ["one", "more.0"]


def test_leaves_out_what_a_layer_of_torchs_holds():
    class Tied(nn.Linear):
        pass

    model = nn.Sequential(Tied(3, 3), nn.Embedding(3, 3), nn.GRU(3, 3))
    model.copy = model[1].weight
    assert list(bare_parameters(model)) == []
    assert not Products(model).expected
