from __future__ import annotations

import math

import pytest

from gradcheck_kit.rule import Skip
from gradcheck_kit.rules.redundant_softmax import redundant_softmax
from gradcheck_kit.testing import apply, loss_input, loss_inputs, poisoned


def given(operation="cross_entropy", **changes):
    return loss_inputs(loss_input(operation, **changes))


PROBABILITIES = {"activation": "softmax", "activation_at": "5", "normalized": True, "minimum": 0.0, "maximum": 1.0}


def test_it_names_the_softmax_and_what_it_costs():
    (finding,) = apply(redundant_softmax, given(classes=4, source="train.py:31", **PROBABILITIES))
    assert finding.where == "5"
    assert finding.message == (
        "What cross_entropy (train.py:31) is given sums to 1 over the 4 classes already (softmax in 5), in all 3 "
        "passes with other batches and weights. It applies a softmax of its own, so no output brings a cross-entropy "
        "below 0.744 (a guess has 1.39)."
    )
    assert finding.evidence["floor"] == pytest.approx(-math.log(math.e / (math.e + 3)))
    assert finding.fixes[0] == "Remove softmax in 5 from the model, so that it returns logits."
    assert finding.severity is None


def test_it_needs_no_name_for_what_normalises():
    (finding,) = apply(redundant_softmax, given(normalized=True))
    assert finding.where == "model output"
    assert finding.fixes[0] == "Return logits: leave out what normalises the model's output before cross_entropy."


@pytest.mark.parametrize("operation", ["binary_cross_entropy_with_logits", "sigmoid", "logsigmoid"])
def test_it_names_a_sigmoid_before_a_sigmoid(operation):
    place = "sigmoid in forward (model.py:9)"
    (finding,) = apply(redundant_softmax, given(operation, activation="sigmoid", activation_at=place))
    assert finding.where == place
    assert "every probability ends between 0.5 and 0.731" in finding.message
    assert finding.fixes[0] == f"Remove {place} from the model, so that it returns logits."


def test_it_reports_one_of_several_losses():
    facts = loss_inputs(loss_input(), *[loss_input(**PROBABILITIES)] * 3)
    assert len(apply(redundant_softmax, facts)) == 1


@pytest.mark.parametrize(
    "one",
    [
        loss_input(),
        loss_input(activation="log_softmax", log_normalized=True),
        loss_input(activation="relu", activation_at="5"),
        loss_input(activation="sigmoid", activation_at="5"),  # of another rule
        loss_input(normalized=True, classes=1),
        loss_input("binary_cross_entropy_with_logits", minimum=0.1, maximum=0.9),
        loss_input("binary_cross_entropy_with_logits", activation="tanh"),
    ],
)
def test_it_passes_what_is_not_normalised_twice(one):
    assert apply(redundant_softmax, loss_inputs(one)) == ()


@pytest.mark.parametrize("operation", ["nll_loss", "mse_loss", "binary_cross_entropy", "kl_div", "sub"])
def test_it_skips_losses_that_normalise_nothing(operation):
    with pytest.raises(Skip, match="applies a softmax or sigmoid"):
        apply(redundant_softmax, given(operation, **PROBABILITIES))


def test_it_skips_a_loss_that_was_not_seen():
    with pytest.raises(Skip):
        apply(redundant_softmax, loss_inputs().__class__(1, ()))


def test_it_does_not_rest_on_numbers_that_may_be_nan():
    facts = given(**PROBABILITIES)
    assert apply(redundant_softmax, poisoned(facts)) == apply(redundant_softmax, facts)
