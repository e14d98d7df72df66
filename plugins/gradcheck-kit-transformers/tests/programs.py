"""Programs as users write them, each with one fault, and the healthy twin of each."""

from __future__ import annotations

import textwrap

_HEAD = """
import torch
from torch import nn
from torch.utils.data import DataLoader

torch.manual_seed(0)
texts = [torch.randint(5, 99, (int(n),)) for n in torch.randint(5, 15, (96,))]

def pad(text, left=False):
    fill = torch.zeros(14 - len(text), dtype=torch.long)
    ids = torch.cat([fill, text] if left else [text, fill])
    return ids, (ids != 0).long()
"""

_BERT = """
from transformers import BertConfig, BertForSequenceClassification
model = BertForSequenceClassification(BertConfig(
    hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, vocab_size=99,
    max_position_embeddings=64,
))
rows = []
for text in texts:
    ids, mask = pad(text)
    rows.append({"input_ids": ids, MASK "labels": text[0] % 2})
train_loader, test_loader = DataLoader(rows[:72], 12, shuffle=True), DataLoader(rows[72:], 12)
"""

_GPT2 = """
from transformers import GPT2Config, GPT2LMHeadModel
model = GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=99, n_positions=64))
CHANGE
rows = []
for text in texts:
    ids, mask = pad(text, left=LEFT)
    row = {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, IGNORED)}
    POSITIONS
    rows.append(row)
train_loader, test_loader = DataLoader(rows[:72], 12, shuffle=True), DataLoader(rows[72:], 12)
"""

_LENGTHS = """
class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.position = nn.Embedding(99, 32), nn.Embedding(40, 32)
        self.body = nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 64, batch_first=True), 1)
        self.head = nn.Linear(32, 3)

    def forward(self, x):
        return self.head(self.body(self.embed(x) + self.position(torch.arange(x.shape[1])))).transpose(1, 2)

def batches(count, length):
    x = torch.randint(0, 99, (count, 12, length))
    return [(tokens, tokens % 3) for tokens in x]

model, loss_fn = Tagger(), nn.CrossEntropyLoss()
train_loader, test_loader = batches(8, 10), batches(4, TEST)
"""

_POOLED = """
class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(99, 32, padding_idx=0)
        self.body = nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 64, batch_first=True), 1)
        self.head = nn.Linear(32, 2)

    def forward(self, tokens):
        words = tokens != 0
        h = self.body(self.embed(tokens), src_key_padding_mask=HIDDEN)
        return self.head(POOL)

model, loss_fn = Classifier(), nn.CrossEntropyLoss()
rows = [(pad(text)[0], text[0] % 2) for text in texts]
train_loader, test_loader = DataLoader(rows[:72], 12, shuffle=True), DataLoader(rows[72:], 12)
"""

_HEADS = """
class Attends(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.position = nn.Embedding(50, 32), nn.Parameter(torch.randn(12, 32))
        self.first = nn.MultiheadAttention(32, 4, batch_first=True)
        self.second = nn.MultiheadAttention(32, 4, batch_first=True)
        self.head = nn.Linear(32, 2)

    def forward(self, x):
        h = self.embed(x) + self.position
        h = h + self.first(h, h, h, need_weights=False)[0]
        return self.head((h + self.second(h, h, h)[0]).mean(1))

model, loss_fn = Attends(), nn.CrossEntropyLoss()
x = torch.randint(0, 50, (256, 12))
train_loader = [(x[i : i + 32], (x[i : i + 32] == 7).any(1).long()) for i in range(0, 256, 32)]
optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
"""


def _program(body, **words):
    text = _HEAD + body
    for word, meaning in words.items():
        text = text.replace(word, meaning)
    return textwrap.dedent(text)


def _gpt2(change="", left="False", ignored="-100", positions="pass"):
    return _program(_GPT2, CHANGE=change, LEFT=left, IGNORED=ignored, POSITIONS=positions)


_FROM_MASK = 'row["position_ids"] = (mask.cumsum(0) - 1).clamp(min=0)'
_WORDS = "(h * words[..., None]).sum(1) / words.sum(1, keepdim=True)"

BERT_WITH_ITS_MASK = _program(_BERT, MASK='"attention_mask": mask,')
GPT2 = _gpt2()
POOLED_OVER_WORDS = _program(_POOLED, HIDDEN="~words", POOL=_WORDS)

# name: (broken, code, severity, healthy twin, what the report says)
PROGRAMS = {
    "BERT without its mask": (
        _program(_BERT, MASK=""), "GKT101", "error", BERT_WITH_ITS_MASK, "Pass attention_mask to the model"),
    "BERT with its mask upside down": (
        _program(_BERT, MASK='"attention_mask": 1 - mask,'), "GKT101", "error", BERT_WITH_ITS_MASK,
        "attention_mask is upside down"),
    "BERT with a mask of ones": (
        _program(_BERT, MASK='"attention_mask": torch.ones_like(mask),'), "GKT101", "error", BERT_WITH_ITS_MASK,
        "attention_mask does not hide it"),
    "an encoder of torch's with its mask upside down": (
        _program(_POOLED, HIDDEN="words", POOL=_WORDS), "GKT101", "error", POOLED_OVER_WORDS,
        "src_key_padding_mask of body is upside down"),
    "an encoder of torch's without a mask": (
        _program(_POOLED, HIDDEN="None", POOL=_WORDS), "GKT101", "error", POOLED_OVER_WORDS,
        "first seen in body.layers.0.self_attn (MultiheadAttention)"),
    "a mean over words and padding": (
        _program(_POOLED, HIDDEN="~words", POOL="h.mean(1)"), "GKT101", "error", POOLED_OVER_WORDS,
        "Pool over words only"),
    "GPT-2 padded on the left": (
        _gpt2(left="True"), "GKT102", "warning", _gpt2(left="True", positions=_FROM_MASK), "pass position_ids="),
    "GPT-2 that learns its padding": (
        _gpt2(ignored="0"), "GKT103", "warning", GPT2, "labels.masked_fill(attention_mask == 0, -100)"),
    "a head that is a clone": (
        _gpt2("model.lm_head.weight = nn.Parameter(model.transformer.wte.weight.clone())"), "GKT104", "error", GPT2,
        "the same values to the last bit"),
    "a head that was made anew": (
        _gpt2("model.lm_head = nn.Linear(32, 99, bias=False)"), "GKT104", "error", GPT2, "with different values"),
    "an embedding of more words": (
        _gpt2("model.transformer.wte = nn.Embedding(120, 32)"), "GKT104", "error",
        _gpt2("model.resize_token_embeddings(120)"), "model.resize_token_embeddings(120)"),
    "texts longer than those of the training": (
        _program(_LENGTHS, TEST="24"), "GKT105", "error", _program(_LENGTHS, TEST="10"),
        "14 rows (10 to 23) of position.weight"),
    "heads that collapse": (
        _program(_HEADS, RATE="0.5"), "GKT107", "error", _program(_HEADS, RATE="1e-3"), "heads look at one key"),
    "logits that grow": (
        _program(_HEADS, RATE="0.5"), "GKT106", "error", _program(_HEADS, RATE="1e-3"), "The largest attention logit"),
}  # fmt: skip
