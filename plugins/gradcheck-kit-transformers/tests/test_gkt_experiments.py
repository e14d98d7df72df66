"""What the experiments see of small models."""

from __future__ import annotations

import pytest
import torch
from gradcheck_kit_transformers import gradcheck_experiments
from gradcheck_kit_transformers.experiments.attention_watch import watching_attention
from gradcheck_kit_transformers.facts import AttentionUse, PaddingUse, PositionUse, Ties
from padded_data import padded, texts
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from gradcheck_kit.experiments import NotApplicable
from gradcheck_kit.probe import measure

EXPERIMENTS = {e.fact: e for e in gradcheck_experiments()}
WIDTH, LENGTH = 16, 10


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def seen(module, *args, grad=False, **kwargs):
    with torch.set_grad_enabled(grad), watching_attention(module) as watch:
        module.eval()(*args, **kwargs)
    return watch.seen


# ---- seeing attention ----


class Written(nn.Module):
    """softmax(q k^T) v in one of the ways that people write it."""

    def __init__(self, way):
        super().__init__()
        self.q, self.k, self.v, self.way = (
            nn.Linear(WIDTH, WIDTH),
            nn.Linear(WIDTH, WIDTH),
            nn.Linear(WIDTH, WIDTH),
            way,
        )

    def forward(self, x):
        q, k, v = (part(x).unflatten(-1, (2, -1)).transpose(1, 2) for part in (self.q, self.k, self.v))
        mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril()
        if self.way == "fused causal":
            return F.scaled_dot_product_attention(q, k, v, is_causal=True)
        if self.way == "fused mask":
            return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        if self.way == "fused bias":
            return F.scaled_dot_product_attention(
                q, k, v, attn_mask=torch.zeros(1, 1, *mask.shape).masked_fill(~mask, -1e9)
            )
        if self.way == "einsum":
            scores = torch.einsum("bhqd,bhkd->bhqk", q, k) / q.shape[-1] ** 0.5
            return torch.einsum("bhqk,bhkd->bhqd", scores.masked_fill(~mask, -1e4).softmax(-1), v)
        scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
        weights = F.dropout(F.softmax(scores.masked_fill(~mask, float("-inf")), dim=-1), 0.1, self.training)
        return weights @ v

    def expected(self, x):
        q, k = (part(x).unflatten(-1, (2, -1)).transpose(1, 2) for part in (self.q, self.k))
        scores = q @ k.mT / q.shape[-1] ** 0.5
        mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril()
        weights = scores.masked_fill(~mask, -torch.inf).softmax(-1)
        entropy = -torch.special.xlogy(weights, weights).sum(-1)[:, :, 1:].mean((0, 2))
        return entropy.tolist(), scores.abs().masked_fill(~mask, 0).amax((0, 2, 3)).tolist()


@pytest.mark.parametrize("way", ["fused causal", "fused mask", "fused bias", "einsum", "softmax and matmul"])
def test_it_measures_the_entropy_and_the_largest_logit_of_every_head(way):
    model, x = Written(way), torch.randn(4, LENGTH, WIDTH)
    (site,) = seen(model, x)
    entropy, logit = model.expected(x)
    assert site.entropy == pytest.approx(entropy, rel=1e-4)
    assert site.logit == pytest.approx(logit, rel=1e-4)
    assert site.keys == pytest.approx(sum(range(2, LENGTH + 1)) / (LENGTH - 1))


@pytest.mark.parametrize("weights", [True, False])
@pytest.mark.parametrize("grad", [True, False])
def test_it_sees_multi_head_attention_whatever_path_it_would_take(weights, grad):
    module, x = nn.MultiheadAttention(WIDTH, 4, batch_first=True), torch.randn(12, LENGTH, WIDTH)
    (site,) = seen(module, x, x, x, need_weights=weights, grad=grad)
    expected = module(x[:8], x[:8], x[:8], average_attn_weights=False)[1]
    entropy = -torch.special.xlogy(expected, expected).sum(-1).mean((0, 2))
    assert site.entropy == pytest.approx(entropy.tolist(), rel=1e-4)


def test_it_names_the_module_and_counts_its_calls():
    layer = nn.TransformerDecoderLayer(WIDTH, 2, 32, batch_first=True)
    x = torch.randn(3, LENGTH, WIDTH)
    assert [(s.module, s.call) for s in seen(layer, x, x)] == [("self_attn", 0), ("multihead_attn", 0)]


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Linear(WIDTH, 5), nn.Softmax(-1)),
        nn.GRU(WIDTH, 8, batch_first=True),
    ],
    ids=["classes", "recurrent"],
)
def test_it_takes_nothing_else_for_attention(model):
    assert seen(model, torch.randn(3, LENGTH, WIDTH)) == []


class Mixture(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate, self.experts = nn.Linear(WIDTH, 4), nn.Parameter(torch.randn(4, WIDTH, WIDTH))

    def forward(self, x):
        each = torch.einsum("btd,edf->btef", x, self.experts)
        return torch.einsum("bte,btef->btf", self.gate(x).softmax(-1), each)


def test_it_takes_no_mixture_of_experts_for_attention():
    assert seen(Mixture(), torch.randn(3, LENGTH, WIDTH)) == []


def test_it_agrees_with_the_attention_that_transformers_returns():
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, vocab_size=99,
        attn_implementation="eager",
    )  # fmt: skip
    model, ids = transformers.BertModel(config).eval(), torch.randint(5, 99, (4, LENGTH))
    weights = model(ids, output_attentions=True).attentions
    for implementation in ("eager", "sdpa"):
        model.set_attn_implementation(implementation)
        sites = seen(model, input_ids=ids)
        assert [s.module for s in sites] == [f"encoder.layer.{i}.attention.self" for i in (0, 1)]
        for site, one in zip(sites, weights, strict=True):
            entropy = -torch.special.xlogy(one, one).sum(-1).mean((0, 2))
            assert site.entropy == pytest.approx(entropy.tolist(), rel=1e-3)


def test_it_compares_attention_before_and_after_training():
    model = nn.Sequential(Written("fused causal"), nn.Flatten(1), nn.Linear(LENGTH * WIDTH, 2))
    x = torch.randn(64, LENGTH, WIDTH)
    use = measure(EXPERIMENTS[AttentionUse], model, [(x, (x[:, 0, 0] > 0).long())], steps=10)
    (site,) = use.sites
    assert site.module == "0"
    assert site.entropy_before != site.entropy
    assert site.entropy == pytest.approx(site.entropy_before, rel=0.2)


# ---- padding ----


class Padded(nn.Module):
    """A classifier of padded texts that makes its mask itself, or is given one."""

    def __init__(self, *, causal=False, pool="words"):
        super().__init__()
        self.embed = nn.Embedding(99, WIDTH)
        self.attention, self.head = nn.MultiheadAttention(WIDTH, 2, batch_first=True), nn.Linear(WIDTH, 2)
        self.causal, self.pool = causal, pool

    def forward(self, tokens, padding_mask):
        h = self.embed(tokens)
        mask = torch.ones(tokens.shape[1], tokens.shape[1]).triu(1).bool() if self.causal else None
        h = self.attention(h, h, h, key_padding_mask=padding_mask, attn_mask=mask, need_weights=False)[0]
        return self.head(h[:, 0] if self.pool == "first" else (h * ~padding_mask[..., None]).sum(1))


def rows(change=lambda ids, mask: (ids, mask == 0)):
    pairs = [(*change(*padded(text)), text[0] % 2) for text in texts(48)]
    return DataLoader(pairs, 12)


def padding_of(model, data):
    return measure(EXPERIMENTS[PaddingUse], model, data, loss_fn=nn.CrossEntropyLoss())


def test_it_finds_padding_by_a_mask_that_is_true_there():
    use = padding_of(Padded(), rows())
    assert (use.content, use.source, use.side, use.precision) == ("tokens", "padding_mask", "right", "float64")
    assert use.moved == 0
    assert use.shifted < 1e-12


def test_it_knows_positions_that_come_after_the_classes():
    class Tagger(Padded):
        def forward(self, tokens, padding_mask):
            h = self.embed(tokens)
            return self.head(self.attention(h, h, h)[0]).transpose(1, 2)

    data = DataLoader([(ids, mask == 0, (ids % 2) * mask) for ids, mask in map(padded, texts(48))], 12)
    use = padding_of(Tagger(), data)
    assert use.per_position
    assert use.moved > 1e-3
    assert use.shifted > 1e-3


def test_it_looks_at_padding_only():
    model = Padded()
    with_other_padding = rows(lambda ids, mask: (torch.where(mask == 0, 77, ids), mask == 0))
    assert padding_of(model, with_other_padding).moved == 0


def test_it_lets_the_content_tell_what_is_true_in_a_mask():
    class WhereWords(Padded):
        def forward(self, tokens, padding_mask):
            return super().forward(tokens, ~padding_mask)

    use = padding_of(WhereWords(), rows(lambda ids, mask: (ids, mask == 1)))
    assert use.moved == 0
    assert not use.mask_inverted
    assert use.shifted < 1e-12


def test_it_takes_no_start_for_padding_that_has_its_number():
    class Decoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(99, WIDTH, padding_idx=0)
            self.attention, self.head = nn.MultiheadAttention(WIDTH, 2, batch_first=True), nn.Linear(WIDTH, 99)

        def forward(self, x):
            h, later = self.embed(x), torch.ones(x.shape[1], x.shape[1]).triu(1).bool()
            return self.head(self.attention(h, h, h, attn_mask=later)[0]).transpose(1, 2)

    ids = torch.stack([padded(text, length=17)[0] for text in texts(48)])
    shifted = torch.cat([torch.zeros_like(ids[:, :1]), ids[:, :-1]], 1)
    with pytest.raises(NotApplicable, match="no row of the data is padded"):
        padding_of(Decoder(), DataLoader(list(zip(shifted, ids, strict=True)), 12))


def test_it_runs_losses_that_take_derivatives():
    def loss_fn(output, target):
        (slope,) = torch.autograd.grad(output.square().sum(), output, create_graph=True)
        return nn.functional.cross_entropy(output, target) + slope.square().mean()

    assert measure(EXPERIMENTS[PaddingUse], Padded(), rows(), loss_fn=loss_fn).moved == 0


def test_it_skips_a_model_that_has_its_loss_in_training_mode_only():
    class Trains(Padded):
        def forward(self, tokens, padding_mask):
            return super().forward(tokens, padding_mask) if self.training else None

    with pytest.raises(NotApplicable, match="in evaluation mode the model or its loss raises"):
        padding_of(Trains(), rows())


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            lambda ids, mask: (torch.where(mask == 0, 7, ids), torch.zeros_like(mask) == 1),
            "no row of the data is padded",
        ),
        (lambda ids, mask: (ids, torch.ones_like(mask) == 1), "no row of the data is padded"),
    ],
    ids=["a mask that hides nothing", "a mask that hides all"],
)
def test_it_does_not_guess_where_padding_is(change, reason):
    model = Padded(pool="first")
    with pytest.raises(NotApplicable, match=reason):
        padding_of(model, rows(change))


def test_it_takes_no_word_at_the_end_of_a_row_for_padding():
    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(99, WIDTH, padding_idx=0)
            self.attention, self.head = nn.MultiheadAttention(WIDTH, 2, batch_first=True), nn.Linear(WIDTH, 2)

        def forward(self, x):
            h = self.embed(x)
            return self.head(self.attention(h, h, h)[0].mean(1))

    tokens = torch.randint(0, 99, (48, LENGTH))  # any word may be the one that elsewhere means padding
    tokens[::3, -1] = 0
    with pytest.raises(NotApplicable, match="no row of the data is padded"):
        padding_of(Plain(), DataLoader(list(zip(tokens, tokens[:, 0] % 2, strict=True)), 12))


def test_it_leaves_models_without_attention_alone():
    class Recurrent(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.body, self.head = nn.Embedding(99, 8, padding_idx=0), nn.GRU(8, 8), nn.Linear(8, 2)

        def forward(self, x):
            return self.head(self.body(self.embed(x).transpose(0, 1))[1][0])

    data = DataLoader([(padded(text)[0], text[0] % 2) for text in texts(48)], 12)
    with pytest.raises(NotApplicable, match="the model has no attention"):
        padding_of(Recurrent(), data)


def test_it_changes_padded_vectors_too():
    class Frames(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention, self.head = nn.MultiheadAttention(WIDTH, 2, batch_first=True), nn.Linear(WIDTH, 2)

        def forward(self, frames, attention_mask):
            return self.head(self.attention(frames, frames, frames)[0][:, 0])

    data = [
        {
            "frames": torch.randn(LENGTH, WIDTH) * (torch.arange(LENGTH) < 4 + i % 5)[:, None],
            "attention_mask": (torch.arange(LENGTH) < 4 + i % 5).long(),
            "label": i % 2,
        }
        for i in range(48)
    ]
    use = padding_of(Frames(), DataLoader(data, 12))
    assert use.content == "frames"
    assert use.moved > 1e-3
    assert use.module == "attention"


# ---- ties ----


class Tied(nn.Module):
    def __init__(self, tie=lambda model: None):
        super().__init__()
        self.embed, self.head = nn.Embedding(50, WIDTH), nn.Linear(WIDTH, 50, bias=False)
        tie(self)

    def forward(self, x):
        return self.head(self.embed(x)).transpose(1, 2)


def share(model):
    model.head.weight = model.embed.weight


def clone(model):
    model.head.weight = nn.Parameter(model.embed.weight.clone())


def share_data(model):
    model.head.weight.data = model.embed.weight.data


@pytest.mark.parametrize(("tie", "tied"), [(share, [True]), (clone, [False]), (share_data, [False]), (bool, [])])
def test_it_tells_a_parameter_that_is_shared_from_a_copy(tie, tied):
    x = torch.randint(0, 50, (32, LENGTH))
    ties = measure(EXPERIMENTS[Ties], Tied(tie), [(x, x)], loss_fn=nn.CrossEntropyLoss())
    assert [pair.tied for pair in ties.pairs] == tied


@pytest.mark.parametrize("owned", ["embed", "head"])
def test_it_tells_which_of_two_is_in_an_optimizer(owned):
    x, model = torch.randint(0, 50, (32, LENGTH)), Tied(clone)
    optimizer = torch.optim.SGD(getattr(model, owned).parameters(), lr=0.1)
    ties = measure(EXPERIMENTS[Ties], model, [(x, x)], loss_fn=nn.CrossEntropyLoss(), optimizer=optimizer)
    (pair,) = ties.pairs
    assert (pair.optimized, pair.other_optimized) == (owned == "embed", owned == "head")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("change", ["clone", "other values"])
def test_it_knows_what_transformers_loaded_as_two(change, tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(n_embd=32, n_layer=1, n_head=2, vocab_size=99, n_positions=64)
    model = transformers.GPT2LMHeadModel(config)
    model.lm_head.weight = nn.Parameter(model.transformer.wte.weight + (change == "other values"))
    model.save_pretrained(tmp_path)
    loaded = transformers.GPT2LMHeadModel.from_pretrained(tmp_path)
    ids = torch.randint(0, 99, (8, LENGTH))
    (pair,) = measure(EXPERIMENTS[Ties], loaded, [{"input_ids": ids, "labels": ids}]).pairs
    assert pair.stated == "config.tie_word_embeddings"
    assert (pair.tied, pair.loaded_apart) == ((True, False) if change == "clone" else (False, True))


# ---- positions ----


class Positioned(nn.Module):
    def __init__(self, kind="embedding"):
        super().__init__()
        self.embed, self.head = nn.Embedding(50, WIDTH), nn.Linear(WIDTH, 50)
        self.attention = nn.MultiheadAttention(WIDTH, 2, batch_first=True)
        self.position = nn.Embedding(30, WIDTH) if kind == "embedding" else nn.Parameter(torch.zeros(1, 30, WIDTH))

    def forward(self, x):
        place = self.position(torch.arange(x.shape[1])) if callable(self.position) else self.position[:, : x.shape[1]]
        h = self.embed(x) + place
        return self.head(self.attention(h, h, h)[0]).transpose(1, 2)


def batches(*lengths):
    return [(x := torch.randint(0, 50, (12, n)), x) for n in lengths]


def position_use(model, train, test):
    return measure(EXPERIMENTS[PositionUse], model, train, loss_fn=nn.CrossEntropyLoss(), test_data=test)


@pytest.mark.parametrize("kind", ["embedding", "parameter"])
def test_it_finds_rows_that_only_test_data_reaches(kind):
    (table,) = position_use(Positioned(kind), batches(8, 10, 9), batches(10, 14)).tables
    assert table.name == ("position.weight" if kind == "embedding" else "position")
    assert (table.rows, table.trained, table.tested, table.untrained) == (30, 10, 14, (10, 11, 12, 13))
    assert table.batches == 1
    assert not table.pretrained


def test_it_stops_once_training_has_reached_everything():
    use = position_use(Positioned(), batches(10, *[3] * 20), batches(10))
    assert use.tables[0].untrained == ()
    assert use.train_batches == 2


def test_it_knows_rows_that_resemble_their_neighbours_as_trained():
    model = Positioned()
    with torch.no_grad():
        model.position.weight.copy_(torch.randn(30, WIDTH).cumsum(0))
    (table,) = position_use(model, batches(8), batches(12)).tables
    assert table.pretrained


def test_it_needs_test_data():
    with pytest.raises(NotApplicable, match="there is no test data"):
        measure(EXPERIMENTS[PositionUse], Positioned(), batches(8), loss_fn=nn.CrossEntropyLoss())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("length", "beyond"), [(16, False), (24, True)])
def test_it_compares_texts_with_the_limit_of_rotary_positions(length, beyond):
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, vocab_size=99,
        max_position_embeddings=16,
    )  # fmt: skip
    ids = torch.randint(0, 99, (8, length))
    data = [{"input_ids": ids, "labels": ids}]
    use = measure(EXPERIMENTS[PositionUse], transformers.LlamaForCausalLM(config), data)
    assert (use.limit, use.limit_name) == (16, "max_position_embeddings")
    assert (use.longest > use.limit) is beyond
