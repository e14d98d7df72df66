"""Which of torch's losses a training step calls, whoever calls them."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gradcheck_kit.experiments import NotApplicable
from gradcheck_kit.experiments.loss_calls import watch_loss_calls
from gradcheck_kit.facts import Transcripts


def calls(probe):
    return watch_loss_calls(probe).calls


@pytest.mark.parametrize(
    "loss_fn", [nn.CrossEntropyLoss(), F.cross_entropy, lambda out, y: nn.CrossEntropyLoss()(out, y).reshape(())]
)
def test_sees_a_module_a_function_and_a_wrapper_alike(probe_of, blobs, loss_fn):
    (call,) = calls(probe_of(nn.Linear(4, 2), train=blobs(), loss_fn=loss_fn))
    assert (call.function, call.input_shape, call.target_shape) == ("cross_entropy", (16, 2), (16,))
    assert (call.target_minimum, call.target_maximum, call.target_dtype) == (0.0, 1.0, "int64")
    assert (call.weighted, call.reduction, call.is_the_loss) == (False, "mean", True)


def test_sees_the_losses_of_a_training_step(probe_of, blobs):
    def step(model, batch):
        x, y = batch
        return F.binary_cross_entropy_with_logits(model(x)[:, 0], y.float() * 2 - 1) + model(x).square().mean()

    (call,) = calls(probe_of(nn.Linear(4, 2), train=blobs(), training_step=step))
    assert (call.function, call.target_minimum, call.target_maximum) == ("binary_cross_entropy_with_logits", -1.0, 1.0)
    assert not call.is_the_loss


@pytest.mark.parametrize(
    ("loss_fn", "weighted", "reduction"),
    [
        (nn.CrossEntropyLoss(torch.tensor([1.0, 2.0])), True, "mean"),
        (lambda out, y: F.cross_entropy(out, y, torch.tensor([1.0, 2.0])), True, "mean"),
        (lambda out, y: F.cross_entropy(out, y, reduction="none").mean(), False, "none"),
    ],
)
def test_sees_weights_and_reduction(probe_of, blobs, loss_fn, weighted, reduction):
    (call,) = calls(probe_of(nn.Linear(4, 2), train=blobs(), loss_fn=loss_fn))
    assert (call.weighted, call.reduction) == (weighted, reduction)


@pytest.mark.parametrize("padded", [True, False])
def test_counts_the_symbols_of_transcripts_within_their_lengths(padded, probe_of):
    """Six steps; of four targets one holds the blank, and one needs seven of them."""
    lengths = torch.tensor([2, 2, 2, 4])
    targets = torch.tensor([[1, 2, 0, 0], [0, 1, 0, 0], [1, 3, 0, 0], [1, 1, 1, 1]])
    flat = torch.cat([row[:n] for row, n in zip(targets, lengths, strict=True)])

    def step(model, batch):
        frames = model(batch[0]).log_softmax(-1).transpose(0, 1)
        return F.ctc_loss(frames, targets if padded else flat, torch.full((4,), 6), lengths, zero_infinity=True)

    (call,) = calls(probe_of(nn.Linear(5, 4), train=[(torch.randn(4, 6, 5),)], training_step=step))
    assert call.transcripts == Transcripts(symbols=10, blanks=1, outside=0, samples=4, too_long=1)


def test_adds_up_class_probabilities(probe_of):
    target = torch.tensor([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]])
    (call,) = calls(probe_of(nn.Linear(4, 3), train=[(torch.randn(2, 4), target)], loss_fn=nn.CrossEntropyLoss()))
    assert call.target_sum == (1.0, 2.0)


def test_knows_what_the_loss_is_and_what_it_would_be_of_zeros(probe_of, blobs):
    model = nn.Linear(4, 2)
    nn.init.zeros_(model.weight)
    with torch.no_grad():
        model.bias.copy_(torch.tensor([10.0, -10.0]))
    loss_fn = nn.CrossEntropyLoss(torch.tensor([1.0, 2.0]), label_smoothing=0.1)
    (call,) = calls(probe_of(model, train=blobs(), loss_fn=loss_fn))
    assert call.chance == pytest.approx(math.log(2))
    assert call.value > 5 * call.chance


def test_knows_no_single_number_of_a_loss_of_every_sample(probe_of, blobs):
    (call,) = calls(
        probe_of(
            nn.Linear(4, 2), train=blobs(), loss_fn=lambda out, y: F.cross_entropy(out, y, reduction="none").mean()
        )
    )
    assert (call.value, call.chance) == (None, None)


def test_is_not_made_where_no_such_loss_is_called(probe_of):
    probe = probe_of(nn.Linear(4, 1), train=[(torch.randn(8, 4), torch.randn(8, 1))], loss_fn=nn.MSELoss())
    with pytest.raises(NotApplicable, match="none of torch's classification losses"):
        watch_loss_calls(probe)
