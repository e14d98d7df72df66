from __future__ import annotations

import pytest

from gradcheck_kit.rule import Skip
from gradcheck_kit.rules.low_precision import low_precision
from gradcheck_kit.testing import apply, falling, flat, judge, learning_rate_response, parameter, poisoned, training
from gradcheck_kit.testing import low_precision as facts

STUCK = training(losses=flat())


def low(**changes):
    """A step that loses what the changes say, and the run in float32, which learns."""
    return facts(**{"float32_losses": falling(end=0.3), **changes})


def test_it_fails_updates_that_round_to_nothing_where_float32_learns():
    outcome = judge(low_precision, low(lost_updates=0.97, lost_layer="2"), STUCK)
    assert outcome.status == "failed"
    (finding,) = outcome.findings
    assert finding.where == "2"
    assert finding.message.startswith("97% of the bfloat16 weights that have a gradient are the same to the last bit")
    assert "in float32 the same run goes from 2.35 to 0.386." in finding.message
    assert finding.fixes[0].startswith("Keep 0 and 2 in float32 and compute in bfloat16 under torch.autocast")


def test_it_fails_a_gradient_that_vanishes_where_float32_learns():
    (finding,) = apply(low_precision, low(dtype="float16", underflow=0.4), STUCK)
    assert "40% of the float16 gradient is exactly zero, and a normal number when" in finding.message
    assert "GradScaler" in finding.fixes[0]


def test_it_fails_parameters_of_whose_gradient_nothing_is_left_in_any_step():
    lost = low(dtype="float16", underflow=0.4, vanished=("0.weight", "2.weight"), scale=65536.0, float32_losses=flat())
    run = training(losses=flat(), parameters=(parameter(gradient_rms=0.0), parameter("2.weight")))
    (finding,) = apply(low_precision, lost, run)
    assert finding.where == "0.weight"
    assert finding.message.startswith(
        "In float16 the gradient of 0.weight is zero in every element, and is not when the loss is multiplied by 65536"
    )
    assert "GradScaler" in finding.fixes[0]


@pytest.mark.parametrize("changes", [{"underflow": 0.4}, {"lost_updates": 0.97}])
def test_it_passes_either_in_a_run_that_learns(changes):
    assert judge(low_precision, low(**changes), training(losses=falling())).status == "passed"


def test_it_passes_a_step_that_loses_little():
    assert apply(low_precision, low(underflow=0.05, lost_updates=0.3), STUCK) == ()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"underflow": None, "lost_updates": None}, "neither gradients nor updates"),
        ({"lost_updates": 0.97, "float32_losses": ()}, "whether float32 does better was not tried"),
        ({"lost_updates": 0.97, "float32_losses": flat()}, "in float32 it does not learn either"),
    ],
    ids=["nothing to compare", "not tried", "no better"],
)
def test_it_skips_without_proof(changes, reason):
    with pytest.raises(Skip, match=reason):
        apply(low_precision, low(**changes), STUCK)


LATE = learning_rate_response({1.0: 0.5})


def test_it_skips_a_run_that_needs_more_steps_in_float32_as_well():
    with pytest.raises(Skip, match="in 20 steps it does, in bfloat16"):
        apply(low_precision, low(lost_updates=0.97, float32_losses=falling(end=0.3, steps=120)), STUCK, LATE)


def test_it_warns_of_a_run_that_needs_more_steps_than_float32_does():
    (finding,) = apply(low_precision, low(lost_updates=0.97), STUCK, LATE)
    assert finding.severity == "warning"


def test_it_does_not_pass_poisoned_facts():
    assert judge(low_precision, poisoned(low()), STUCK).status != "passed"
