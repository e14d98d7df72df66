from __future__ import annotations

import math
from dataclasses import replace

import pytest

from gradcheck_kit.facts import RateTrial
from gradcheck_kit.rules.non_finite import non_finite
from gradcheck_kit.testing import apply, falling, flat, learning_rate_response, low_precision, poisoned, training
from gradcheck_kit.testing import non_finite as origin

BROKEN = (*flat(steps=3), math.nan)


def run(**changes):
    return training(losses=BROKEN, non_finite=origin(**changes))


@pytest.mark.parametrize(
    ("changes", "where", "place"),
    [
        ({"kind": "input", "where": "", "module_type": ""}, "input", "the input batch"),
        ({"kind": "target", "where": "", "module_type": ""}, "target", "the target batch"),
        ({"kind": "loss", "where": "", "module_type": ""}, "loss", "the loss"),
        ({"kind": "parameter", "where": "2.weight", "module_type": ""}, "2.weight", "parameter 2.weight"),
        ({"kind": "output"}, "2", "the output of 2 (Linear)"),
        ({"kind": "output", "where": ""}, "output", "the output of the model's own forward"),
        ({"kind": "gradient"}, "2", "the gradient at 2 (Linear)"),
    ],
)
def test_it_names_the_first_bad_tensor_and_its_step(changes, where, place):
    (finding,) = apply(non_finite, run(**changes))
    assert finding.where == where
    assert f"is {place}, at step 3: 100% of it is NaN." in finding.message
    assert finding.severity is None


@pytest.mark.parametrize(("value", "word"), [("nan", "NaN"), ("inf", "infinite"), ("nan and inf", "NaN and infinite")])
def test_it_says_what_the_values_are(value, word):
    (finding,) = apply(non_finite, run(value=value))
    assert f"100% of it is {word}." in finding.message
    assert finding.evidence["value"] == value


def test_it_says_how_few_of_a_large_tensor_are_bad():
    (finding,) = apply(non_finite, run(share=1e-6))
    assert "1.0e-06 of it is NaN" in finding.message


def test_it_says_up_to_where_everything_was_finite():
    (finding,) = apply(non_finite, run(after="1"))
    assert "Everything up to 1 was finite." in finding.message
    (finding,) = apply(non_finite, run(after=""))
    assert "Everything" not in finding.message


@pytest.mark.parametrize(
    ("changes", "fix"),
    [
        ({"kind": "input"}, "Clean the data: find such samples with torch.isfinite(x)"),
        ({"kind": "target"}, "Clean the data: find such samples with torch.isfinite(y)"),
        ({"kind": "parameter", "where": "2.weight", "step": 0}, "Initialise 2.weight: it holds NaN values"),
        ({"kind": "loss"}, "Compute the loss from logits"),
        ({"kind": "output"}, "Look into 2 (Linear): its inputs were finite. Guard log(0)"),
        ({"kind": "output", "inputs_finite": False}, "Look between 1 and 2 in forward: log(0)"),
        ({"kind": "gradient"}, "Look at what follows 2 (Linear): sqrt, norm and pow"),
    ],
)
def test_it_names_the_place_in_its_first_fix(changes, fix):
    (finding,) = apply(non_finite, run(**changes))
    assert finding.fixes[0].startswith(fix)


def test_it_lowers_the_learning_rate_only_for_what_came_with_the_steps():
    assert "Lower the learning rate" in apply(non_finite, run(step=3))[0].fixes[-1]
    assert "Lower the learning rate" not in apply(non_finite, run(step=0))[0].fixes[-1]


@pytest.mark.parametrize("kind", ["input", "target", "loss", "parameter", "output", "gradient"])
@pytest.mark.parametrize("inputs_finite", [True, False])
@pytest.mark.parametrize("step", [0, 3])
def test_it_always_has_a_fix(kind, inputs_finite, step):
    (finding,) = apply(non_finite, run(kind=kind, inputs_finite=inputs_finite, step=step))
    assert finding.fixes


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_it_finds_a_loss_that_could_not_be_made_again(value):
    (finding,) = apply(non_finite, training(losses=(2.3, 2.2, value)))
    assert finding.where == "loss"
    assert finding.message.startswith("The loss is not finite from step 2 on")


def test_it_finds_a_gradient_while_every_loss_was_finite():
    (finding,) = apply(non_finite, training(losses=falling(), non_finite=origin(kind="gradient")))
    assert "the gradient at 2 (Linear)" in finding.message


def test_it_passes_a_finite_run():
    assert apply(non_finite, training()) == ()
    assert apply(non_finite, training(losses=tuple(1e30 * loss for loss in flat()))) == ()


def test_it_finds_a_run_that_is_all_nan():
    (finding,) = apply(non_finite, poisoned(training()))
    assert "from step 0 on" in finding.message


def guarded(end):
    response = learning_rate_response({0.1: 1.5, 1.0: math.inf})
    return replace(response, guarded=RateTrial(1.0, falling(end=end)))


def test_it_proves_that_a_log_of_zero_is_the_cause():
    (finding,) = apply(non_finite, run(kind="loss", where="", module_type="", step=3), guarded(0.3))
    assert "kept from exactly 0 the same run goes from 2.3" in finding.message
    assert not any("learning rate" in fix for fix in finding.fixes)


def test_it_says_nothing_of_a_guard_that_does_not_help():
    (finding,) = apply(non_finite, run(kind="loss", where="", module_type="", step=3), guarded(2.3))
    assert "kept from" not in finding.message
    assert "Lower the learning rate" in finding.fixes[-1]


def test_it_names_the_epsilon_that_is_zero_in_float16():
    broken = training(losses=BROKEN, non_finite=origin(kind="parameter", step=1), optimizer="Adam(lr=0.001)")
    (finding,) = apply(non_finite, broken, low_precision(dtype="float16"))
    assert finding.fixes[0].startswith("Give the optimizer eps=1e-4")
    (finding,) = apply(non_finite, broken, low_precision())
    assert "eps" not in finding.fixes[0]
