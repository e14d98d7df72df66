from __future__ import annotations

import math

import pytest

from gradcheck_kit.facts import LearningRateResponse, RateTrial
from gradcheck_kit.rule import Skip
from gradcheck_kit.rules.learning_rate_too_high import learning_rate_too_high
from gradcheck_kit.testing import (
    RECORDED,
    apply,
    falling,
    flat,
    judge,
    learning_rate_response,
    non_finite,
    parameter,
    poisoned,
    stack,
    time_gradient,
    time_gradients,
    training,
)

RISING = tuple(2.3 * 1.1**i for i in range(60))
LOWER_LEARNS = {0.01: 1.2, 0.1: 0.5, 1.0: 40.0}
NOTHING_LEARNS = {0.01: 2.3, 0.1: 2.3, 1.0: 2.4}


def diverging(update=0.05, **changes):
    """A run whose loss rises and whose updates are the given RMS, on weights of 0.1."""
    own = (parameter(update_rms=update), parameter("2.weight", update_rms=update))
    return training(**{"losses": RISING, "parameters": own, "optimizer_given": True, **changes})


# ---- with other learning rates tried ----


def test_it_proposes_the_smaller_rate_that_learned():
    (finding,) = apply(learning_rate_too_high, diverging(), learning_rate_response(LOWER_LEARNS))
    assert finding.where == "optimizer"
    assert finding.message.startswith("At learning rate 0.1 the loss rose from")
    assert "the same first 20 steps at 0.01 bring it from 2.35 to 0.589" in finding.message
    assert "An update is 5.0e-01 of the weight (median); 1e-3 is usual." in finding.message
    assert finding.evidence["factor"] == 0.1
    assert finding.evidence["update_ratio"] == pytest.approx(0.5)
    assert finding.fixes == ("Lower the learning rate from 0.1 to 0.01.",)
    assert finding.severity is None


def test_it_proposes_the_largest_of_the_rates_that_do_equally_well():
    (finding,) = apply(learning_rate_too_high, diverging(), learning_rate_response({0.01: 0.5, 0.1: 0.51, 1.0: 40.0}))
    assert finding.evidence["factor"] == 0.1


def test_it_finds_a_rate_at_which_the_loss_becomes_nan():
    broken = diverging(losses=(2.3, 9.0, math.nan), non_finite=non_finite(step=2, kind="loss"))
    response = learning_rate_response({0.01: 1.0, 1.0: math.inf})
    (finding,) = apply(learning_rate_too_high, broken, response)
    assert "the loss became NaN" in finding.message


def test_it_passes_when_no_smaller_rate_learns():
    assert apply(learning_rate_too_high, diverging(), learning_rate_response(NOTHING_LEARNS)) == ()


SOARING = (2.3, 2300.0, *RISING[:58])


def test_it_finds_a_first_update_that_overwrote_the_weights_though_no_rate_learned():
    (finding,) = apply(
        learning_rate_too_high, diverging(update=0.2, losses=SOARING), learning_rate_response(NOTHING_LEARNS)
    )
    assert "is 2.0e+00 of the weight (median); up to 0.1 is healthy. The loss went up to 1e+03" in finding.message
    assert finding.fixes == ("Lower the learning rate from 0.1 to 0.01.",)


@pytest.mark.parametrize(
    ("update", "response"),
    [(0.08, NOTHING_LEARNS), (0.2, {0.01: 2300.0, 0.1: 2300.0, 1.0: 2400.0})],
    ids=["a smaller update", "smaller rates soar as well"],
)
def test_it_passes_a_loss_that_soared_of_something_else(update, response):
    run = diverging(update=update, losses=SOARING)
    assert apply(learning_rate_too_high, run, learning_rate_response(response)) == ()


def test_it_passes_when_only_a_larger_rate_learns():
    response = learning_rate_response({0.1: 2.3, 1.0: 2.2, 10.0: 0.5})
    assert apply(learning_rate_too_high, diverging(losses=flat()), response) == ()


def test_it_wants_the_smaller_rate_to_be_clearly_better():
    at_chance = diverging(losses=flat(2.0))
    assert apply(learning_rate_too_high, at_chance, learning_rate_response({0.1: 2.0, 1.0: 2.3})) == ()


def test_it_is_patient_with_a_rate_that_learns_when_it_is_given_more_steps():
    outcome = judge(learning_rate_too_high, diverging(losses=flat(2.0)), learning_rate_response({0.1: 0.5, 1.0: 1.5}))
    assert outcome.status == "skipped"
    assert "at the same learning rate it does" in outcome.reason


# ---- without ----


def test_it_judges_by_the_update_ratio_where_no_other_rate_was_tried():
    (finding,) = apply(learning_rate_too_high, diverging())
    assert "An update is 5.0e-01 of the weight" in finding.message
    assert finding.evidence["limit"] == 0.1
    assert finding.fixes == ("Lower the learning rate from 0.1 to about 0.0002: updates are then 1e-3 of the weights.",)


def test_it_passes_a_rising_loss_with_updates_of_usual_size():
    assert apply(learning_rate_too_high, diverging(update=1e-4)) == ()


def test_it_passes_huge_updates_while_the_loss_stays():
    assert apply(learning_rate_too_high, diverging(losses=tuple(reversed(flat())))) == ()


def test_it_counts_neither_biases_nor_norm_gains_nor_zero_initialised_weights():
    small = tuple(parameter(f"{i}.bias", update_rms=10.0) for i in range(5))
    gain = parameter("1.weight", shape=(32,), update_rms=10.0)
    zero = parameter("3.weight", weight_rms=0.0, update_rms=10.0)
    facts = diverging(parameters=(parameter(update_rms=1e-4), *small, gain, zero))
    assert apply(learning_rate_too_high, facts) == ()


# ---- silence ----


def test_it_passes_a_run_that_learns_whatever_its_updates():
    own = (parameter(update_rms=1.0),)
    assert apply(learning_rate_too_high, training(parameters=own), learning_rate_response(LOWER_LEARNS)) == ()


@pytest.mark.parametrize(("update", "end", "seen"), [(0.09, 0.99, True), (0.011, 0.99, False), (0.011, 0.4, True)])
def test_it_warns_of_a_run_that_learns_and_would_learn_more_at_a_smaller_rate(update, end, seen):
    """Weights of 0.09: the first update leaves nothing of them, or an eighth of each is changed."""
    own = (parameter(update_rms=update, weight_rms=0.0889),)
    learns = training(parameters=own, optimizer_given=True)
    smaller = RateTrial(0.1, (*falling(steps=20), *(end * learns.last_loss,) * 10))
    response = LearningRateResponse((smaller, RateTrial(1.0, learns.losses)))
    found = apply(learning_rate_too_high, learns, response)
    assert [finding.severity for finding in found] == ["warning"] * seen


def test_it_skips_a_gradient_that_explodes_before_the_first_update():
    facts = diverging(**stack([1e3, 1.0, 1e-2]))
    with pytest.raises(Skip, match="explodes before the first update"):
        apply(learning_rate_too_high, facts, learning_rate_response(LOWER_LEARNS))


def test_it_skips_a_gradient_that_explodes_through_time():
    exploding = time_gradients(time_gradient(first=2.0**19))
    with pytest.raises(Skip, match="explodes before the first update"):
        apply(learning_rate_too_high, diverging(), learning_rate_response(LOWER_LEARNS), exploding)


def test_it_skips_a_learning_rate_that_nobody_chose():
    with pytest.raises(Skip, match="the learning rate is the probe's own"):
        apply(learning_rate_too_high, diverging(optimizer_given=False), learning_rate_response(LOWER_LEARNS))


def test_it_skips_a_first_step_that_is_not_finite():
    facts = diverging(losses=(math.nan,), non_finite=non_finite(step=0))
    with pytest.raises(Skip, match="the first step is not finite"):
        apply(learning_rate_too_high, facts, learning_rate_response(LOWER_LEARNS))


def test_it_does_not_pass_a_run_that_is_too_short_to_tell():
    assert judge(learning_rate_too_high, diverging(losses=RISING[:5])).status != "passed"


# ---- NaN and options ----


@pytest.mark.parametrize("response", [(), (poisoned(learning_rate_response()),)])
def test_it_does_not_pass_a_run_that_is_all_nan(response):
    assert judge(learning_rate_too_high, poisoned(diverging()), *response).status != "passed"


def test_it_does_not_pass_updates_that_are_infinite():
    assert apply(learning_rate_too_high, diverging(update=(0.05,) * (RECORDED // 2) + (math.inf,) * (RECORDED // 2)))


def test_it_takes_the_limit_as_an_option():
    assert apply(learning_rate_too_high, diverging(), ratio=0.6) == ()
    assert apply(learning_rate_too_high, diverging(update=1e-3), ratio=0.005)


def test_it_skips_a_run_that_learns_at_this_rate_once_log_is_kept_from_zero():
    broken = diverging(losses=(2.3, 9.0, math.nan), non_finite=non_finite(step=2, kind="loss"))
    response = LearningRateResponse(learning_rate_response(LOWER_LEARNS).trials, RateTrial(1.0, falling(end=0.3)))
    with pytest.raises(Skip, match="with log and sqrt kept from 0"):
        apply(learning_rate_too_high, broken, response)


def test_it_passes_a_loss_that_soared_and_came_back_far_below_a_constant_prediction():
    run = diverging(update=0.2, losses=(2.3, 90.0, *falling(end=0.1)))
    assert apply(learning_rate_too_high, run, learning_rate_response({0.01: 1.8, 1.0: 0.1})) == ()


def test_it_warns_of_one_that_soared_a_hundredfold_after_an_update_larger_than_the_weights():
    run = diverging(update=0.2, losses=(2.3, 2300.0, *falling(end=0.1)))
    (finding,) = apply(learning_rate_too_high, run, learning_rate_response({0.01: 1.8, 1.0: 0.1}))
    assert finding.severity == "warning"
    assert "The loss went up to 1e+03 times its start before it came to 0." in finding.message
