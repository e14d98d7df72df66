from __future__ import annotations

import math

import pytest

from gradcheck_kit.facts import LossInputs
from gradcheck_kit.rule import Skip
from gradcheck_kit.rules.wrong_output_activation import wrong_output_activation
from gradcheck_kit.testing import apply, flat, judge, loss_input, loss_inputs, poisoned, training


def given(operation="cross_entropy", **changes):
    return loss_inputs(loss_input(operation, **changes))


def said(facts, *others, **options):
    (finding,) = apply(wrong_output_activation, facts, *others, **options)
    return finding


@pytest.mark.parametrize(("function", "gap"), [("sigmoid", 1), ("hardsigmoid", 1), ("tanh", 2)])
def test_it_says_what_a_bounded_output_costs_as_logits(function, gap):
    finding = said(given(activation=function, activation_at="5"))
    assert finding.where == "5"
    assert finding.evidence["floor"] == pytest.approx(math.log(1 + 9 * math.exp(-gap)))
    assert "with 10 classes no output brings the loss below" in finding.message
    assert finding.fixes == (f"Remove {function} in 5 from the model, so that it returns logits.",)


def test_it_warns_of_cosines_without_a_factor_and_fails_them_with_harm():
    facts = given(activation="cosine", activation_at="cosine in head (model.py:31)")
    finding = said(facts, training())
    assert finding.severity == "warning"
    assert "is given cosines (cosine in head (model.py:31)), which are between -1 and 1" in finding.message
    assert "below 0.797" in finding.message
    assert finding.fixes[0].startswith("Multiply the cosines by 10 to 30")
    assert said(facts, training(losses=flat())).severity is None


def test_it_warns_of_a_relu_before_cross_entropy_and_fails_it_with_harm():
    facts = given(activation="relu", activation_at="5")
    assert said(facts).severity == "warning"
    assert said(facts, training()).severity == "warning"
    finding = said(facts, training(losses=flat()))
    assert finding.severity is None
    assert "the loss did not fall" in finding.message


@pytest.mark.parametrize(("function", "least"), [("relu", "0.5"), ("softplus", "0.5"), ("tanh", "0.269")])
def test_it_says_which_probabilities_are_out_of_reach_of_a_binary_classifier(function, least):
    finding = said(given("binary_cross_entropy_with_logits", activation=function, activation_at="5"))
    assert f"every probability ends between {least} and" in finding.message


@pytest.mark.parametrize("operation", ["nll_loss", "kl_div", "ctc_loss"])
def test_it_finds_probabilities_in_the_place_of_their_logarithms(operation):
    finding = said(given(operation, normalized=True, activation="softmax", activation_at="5", maximum=0.97))
    assert finding.message.startswith(f"{operation} wants log-probabilities, which are at most 0, and is given proba")
    assert finding.fixes[0].startswith("Replace softmax in 5 by log_softmax")


def test_it_finds_raw_outputs_in_the_place_of_log_probabilities():
    finding = said(given("nll_loss"))
    assert "is given raw outputs (up to 2.5)" in finding.message
    assert finding.fixes[0].startswith("Put nn.LogSoftmax(dim=1) at the model's end")


def test_it_finds_raw_outputs_in_the_place_of_what_ctc_wants():
    finding = said(given("ctc_loss"))
    assert "is given raw outputs (up to 2.5)" in finding.message
    assert finding.fixes == ("Put nn.LogSoftmax(dim=-1) at the model's end.",)


@pytest.mark.parametrize("span", [(-1.0, 1.0), (0.0, 255.0)])
def test_it_finds_targets_that_are_no_probabilities(span):
    finding = said(given("binary_cross_entropy_with_logits", target_minimum=span[0], target_maximum=span[1]))
    assert f"is given {span[0]:.3g} to {span[1]:.3g}" in finding.message


SEVERAL = {"activation": "softmax", "activation_at": "5", "normalized": True, "target_sum": 3.0,
           "target_minimum": 0.0, "target_maximum": 1.0, "minimum": 0.01, "maximum": 0.9}  # fmt: skip


def test_it_finds_a_softmax_over_classes_that_are_true_at_once():
    finding = said(given("binary_cross_entropy", **SEVERAL))
    assert finding.where == "5"
    assert "10 outputs of a sample add up to 1, and binary_cross_entropy is given targets that add up to 3" in (
        finding.message
    )


@pytest.mark.parametrize("changes", [{"target_sum": 1.0}, {"target_sum": None}, {"weighted": True}])
def test_it_passes_a_softmax_over_classes_of_which_one_is_true(changes):
    assert apply(wrong_output_activation, given("binary_cross_entropy", **{**SEVERAL, **changes})) == ()


def test_it_finds_targets_out_of_the_activations_reach():
    finding = said(
        given("mse_loss", activation="sigmoid", activation_at="5", unreachable=0.62, target_minimum=-3.0,
              target_maximum=3.0)
    )  # fmt: skip
    assert finding.message == (
        "After sigmoid in 5 the output is between 0 and 1, and the targets go from -3 to 3: 62% of their variance is "
        "out of its reach; up to 10% is healthy."
    )
    assert finding.evidence["limit"] == 0.1


@pytest.mark.parametrize("function", ["softmax", "log_softmax"])
def test_it_finds_a_softmax_over_one_output(function):
    finding = said(given("binary_cross_entropy", activation=function, activation_at="5", classes=1))
    assert "normalises over a dimension of size 1" in finding.message


@pytest.mark.parametrize(
    "one",
    [
        loss_input(),
        loss_input(activation="softplus"),
        loss_input(activation="log_softmax", log_normalized=True),
        loss_input(activation="softmax", normalized=True),  # of another rule
        loss_input("nll_loss", log_normalized=True, maximum=0.0),
        loss_input("nll_loss", maximum=-0.2),
        loss_input("kl_div", maximum=1.5),  # log-densities
        loss_input("binary_cross_entropy", activation="sigmoid", target_minimum=0.0, target_maximum=1.0),
        loss_input("binary_cross_entropy_with_logits", target_minimum=-1.0, target_maximum=1.0, weighted=True),
        loss_input("binary_cross_entropy_with_logits", target_minimum=0.0, target_maximum=1.0005),
        loss_input("mse_loss", activation="relu", unreachable=0.04),
        loss_input("mse_loss", target_minimum=-3.0, target_maximum=3.0),
        loss_input("log_softmax", activation="tanh"),  # scores of a mixture
    ],
)
def test_it_passes_what_fits(one):
    assert apply(wrong_output_activation, loss_inputs(one)) == ()


def test_it_reports_the_first_of_several():
    assert len(apply(wrong_output_activation, loss_inputs(*[loss_input("nll_loss")] * 3))) == 1


def test_it_takes_the_limit_as_an_option():
    facts = given("mse_loss", activation="tanh", unreachable=0.2, target_minimum=-3.0, target_maximum=3.0)
    assert apply(wrong_output_activation, facts, unreachable=0.3) == ()
    assert "up to 5% is healthy" in said(facts, unreachable=0.05).message


def test_it_skips_a_loss_that_was_not_seen():
    with pytest.raises(Skip, match="no operation of the loss was seen"):
        apply(wrong_output_activation, LossInputs(1, ()))


@pytest.mark.parametrize(
    "facts",
    [
        given("mse_loss", activation="tanh", unreachable=0.2, target_minimum=-3.0, target_maximum=3.0),
        given("nll_loss"),
        given("binary_cross_entropy", target_minimum=-1.0, target_maximum=1.0),
        given(activation="sigmoid"),
    ],
)
def test_it_does_not_pass_numbers_that_are_nan(facts):
    assert judge(wrong_output_activation, poisoned(facts)).status == "failed"
