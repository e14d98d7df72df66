from __future__ import annotations

import math

import pytest

from gradcheck_kit.rule import Skip
from gradcheck_kit.rules.oscillating_loss import oscillating_loss
from gradcheck_kit.testing import (
    apply,
    falling,
    flat,
    judge,
    learning_rate_response,
    non_finite,
    oscillation,
    poisoned,
    training,
)

SWINGING = training(losses=falling(end=1.0))
STUCK = training(losses=flat())


def heavy(**changes):
    """A momentum of 0.99, and the run with 0.9, which swings less and learns more."""
    found = {"swing": 0.3, "momentum": 0.99, "calm_momentum": 0.9, "calm_swing": 0.02}
    return oscillation(**{**found, "calm_losses": falling(end=0.1), **changes})


def fast(**changes):
    """A usual momentum, and the run at a smaller rate."""
    return heavy(**{"momentum": 0.9, "calm_momentum": None, "calm_factor": 0.3, **changes})


def test_it_warns_of_a_momentum_without_which_the_run_swings_less_and_ends_lower():
    outcome = judge(oscillating_loss, SWINGING, heavy())
    assert outcome.status == "warned"
    (finding,) = outcome.findings
    assert finding.where == "optimizer"
    assert finding.message.startswith("The loss swings by 0.3 (RMS) about its trend and ends at 1.1")
    assert "with a momentum of 0.9 in place of 0.99 swing by 0.02 and end at 0.1" in finding.message
    assert finding.fixes == ("Set momentum=0.9: 0.99 is too much at this learning rate.",)


def test_it_skips_a_dozen_steps_in_which_the_loss_came_down():
    with pytest.raises(Skip, match="12 steps are too few to tell a swing from a start; use --steps 20 or more"):
        apply(oscillating_loss, training(losses=falling(end=1.0, steps=12)), heavy())


def test_it_skips_a_run_that_learns_well_all_the_same():
    with pytest.raises(Skip, match="the run learns all the same"):
        apply(oscillating_loss, training(losses=falling(end=0.2)), fast(calm_losses=falling(end=0.02)))


def test_it_fails_a_run_that_learns_only_with_less_momentum():
    (finding,) = apply(oscillating_loss, STUCK, heavy())
    assert finding.severity == "error"
    assert "the loss did not fall" in finding.message


def test_it_fails_a_run_whose_loss_becomes_infinite():
    broken = training(losses=(2.3, 9.0, math.inf), non_finite=non_finite(step=2, kind="loss"))
    (finding,) = apply(oscillating_loss, broken, heavy(swing=math.inf))
    assert "ends in NaN or infinity" in finding.message


def test_it_only_warns_of_a_run_that_learns_in_more_steps_or_learns_random_data():
    (late,) = apply(oscillating_loss, STUCK, heavy(), learning_rate_response({1.0: 0.5}))
    (made_up,) = apply(oscillating_loss, training(losses=flat(), synthetic=True), heavy())
    assert late.severity is None
    assert made_up.severity is None


def test_it_names_adams_betas():
    (finding,) = apply(oscillating_loss, SWINGING, heavy(momentum_name="betas"))
    assert finding.fixes == ("Set betas=(0.9, 0.999): 0.99 is too much at this learning rate.",)


def test_it_proposes_the_smaller_rate_that_was_tried():
    (finding,) = apply(oscillating_loss, SWINGING, fast())
    assert "at 0.3 times the learning rate" in finding.message
    assert finding.fixes == ("Lower the learning rate from 0.1 to 0.03.",)


def test_it_names_no_single_rate_where_the_groups_differ():
    (finding,) = apply(oscillating_loss, training(losses=falling(end=1.0), learning_rates=(0.1, 0.01)), fast())
    assert finding.fixes == ("Multiply the learning rates by 0.3.",)


# ---- silence ----


def test_it_passes_where_no_calmer_run_was_worth_it():
    assert apply(oscillating_loss, SWINGING, oscillation(swing=3.0)) == ()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"calm_swing": 0.2}, "and no less at 0.3 times the learning rate"),
        ({"calm_losses": falling(end=0.9)}, "without getting much lower"),
        ({"calm_losses": flat()}, "without getting much lower"),
    ],
    ids=["batches that differ", "a little better", "too slow"],
)
def test_it_skips_a_swing_that_a_smaller_rate_does_not_mend(changes, reason):
    with pytest.raises(Skip, match=reason):
        apply(oscillating_loss, SWINGING, fast(**changes))


def test_it_asks_more_of_a_loss_below_zero_than_half_of_it():
    """A log-likelihood of -8 is better than one of -5, which is above half of it."""
    deep = training(losses=tuple(-8 * i / 59 for i in range(60)))
    shallow = tuple(-5 * i / 59 for i in range(60))
    with pytest.raises(Skip, match="without getting much lower"):
        apply(oscillating_loss, deep, fast(calm_losses=shallow))


def test_it_skips_an_optimizer_that_nobody_chose():
    with pytest.raises(Skip, match="the optimizer is the probe's own"):
        apply(oscillating_loss, training(losses=flat(), optimizer_given=False), heavy())


def test_it_skips_a_run_that_is_too_short_to_tell():
    with pytest.raises(Skip, match="5 steps are too few to tell; use --steps 10 or more"):
        apply(oscillating_loss, training(losses=flat(steps=5)), heavy())


# ---- NaN and options ----


def test_it_does_not_pass_poisoned_facts():
    assert judge(oscillating_loss, poisoned(STUCK), poisoned(heavy())).status != "passed"
    assert judge(oscillating_loss, STUCK, poisoned(heavy())).status != "passed"
    assert judge(oscillating_loss, STUCK, heavy(calm_swing=None)).status != "passed"


def test_it_takes_the_limit_as_an_option():
    with pytest.raises(Skip, match="without getting much lower"):
        apply(oscillating_loss, SWINGING, heavy(), gain=0.05)
