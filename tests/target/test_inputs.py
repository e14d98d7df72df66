import copy
import random
import textwrap
import types
from functools import partial

import pytest
import torch
from torch import nn

from gradcheck_kit.errors import DataError
from gradcheck_kit.target.inputs import call_model, synthesize_inputs


def made(model, samples=4, *, seed=0, **options):
    return synthesize_inputs(model, samples, generator=torch.Generator().manual_seed(seed), **options)


def described(model, **options):
    """The description, after checking that the model takes the inputs in both modes."""
    inputs = made(model, **options)
    values = inputs.values.values() if isinstance(inputs.values, dict) else inputs.values
    assert all(value is None or len(value) == 4 for value in values)
    for training in (False, True):
        call_model(copy.deepcopy(model).train(training), inputs)
    return inputs.description


def module(forward, **layers):
    """A model with these layers and this forward."""
    model = type("Model", (nn.Module,), {"forward": forward})()
    for name, layer in layers.items():
        setattr(model, name, layer)
    return model


def convolutions(channels, flat, kind=nn.Conv2d, pool=nn.MaxPool2d):
    return nn.Sequential(kind(channels, 4, 3, padding=1), nn.ReLU(), pool(2), nn.Flatten(), nn.Linear(flat, 3))


ONE_INPUT = {
    "an MLP": (lambda: nn.Sequential(nn.Linear(20, 8), nn.ReLU(), nn.Linear(8, 3)), "vectors of 20"),
    "an MLP on images": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), "images 1x28x28"),
    "an MLP on colour images": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(3072, 10)), "images 3x32x32"),
    "a norm before the MLP": (lambda: nn.Sequential(nn.BatchNorm1d(7), nn.Linear(7, 2)), "vectors of 7"),
    "a convolutional net of any size": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        "images 3x64x64",
    ),
    "a size that only Linear tells": (lambda: convolutions(3, 4 * 16 * 16), "images 3x32x32"),
    "an unusual size that only Linear tells": (lambda: convolutions(3, 4 * 25 * 25), "images 3x50x50"),
    "a view that mixes samples": (
        lambda: module(
            lambda self, x: self.head(self.body(x).view(-1, 4 * 8 * 8)),
            body=nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.MaxPool2d(2)),
            head=nn.Linear(4 * 8 * 8, 2),
        ),
        "images 3x16x16",
    ),
    "a LeNet": (
        lambda: nn.Sequential(
            *(nn.Conv2d(1, 6, 5, padding=2), nn.Sigmoid(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 5), nn.AvgPool2d(2)),
            *(nn.Flatten(), nn.Linear(400, 120), nn.Linear(120, 10)),
        ),
        "images 1x28x28",
    ),
    "a generator": (lambda: nn.Sequential(nn.ConvTranspose2d(100, 8, 4), nn.BatchNorm2d(8)), "images 100x1x1"),
    "a generator that reshapes": (
        lambda: module(lambda self, z: self.up(z[:, :, None, None]), up=nn.ConvTranspose2d(10, 3, 4)),
        "vectors of 10",
    ),
    "a signal net": (lambda: nn.Conv1d(2, 4, 3), "sequences 2x128"),
    "a signal net of fixed length": (lambda: convolutions(2, 200, nn.Conv1d, nn.MaxPool1d), "sequences 2x100"),
    "a signal net of unusual length": (lambda: convolutions(2, 180, nn.Conv1d, nn.MaxPool1d), "sequences 2x90"),
    "a raw signal": (lambda: module(lambda self, x: self.c(x[:, None]), c=nn.Conv1d(1, 2, 3)), "vectors of 128"),
    "a video net": (lambda: nn.Conv3d(3, 2, 3), "volumes 3x8x32x32"),
    "an embedding bag": (
        lambda: nn.Sequential(nn.EmbeddingBag(50, 4), nn.Linear(4, 2)),
        "token sequences of 16 (vocabulary 50)",
    ),
    "a bag of words of fixed length": (
        lambda: nn.Sequential(nn.Embedding(50, 4), nn.Flatten(), nn.Linear(40, 2)),
        "token sequences of 10 (vocabulary 50)",
    ),
    "an LSTM classifier": (
        lambda: module(
            lambda self, x: self.head(self.lstm(self.embed(x))[0][:, -1]),
            embed=nn.Embedding(1000, 8),
            lstm=nn.LSTM(8, 8, batch_first=True),
            head=nn.Linear(8, 2),
        ),
        "token sequences of 16 (vocabulary 1000)",
    ),
    "a GRU": (lambda: nn.GRU(5, 3, batch_first=True), "sequences 16x5"),
    "a cell in a loop": (
        lambda: module(lambda self, x: self.cell(x[:, 1], self.cell(x[:, 0])), cell=nn.GRUCell(5, 3)),
        "sequences 16x5",
    ),
    "a cell": (lambda: nn.GRUCell(5, 3), "vectors of 5"),
    "a transformer encoder": (
        lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 1),
        "sequences 16x8",
    ),
    "learnt positions": (
        lambda: module(
            lambda self, x: self.head(self.tokens(x) + self.positions(torch.arange(x.shape[1]))),
            positions=nn.Embedding(8, 4),
            tokens=nn.Embedding(30, 4),
            head=nn.Linear(4, 30),
        ),
        "token sequences of 8 (vocabulary 30)",
    ),
    "a size stated in an error": (lambda: module(sized_forward, layer=nn.Conv2d(3, 2, 3)), "images 3x50x50"),
    "a layer of one's own": (
        lambda: module(lambda self, x: x @ self.weight, weight=nn.Parameter(torch.ones(6, 2))),
        "vectors of 6",
    ),
    "layers registered out of order": (
        lambda: module(lambda self, x: self.last(self.first(x)), last=nn.Linear(8, 2), first=nn.Linear(11, 8)),
        "vectors of 11",
    ),
    "a lazy net": (lambda: nn.Sequential(nn.LazyConv2d(4, 3), nn.Flatten(), nn.LazyLinear(2)), "images 3x64x64"),
    "a stack that unflattens first": (
        lambda: nn.Sequential(nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, 2, 3)),
        "vectors of 64",
    ),
    "a parallel wrapper": (lambda: nn.DataParallel(nn.Linear(6, 2)), "vectors of 6"),
    "no parameters": (nn.ReLU, "vectors of 16"),
    "a wrapper": (lambda: module(lambda self, *args: self.inner(*args), inner=nn.Linear(6, 2)), "vectors of 6"),
    "an optional input": (lambda: module(lambda self, x=None: self.layer(x), layer=nn.Linear(6, 2)), "vectors of 6"),
}


def sized_forward(self, x):
    if x.shape[-1] != 50:
        raise ValueError(f"Input image size ({x.shape[-1]}) doesn't match model (50)")
    return self.layer(x)


@pytest.mark.parametrize("case", ONE_INPUT)
def test_it_finds_the_one_input_of(case):
    build, description = ONE_INPUT[case]
    torch.manual_seed(0)
    assert described(build()) == description


SEVERAL_INPUTS = {
    "a transformer": (
        lambda: nn.Transformer(8, 2, 1, 1, 16, batch_first=True),
        "2 inputs: sequences 16x8, sequences 16x8",
    ),
    "attention": (
        lambda: nn.MultiheadAttention(8, 2, batch_first=True),
        "3 inputs: sequences 16x8, sequences 16x8, sequences 16x8",
    ),
    "a bilinear layer": (lambda: nn.Bilinear(3, 5, 2), "2 inputs: vectors of 3, vectors of 5"),
    "two towers": (
        lambda: module(
            lambda self, words, numbers: self.words(words).mean(1) + self.numbers(numbers),
            words=nn.Embedding(40, 4),
            numbers=nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 4)),
        ),
        "2 inputs: token sequences of 16 (vocabulary 40), vectors of 8",
    ),
    "two towers registered out of order": (
        lambda: module(
            lambda self, a, b: self.second(a) + self.first(b),
            first=nn.Sequential(nn.Linear(8, 6), nn.Linear(6, 4)),
            second=nn.Linear(5, 4),
        ),
        "2 inputs: vectors of 5, vectors of 8",
    ),
    "twins": (
        lambda: module(
            lambda self, a, b: self.net(a) - self.net(b), net=nn.Sequential(nn.Linear(9, 6), nn.Linear(6, 4))
        ),
        "2 inputs: vectors of 9, vectors of 9",
    ),
    "inputs that are concatenated": (
        lambda: module(lambda self, x, t: self.net(torch.cat([x, t], -1)), net=nn.Linear(5, 4)),
        "2 inputs: vectors of 2, vectors of 3",
    ),
    "an image and numbers": (
        lambda: module(
            lambda self, image, numbers: self.head(torch.cat([self.net(image).mean((2, 3)), numbers], 1)),
            net=nn.Conv2d(3, 4, 3),
            head=nn.Linear(10, 2),
        ),
        "2 inputs: images 3x64x64, vectors of 6",
    ),
    "tokens and their mask": (
        lambda: module(
            lambda self, input_ids, attention_mask: (self.embed(input_ids) * attention_mask[..., None]).mean(1),
            embed=nn.Embedding(40, 4),
        ),
        "2 inputs: token sequences of 16 (vocabulary 40), masks of 16",
    ),
    "a padding mask": (
        lambda: module(
            lambda self, x, pad_mask: self.net(x, src_key_padding_mask=pad_mask),
            net=nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
        ),
        "2 inputs: sequences 16x8, masks of 16",
    ),
    "packed sequences": (
        lambda: module(
            lambda self, x, lengths: self.gru(
                nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
            )[1][-1],
            gru=nn.GRU(5, 3, batch_first=True),
        ),
        "2 inputs: sequences 16x5, lengths of 16",
    ),
    "users and items": (
        lambda: module(
            lambda self, user, item: (self.users(user) * self.items(item)).sum(-1),
            users=nn.Embedding(30, 4),
            items=nn.Embedding(20, 4),
        ),
        "2 inputs: tokens (vocabulary 30), tokens (vocabulary 20)",
    ),
    "an image and a label": (
        lambda: module(
            lambda self, image, label: self.net(image).mean((2, 3)) + self.embed(label),
            embed=nn.Embedding(7, 4),
            net=nn.Conv2d(3, 4, 3),
        ),
        "2 inputs: images 3x64x64, tokens (vocabulary 7)",
    ),
    "a transformer decoder": (
        lambda: nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, 16), 1),
        "2 inputs: sequences 16x8, sequences 16x8",
    ),
    "categories and numbers": (
        lambda: module(
            lambda self, kinds, numbers: self.head(
                torch.cat([*(embed(kinds[:, i]) for i, embed in enumerate(self.columns)), numbers], 1)
            ),
            columns=nn.ModuleList(nn.Embedding(n, 4) for n in (10, 5, 7)),
            head=nn.Linear(18, 2),
        ),
        "2 inputs: token sequences of 3 (vocabulary 5), vectors of 6",
    ),
    "noise and a label": (
        lambda: module(
            lambda self, noise, labels: self.net(torch.cat([self.embed(labels), noise], -1)),
            embed=nn.Embedding(10, 10),
            net=nn.Sequential(nn.Linear(110, 32), nn.Linear(32, 784)),
        ),
        "2 inputs: vectors of 100, tokens (vocabulary 10)",
    ),
    "images that share their net": (
        lambda: module(
            lambda self, image1, image2: self.net(torch.cat([image1, image2])).mean((1, 2, 3)).chunk(2),
            net=nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)),
        ),
        "2 inputs: images 3x64x64, images 3x64x64",
    ),
    "a language model that returns rows of steps": (
        lambda: module(
            lambda self, x, hidden: (self.head(self.rnn(self.embed(x), hidden)[0].view(-1, 8)),),
            embed=nn.Embedding(20, 8),
            rnn=nn.LSTM(8, 8),
            head=nn.Linear(8, 20),
        ),
        "2 inputs: token sequences of 16 (vocabulary 20), None",
    ),
    "a hidden state": (
        lambda: module(lambda self, x, hidden: self.rnn(x, hidden), rnn=nn.RNN(5, 3, batch_first=True)),
        "2 inputs: sequences 16x5, None",
    ),
}


@pytest.mark.parametrize("case", SEVERAL_INPUTS)
def test_it_finds_the_inputs_of(case):
    build, description = SEVERAL_INPUTS[case]
    assert described(build()) == description


def test_it_gives_required_keywords_by_name():
    def forward(self, *, x, scale=1.0):
        return self.layer(x) * scale

    inputs = made(module(forward, layer=nn.Linear(4, 2)))
    assert inputs.call == "keyword"
    assert inputs.values["x"].shape == (4, 4)


def test_it_leaves_out_labels_that_have_a_default():
    inputs = made(module(lambda self, x, labels=None: self.layer(x), layer=nn.Linear(4, 2)))
    assert [value.shape for value in inputs.values] == [(4, 4)]


def test_it_learns_the_keys_of_a_batch():
    def forward(self, batch):
        seen = self.net(batch["image"]).mean((2, 3)) + self.embed(batch["input_ids"]).mean(1)
        return seen if batch.get("weight") is None else seen * batch["weight"]

    model = module(forward, embed=nn.Embedding(30, 4), net=nn.Conv2d(1, 4, 3))
    assert described(model) == "2 inputs: images 1x28x28, token sequences of 16 (vocabulary 30)"
    inputs = made(model)
    assert inputs.call == "mapping"
    assert type(inputs.values) is dict
    assert list(inputs.values) == ["image", "input_ids"]


def test_it_leaves_out_a_key_that_a_model_can_do_without():
    def forward(self, batch):
        weight = batch.get("weight")
        seen = self.head(self.body(batch["x"]))
        return seen if weight is None else seen * weight

    model = module(forward, body=convolutions(3, 4 * 14 * 14)[:4], head=nn.Linear(4 * 14 * 14, 3))
    assert list(made(model).values) == ["x"]


def test_it_learns_the_keywords_of_a_forward_that_takes_any():
    inputs = made(module(lambda self, **batch: self.layer(batch["features"]), layer=nn.Linear(4, 2)))
    assert inputs.call == "keyword"
    assert inputs.values["features"].shape == (4, 4)


def test_it_asks_a_model_that_names_its_main_input():
    def forward(self, attention_mask=None, input_ids=None, decoder_input_ids=None):
        return {"loss": None, "logits": self.head(self.embed(input_ids) + self.embed(decoder_input_ids))}

    model = module(forward, embed=nn.Embedding(30, 4), head=nn.Linear(4, 30))
    model.main_input_name = "input_ids"
    model.config = types.SimpleNamespace(is_encoder_decoder=True)
    inputs = made(model)
    assert inputs.call == "keyword"
    assert list(inputs.values) == ["input_ids", "decoder_input_ids"]


def test_it_takes_the_image_size_that_a_configuration_states():
    model = module(lambda self, pixel_values=None: self.net(pixel_values), net=nn.Conv2d(3, 4, 4, 4))
    model.main_input_name = "pixel_values"
    model.config = types.SimpleNamespace(image_size=40)
    assert described(model) == "images 3x40x40"


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16, torch.complex64])
def test_it_gives_floats_in_the_type_of_the_parameters(dtype):
    model = nn.Linear(4, 2).to(dtype) if dtype.is_floating_point else nn.Linear(4, 2, dtype=dtype)
    (value,) = made(model).values
    assert value.dtype == dtype


def test_it_draws_the_same_again_from_the_same_seed():
    model = nn.Linear(4, 2)
    (first,), (again,), (other,) = (made(model, seed=seed).values for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_it_draws_samples_that_differ():
    (value,) = made(nn.Embedding(1000, 4), samples=32).values
    assert len(value.unique(dim=0)) == 32
    assert value.max() < 1000


@pytest.mark.parametrize(
    ("model", "shapes", "description"),
    [
        (nn.Conv2d(3, 4, 3), ((3, 20, 30),), "images 3x20x30"),
        (nn.Linear(6, 2), ((9, 6),), "sequences 9x6"),
        (nn.Embedding(30, 4), ((12,),), "token sequences of 12 (vocabulary 30)"),
        (nn.Bilinear(3, 5, 2), ((3,), (5,)), "2 inputs: vectors of 3, vectors of 5"),
    ],
)
def test_it_takes_the_shapes_that_are_given(model, shapes, description):
    assert described(model, shapes=shapes) == description


def test_it_infers_tokens_for_a_given_shape_from_the_layer_that_is_entered():
    model = module(
        lambda self, a, b: self.numbers(a) + self.words(b).mean(1), words=nn.Embedding(9, 4), numbers=nn.Linear(6, 4)
    )
    assert described(model, shapes=((6,), (5,))) == "2 inputs: vectors of 6, token sequences of 5 (vocabulary 9)"


def test_it_says_where_a_given_shape_is_refused():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv1 = nn.Conv2d(1, 4, 3)

        def forward(self, x):
            return self.conv1(x)

    message = r"the model does not accept --input 3x32x32: RuntimeError: .*3 channels instead \(in conv1\)"
    with pytest.raises(DataError, match=message):
        made(Net(), shapes=((3, 32, 32),))


def test_it_refuses_more_shapes_than_inputs():
    with pytest.raises(DataError, match="--input is given 2 times, but the model takes 1 input: input"):
        made(nn.Linear(3, 2), shapes=((3,), (3,)))


def test_it_reports_what_forward_raises_whatever_it_is_given(tmp_path, monkeypatch):
    source = """
        from torch import nn
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.layer = nn.Linear(4, 2)
            def forward(self, x):
                return self.layer(y)
    """
    (tmp_path / "broken_model.py").write_text(textwrap.dedent(source))
    monkeypatch.syspath_prepend(tmp_path)
    import broken_model

    with pytest.raises(DataError, match=r"the model's forward raised NameError: .*'y'.* at broken_model\.py:8$"):
        made(broken_model.Net())


def test_it_reports_one_exception_for_all_inputs_as_that():
    def forward(self, x):
        raise ValueError("not today")

    with pytest.raises(DataError, match=r"the model's forward raised ValueError: not today at test_inputs.py:\d+$"):
        made(module(forward, layer=nn.Linear(4, 2)))


def test_it_reports_a_missing_forward():
    with pytest.raises(DataError, match=r'raised NotImplementedError: .* is missing the required "forward" function$'):
        made(type("Model", (nn.Module,), {})())


def test_it_says_what_it_tried_when_nothing_fits():
    def forward(self, x):
        raise ValueError(f"not {tuple(x.shape)}")

    message = r"tried fits the model \(vectors of 4; .* more\), .*ValueError: not \(3, 4\).*--input 3x224x224$"
    with pytest.raises(DataError, match=message):
        made(module(forward, layer=nn.Linear(4, 2)))


def test_it_says_so_when_only_training_fails():
    def forward(self, x, targets=None):
        if self.training and targets is None:
            raise ValueError("targets are needed")
        return self.layer(x)

    message = "takes vectors of 4 in evaluation mode, but in training mode its forward raised ValueError: targets"
    with pytest.raises(DataError, match=message):
        made(module(forward, layer=nn.Linear(4, 2)))


def test_it_refuses_a_model_without_values():
    with pytest.raises(DataError, match="meta device"):
        made(nn.Linear(4, 2, device="meta"))


class Stateful(nn.Module):
    """Changes itself in every way that a forward pass can."""

    def __init__(self, *, fails, copyable):
        super().__init__()
        self.norm = nn.BatchNorm1d(4)
        self.layer = nn.Linear(4, 2)
        self.frozen = nn.Dropout().eval()
        self.register_buffer("steps", torch.zeros(1), persistent=False)
        self.calls = 0
        self.fails = fails
        self.cache = None if copyable else self.layer.weight * 2  # a graph tensor cannot be copied

    def forward(self, x):
        self.steps += 1
        self.calls += 1
        self.cache = self.layer(self.norm(x + random.random() * torch.rand(())))
        print("forward")
        if self.fails:
            raise ValueError(f"never {tuple(x.shape)}")
        return self.frozen(self.cache)


@pytest.mark.parametrize("copyable", [True, False])
@pytest.mark.parametrize("fails", [True, False])
def test_it_leaves_model_and_random_state_and_output_alone(fails, copyable, capsys):
    model = Stateful(fails=fails, copyable=copyable)

    def state():
        tensors = [tensor.clone() for tensor in (*model.parameters(), *model.buffers(), torch.get_rng_state())]
        flags = [m.training for m in model.modules()]
        return tensors, [flags, model.calls, id(model.cache), random.getstate(), [id(b) for b in model.buffers()]]

    tensors, rest = state()
    if fails:
        with pytest.raises(DataError):
            made(model)
    else:
        assert made(model).description == "vectors of 4"
    after, rest_after = state()
    assert all(map(torch.equal, tensors, after))
    assert rest == rest_after
    assert all(p.grad is None for p in model.parameters())
    assert capsys.readouterr().out == ""


def test_it_leaves_a_lazy_model_lazy():
    model = nn.Sequential(nn.LazyLinear(3))
    made(model)
    assert isinstance(model[0].weight, nn.UninitializedParameter)


def test_it_accepts_a_model_that_keeps_its_last_state():
    def forward(self, x):
        self.last = self.layer(x) if self.last is None else self.layer(x) + self.last
        return self.last

    model = module(forward, layer=nn.Linear(4, 2))
    model.last = None
    assert made(model).description == "vectors of 4"


@pytest.mark.parametrize(
    ("name", "description"),
    [
        ("squeezenet1_1", "images 3x64x64"),
        ("mobilenet_v3_small", "images 3x64x64"),
        ("shufflenet_v2_x0_5", "images 3x64x64"),
        ("mc3_18", "volumes 3x8x32x32"),
        ("lraspp_mobilenet_v3_large", "images 3x64x64"),
    ],
)
def test_it_finds_the_inputs_of_torchvision(name, description):
    import torchvision

    options = {"weights_backbone": None} if name.startswith("lraspp") else {}
    assert made(torchvision.models.get_model(name, weights=None, **options)).description == description


def test_it_finds_the_fixed_size_of_a_vision_transformer():
    from torchvision.models import VisionTransformer

    build = partial(VisionTransformer, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=8)
    assert made(build(image_size=48, patch_size=8)).description == "images 3x48x48"


class Sum(nn.Module):
    """Adds up what one layer for each input returns."""

    def __init__(self, *sizes):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(size, 8) for size in sizes)


class SumOfTwo(Sum):
    def forward(self, x, y):
        return self.layers[0](x) + self.layers[1](y)


class SumOfThree(Sum):
    def forward(self, x, y, z):
        return self.layers[0](x) + self.layers[1](y) + self.layers[2](z)


@pytest.mark.parametrize("sizes", [(4, 6, 2), (2, 6, 4), (6, 6, 2), (3, 5, 5), (4, 4, 4), (2, 8), (8, 2), (8, 8)])
def test_samples_of_inputs_that_are_added_up_are_not_broadcast_against_each_other(sizes):
    model = (SumOfTwo if len(sizes) == 2 else SumOfThree)(*sizes)
    inputs = synthesize_inputs(model, 5, generator=torch.Generator().manual_seed(0))
    assert len({value.ndim for value in inputs.values}) == 1
    assert [(len(value), value.shape[-1]) for value in inputs.values] == [(5, size) for size in sizes]


def test_vectors_that_are_added_up_are_vectors():
    inputs = synthesize_inputs(SumOfThree(4, 6, 2), 5, generator=torch.Generator().manual_seed(0))
    assert [tuple(value.shape) for value in inputs.values] == [(5, 4), (5, 6), (5, 2)]
