"""Whether a model that predicts the next element sees it."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from gradcheck_kit.experiments import NotApplicable
from gradcheck_kit.experiments.future_mixing import mix_future

T, V = 10, 13


class Net(nn.Module):
    """Embedding, something that mixes positions, head."""

    def __init__(self, mix, **modules):
        super().__init__()
        self.embed, self.head, self.mix = nn.Embedding(V, 8), nn.Linear(8, V), mix
        self.position = nn.Parameter(torch.randn(T, 8))
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, x):
        return self.head(self.mix(self, self.embed(x)))


def text(n=32):
    x = (torch.randint(0, V, (n, 1)) + torch.randint(1, 4, (n, 1)) * torch.arange(T + 1)) % V
    return x[:, :-1], x[:, 1:]


def next_token(out, y):
    return F.cross_entropy(out.flatten(0, 1), y.flatten())


@pytest.fixture
def future_of(probe_of):
    def run(model, data, loss_fn=next_token, **options):
        torch.manual_seed(0)
        train = data if isinstance(data, DataLoader) else DataLoader(TensorDataset(*data), 8, shuffle=True)
        return mix_future(probe_of(model, train=train, loss_fn=loss_fn, **options))

    return run


def attend(_net, h, mask=None, **options):
    return F.scaled_dot_product_attention(h, h, h, attn_mask=mask, **options)


def masked_by_hand(shift):
    def mix(_net, h):
        scores = h @ h.transpose(1, 2) / 3
        return scores.masked_fill(torch.ones(T, T).triu(shift).bool(), -1e9).softmax(-1) @ h

    return mix


def convolve(padding):
    return lambda net, h: net.conv(F.pad(h.transpose(1, 2), padding)).transpose(1, 2)


def by_fourier_transform(net, h):
    kernel = torch.fft.rfft(net.kernel.weight.T, n=2 * T, dim=0)
    return torch.fft.irfft(torch.fft.rfft(h, n=2 * T, dim=1) * kernel, n=2 * T, dim=1)[:, :T]


SICK = {
    "attention": (Net(attend), "scaled_dot_product_attention", ""),
    "a mask that is off by one": (Net(masked_by_hand(2)), "matmul", ""),
    "convolution padded on both sides": (Net(convolve((1, 1)), conv=nn.Conv1d(8, 8, 3)), "conv1d", "conv"),
    "convolution to as many channels as positions": (
        Net(
            lambda net, h: net.conv(F.pad(h.transpose(1, 2), (1, 1))).narrow(1, 0, 8).transpose(1, 2),
            conv=nn.Conv1d(8, T, 3),
        ),
        "conv1d",
        "conv",
    ),
    "two directions": (
        Net(lambda net, h: net.rnn(h)[0], rnn=nn.GRU(8, 4, batch_first=True, bidirectional=True)), "gru", "rnn",
    ),
    "normalisation over time": (
        Net(lambda net, h: net.norm(h.transpose(1, 2)).transpose(1, 2), norm=nn.GroupNorm(2, 8)), "group_norm", "norm",
    ),
    "an encoder without a mask": (
        Net(lambda net, h: net.body(h), body=nn.TransformerEncoderLayer(8, 2, 8, batch_first=True)),
        "multi_head_attention_forward", "body.self_attn",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SICK)
def test_finds_what_brings_the_future_in(future_of, name):
    model, operation, module = SICK[name]
    future = future_of(model, text())
    assert future.influence > 1e-2
    assert future.position == T - 1
    assert (future.operation.operation, future.operation.module) == (operation, module)


def test_counts_the_outputs_that_see_it(future_of):
    assert future_of(Net(masked_by_hand(2)), text()).reached == 1
    assert future_of(Net(attend), text()).reached == T - 1


def test_finds_a_mean_over_all_positions(future_of):
    future = future_of(Net(lambda _net, h: h + h.mean(1, keepdim=True)), text())
    assert (future.operation.operation, future.operation.reduced_by) == ("add", "mean")


def test_finds_it_where_the_loss_shifts(future_of):
    loader = DataLoader(text()[0], 8, shuffle=True)

    def loss_fn(out, batch):
        return F.cross_entropy(out[:, :-1].flatten(0, 1), batch[:, 1:].flatten())

    assert future_of(Net(attend), loader, loss_fn).influence > 1e-2
    causal = future_of(Net(lambda net, h: attend(net, h, is_causal=True)), loader, loss_fn)
    assert causal.influence == 0.0


def test_finds_it_in_batches_with_time_first(future_of):
    def collate(rows):
        return torch.stack([x for x, _ in rows], 1), torch.stack([y for _, y in rows], 1)

    loader = DataLoader(TensorDataset(*text()), 8, collate_fn=collate)
    sick = Net(lambda net, h: net.body(h), body=nn.TransformerEncoderLayer(8, 2, 8))
    healthy = Net(lambda net, h: net.rnn(h)[0], rnn=nn.GRU(8, 8))
    assert future_of(sick, loader).influence > 1e-2
    assert future_of(healthy, loader).influence == 0.0


@pytest.mark.parametrize("rows", [8, T])
def test_finds_it_in_series_with_time_last(future_of, rows):
    def make(n):
        x = torch.randn(n, 2, T + 1).cumsum(-1)
        return x[..., :-1], x[..., 1:]

    def cut(right):
        conv = nn.Conv1d(2, 2, 3, padding=2)
        return nn.Sequential(conv, Slice(slice(None, T) if right else slice(2, None)))

    class Slice(nn.Module):
        def __init__(self, part):
            super().__init__()
            self.part = part

        def forward(self, x):
            return x[..., self.part]

    loader = DataLoader(TensorDataset(*make(32)), rows)
    assert future_of(cut(right=False), loader, F.mse_loss).influence > 1e-2
    assert future_of(cut(right=True), loader, F.mse_loss).influence == 0.0


def test_finds_it_where_a_fused_kernel_makes_everything_nan(future_of):
    upside_down = torch.ones(T, T, dtype=torch.bool).tril()
    body = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 8, batch_first=True), 2, enable_nested_tensor=False)
    model = Net(lambda net, h: net.body(h, mask=upside_down), body=body)
    assert future_of(model, text()).influence > 1e-2


@pytest.mark.parametrize(("causal", "least", "most"), [(False, 1e-2, 10.0), (True, 0.0, 0.0)])
def test_tells_time_from_as_many_words(future_of, causal, least, most):
    class Words(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.head = nn.Embedding(T, 8), nn.Linear(8, T)

        def forward(self, x):
            h = self.embed(x)
            return self.head(F.scaled_dot_product_attention(h, h, h, is_causal=causal))

    words = torch.randint(0, T, (32, T + 1))
    future = future_of(Words(), (words[:, :-1], words[:, 1:]))
    assert least <= future.influence <= most


def test_finds_it_in_forecasts_of_numbers(future_of):
    class Forecast(nn.Module):
        def __init__(self, *, both):
            super().__init__()
            self.rnn = nn.GRU(3, 4, batch_first=True, bidirectional=both)
            self.head = nn.Linear(8 if both else 4, 3)

        def forward(self, x):
            return self.head(self.rnn(x)[0])

    x = torch.randn(32, T + 1, 3).cumsum(1)
    assert future_of(Forecast(both=True), (x[:, :-1], x[:, 1:]), nn.MSELoss()).influence > 1e-2
    assert future_of(Forecast(both=False), (x[:, :-1], x[:, 1:]), nn.MSELoss()).influence == 0.0


# ---- healthy ----

HEALTHY = {
    "causal attention": Net(lambda net, h: attend(net, h, is_causal=True)),
    "a mask by hand": Net(masked_by_hand(1)),
    "convolution padded on the left": Net(convolve((2, 0)), conv=nn.Conv1d(8, 8, 3)),
    "a recurrent layer": Net(lambda net, h: net.rnn(h)[0], rnn=nn.LSTM(8, 8, batch_first=True)),
    "a mean of the past": Net(lambda _net, h: h.cumsum(1) / torch.arange(1, T + 1)[:, None]),
    "a masked encoder": Net(
        lambda net, h: net.body(h, src_mask=nn.Transformer.generate_square_subsequent_mask(T)),
        body=nn.TransformerEncoderLayer(8, 2, 8, batch_first=True),
    ),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_measures_exactly_nothing_of(future_of, name):
    future = future_of(HEALTHY[name], text())
    assert future.influence == 0.0
    assert future.reached == 0
    assert future.operation is None


def test_measures_the_rounding_of_a_fourier_transform_and_counts_no_output(future_of):
    future = future_of(Net(by_fourier_transform, kernel=nn.Linear(T, 8, bias=False)), text())
    assert future.influence < 1e-6
    assert future.reached == 0


def test_looks_at_positions_that_count_only_as_in_a_prefix_language_model(future_of):
    mask = torch.ones(T, T).tril()
    mask[:4, :4] = 1
    x, y = text()
    y = y.clone()
    y[:, :3] = -100
    assert future_of(Net(lambda net, h: attend(net, h, mask.bool())), (x, y)).influence == 0.0


class Translate(nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.embed, self.head = nn.Embedding(V, 8), nn.LazyLinear(V)
        self.encoder, self.decoder = nn.GRU(8, 8, batch_first=True), nn.GRU(8, 8, batch_first=True, **options)
        self(*[torch.zeros(1, 2).long()] * 2)

    def forward(self, source, target):
        state = self.encoder(self.embed(source))[1]
        return self.head(self.decoder(self.embed(target), state.repeat(1 + self.decoder.bidirectional, 1, 1))[0])


def test_replaces_the_input_of_the_decoder_only(future_of):
    x, y = text()
    assert future_of(Translate(), (x.flip(1), x, y)).influence == 0.0


def translating(inputs):
    """A step that cuts the decoder's input and its target out of one sequence."""

    def step(model, batch):
        source, target = batch
        return next_token(model(source, target[:, inputs]), target[:, 1:])

    return step


@pytest.mark.parametrize(("inputs", "given"), [(slice(None, -1), False), (slice(1, None), True)])
def test_finds_the_target_in_the_place_of_what_comes_before_it(future_of, inputs, given):
    x, y = text()
    sequence = torch.cat([x, y[:, -1:]], 1)
    found = future_of(Translate(), (x.flip(1), sequence), None, training_step=translating(inputs))
    assert found.answer_given is given
    assert (found.influence == 0.0) is not given


def test_finds_a_decoder_that_sees_the_future_of_a_sequence_that_a_step_cuts(future_of):
    x, y = text()
    sequence = torch.cat([x, y[:, -1:]], 1)
    step = translating(slice(None, -1))
    found = future_of(Translate(bidirectional=True), (x.flip(1), sequence), None, training_step=step)
    assert found.influence > 0.01
    assert not found.answer_given


def test_finds_a_causal_model_whose_target_nobody_shifted(future_of):
    x, _ = text()
    found = future_of(Net(lambda net, h: attend(net, h, is_causal=True)), (x, x.clone()))
    assert found.answer_given


# ---- what is not looked at ----


def as_it_is():
    x, _ = text()
    return x, x.clone()


def masked():
    x, _ = text()
    hidden = torch.rand(x.shape) < 0.3
    return x.masked_fill(hidden, 0), x.masked_fill(~hidden, -100)


def earlier():
    x, y = text()
    return y, x


def shifted_right(_net, h):
    return F.pad(h, (0, 0, 1, 0))[:, :-1].cumsum(1)


def test_leaves_out_models_that_shift_what_they_are_given(future_of):
    with pytest.raises(NotApplicable, match="not the input shifted by one"):
        future_of(Net(shifted_right), as_it_is())


def constant():
    x = torch.randint(0, V, (32, 1)).expand(32, T)
    return x, x.clone()


@pytest.mark.parametrize("data", [as_it_is, masked, earlier, constant], ids=lambda make: make.__name__)
def test_leaves_out_targets_that_are_not_what_comes_next(future_of, data):
    with pytest.raises(NotApplicable, match="not the input shifted by one"):
        future_of(Net(attend), data())


def test_leaves_out_models_that_draw_random_numbers(future_of):
    with pytest.raises(NotApplicable, match="differ"):
        future_of(Net(lambda _net, h: h + torch.randn_like(h)), text())


def test_leaves_out_training_steps_that_call_the_model_twice(probe_of, blobs):
    probe = probe_of(
        nn.Linear(4, 2), train=blobs(), training_step=lambda m, b: F.cross_entropy(m(b[0]) + m(b[0]), b[1])
    )
    with pytest.raises(NotApplicable, match="training step"):
        mix_future(probe)
