"""Whether a network is affine in its input."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gradcheck_kit.experiments import NotApplicable
from gradcheck_kit.experiments.linearity import look_at_linearity
from gradcheck_kit.experiments.training import train
from gradcheck_kit.facts import Training
from gradcheck_kit.rules.no_nonlinearity import no_nonlinearity
from gradcheck_kit.testing import judge


def data(*shape, outputs=4):
    torch.manual_seed(0)
    return [(torch.randn(16, *(shape or (10,))), torch.randn(16, outputs)) for _ in range(2)]


def look(probe_of, model, batches=None):
    return look_at_linearity(probe_of(model, train=batches or data(), loss_fn=nn.MSELoss()))


class Wrapped(nn.Module):
    """A few layers by name and a forward over them."""

    def __init__(self, forward, **layers):
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)
        self._forward = forward

    def forward(self, x):
        return self._forward(self, x)


def conv_net():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.AvgPool2d(2), nn.Conv2d(4, 8, 3), nn.Flatten(), nn.Dropout(),
        nn.Linear(8, 4),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("model", "shape", "chain", "widths"),
    [
        (nn.Sequential(nn.Linear(10, 16), nn.Linear(16, 4)), (10,), ("0", "1"), (10, 16, 4)),
        (
            nn.Sequential(nn.Linear(10, 16), nn.Dropout(), nn.BatchNorm1d(16), nn.Linear(16, 4)),
            (10,), ("0", "3"), (10, 16, 4),
        ),
        (conv_net(), (1, 8, 8), ("0", "3", "6"), (64, 144, 8, 4)),
        (
            Wrapped(lambda m, x: x[:, :4] + m.b(m.a(x)), a=nn.Linear(10, 16), b=nn.Linear(16, 4)),
            (10,), ("a", "b"), (10, 16, 4),
        ),
    ],
)  # fmt: skip
def test_proves_layers_without_anything_between(model, shape, chain, widths, probe_of):
    facts = look(probe_of, model, data(*shape))
    assert facts.affine
    assert facts.deviation < 1e-12
    assert (facts.chain, facts.widths) == (chain, widths)
    assert judge(no_nonlinearity, facts).status == "warned"


@pytest.mark.parametrize(
    ("last", "link"),
    [(nn.Softmax(1), "softmax"), (nn.LogSoftmax(-1), "log_softmax"), (nn.Sigmoid(), "sigmoid"), (nn.Tanh(), "tanh")],
)
def test_does_not_count_what_only_shapes_the_output(last, link, probe_of):
    facts = look(probe_of, nn.Sequential(nn.Linear(10, 16), nn.Linear(16, 4), last))
    assert (facts.affine, facts.link) == (True, link)


def test_does_not_count_an_output_activation_seen_in_training(probe_of):
    probe = probe_of(nn.Sequential(nn.Linear(10, 16), nn.Linear(16, 4), nn.Sigmoid()), train=data(), loss_fn=F.mse_loss)
    probe.facts = {Training: train(probe)}
    assert look_at_linearity(probe).affine


def test_tries_no_pair_where_activations_were_seen(probe_of, mlp):
    probe = probe_of(mlp(10, 16, 4), train=data(), loss_fn=nn.MSELoss())
    probe.facts = {Training: train(probe)}
    facts = look_at_linearity(probe)
    assert (facts.affine, facts.activations, facts.pairs) == (False, 1, 0)


def test_finds_a_relu_that_all_data_is_on_one_side_of(probe_of):
    model = nn.Sequential(nn.Linear(10, 16), nn.ReLU(), nn.Linear(16, 4))
    nn.init.constant_(model[0].bias, 20.0)
    facts = look(probe_of, model)
    assert not facts.affine
    assert facts.pairs == 3


def of_words(body):
    return Wrapped(body, words=nn.Embedding(9, 8), a=nn.Linear(8, 16), b=nn.Linear(16, 4))


@pytest.mark.parametrize(
    ("body", "affine"),
    [
        (lambda m, x: m.b(m.a(m.words(x).mean(1))), True),
        (lambda m, x: m.b(m.a(m.words(x).prod(1))), False),
        (lambda m, x: m.b(m.a(m.words(x).max(1).values)), False),
    ],
    ids=["mean", "product", "maximum"],
)
def test_varies_the_embeddings_of_words(body, affine, probe_of):
    batches = [(torch.randint(0, 9, (16, 2)), torch.randn(16, 4))] * 2
    found = look(probe_of, of_words(body), batches)
    assert found.affine is affine
    assert found.chain == (("a", "b") if affine else ())


def test_leaves_the_model_as_it_was(probe_of):
    model = nn.Sequential(nn.Linear(10, 16), nn.Linear(16, 4))
    look(probe_of, model)
    assert model[0].weight.dtype == torch.float32
    assert model.training


@pytest.mark.parametrize(
    ("model", "batches", "reason"),
    [
        (nn.Linear(10, 4), None, "fewer than two"),
        (
            Wrapped(lambda m, x: m.b(m.a(F.one_hot(x, 9).float())).sum(1), a=nn.Linear(9, 8), b=nn.Linear(8, 4)),
            [(torch.randint(0, 9, (16, 2)), torch.randn(16, 4))], "not real numbers",
        ),
        (
            Wrapped(lambda m, x: m.b(m.a(x * 0)), a=nn.Linear(10, 8), b=nn.Linear(8, 4)), None,
            "does not depend on the input",
        ),
        (
            Wrapped(lambda m, x: m.b(m.a(x.float())), a=nn.Linear(10, 8), b=nn.Linear(8, 4)), None, "none in float64",
        ),
    ],
)  # fmt: skip
def test_does_not_apply_where_nothing_can_be_said(model, batches, reason, probe_of):
    with pytest.raises(NotApplicable, match=reason):
        look(probe_of, model, batches)


def test_does_not_apply_to_a_training_step_that_calls_the_model_twice(probe_of):
    model = nn.Sequential(nn.Linear(10, 16), nn.Linear(16, 4))
    with pytest.raises(NotApplicable, match="training step"):
        look_at_linearity(probe_of(model, train=data(), training_step=lambda m, b: (m(b[0]) + m(b[0])).square().mean()))


# ---- layers that are written by hand ----


class Dense(nn.Module):
    def __init__(self, inputs, outputs, activation=None):
        super().__init__()
        self.kernel, self.bias = nn.Parameter(torch.randn(inputs, outputs)), nn.Parameter(torch.randn(outputs))
        self.activation = activation

    def forward(self, x):
        x = x @ self.kernel + self.bias
        return x if self.activation is None else self.activation(x)


class Matrices(nn.Module):
    """Weights that the model itself multiplies with."""

    def __init__(self, forward, **shapes):
        super().__init__()
        for name, shape in shapes.items():
            setattr(self, name, nn.Parameter(torch.randn(*shape)))
        self._forward = forward

    def forward(self, x):
        return self._forward(self, x)


GRAPH = torch.rand(5, 5)
BY_HAND = {
    "dense": (lambda: nn.Sequential(Dense(10, 16), Dense(16, 4)), (10,), ("0", "1"), (10, 16, 4)),
    "beside torch's": (lambda: nn.Sequential(nn.Linear(10, 16), Dense(16, 4)), (10,), ("0", "1"), (10, 16, 4)),
    "in the model's forward": (
        lambda: Matrices(lambda m, x: x @ m.a @ m.b, a=(10, 16), b=(16, 4)), (10,), ("a", "b"), (10, 16, 4),
    ),
    "F.linear": (
        lambda: Matrices(lambda m, x: F.linear(F.linear(x, m.a), m.b * 0.1), a=(16, 10), b=(4, 16)),
        (10,), ("a", "b"), (10, 16, 4),
    ),
    "einsum": (
        lambda: Matrices(
            lambda m, x: torch.einsum("nh,ho->no", torch.einsum("ni,ih->nh", x, m.a), m.b), a=(10, 16), b=(16, 4)
        ),
        (10,), ("a", "b"), (10, 16, 4),
    ),
    "graph": (
        lambda: Matrices(lambda m, x: (GRAPH.to(x) @ (GRAPH.to(x) @ x @ m.a) @ m.b).mean(1), a=(3, 8), b=(8, 4)),
        (5, 3), ("a", "b"), (3, 8, 4),
    ),
    "convolutions": (
        lambda: Matrices(
            lambda m, x: F.conv1d(F.conv1d(x[:, None], m.a), m.b).flatten(1), a=(6, 1, 3), b=(1, 6, 5),
        ),
        (10,), ("a", "b"), (10, 48, 4),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BY_HAND)
def test_proves_layers_that_are_written_by_hand(name, probe_of):
    make, shape, chain, widths = BY_HAND[name]
    torch.manual_seed(0)
    facts = look(probe_of, make(), data(*shape))
    assert (facts.affine, facts.chain, facts.widths) == (True, chain, widths)
    assert judge(no_nonlinearity, facts).status == "warned"


def test_does_not_count_a_softmax_after_a_layer_by_hand(probe_of):
    facts = look(probe_of, nn.Sequential(Dense(10, 16), Dense(16, 4, lambda x: x.softmax(-1))))
    assert (facts.affine, facts.link) == (True, "softmax")


def test_does_not_apply_to_one_layer_by_hand(probe_of):
    with pytest.raises(NotApplicable, match="fewer than two layers with a weight matrix"):
        look(probe_of, Dense(10, 4))


def test_does_not_apply_to_an_affine_model_whose_weights_meet_the_input_in_a_way_of_their_own(probe_of):
    model = Matrices(lambda m, x: (x[..., None] * m.a).sum(1) @ m.b, a=(10, 16), b=(16, 4))
    with pytest.raises(NotApplicable, match="the model is affine, and how its own weight matrices"):
        look(probe_of, model)


def linear_system(m, x):
    state = torch.zeros(len(x), 8).to(x)
    for t in range(x.shape[1]):
        state = state @ m.a + x[:, t] @ m.b
    return state @ m.c


BY_HAND_ON_PURPOSE = {
    "LoRA": (
        lambda: Matrices(lambda m, x: F.linear(x, m.w + m.b @ m.a), w=(4, 10), a=(2, 10), b=(4, 2)), (10,),
    ),
    "LoRA beside": (
        lambda: Matrices(lambda m, x: x @ m.w + x @ m.a @ m.b, w=(10, 4), a=(10, 2), b=(2, 4)), (10,),
    ),
    "merged factors": (lambda: Matrices(lambda m, x: x @ (m.a @ m.b), a=(10, 16), b=(16, 4)), (10,)),
    "low rank": (lambda: Matrices(lambda m, x: x @ m.a @ m.b, a=(10, 3), b=(3, 4)), (10,)),
    "rows and columns": (
        lambda: Matrices(lambda m, x: (m.a @ x @ m.b).sum(1), a=(5, 5), b=(3, 4)), (5, 3),
    ),
    "rows, turned, and columns": (
        lambda: Matrices(lambda m, x: ((x.mT @ m.a).mT @ m.b).sum(1), a=(5, 5), b=(3, 4)), (5, 3),
    ),
    "torch's layers over rows and columns": (
        lambda: Wrapped(lambda m, x: m.b(m.a(x.mT).mT).sum(1), a=nn.Linear(5, 6), b=nn.Linear(3, 4)), (5, 3),
    ),
    "linear dynamical system": (lambda: Matrices(linear_system, a=(8, 8), b=(3, 8), c=(8, 4)), (5, 3)),
    "side by side": (lambda: Matrices(lambda m, x: x @ m.a + (x - x.mean()) @ m.b, a=(10, 4), b=(10, 4)), (10,)),
}  # fmt: skip


@pytest.mark.parametrize("name", BY_HAND_ON_PURPOSE)
def test_it_says_nothing_of_what_is_affine_on_purpose(name, probe_of):
    make, shape = BY_HAND_ON_PURPOSE[name]
    torch.manual_seed(0)
    facts = look(probe_of, make(), data(*shape))
    assert facts.affine
    assert judge(no_nonlinearity, facts).status == "passed"


# ---- healthy models that a careless rule would fail ----


def frozen_projection():
    model = nn.Sequential(nn.Linear(10, 32), nn.Linear(32, 4))
    model[0].requires_grad_(False)
    return model


def layers(*sizes):
    return {name: nn.Linear(a, b) for name, (a, b) in zip("abcd", sizes, strict=False)}


def attention(m, x):
    q, k, v = m.a(x).view(-1, 5, 2), m.b(x).view(-1, 5, 2), m.c(x).view(-1, 5, 2)
    return m.d((q @ k.mT @ v).flatten(1))


def experts(m, x):
    return torch.where(x[:, :1] > 0, m.b(m.a(x)), m.c(m.a(x)))


WIDE = ((10, 16), (16, 4))
HEALTHY = {
    "low-rank factors": lambda: nn.Sequential(nn.Linear(10, 3), nn.Linear(3, 4)),
    "linear autoencoder": lambda: nn.Sequential(nn.Linear(10, 6), nn.Linear(6, 2), nn.Linear(2, 6), nn.Linear(6, 4)),
    "trend and season": lambda: Wrapped(lambda m, x: m.a(x) + m.b(x - x.mean()), **layers((10, 4), (10, 4))),
    "adapter": lambda: Wrapped(lambda m, x: m.a(x) + m.c(m.b(x)), **layers((10, 4), (10, 2), (2, 4))),
    "frozen projection": frozen_projection,
    "linear attention": lambda: Wrapped(attention, **layers((10, 10), (10, 10), (10, 10), (10, 4))),
    "bilinear": lambda: Wrapped(lambda m, x: m.c(m.a(x) * m.b(x)), **layers((10, 8), (10, 8), (8, 4))),
    "gated at the end": lambda: Wrapped(
        lambda m, x: m.b(m.a(x)) * m.c(m.a(x)).sigmoid(), **layers((10, 16), (16, 4), (16, 4))
    ),
    "routed by the input": lambda: Wrapped(experts, **layers((10, 16), (16, 4), (16, 4))),
    "relu": lambda: Wrapped(lambda m, x: m.b(m.a(x).clamp(min=0)), **layers(*WIDE)),
    "sine": lambda: Wrapped(lambda m, x: m.b(m.a(x).sin()), **layers(*WIDE)),
    "square": lambda: Wrapped(lambda m, x: m.b(m.a(x) ** 2), **layers(*WIDE)),
    "absolute value": lambda: Wrapped(lambda m, x: m.b(m.a(x).abs()), **layers(*WIDE)),
    "layer norm": lambda: nn.Sequential(nn.Linear(10, 16), nn.LayerNorm(16), nn.Linear(16, 4)),
    "unit vectors": lambda: Wrapped(lambda m, x: m.b(F.normalize(m.a(x), dim=1)), **layers(*WIDE)),
    "max pooling": lambda: nn.Sequential(nn.Linear(10, 32), nn.MaxPool1d(2), nn.Linear(16, 4)),
    "maxout": lambda: Wrapped(lambda m, x: m.b(m.a(x).view(-1, 16, 2).amax(2)), **layers((10, 32), (16, 4))),
    "softmax between": lambda: nn.Sequential(nn.Linear(10, 16), nn.Softmax(1), nn.Linear(16, 4)),
    "features squared before": lambda: Wrapped(lambda m, x: m.b(m.a(x * x.abs())), **layers(*WIDE)),
    "dense with an activation": lambda: nn.Sequential(Dense(10, 16, torch.sin), Dense(16, 4)),
    "weak nonlinearity": lambda: Wrapped(lambda m, x: m.b(m.a(x) + 1e-5 * m.a(x).tanh()), **layers(*WIDE)),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_it_says_nothing_of_a_model_that_is_not_linear_or_so_on_purpose(name, probe_of):
    torch.manual_seed(0)
    outcome = judge(no_nonlinearity, look(probe_of, HEALTHY[name]()))
    assert outcome.status == "passed", outcome.findings


def test_it_says_nothing_of_a_recurrent_layer_between(probe_of):
    model = Wrapped(lambda m, x: m.b(m.r(m.a(x))[0][:, -1]), a=nn.Linear(3, 8), r=nn.GRU(8, 8), b=nn.Linear(8, 4))
    assert judge(no_nonlinearity, look(probe_of, model, data(5, 3))).status == "passed"
