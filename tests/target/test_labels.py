"""Labels that the loss refuses are a finding; whatever else it raises ends the probe with a sentence."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import gradcheck_kit as gk
from gradcheck_kit.errors import LabelError, ProbeError

X = torch.randn(48, 6)
CLASSES = torch.arange(48) % 3


def scanned(y, loss_fn, outputs=3, x=X, **options):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, outputs), *([nn.Sigmoid()] if isinstance(loss_fn, nn.BCELoss) else []))
    batches = [(x[i : i + 16], y[i : i + 16]) for i in (0, 16, 32)]
    return gk.scan(model, batches, loss_fn=loss_fn, steps=6, **options)


def later(y, value):
    """Labels of which one in the last batch is something else."""
    y = y.clone()
    y[-1] = value
    return y


@pytest.mark.parametrize(
    ("y", "loss_fn", "message", "fix"),
    [
        (
            CLASSES + 1, nn.CrossEntropyLoss(),
            "The labels run from 1 to 3, but the model's output of shape (16, 3) has 3 classes (0 to 2).",
            "Mend the labels or give the last layer 4 outputs.",
        ),
        (
            later(CLASSES, 5), nn.CrossEntropyLoss(), "The labels run from 0 to 5, but the model's output of shape",
            "Mend the labels or give the last layer 6 outputs.",
        ),
        (
            CLASSES - 1, nn.CrossEntropyLoss(), "The loss takes labels of 0 and not these, which run from -1 to 1: ",
            "or give the loss ignore_index=-1 if those are to be left out.",
        ),
        (
            CLASSES.float(), nn.CrossEntropyLoss(), "The loss takes labels of int64 and not of float32: RuntimeError",
            "Give it y.long(): class indices are integers.",
        ),
        (
            CLASSES[:, None], nn.CrossEntropyLoss(), "The loss takes labels of shape (16,) and not (16, 1): ",
            "Give it y.squeeze(1).",
        ),
        (
            (CLASSES > 0).float(), nn.BCEWithLogitsLoss(), "The loss takes labels of shape (16, 1) and not (16,): ",
            "Give it y.unsqueeze(1).",
        ),
        (
            (CLASSES > 0)[:, None].long(), nn.BCEWithLogitsLoss(), "The loss takes labels of float32 and not of int64",
            "Give it y.float().",
        ),
        (
            CLASSES[:, None] * 127.5, nn.BCELoss(), "The loss takes labels of 0 and not these, which run from 0 to 255",
            "Divide them by 255.",
        ),
    ],
    ids=["too large", "in a later batch", "below 0", "float", "a column", "no column", "integers", "bytes"],
)  # fmt: skip
def test_it_reports_labels_that_the_loss_refuses_and_what_it_takes(y, loss_fn, message, fix):
    report = scanned(y, loss_fn, outputs=1 if "BCE" in type(loss_fn).__name__ else 3)
    assert [o.rule.name for o in report.causes] == ["invalid-labels"]
    (finding,) = report.causes[0].findings
    assert finding.message.startswith(message)
    assert finding.fixes[0].endswith(fix)
    assert report.exit_status == 1
    assert {o.reason for o in report.of("skipped")} == {"the loss refuses the labels (see invalid-labels)"}


def test_it_is_no_verdict_where_nobody_judges_labels():
    with pytest.raises(
        LabelError, match=r"labels run from 1 to 3, .*; mend the labels or give the last layer 4 outputs"
    ):
        scanned(CLASSES + 1, nn.CrossEntropyLoss(), select=["GK1"])


def fails(output, target):
    raise RuntimeError("no loss today")


@pytest.mark.parametrize("loss_fn", [fails, lambda output, target: output.no_such_thing()])
def test_a_loss_that_takes_no_labels_at_all_is_a_sentence(loss_fn):
    with pytest.raises(ProbeError, match=r"the loss raised (RuntimeError: no loss today|AttributeError)"):
        scanned(CLASSES, loss_fn)


def test_a_forward_that_fails_later_is_a_sentence():
    class Once(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Linear(6, 3)

        def forward(self, x):
            if bool((x[-1] == 0).all()):
                raise ValueError("zeros")
            return self.body(x)

    x = X.clone()
    x[-1] = 0
    with pytest.raises(ProbeError, match="training step 3 of 6 raised ValueError: zeros"):
        gk.scan(Once(), [(x[i : i + 16], CLASSES[:16]) for i in (0, 16, 32)], loss_fn=nn.CrossEntropyLoss(), steps=6)
