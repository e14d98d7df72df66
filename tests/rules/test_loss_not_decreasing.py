from __future__ import annotations

import math
from dataclasses import replace

import pytest

from gradcheck_kit.facts import RateTrial
from gradcheck_kit.rule import Skip
from gradcheck_kit.rules.loss_not_decreasing import loss_not_decreasing
from gradcheck_kit.testing import (
    CHANCE,
    apply,
    falling,
    fit_attempt,
    flat,
    judge,
    learning_rate_response,
    one_batch_fit,
    poisoned,
    training,
)

UNFITTED = one_batch_fit(attempts=(fit_attempt(losses=flat(steps=200), accuracy=0.1),))


def test_it_warns_of_a_loss_that_goes_nowhere():
    outcome = judge(loss_not_decreasing, training(losses=flat()))
    assert outcome.status == "warned"
    (finding,) = outcome.findings
    assert finding.where == "loss"
    assert finding.message == "Over 60 steps the loss did not fall: 2.26 at the start, 2.3 at the end."
    assert finding.evidence["limit"] == -2.33
    assert finding.evidence["trend"] > -2.33


def test_it_finds_a_loss_that_rises():
    (finding,) = apply(loss_not_decreasing, training(losses=tuple(2.3 + 0.1 * i for i in range(60))))
    assert "the loss rose from 2.3 to" in finding.message


def test_it_finds_a_loss_that_only_comes_back_from_a_peak():
    losses = (2.3,) * 3 + tuple(40.0 * 0.96**i for i in range(57))
    (finding,) = apply(loss_not_decreasing, training(losses=losses))
    assert "the loss rose from 2.3 to" in finding.message


def test_it_finds_a_loss_that_falls_to_chance_and_stays():
    losses = tuple(CHANCE + max(0.0, 3 - 0.15 * i) + 0.01 * ((i * 7) % 5 - 2) for i in range(60))
    (finding,) = apply(loss_not_decreasing, training(losses=losses))
    assert "no better than always predicting class frequencies (2.3)" in finding.message


def test_it_finds_a_loss_that_draws_ever_nearer_to_chance():
    losses = tuple(CHANCE + 3 * 0.85**i for i in range(60))
    assert training(losses=losses).trend(0.5) < -1.64
    (finding,) = apply(loss_not_decreasing, training(losses=losses))
    assert "no better than always predicting class frequencies (2.3)" in finding.message


def test_it_passes_a_loss_that_comes_down_from_far_above_chance():
    assert apply(loss_not_decreasing, training(losses=tuple(CHANCE + 3 * 0.97**i for i in range(60)))) == ()


def test_it_finds_a_loss_that_becomes_nan_however_early():
    (finding,) = apply(loss_not_decreasing, training(losses=(2.3, 9.0, math.nan)))
    assert finding.message == "Over 3 steps the loss became NaN."


def test_it_points_at_the_other_findings():
    (finding,) = apply(loss_not_decreasing, training(losses=flat()))
    assert finding.fixes[0].startswith("Look at the other findings first")
    assert "--steps 300" in finding.fixes[1]


def test_it_finds_it_also_where_one_batch_cannot_be_fitted():
    assert apply(loss_not_decreasing, training(losses=flat()), UNFITTED)


# ---- silence ----


def test_it_passes_a_loss_that_falls():
    assert apply(loss_not_decreasing, training(), one_batch_fit()) == ()


def test_it_passes_a_loss_that_falls_slowly_and_noisily():
    noisy = tuple(2.3 - 0.005 * i + 0.05 * ((i * 7) % 5 - 2) for i in range(60))
    assert apply(loss_not_decreasing, training(losses=noisy)) == ()


@pytest.mark.parametrize("spike", [0, 30, 58])
def test_it_passes_one_spike(spike):
    losses = [*falling()]
    losses[spike] = 50.0
    assert apply(loss_not_decreasing, training(losses=losses)) == ()


def test_it_passes_a_model_that_was_fitted_before():
    assert apply(loss_not_decreasing, training(losses=flat(0.02))) == ()


def test_it_passes_a_flat_loss_far_below_that_of_a_constant_prediction():
    assert apply(loss_not_decreasing, training(losses=flat(1.0))) == ()


def test_it_skips_a_task_that_may_need_more_steps():
    with pytest.raises(Skip, match="one batch is learned by heart: 60 steps may be too few to tell"):
        apply(loss_not_decreasing, training(losses=flat()), one_batch_fit())


def test_it_finds_it_also_where_only_adam_fits_one_batch():
    adam = one_batch_fit(attempts=(fit_attempt(losses=flat(steps=200), accuracy=0.1), fit_attempt()))
    assert apply(loss_not_decreasing, training(losses=flat()), adam)


def test_it_skips_what_only_the_probes_own_learning_rate_cannot_do():
    response = learning_rate_response({0.1: 0.5, 1.0: 2.4})
    with pytest.raises(Skip, match=r"the probe's own optimizer, which does not suit the model; --lr 0\.01 does"):
        apply(loss_not_decreasing, training(losses=flat(), optimizer_given=False), response)
    assert apply(loss_not_decreasing, training(losses=flat(), optimizer_given=True), response)


def test_it_finds_it_where_no_learning_rate_learns():
    response = learning_rate_response({0.1: 2.3, 1.0: 2.4})
    assert apply(loss_not_decreasing, training(losses=flat(), optimizer_given=False), response)


def test_it_skips_random_data():
    with pytest.raises(Skip, match="the data is random"):
        apply(loss_not_decreasing, training(losses=flat(), synthetic=True))


def test_it_skips_a_probe_of_too_few_steps():
    with pytest.raises(Skip, match="19 steps are too few to see a trend; use --steps 20 or more"):
        apply(loss_not_decreasing, training(losses=flat(steps=19)))


# ---- NaN and options ----


def test_it_finds_a_run_that_is_all_nan():
    (finding,) = apply(loss_not_decreasing, poisoned(training()), poisoned(one_batch_fit()))
    assert "the loss became NaN" in finding.message


def test_it_takes_the_number_of_steps_as_an_option():
    assert apply(loss_not_decreasing, training(losses=flat(steps=15)), steps=12)
    with pytest.raises(Skip, match="use --steps 100 or more"):
        apply(loss_not_decreasing, training(losses=flat()), steps=100)


def test_it_does_not_pass_steps_that_no_trend_can_be_seen_in():
    assert judge(loss_not_decreasing, training(losses=flat(steps=7)), steps=5).status != "passed"


# ---- watched loops ----


def test_it_expects_no_fall_of_a_loss_that_competes_with_another():
    with pytest.raises(Skip, match="other losses are trained in turn with this one"):
        apply(loss_not_decreasing, training(losses=flat(), watched=True, competing=True))


def test_it_tells_who_trains_a_loop_of_their_own_to_train_longer():
    (finding,) = apply(loss_not_decreasing, training(losses=flat(), watched=True))
    assert finding.fixes[1].startswith("With no other finding: train longer, and check")
    with pytest.raises(Skip, match="12 steps are too few to see a trend; watch 20 or more"):
        apply(loss_not_decreasing, training(losses=flat(steps=12), watched=True))


def test_it_asks_for_the_usual_length_where_nobody_chose_the_rate():
    few = training(losses=flat(steps=30), optimizer_given=False)
    with pytest.raises(Skip, match="30 steps are too few to see a trend; use --steps 60 or more"):
        apply(loss_not_decreasing, few)
    assert apply(loss_not_decreasing, training(losses=flat(steps=30), optimizer_given=True))


def test_it_skips_a_loss_whose_parts_are_trained_against_each_other():
    game = one_batch_fit(attempts=(fit_attempt(losses=flat(steps=200), accuracy=None, slope=-0.3),))
    with pytest.raises(Skip, match="trained against others"):
        apply(loss_not_decreasing, training(losses=flat()), game)


def test_it_skips_a_run_that_falls_slowly_and_on():
    slow = learning_rate_response({1.0: CHANCE})
    slow = replace(slow, trials=(RateTrial(1.0, falling(CHANCE, 0.93 * CHANCE, steps=180)),))
    with pytest.raises(Skip, match=r"in 180 steps it comes to .*, if slowly"):
        apply(loss_not_decreasing, training(losses=flat()), UNFITTED, slow)
