"""Models that return their own loss when they are given labels, in the ways that libraries have of it."""

from __future__ import annotations

import types
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import gradcheck_kit as gk
from gradcheck_kit.errors import ProbeError
from gradcheck_kit.target import ProbeSettings, Target
from gradcheck_kit.target.outputs import own_loss
from gradcheck_kit.target.prepare import prepare


@dataclass
class Output:
    loss: Tensor | None = None
    logits: Tensor | None = None


class Text(nn.Module):
    """What the text models below have in common: a configuration, all inputs optional, an output with a loss."""

    main_input_name = "input_ids"
    VOCABULARY, OUTPUTS = 20, 3

    def __init__(self, **config):
        super().__init__()
        self.config = types.SimpleNamespace(vocab_size=self.VOCABULARY, **config)
        self.embed = nn.Embedding(self.VOCABULARY, 8)
        self.head = nn.Linear(8, self.OUTPUTS)


class Classifier(Text):
    def forward(self, input_ids=None, attention_mask=None, labels=None):
        logits = self.head(self.embed(input_ids).mean(1))
        if labels is None:
            return Output(None, logits)
        if getattr(self.config, "problem_type", None) == "multi_label_classification":
            return Output(F.binary_cross_entropy_with_logits(logits, labels), logits)
        return Output(F.cross_entropy(logits, labels), logits)


class LanguageModel(Text):
    OUTPUTS = Text.VOCABULARY

    def forward(self, input_ids=None, labels=None):
        logits = self.head(self.embed(input_ids))
        shifted = None if labels is None else F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        return Output(shifted, logits)


class Span(Text):
    OUTPUTS = 2

    def forward(self, input_ids=None, start_positions=None, end_positions=None):
        start, end = self.head(self.embed(input_ids)).unbind(-1)
        if start_positions is None or end_positions is None:
            return {"start_logits": start, "end_logits": end}
        loss = F.cross_entropy(start, start_positions) + F.cross_entropy(end, end_positions)
        return {"loss": loss, "start_logits": start, "end_logits": end}


class Detector(Text):
    """Tells for each token whether it is original, with one number."""

    OUTPUTS = 1

    def forward(self, input_ids=None, labels=None):
        logits = self.head(self.embed(input_ids)).squeeze(-1)
        return Output(None if labels is None else F.binary_cross_entropy_with_logits(logits, labels.float()), logits)


class Translator(Text):
    """Takes the decoder's inputs, or makes them of the labels."""

    OUTPUTS = Text.VOCABULARY

    def __init__(self):
        super().__init__(is_encoder_decoder=True)
        self.relative_bias = nn.Embedding(4, 8)

    def forward(self, input_ids=None, decoder_input_ids=None, labels=None):
        if decoder_input_ids is None and labels is None:
            raise ValueError("You have to specify decoder_input_ids")
        decoded = labels.roll(1, 1) if decoder_input_ids is None else decoder_input_ids
        hidden = self.embed(input_ids).mean(1, keepdim=True) + self.embed(decoded)
        logits = self.head(hidden + self.relative_bias(torch.tensor(0)))
        return Output(None if labels is None else F.cross_entropy(logits.flatten(0, 1), labels.flatten()), logits)


class Listener(nn.Module):
    """Transcripts by CTC, shorter than what is heard."""

    main_input_name = "input_values"

    def __init__(self):
        super().__init__()
        self.config = types.SimpleNamespace(vocab_size=6, pad_token_id=0)
        self.net = nn.Conv1d(1, 6, 8, 8)

    def forward(self, input_values, labels=None):
        logits = self.net(input_values[:, None]).transpose(1, 2)
        if labels is None:
            return Output(None, logits)
        heard, said = (torch.full((len(logits),), x.shape[1]) for x in (logits, labels))
        return Output(F.ctc_loss(logits.log_softmax(-1).transpose(0, 1), labels, heard, said), logits)


class Contrast(Text):
    """Images and their captions, told apart within a batch when it is asked for."""

    def __init__(self):
        super().__init__()
        self.net = nn.Conv2d(3, 3, 3)

    def forward(self, input_ids=None, pixel_values=None, return_loss=None):
        text = self.head(self.embed(input_ids).mean(1))
        image = self.net(pixel_values).mean((2, 3))
        logits = text @ image.T
        return Output(F.cross_entropy(logits, torch.arange(len(logits))) if return_loss else None, logits)


class Finder(nn.Module):
    """Finds objects: a list with a class and a box for each of them in every image."""

    main_input_name = "pixel_values"

    def __init__(self):
        super().__init__()
        self.net, self.classes, self.boxes = nn.Conv2d(3, 8, 3), nn.Linear(8, 5), nn.Linear(8, 4)

    def forward(self, pixel_values, labels: list[dict] | None = None):
        hidden = self.net(pixel_values).mean((2, 3))
        logits, boxes = self.classes(hidden), self.boxes(hidden).sigmoid()
        if labels is None:
            return {"logits": logits, "pred_boxes": boxes}
        first = torch.stack([found["class_labels"][0] for found in labels])
        places = torch.stack([found["boxes"][0] for found in labels])
        loss = F.cross_entropy(logits, first) + F.l1_loss(boxes, places)
        return {"loss": loss, "logits": logits, "pred_boxes": boxes}


class Pair(nn.Module):
    """Returns logits and loss, as small GPTs written from scratch do."""

    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(20, 8), nn.Linear(8, 20)

    def forward(self, idx, targets=None):
        logits = self.head(self.embed(idx))
        return logits, None if targets is None else F.cross_entropy(logits.flatten(0, 1), targets.flatten())


BRING_THEIR_LOSS = {
    "a classifier": (Classifier, ("input_ids", "labels")),
    "several labels each": (
        lambda: Classifier(problem_type="multi_label_classification"),
        ("input_ids", "labels"),
    ),
    "a language model": (LanguageModel, ("input_ids", "labels")),
    "question answering": (Span, ("input_ids", "start_positions", "end_positions")),
    "one number for each token": (Detector, ("input_ids", "labels")),
    "an encoder and a decoder": (Translator, ("input_ids", "labels")),
    "speech": (Listener, ("input_values", "labels")),
    "text and images": (Contrast, ("input_ids", "pixel_values", "return_loss")),
    "objects": (Finder, ("pixel_values", "labels")),
    "logits and loss": (Pair, ("idx", "targets")),
}


@pytest.mark.parametrize("case", BRING_THEIR_LOSS)
def test_it_gives_the_labels_that_make_the_model_return_its_loss(case):
    build, keys = BRING_THEIR_LOSS[case]
    prepared = prepare(Target(build()), ProbeSettings())
    assert prepared.task.loss_name == "the model's own loss"
    assert prepared.task.form.keys == keys
    assert [set(batch) for batch in prepared.train] == [set(keys)] * 2


@pytest.mark.parametrize("case", BRING_THEIR_LOSS)
def test_it_finds_nothing_wrong_with(case):
    torch.manual_seed(0)
    report = gk.scan(BRING_THEIR_LOSS[case][0](), steps=20)
    assert [o.rule.name for o in report.outcomes if o.status not in ("passed", "skipped")] == []


def test_it_says_in_the_header_that_labels_were_made_up():
    assert "token sequences of 16 (vocabulary 20), and labels" in prepare(Target(Classifier()), ProbeSettings()).data


def test_it_makes_a_language_model_learn_its_own_text():
    for batch in prepare(Target(LanguageModel()), ProbeSettings()).train:
        assert torch.equal(batch["input_ids"], batch["labels"])


def test_it_takes_the_stated_vocabulary_for_the_decoder_too():
    text = next(iter(prepare(Target(Translator()), ProbeSettings()).train))["labels"]
    assert text.max() >= 4  # the table of relative positions has four rows


def test_it_leaves_labels_away_that_bring_no_loss():
    class Conditional(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.embed = nn.Linear(6, 4), nn.Embedding(4, 4)

        def forward(self, x, labels=None):
            out = self.net(x)
            return out if labels is None else out + self.embed(labels)

    prepared = prepare(Target(Conditional()), ProbeSettings())
    assert (prepared.task.form.inputs, prepared.task.loss_name) == (1, "CrossEntropyLoss")


def test_it_keeps_to_the_users_loss():
    def loss_fn(output, target):
        return F.cross_entropy(output.logits, target)

    prepared = prepare(Target(Classifier(), loss_fn=loss_fn), ProbeSettings())
    assert (prepared.task.loss_name, prepared.task.form.keys) == ("loss_fn", ("input_ids",))


def test_it_takes_the_second_of_a_pair_for_the_loss_only_where_labels_were_given():
    logits, loss = torch.randn(4, 3), torch.tensor(1.0)
    assert own_loss((logits, loss), labelled=True) == loss
    with pytest.raises(ProbeError, match="no loss was found"):
        own_loss((logits, loss))


def test_it_takes_the_loss_of_a_pair_that_was_made_of_the_users_batch():
    class LastOnly(Pair):
        def forward(self, idx, targets=None):
            logits, loss = super().forward(idx, targets)
            return (logits[:, -1:], None) if targets is None else (logits, loss)

    text = torch.randint(20, (8, 9))
    prepared = prepare(Target(LastOnly(), [(text[:, :-1], text[:, 1:])]), ProbeSettings())
    assert prepared.task.loss_name == "the model's own loss"


@pytest.mark.parametrize("copyable", [True, False])
def test_it_leaves_no_trace_on_a_model_that_it_tries_labels_on(copyable):
    model = Classifier()
    model.norm = nn.BatchNorm1d(2)
    model.cache = None if copyable else model.head.weight * 2  # a graph tensor cannot be copied
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.eval()
    gk.scan(model, steps=2, quick=True)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(m.training for m in model.modules())
    assert all(p.grad is None for p in model.parameters())
