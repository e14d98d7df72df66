"""Layers whose units start as copies of each other, and whether training tells them apart."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gradcheck_kit.experiments import NotApplicable
from gradcheck_kit.experiments.symmetry import look_at_symmetry
from gradcheck_kit.rules.symmetric_initialization import symmetric_initialization
from gradcheck_kit.testing import judge, training


def zeros(module):
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


def constant(module, value=0.1):
    nn.init.constant_(module.weight, value)
    if module.bias is not None:
        nn.init.zeros_(module.bias)
    return module


def look(probe_of, model, data, **given):
    return look_at_symmetry(probe_of(model, train=data, loss_fn=nn.CrossEntropyLoss(), **given))


def test_makes_no_step_where_no_layer_has_equal_units(probe_of, mlp, blobs):
    facts = look(probe_of, mlp(4, 8, 8, 2), blobs())
    assert (facts.layers, facts.steps, facts.equal) == (3, 0, ())


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
def test_proves_that_copies_stay_copies(optimizer, probe_of, blobs):
    model = nn.Sequential(constant(nn.Linear(4, 8)), nn.Tanh(), constant(nn.Linear(8, 2)))
    facts = look(probe_of, model, blobs(), optimizer=optimizer(model.parameters(), lr=0.05))
    first = next(one for one in facts.equal if one.layer == "0")
    assert first.hidden
    assert first.biases_equal
    assert first.spread <= 1e-3
    assert judge(symmetric_initialization, facts).status == "failed"


class Experts(nn.Module):
    """A mixture whose gate starts at zero; `shared` is a layer before the gate and the experts, or none."""

    def __init__(self, experts, spread=0.0):
        super().__init__()
        self.gate, self.experts = zeros(nn.Linear(4, len(experts))), nn.ModuleList(experts)
        nn.init.normal_(self.gate.weight, std=spread)

    def forward(self, x):
        outputs = torch.stack([expert(x) for expert in self.experts], -1)
        return (outputs * self.gate(x).softmax(-1)[:, None]).sum(-1)


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
def test_proves_that_experts_that_are_copies_stay_copies(optimizer, probe_of, blobs):
    expert = nn.Linear(4, 2)
    model = Experts([copy.deepcopy(expert) for _ in range(3)])
    facts = look(probe_of, model, blobs(), optimizer=optimizer(model.parameters(), lr=0.05))
    (copies,) = facts.copies
    assert copies.layers == ("experts.0", "experts.1", "experts.2")
    assert copies.spread <= 1e-3
    assert judge(symmetric_initialization, facts).status == "failed"


def test_takes_one_layer_in_two_places_for_no_copy(probe_of, blobs):
    expert = nn.Linear(4, 2)
    assert look(probe_of, Experts([expert, expert]), blobs()).copies == ()


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
@pytest.mark.parametrize("name", ["a gate that differs", "layers of an encoder", "another at rest"])
def test_it_says_nothing_of_copies_that_come_apart(name, kind, probe_of, blobs):
    expert, layer = nn.Linear(4, 2), nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
    model = {
        "a gate that differs": lambda: Experts([copy.deepcopy(expert) for _ in range(3)], spread=0.5),
        "layers of an encoder": lambda: nn.Sequential(
            nn.Unflatten(1, (1, 4)), nn.TransformerEncoder(layer, 3), nn.Flatten(), nn.Linear(4, 2)
        ),
        "another at rest": lambda: Experts([expert, copy.deepcopy(expert).requires_grad_(False)]),
    }[name]()
    trained = [p for p in model.parameters() if p.requires_grad]
    facts = look(probe_of, model, blobs(), optimizer=kind(trained, lr=0.05))
    assert judge(symmetric_initialization, facts).status == "passed"


def test_says_that_an_output_layer_is_none_that_feeds_another(probe_of, blobs):
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), constant(nn.Linear(8, 2)))
    (one,) = look(probe_of, model, blobs()).equal
    assert (one.layer, one.hidden) == ("2", False)


def test_tells_units_apart_by_their_biases(probe_of, blobs):
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 2))
    nn.init.constant_(model[0].weight, 0.1)
    nn.init.constant_(model[2].weight, 0.1)
    first = look(probe_of, model, blobs()).equal[0]
    assert not first.biases_equal


def test_knows_zeros_that_stay_zero(probe_of, blobs):
    model = zeros(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)))
    first = look(probe_of, model, blobs()).equal[0]
    assert first.zero
    assert first.gradient_zero
    assert first.spread is None


@pytest.mark.parametrize("kind", [nn.RNN, nn.GRU, nn.LSTM])
def test_takes_the_rows_of_all_gates_for_one_unit(kind, probe_of):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn, self.head = kind(1, 6, batch_first=True, bidirectional=True), nn.Linear(12, 2)
            for name, parameter in self.rnn.named_parameters():
                if not name.endswith("reverse"):
                    nn.init.constant_(parameter, 0.1)
            for column in range(6):
                self.head.weight.data[:, column] = self.head.weight.data[:, 0]

        def forward(self, x):
            return self.head(self.rnn(x)[0][:, -1])

    data = [(torch.randn(16, 5, 1), torch.randint(0, 2, (16,))) for _ in range(4)]
    facts = look(probe_of, Net(), data)
    (one,) = facts.equal
    assert (one.layer, one.units, facts.layers) == ("rnn (l0)", 6, 3)
    assert one.spread <= 1e-3


def test_works_in_mixed_precision(probe_of, blobs):
    model = nn.Sequential(constant(nn.Linear(4, 8)), nn.Tanh(), constant(nn.Linear(8, 2)))
    assert look(probe_of, model, blobs(), amp="fp16").equal[0].spread <= 1e-3


def test_leaves_the_model_as_it_was(probe_of, blobs):
    model = nn.Sequential(constant(nn.Linear(4, 8)), nn.Tanh(), constant(nn.Linear(8, 2)))
    look(probe_of, model, blobs())
    assert torch.equal(model[0].weight, torch.full((8, 4), 0.1))
    assert model[0].weight.grad is None


def test_does_not_touch_weights_that_change_when_they_are_read(probe_of, blobs):
    model = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(4, 8)), nn.ReLU(), nn.Linear(8, 2))
    probe = probe_of(model, train=blobs(), loss_fn=nn.CrossEntropyLoss())
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    assert look_at_symmetry(probe).layers == 1
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())


def test_does_not_apply_to_a_model_without_such_layers(probe_of):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(4))

        def forward(self, x):
            return x * self.scale

    with pytest.raises(NotApplicable, match="no trainable layer with a weight matrix"):
        look_at_symmetry(probe_of(Net(), train=[(torch.randn(8, 4), torch.randn(8, 4))], loss_fn=nn.MSELoss()))


# ---- layers that are written by hand ----


class Dense(nn.Module):
    """Weights of shape (inputs, outputs), multiplied with by the module itself."""

    def __init__(self, inputs, outputs, value=None, bias=0.0):
        super().__init__()
        drawn = torch.randn(inputs, outputs) / inputs**0.5
        self.weight = nn.Parameter(drawn if value is None else torch.full_like(drawn, value))
        self.bias = nn.Parameter(bias * torch.randn(outputs))

    def forward(self, x):
        return x @ self.weight + self.bias


def copies(*layers):
    return nn.Sequential(layers[0], nn.Tanh(), layers[1])


class Matrices(nn.Module):
    """A first matrix of equal weights, of the shape and in the product that are given, and a second one."""

    def __init__(self, first, shape):
        super().__init__()
        self.a, self.b = nn.Parameter(torch.full(shape, 0.1)), nn.Parameter(torch.full((8, 2), 0.1))
        self._first = first

    def forward(self, x):
        return torch.tanh(self._first(x, self.a)).flatten(1) @ self.b


@pytest.mark.parametrize(
    ("make", "layer"),
    [
        (lambda: copies(Dense(4, 8, 0.1), Dense(8, 2, 0.1)), "0"),
        (lambda: copies(Dense(4, 8, 0.1), constant(nn.Linear(8, 2))), "0"),
        (lambda: copies(Dense(4, 8, 0.1), nn.Sequential(constant(nn.Linear(8, 8)), nn.ReLU(), nn.Linear(8, 2))), "0"),
        (lambda: Matrices(lambda x, a: x @ a, (4, 8)), "a"),
        (lambda: Matrices(F.linear, (8, 4)), "a"),
        (lambda: Matrices(lambda x, a: F.linear(x, 0.5 * a), (8, 4)), "a"),
        (lambda: Matrices(lambda x, a: torch.einsum("ni,hid->nhd", x, a), (2, 4, 4)), "a"),
        (lambda: Matrices(lambda x, a: F.conv1d(x[:, None], a), (8, 1, 4)), "a"),
    ],
    ids=["x @ w", "before a Linear", "before a hidden Linear", "own forward", "F.linear", "scaled", "einsum", "conv1d"],
)
@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
def test_proves_that_copies_stay_copies_in_layers_by_hand(make, layer, kind, probe_of, blobs):
    torch.manual_seed(0)
    model = make()
    facts = look(probe_of, model, blobs(), optimizer=kind(model.parameters(), lr=0.05))
    one = next(one for one in facts.equal if one.layer == layer)
    assert (one.units, one.bare, one.hidden, one.biases_equal) == (8, True, True, True)
    outcome = judge(symmetric_initialization, facts)
    assert outcome.status == "failed"
    assert "nn.init.xavier_uniform_" in outcome.findings[0].fixes[0]


def test_tells_units_by_hand_apart_by_their_biases(probe_of, blobs):
    facts = look(probe_of, copies(Dense(4, 8, 0.1, bias=1.0), Dense(8, 2, 0.1)), blobs())
    assert not facts.equal[0].biases_equal


def test_looks_at_layers_by_hand_that_differ(probe_of, blobs):
    facts = look(probe_of, copies(Dense(4, 8), Dense(8, 2)), blobs())
    assert (facts.layers, facts.equal) == (2, ())


# ---- healthy models that a careless rule would fail ----


class Residual(nn.Module):
    def __init__(self, width=8):
        super().__init__()
        self.up, self.down = nn.Linear(width, 2 * width), zeros(nn.Linear(2 * width, width))

    def forward(self, x):
        return x + self.down(F.relu(self.up(x)))


class Modulated(nn.Module):
    """As in a diffusion transformer: gate, shift and scale of zeros before a head of zeros."""

    def __init__(self):
        super().__init__()
        self.embed, self.modulate, self.body = nn.Linear(4, 8), zeros(nn.Linear(8, 24)), nn.Linear(8, 8)
        self.head = zeros(nn.Linear(8, 2))

    def forward(self, x):
        h = self.embed(x)
        shift, scale, gate = self.modulate(F.silu(h)).chunk(3, 1)
        return self.head(h + gate * F.relu(self.body(F.layer_norm(h, (8,)) * (1 + scale) + shift)))


class Adapted(nn.Module):
    def __init__(self):
        super().__init__()
        self.base, self.head = nn.Linear(4, 8).requires_grad_(False), nn.Linear(8, 2)
        self.a, self.b = nn.Linear(4, 3, bias=False), zeros(nn.Linear(3, 8, bias=False))

    def forward(self, x):
        return self.head(F.relu(self.base(x) + self.b(self.a(x))))


class Heads(nn.Module):
    """Two heads of zeros, of which one is hardly used."""

    def __init__(self):
        super().__init__()
        self.body, self.first, self.second = nn.Linear(4, 8), zeros(nn.Linear(8, 2)), zeros(nn.Linear(8, 30))

    def forward(self, x):
        h = F.relu(self.body(x))
        return self.first(h) + self.second(h)[:, :2]


class DepthWise(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.mix, self.head = nn.Conv1d(1, 6, 3), nn.Conv1d(6, 6, 1, groups=6), nn.Linear(12, 2)
        nn.init.ones_(self.mix.weight)
        nn.init.zeros_(self.mix.bias)

    def forward(self, x):
        return self.head(self.mix(self.stem(x[:, None])).flatten(1))


class Gated(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.gate, self.head = nn.Linear(4, 8), zeros(nn.Linear(4, 8)), nn.Linear(8, 2)
        nn.init.constant_(self.gate.bias, 2.0)

    def forward(self, x):
        return self.head(self.body(x) * self.gate(x).sigmoid())


def frozen_average():
    model = nn.Sequential(constant(nn.Linear(4, 8), 0.25), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    model[0].requires_grad_(False)
    return model


def identity():
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    nn.init.eye_(model[0].weight)
    return model


def zero_gain():
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))
    nn.init.zeros_(model[1].weight)
    return model


class LowRank(nn.Module):
    """LoRA by hand: beside a frozen layer, a random factor and one of zeros."""

    def __init__(self):
        super().__init__()
        self.base, self.head = nn.Linear(4, 8).requires_grad_(False), nn.Linear(8, 2)
        self.a, self.b = nn.Parameter(torch.randn(3, 4)), nn.Parameter(torch.zeros(8, 3))

    def forward(self, x):
        beside = x @ self.a.T @ self.b.T
        return self.head(F.relu(F.linear(x, self.base.weight + self.b @ self.a) + beside))


class Queries(nn.Module):
    """Learned positions of zeros, queries, and a graph that starts as the mean of all."""

    def __init__(self):
        super().__init__()
        self.position = nn.Parameter(torch.zeros(4, 6))
        self.queries = nn.Parameter(torch.randn(3, 6))
        self.graph = nn.Parameter(torch.full((4, 4), 0.25))
        self.embed, self.head = nn.Linear(1, 6), nn.Linear(18 + 24, 2)

    def forward(self, x):
        h = self.embed(x[..., None]) + self.position
        mixed = h + self.graph @ h
        scores = (self.queries @ h.mT).softmax(-1)
        return self.head(torch.cat([(scores @ h).flatten(1), mixed.relu().flatten(1)], 1))


HEALTHY = {
    "low-rank adapter by hand": LowRank,
    "queries and a learned graph": Queries,
    "zero head by hand": lambda: copies(Dense(4, 8), Dense(8, 2, 0.0)),
    "zero branch by hand": lambda: nn.Sequential(
        nn.Linear(4, 8), copies(Dense(8, 8), Dense(8, 8, 0.0)), nn.Linear(8, 2)
    ),
    "constant layer by hand before a random one": lambda: nn.Sequential(
        Dense(4, 8, 0.1), nn.Tanh(), Dense(8, 8), nn.Tanh(), Dense(8, 2)
    ),
    "zero head": lambda: nn.Sequential(nn.Linear(4, 8), nn.ReLU(), zeros(nn.Linear(8, 2))),
    "zero head of many classes": lambda: nn.Sequential(nn.Linear(4, 8), nn.ReLU(), zeros(nn.Linear(8, 50))),
    "constant head": lambda: nn.Sequential(nn.Linear(4, 8), nn.ReLU(), constant(nn.Linear(8, 2))),
    "zero branches": lambda: nn.Sequential(nn.Linear(4, 8), *[Residual() for _ in range(3)], nn.Linear(8, 2)),
    "zero branches and head": lambda: nn.Sequential(nn.Linear(4, 8), Residual(), Residual(), zeros(nn.Linear(8, 2))),
    "modulation of zeros": Modulated,
    "low-rank adapter": Adapted,
    "two zero heads": Heads,
    "depth-wise of ones": DepthWise,
    "zero gate": Gated,
    "frozen average": frozen_average,
    "identity": identity,
    "zero gain": zero_gain,
    "one unit": lambda: nn.Sequential(
        nn.Linear(4, 8), nn.ReLU(), constant(nn.Linear(8, 1)), nn.Tanh(), nn.Linear(1, 2)
    ),
    "zero layer before tanh": lambda: nn.Sequential(zeros(nn.Linear(4, 8)), nn.Tanh(), nn.Linear(8, 2)),
    "constant layer before a random one": lambda: nn.Sequential(
        constant(nn.Linear(4, 8)), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2)
    ),
}


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam])
@pytest.mark.parametrize("name", HEALTHY)
def test_it_says_nothing_of_a_layer_that_comes_apart(name, kind, probe_of, blobs):
    torch.manual_seed(0)
    model = HEALTHY[name]()
    optimizer = kind([p for p in model.parameters() if p.requires_grad], lr=0.01)
    outcome = judge(symmetric_initialization, look(probe_of, model, blobs(), optimizer=optimizer))
    assert outcome.status == "passed", outcome.findings


def test_it_says_nothing_of_experts_that_rest(probe_of, blobs):
    class Experts(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.rest = nn.Linear(4, 2), zeros(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)))

        def forward(self, x):
            return self.body(x).index_add(0, torch.zeros(0, dtype=torch.long), self.rest(x[:0]))

    facts = look(probe_of, Experts(), blobs())
    assert [one.spread for one in facts.equal] == [None, None]
    assert judge(symmetric_initialization, facts, training()).status == "passed"
