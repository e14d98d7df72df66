"""Whether the samples of a batch see each other."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

from gradcheck_kit.experiments import NotApplicable
from gradcheck_kit.experiments.batch_mixing import mix_batches


def model_of(forward, **modules):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            for name, module in modules.items():
                setattr(self, name, module)

        def forward(self, *args):
            return forward(self, *args)

    return Net()


def vectors(n=64, features=4):
    return torch.randn(n, features), torch.randint(0, 3, (n,))


def sequences(n=64, length=7):
    return torch.randn(n, length, 2), torch.randint(0, 3, (n,))


def tokens(n=64, length=7):
    return torch.randint(0, 9, (n, length)), torch.randint(0, 3, (n,))


@pytest.fixture
def mixing_of(probe_of):
    def run(model, data, *, loss_fn=None, **settings):
        train = data if isinstance(data, DataLoader) else DataLoader(TensorDataset(*data), 16, shuffle=True)
        return mix_batches(probe_of(model, train=train, loss_fn=loss_fn or nn.CrossEntropyLoss(), **settings))

    return run


def sorted_by_length(net, x, lengths, *, restored=True):
    lengths, order = lengths.sort(descending=True)
    sequence = nn.utils.rnn.pack_padded_sequence(net.embed(x[order]), lengths, batch_first=True)
    state = net.rnn(sequence)[1][-1]
    return net.head(state[order.argsort()] if restored else state)


def two_layers(between):
    def forward(net, x):
        return net.b(between(net.a(x)))

    return model_of(forward, a=nn.Linear(4, 6), b=nn.Linear(6, 3))


# ---- sick ----


@pytest.mark.parametrize(
    ("between", "operation", "by"),
    [
        (lambda h: h.softmax(0), "softmax", ""),
        (lambda h: h - h.mean(0), "sub", "mean"),
        (lambda h: h - h.max(0, keepdim=True).values, "sub", "max"),
        (lambda h: h / h.abs().max(), "div", "max"),
        (lambda h: F.batch_norm(h, None, None, training=True), "batch_norm", ""),
        (lambda h: (h @ h.T).softmax(-1) @ h, "matmul", ""),
        (lambda h: h.roll(1, 0), "roll", ""),
    ],
)
def test_finds_the_function_that_mixes(mixing_of, between, operation, by):
    mixing = mixing_of(two_layers(between), vectors())
    assert mixing.influence > 0.01
    assert (mixing.operation.operation, mixing.operation.reduced_by) == (operation, by)
    assert mixing.operation.module == ""
    assert mixing.operation.source.startswith("test_batch_mixing.py:")


@pytest.mark.parametrize(
    ("model", "data", "operation", "module"),
    [
        (
            model_of(lambda net, x: net.head(net.rnn(x)[0][:, -1]), rnn=nn.LSTM(2, 5), head=nn.Linear(5, 3)),
            sequences(), "lstm", "rnn",
        ),
        (
            model_of(
                lambda net, x: net.head(net.body(net.embed(x)).mean(1)),
                embed=nn.Embedding(9, 8), body=nn.TransformerEncoderLayer(8, 2, 8), head=nn.Linear(8, 3),
            ),
            tokens(), "multi_head_attention_forward", "body.self_attn",
        ),
        (
            model_of(lambda net, x: net.b(net.a(x).view(2, len(x), 3).transpose(0, 1).flatten(1)),
                     a=nn.Linear(4, 6), b=nn.Linear(6, 3)),
            vectors(), "view", "",
        ),
    ],
)  # fmt: skip
def test_finds_layers_that_take_the_batch_for_something_else(mixing_of, model, data, operation, module):
    mixing = mixing_of(model, data)
    assert mixing.influence > 0.01
    assert (mixing.operation.operation, mixing.operation.module) == (operation, module)


def test_finds_it_behind_a_head_of_zeros(mixing_of):
    model = two_layers(lambda h: h.softmax(0))
    nn.init.zeros_(model.b.weight)
    assert mixing_of(model, vectors()).influence > 0.01


def test_finds_it_in_a_model_that_runs_in_float32_only(mixing_of):
    model = two_layers(lambda h: (h.float() @ torch.ones(6, 6)).softmax(0))
    assert mixing_of(model, vectors()).influence > 0.01


def test_tells_a_batch_norm_without_running_statistics(mixing_of):
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6, track_running_stats=False), nn.Linear(6, 3))
    assert mixing_of(model, vectors()).batch_statistics == "1"


def test_tells_a_loader_that_does_not_shuffle(mixing_of):
    mixing = mixing_of(two_layers(lambda h: h.softmax(0)), DataLoader(TensorDataset(*vectors()), 16))
    assert not mixing.shuffled


def test_finds_samples_looked_up_in_another_order_that_stay_in_it(mixing_of):
    torch.manual_seed(0)

    def forward(net, x, lengths):
        return sorted_by_length(net, x, lengths, restored=False)

    model = model_of(forward, embed=nn.Embedding(9, 4), rnn=nn.GRU(4, 5, batch_first=True), head=nn.Linear(5, 3))
    data = (torch.randint(0, 9, (64, 7)), torch.randint(1, 8, (64,)), torch.randint(0, 3, (64,)))
    assert mixing_of(model, data).influence > 0.1


# ---- healthy ----


def experts(net, x):
    """At most a quarter of the samples for each expert; what does not fit is left out."""
    weight, chosen = net.gate(x).softmax(-1).max(-1)
    out = x.new_zeros(len(x), 6)
    for index, expert in enumerate(net.experts):
        rows = (chosen == index).nonzero()[:, 0][: len(x) // 4]
        out = out.index_add(0, rows, expert(x[rows]) * weight[rows, None])
    return net.head(out + net.rest(x))


def packed(net, x):
    lengths = (x != 0).sum(1).clamp_min(1).cpu()
    sequence = nn.utils.rnn.pack_padded_sequence(net.embed(x), lengths, batch_first=True, enforce_sorted=False)
    return net.head(net.rnn(sequence)[1][-1])


def trimmed(net, x):
    kept = x != 0
    longest = int(kept.sum(1).max())
    return net.head((net.embed(x[:, :longest]) * kept[:, :longest, None]).sum(1))


HEALTHY = {
    "batch norm": (nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3)), vectors()),
    "layer norm": (nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.GELU(), nn.Linear(6, 3)), vectors()),
    "dropout": (nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.5), nn.Linear(6, 3)), vectors()),
    "experts of limited capacity": (
        model_of(experts, gate=nn.Linear(4, 3), rest=nn.Linear(4, 6), head=nn.Linear(6, 3),
                 experts=nn.ModuleList(nn.Linear(4, 6) for _ in range(3))),
        vectors(),
    ),
    "a transposed sequence": (
        model_of(lambda net, x: net.head(net.rnn(x.transpose(0, 1))[0][-1]), rnn=nn.GRU(2, 5), head=nn.Linear(5, 3)),
        sequences(),
    ),
    "a packed sequence": (
        model_of(packed, embed=nn.Embedding(9, 4), rnn=nn.GRU(4, 5, batch_first=True), head=nn.Linear(5, 3)), tokens(),
    ),
    "a packed sequence in the order of its length": (
        model_of(sorted_by_length, embed=nn.Embedding(9, 4), rnn=nn.GRU(4, 5, batch_first=True), head=nn.Linear(5, 3)),
        (tokens()[0], torch.randint(1, 8, (64,)), torch.randint(0, 3, (64,))),
    ),
    "padding to the longest": (model_of(trimmed, embed=nn.Embedding(9, 4), head=nn.Linear(4, 3)), tokens()),
    "a group of instances": (
        model_of(lambda net, x: net.head(net.body(x).amax(1)), body=nn.Linear(2, 5), head=nn.Linear(5, 3)),
        sequences(),
    ),
    "frames folded into the batch": (
        model_of(lambda net, x: net.head(net.body(x.flatten(0, 1)).view(len(x), -1).cumsum(1)),
                 body=nn.Linear(2, 5), head=nn.Linear(35, 3)),
        sequences(),
    ),
    "a pair of inputs": (
        model_of(lambda net, a, b: net.body(a) - net.body(b), body=nn.Linear(4, 3)), (vectors()[0], *vectors()),
    ),
    "float32 only": (
        model_of(lambda net, x: net.head(net.rnn(x, torch.zeros(1, len(x), 5))[0][:, -1]),
                 rnn=nn.GRU(2, 5, batch_first=True), head=nn.Linear(5, 3)),
        sequences(),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HEALTHY)
def test_measures_exactly_nothing_of(mixing_of, name):
    model, data = HEALTHY[name]
    mixing = mixing_of(model, data)
    assert mixing.influence == 0.0
    assert mixing.operation is None


def test_measures_nothing_of_auxiliary_losses_over_the_batch(mixing_of):
    model = model_of(
        lambda net, x: (net.body(x), net.body(x).mean(0), net.body(x).square().mean()), body=nn.Linear(4, 3)
    )
    mixing = mixing_of(model, vectors(), loss_fn=lambda out, y: F.cross_entropy(out[0], y) + out[2])
    assert mixing.influence == 0.0


def test_measures_nothing_of_outputs_with_time_first(mixing_of):
    model = model_of(lambda net, x: net.head(net.rnn(x.transpose(0, 1))[0]), rnn=nn.GRU(2, 5), head=nn.Linear(5, 3))
    assert mixing_of(model, sequences(), loss_fn=lambda out, y: F.cross_entropy(out[-1], y)).influence == 0.0


# ---- what is not looked at ----


def test_leaves_out_models_that_compare_the_samples_of_a_batch(mixing_of):
    model = model_of(lambda net, x: net.body(x) @ net.body(x).T, body=nn.Linear(4, 3))
    with pytest.raises(NotApplicable, match="contrastive"):
        mixing_of(model, vectors(), loss_fn=lambda out: F.cross_entropy(out, torch.arange(len(out))))


def test_leaves_out_graphs_and_other_batches_of_somebodys_own(probe_of):
    adjacency = torch.rand(16, 16).softmax(1)
    model = model_of(lambda net, x: adjacency @ net.body(x), body=nn.Linear(4, 3))
    probe = probe_of(model, train=[vectors(16)], loss_fn=nn.CrossEntropyLoss())
    with pytest.raises(NotApplicable, match="batches of its own"):
        mix_batches(probe)


def test_leaves_out_a_graph_that_a_loader_brings_as_a_whole(mixing_of):
    adjacency = torch.rand(16, 16).softmax(1)
    model = model_of(lambda net, x: adjacency @ net.body(x), body=nn.Linear(4, 3))
    with pytest.raises(NotApplicable, match="does not take a smaller batch"):
        mixing_of(model, DataLoader(TensorDataset(*vectors(16)), 16))


def time_first(rows):
    return torch.stack([x for x, _ in rows], 1), torch.stack([y for _, y in rows])


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 16, "collate_fn": time_first},
        {"batch_sampler": type("Episodes", (BatchSampler,), {})(RandomSampler(range(64)), 16, drop_last=True)},
    ],
)
def test_leaves_out_loaders_that_bind_samples_together(mixing_of, options):
    model = model_of(lambda net, x: net.head(net.rnn(x)[0][-1]), rnn=nn.GRU(2, 5), head=nn.Linear(5, 3))
    loader = DataLoader(TensorDataset(*sequences()), **options)
    with pytest.raises(NotApplicable):
        mixing_of(model, loader, loss_fn=lambda out, y: F.cross_entropy(out[: len(y)], y[: len(out)]))


def test_leaves_out_made_up_inputs(probe_of):
    with pytest.raises(NotApplicable, match="made up"):
        mix_batches(probe_of(nn.Linear(4, 3)))


def test_leaves_out_training_steps_that_call_the_model_twice(probe_of, blobs):
    probe = probe_of(
        nn.Linear(4, 2), train=blobs(), training_step=lambda m, b: F.cross_entropy(m(b[0]) + m(b[0]), b[1])
    )
    with pytest.raises(NotApplicable, match="training step"):
        mix_batches(probe)


def test_leaves_out_models_that_draw_random_numbers(mixing_of):
    with pytest.raises(NotApplicable, match="differ"):
        mixing_of(two_layers(lambda h: h + torch.randn_like(h)), vectors())


def test_leaves_out_losses_that_the_model_returns_alone(mixing_of):
    model = model_of(lambda net, x, y: F.cross_entropy(net.body(x), y), body=nn.Linear(4, 3))
    with pytest.raises(NotApplicable, match="one row per sample"):
        mixing_of(model, vectors(), loss_fn=lambda out: out)


def test_leaves_model_and_random_state_as_they_were(mixing_of):
    model = two_layers(lambda h: h.softmax(0))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    torch.manual_seed(3)
    state = torch.get_rng_state()
    data = vectors()
    torch.set_rng_state(state)
    first, second = mixing_of(model, data), mixing_of(model, data)
    assert first == second
    assert model.training
    assert not model._forward_hooks
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_finds_where_samples_mix_though_no_change_reaches_the_output(mixing_of):
    """Attention over the batch, of which the class token is read: it is the same for all samples."""

    def forward(net, x):
        tokens = torch.cat([net.token.expand(len(x), 1, 8), net.embed(x)], 1)
        return net.head(net.attention(tokens, tokens, tokens)[0][:, 0])

    model = model_of(
        forward,
        token=nn.Parameter(torch.randn(1, 1, 8)),
        embed=nn.Linear(2, 8),
        attention=nn.MultiheadAttention(8, 2),
        head=nn.Linear(8, 3),
    )
    found = mixing_of(model, sequences())
    assert found.influence is None
    assert found.operation.module == "attention"
