"""How batches and losses of many forms find together."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gradcheck_kit.errors import DataError, ProbeError
from gradcheck_kit.target import ProbeSettings, Target
from gradcheck_kit.target.infer_loss import infer_loss
from gradcheck_kit.target.prepare import prepare

X, Y, W = torch.randn(8, 6), torch.randint(0, 3, (8,)), torch.rand(8)


class Two(nn.Module):
    """Two heads over one layer."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 3), nn.Linear(6, 1)

    def forward(self, x):
        return self.a(x), self.b(x)[:, 0]


class Named(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(self, image, mask=None):
        out = self.layer(image)
        return out if mask is None else out * mask[:, None]


class FromDict(Named):
    def forward(self, batch):
        return self.layer(batch["image"])


class OwnLoss(Named):
    def forward(self, image, labels=None):
        logits = self.layer(image)
        return {"logits": logits, "loss": F.cross_entropy(logits, labels)}


class Views(Named):
    def forward(self, first, second):
        return self.layer(first), self.layer(second)


def weighted(out, y, w):
    return (w * F.cross_entropy(out, y, reduction="none")).mean()


def both(out, y, w):
    a, b = out
    return F.cross_entropy(a, y) + F.mse_loss(b, w)


@pytest.mark.parametrize(
    ("model", "batch", "loss_fn", "style"),
    [
        (nn.Linear(6, 3), (X, Y), nn.CrossEntropyLoss(), "plain"),
        (Two(), (X, Y), nn.CrossEntropyLoss(), "main"),
        (nn.Linear(6, 3), (X, Y, W), weighted, "several"),
        (nn.Linear(6, 3), (X, Y, torch.arange(8)), nn.CrossEntropyLoss(), "first"),
        (Two(), (X, (Y, W)), lambda a, b, t: F.cross_entropy(a, t[0]) + F.mse_loss(b, t[1]), "spread"),
        (Two(), (X, Y, W), lambda a, b, y, w: F.cross_entropy(a, y) + F.mse_loss(b, w), "spread several"),
        (Two(), (X, Y, W), both, "several"),
        (nn.Linear(6, 6), (X, Y), nn.MSELoss(), "reconstruction"),
        (FromDict(), {"image": X, "cls": Y}, lambda out, batch: F.cross_entropy(out, batch["cls"]), "batch"),
        (Views(), (X, X + 0.1), F.mse_loss, "unsupervised spread"),
        (nn.Linear(6, 3), (X,), lambda out: out.square().mean(), "unsupervised"),
    ],
)
def test_finds_the_way_in_which_a_loss_is_called(model, batch, loss_fn, style):
    prepared = prepare(Target(model, [batch], loss_fn=loss_fn), ProbeSettings())
    assert prepared.task.loss_style == style


def test_does_not_feed_the_label_to_an_optional_argument_of_forward():
    prepared = prepare(Target(Named(), [(X, Y, W)], loss_fn=nn.CrossEntropyLoss()), ProbeSettings())
    assert prepared.task.form.inputs == 1


@pytest.mark.parametrize("keys", [("image", "label"), ("image", "labels"), ("image", "target")])
def test_passes_a_dict_by_name_and_finds_its_target(keys):
    batch = dict(zip(keys, (X, Y), strict=True))
    prepared = prepare(Target(Named(), [batch], loss_fn=nn.CrossEntropyLoss()), ProbeSettings())
    assert (prepared.task.form.keys, prepared.task.form.target) == (("image",), keys[1])


def test_takes_the_models_own_loss():
    prepared = prepare(Target(OwnLoss(), [{"image": X, "labels": Y}]), ProbeSettings())
    assert prepared.task.loss_name == "the model's own loss"


@pytest.mark.parametrize(
    ("prediction", "target", "name"),
    [
        (torch.randn(8, 3), Y, "CrossEntropyLoss"),
        (torch.randn(8, 3).softmax(1), Y, "NLLLoss of the log"),
        (torch.randn(8, 3).log_softmax(1), Y, "NLLLoss"),
        (torch.randn(8, 3, 5, 5), torch.randint(0, 3, (8, 5, 5)), "CrossEntropyLoss"),
        (torch.randn(8, 7, 3), torch.randint(0, 3, (8, 7)), "CrossEntropyLoss"),
        (torch.randn(8, 1), torch.randint(0, 2, (8,)), "BCEWithLogitsLoss"),
        (torch.rand(8, 1), torch.randint(0, 2, (8,)).float(), "BCELoss"),
        (torch.randn(8, 1), torch.randn(8), "MSELoss"),
        (torch.randn(8, 4), torch.randint(0, 2, (8, 4)).float(), "BCEWithLogitsLoss"),
    ],
)
def test_infers_the_loss_that_fits_output_and_target(prediction, target, name):
    loss_fn, found = infer_loss(prediction, target, ())
    assert found == name
    assert loss_fn(prediction, target).ndim == 0


def test_says_shapes_when_no_loss_fits():
    with pytest.raises(DataError, match=r"no loss fits an output of shape \(8, 3\) and a target of shape \(8, 2\)"):
        infer_loss(torch.randn(8, 3), torch.randn(8, 2), ())


def test_tells_the_first_error_when_no_way_works():
    def loss_fn(out, y):
        raise RuntimeError("never today")

    with pytest.raises(ProbeError, match=r"the loss raised RuntimeError: never today \(test_task.py:\d+\)"):
        prepare(Target(nn.Linear(6, 3), [(X, Y)], loss_fn=loss_fn), ProbeSettings())
