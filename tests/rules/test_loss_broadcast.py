from __future__ import annotations

import pytest

from gradcheck_kit.facts import Broadcast
from gradcheck_kit.rule import Skip
from gradcheck_kit.rules.loss_broadcast import loss_broadcast
from gradcheck_kit.testing import apply, wiring


def comparing(prediction, target, result, operation="mse_loss"):
    found = Broadcast(operation, prediction, target, result)
    return wiring(prediction_shape=prediction, target_shape=target, broadcasts=(found,))


def test_it_gives_both_shapes_and_what_they_make():
    (finding,) = apply(loss_broadcast, comparing((64, 1), (64,), (64, 64)))
    assert finding.where == "loss"
    assert finding.message == (
        "mse_loss compares a prediction of shape (64,1) with a target of shape (64,), which makes (64,64): every "
        "prediction against every target."
    )
    assert finding.evidence == {"prediction_shape": [64, 1], "target_shape": [64], "result_shape": [64, 64]}
    assert finding.severity is None


@pytest.mark.parametrize(
    ("prediction", "target", "result", "fix"),
    [
        ((64, 1), (64,), (64, 64), "Squeeze the prediction, loss_fn(output.squeeze(-1), target)"),
        ((64,), (64, 1), (64, 64), "Squeeze the target, loss_fn(output, target.squeeze(-1))"),
        ((64, 1, 5), (64, 5), (64, 64, 5), "Bring both to the same shape before the loss"),
    ],
)
def test_it_says_which_of_the_two_to_reshape(prediction, target, result, fix):
    (finding,) = apply(loss_broadcast, comparing(prediction, target, result))
    assert finding.fixes[0].startswith(fix)


@pytest.mark.parametrize("operation", ["sub", "__sub__", "binary_cross_entropy_with_logits"])
def test_it_finds_it_in_a_loss_that_is_written_by_hand(operation):
    (finding,) = apply(loss_broadcast, comparing((64, 1), (64,), (64, 64), operation))
    assert finding.message.startswith(operation)


def test_it_reports_one_of_several_operations():
    facts = comparing((64, 1), (64,), (64, 64))
    twice = wiring(prediction_shape=(64, 1), target_shape=(64,), broadcasts=facts.broadcasts * 2)
    assert len(apply(loss_broadcast, twice)) == 1


def test_it_warns_of_a_loss_that_stretches_one_of_the_two():
    (finding,) = apply(loss_broadcast, comparing((64, 10), (10,), (64, 10)))
    assert finding.severity == "warning"
    assert finding.message.endswith("with a target of shape (10,).")


def test_it_passes_one_target_for_several_quantiles():
    assert apply(loss_broadcast, comparing((64, 3), (64, 1), (64, 3), "sub")) == ()


def test_it_passes_class_indices():
    assert apply(loss_broadcast, wiring(prediction_shape=(64, 10), target_shape=(64,))) == ()


@pytest.mark.parametrize("shapes", [{"prediction_shape": None}, {"target_shape": None}])
def test_it_skips_what_is_not_two_tensors(shapes):
    with pytest.raises(Skip, match="not seen by the loss as two tensors"):
        apply(loss_broadcast, wiring(**shapes))


def test_it_finds_a_column_and_a_row_in_a_training_step():
    found = Broadcast("mul", (64, 1), (64,), (64, 64), known=False)
    (finding,) = apply(loss_broadcast, wiring(prediction_shape=None, target_shape=None, broadcasts=(found,)))
    assert finding.where == "loss"
    assert finding.message == (
        "mul combines a column of shape (64,1) with a row of shape (64,), which makes (64,64): every sample with every "
        "other."
    )
    assert finding.severity is None
    assert "value.squeeze(-1)" in finding.fixes[0]
