from __future__ import annotations

import pytest

from gradcheck_kit.facts import LearningRateResponse, RateTrial, Schedule
from gradcheck_kit.rule import Skip
from gradcheck_kit.rules.learning_rate_too_low import learning_rate_too_low
from gradcheck_kit.testing import (
    RECORDED,
    apply,
    falling,
    flat,
    judge,
    learning_rate_response,
    parameter,
    poisoned,
    training,
)

HIGHER_LEARNS = {1.0: 2.3, 10.0: 2.1, 100.0: 0.5}
NOTHING_LEARNS = {1.0: 2.3, 10.0: 2.3, 100.0: 2.4}


def creeping(update=5e-6, **changes):
    """A flat run whose updates are the given RMS, on weights of 0.1."""
    own = (parameter(update_rms=update), parameter("2.weight", update_rms=update))
    healthy = {"losses": flat(), "parameters": own, "learning_rates": (1e-5,), "optimizer_given": True}
    return training(**{**healthy, **changes})


# ---- with other learning rates tried ----


def test_it_proposes_the_larger_rate_that_learned():
    (finding,) = apply(learning_rate_too_low, creeping(), learning_rate_response(HIGHER_LEARNS))
    assert finding.where == "optimizer"
    assert "At learning rate 1e-05 an update is 5.0e-05 of the weight (median)" in finding.message
    assert "at least 1e-04 is healthy and 1e-3 usual" in finding.message
    assert "the same first 20 steps at 0.001 bring it from 2.35 to 0.589" in finding.message
    assert finding.evidence["update_ratio"] == pytest.approx(5e-5)
    assert finding.evidence["factor"] == 100
    assert finding.fixes == ("Raise the learning rate from 1e-05 to 0.001.",)
    assert finding.severity is None


def test_it_passes_when_no_larger_rate_learns_either():
    assert apply(learning_rate_too_low, creeping(), learning_rate_response(NOTHING_LEARNS)) == ()


def test_it_wants_the_larger_rate_to_be_clearly_better():
    assert apply(learning_rate_too_low, creeping(), learning_rate_response({1.0: 2.2, 100.0: 2.05})) == ()


def test_it_passes_updates_of_usual_size_whatever_a_larger_rate_does():
    assert apply(learning_rate_too_low, creeping(update=1e-4), learning_rate_response(HIGHER_LEARNS)) == ()


# ---- by the ratio alone ----


@pytest.mark.parametrize("response", [(), (learning_rate_response(NOTHING_LEARNS),)])
def test_it_finds_updates_so_small_that_no_short_trial_shows_anything(response):
    (finding,) = apply(learning_rate_too_low, creeping(update=1e-9), *response)
    assert "an update is 1.0e-08 of the weight" in finding.message
    assert finding.fixes == ("Raise the learning rate from 1e-05 to 1.",)


def test_it_passes_middling_updates_where_no_other_rate_was_tried():
    assert apply(learning_rate_too_low, creeping()) == ()


# ---- silence ----


def test_it_passes_fine_tuning_while_the_loss_falls():
    assert apply(learning_rate_too_low, creeping(losses=falling()), learning_rate_response(HIGHER_LEARNS)) == ()


def test_it_passes_a_model_that_was_fitted_before():
    assert apply(learning_rate_too_low, creeping(losses=flat(0.05)), learning_rate_response(HIGHER_LEARNS)) == ()


def test_it_passes_a_warm_up():
    warming = (1e-9,) * (RECORDED // 4) + (1e-4,) * (RECORDED - RECORDED // 4)
    assert apply(learning_rate_too_low, creeping(update=warming), learning_rate_response(HIGHER_LEARNS)) == ()


def test_it_counts_neither_biases_nor_zero_initialised_weights_nor_frozen_ones():
    others = (
        *(parameter(f"{i}.bias", update_rms=1e-12) for i in range(5)),
        parameter("7.weight", weight_rms=0.0, update_rms=1e-12),
        parameter("8.weight", trainable=False, update_rms=0.0),
        parameter("9.weight", optimized=False, update_rms=0.0),
    )
    assert apply(learning_rate_too_low, creeping(parameters=(parameter(), *others))) == ()


def test_it_skips_a_learning_rate_that_nobody_chose():
    with pytest.raises(Skip, match="the learning rate is the probe's own"):
        apply(learning_rate_too_low, creeping(optimizer_given=False), learning_rate_response(HIGHER_LEARNS))


def test_it_skips_weights_that_do_not_change_at_all():
    with pytest.raises(Skip, match="do not change at all"):
        apply(learning_rate_too_low, creeping(update=0.0))


def test_it_skips_a_model_without_optimized_weights():
    with pytest.raises(Skip, match="no weight is in an optimizer"):
        apply(learning_rate_too_low, creeping(parameters=(parameter("0.bias"),)))


def test_it_does_not_pass_a_run_that_is_too_short_to_tell():
    assert judge(learning_rate_too_low, creeping(update=1e-9, losses=flat(steps=5))).status != "passed"


# ---- NaN and options ----


def test_it_does_not_pass_a_run_that_is_all_nan():
    assert judge(learning_rate_too_low, poisoned(creeping())).status == "skipped"
    with pytest.raises(Skip, match="became NaN"):
        apply(learning_rate_too_low, creeping(update=float("nan")))


def test_it_takes_the_limit_as_an_option():
    response = learning_rate_response(HIGHER_LEARNS)
    assert apply(learning_rate_too_low, creeping(), response, ratio=1e-5) == ()
    (finding,) = apply(learning_rate_too_low, creeping(update=1e-4), response, ratio=1e-2)
    assert "at least 1e-02 is healthy" in finding.message


def test_it_finds_a_rate_of_zero_that_a_scheduler_left_that_is_gone():
    (finding,) = apply(learning_rate_too_low, training(), Schedule("", (0.0,)))
    assert finding.message.startswith("The learning rate is 0: a scheduler set it, and nothing holds that scheduler")
    assert apply(learning_rate_too_low, training(), Schedule("", (1e-3,))) == ()


def test_it_finds_a_scheduler_that_keeps_the_rate_at_zero():
    (finding,) = apply(learning_rate_too_low, training(), Schedule("LambdaLR", (0.0,) * 61))
    assert finding.where == "optimizer"
    assert finding.message.startswith("LambdaLR keeps the learning rate at 0 in all of its first 60 steps")
    assert "step // n" in finding.fixes[0]


def test_it_passes_a_warm_up_that_begins_at_zero():
    assert apply(learning_rate_too_low, training(), Schedule("LambdaLR", (0.0, *(0.01,) * 60))) == ()


def warming_up(steps, batches):
    rates = tuple(1e-3 * (i + 1) / steps for i in range(61))
    return Schedule("LambdaLR", rates, warm_up=steps, highest=1e-3, batches=batches)


def test_it_warns_of_a_warm_up_that_outlasts_the_training():
    (finding,) = apply(learning_rate_too_low, training(), warming_up(5000, 16))
    assert finding.severity == "warning"
    assert "Stepped with every batch that is 312 passes over the training data" in finding.message


@pytest.mark.parametrize(("steps", "batches"), [(4000, 500), (4000, None), (4000, 1), (400, 16)])
def test_it_passes_a_warm_up_of_usual_length_and_full_batch_training(steps, batches):
    assert apply(learning_rate_too_low, training(), warming_up(steps, batches)) == ()


def crawling(**changes):
    """A loss that falls from three times that of a constant prediction, by next to nothing."""
    return training(**{"losses": falling(start=7.0, end=6.8), "optimizer_given": True, **changes})


def test_it_finds_a_loss_that_only_crawls_where_a_larger_rate_comes_all_the_way():
    own = (parameter(update_rms=1e-5), parameter("2.weight", update_rms=1e-5))
    run = crawling(parameters=own)
    assert not run.harm
    tried = learning_rate_response({1.0: 6.5, 100.0: 2.4})
    (finding,) = apply(learning_rate_too_low, run, _from_seven(tried, 2.4))
    assert "And the loss only crawls from 7" in finding.message
    assert apply(learning_rate_too_low, run, _from_seven(tried, 5.0)) == ()


def _from_seven(tried, end):
    """The trials from the run's own start, the best of which ends at the given loss."""
    ends = {1.0: 6.5, 100.0: end}
    return LearningRateResponse(tuple(RateTrial(t.factor, falling(7.0, ends[t.factor])) for t in tried.trials))
