from __future__ import annotations

import math

import pytest

from gradcheck_kit.rule import Skip
from gradcheck_kit.rules.cannot_fit_one_batch import cannot_fit_one_batch
from gradcheck_kit.testing import CHANCE, apply, falling, fit_attempt, flat, judge, one_batch_fit, poisoned, training


def attempt(losses=None, accuracy=0.1, **changes):
    return fit_attempt(losses=flat(steps=200) if losses is None else losses, accuracy=accuracy, **changes)


def trying(*attempts, **changes):
    return one_batch_fit(attempts=attempts, **changes)


def test_it_says_how_far_it_came_and_with_what():
    (finding,) = apply(cannot_fit_one_batch, trying(attempt(), attempt(optimizer="Adam(lr=0.001)")))
    assert finding.where == "model"
    assert finding.message.startswith(
        "16 samples cannot be learned by heart in 200 steps with SGD(lr=0.1, momentum=0.9) or Adam(lr=0.001): "
        "10% of them right, the loss went from 2.26 to 2.3"
    )
    assert finding.evidence["accuracy"] == 0.1
    assert finding.evidence["limit"] == 0.1
    assert finding.severity is None


DROPPED = {"dropout": "classifier.1", "dropout_share": 0.99, "with_dropout": attempt(accuracy=0.25)}


def test_it_names_a_dropout_that_keeps_next_to_nothing():
    (finding,) = apply(cannot_fit_one_batch, one_batch_fit(**DROPPED), training(losses=flat()))
    assert finding.where == "classifier.1"
    assert finding.message.startswith(
        "16 samples are learned by heart with dropout off, and not with classifier.1 dropping 99% of its values (25% "
        "of them right, a loss of 2.3"
    )
    assert "the loss did not fall" in finding.message
    assert finding.fixes[0].endswith("What keeps 99% is p=0.01.")


def test_it_passes_a_heavy_dropout_under_which_the_run_or_the_batch_is_learned():
    assert apply(cannot_fit_one_batch, one_batch_fit(**DROPPED), training()) == ()
    fits = {**DROPPED, "with_dropout": fit_attempt()}
    assert apply(cannot_fit_one_batch, one_batch_fit(**fits), training(losses=flat())) == ()


def test_it_points_at_the_other_findings():
    (finding,) = apply(cannot_fit_one_batch, trying(attempt()))
    assert finding.fixes[0].startswith("Look at the other findings first")


def test_it_reports_the_better_attempt():
    (finding,) = apply(cannot_fit_one_batch, trying(attempt(flat(9.0, 200)), attempt()))
    assert finding.evidence["end"] < 2.4


def test_it_finds_a_stuck_regression():
    (finding,) = apply(cannot_fit_one_batch, trying(attempt(accuracy=None)))
    assert "right" not in finding.message


def test_it_finds_a_stuck_loss_of_which_chance_is_not_known():
    assert apply(cannot_fit_one_batch, trying(attempt(accuracy=None), constant_loss=None))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_it_finds_losses_that_are_not_finite_however_early(bad):
    (finding,) = apply(cannot_fit_one_batch, trying(attempt((2.3, 50.0, bad)), attempt((2.3, bad))))
    assert "the loss became NaN or infinite" in finding.message


# ---- fitted ----


@pytest.mark.parametrize("fitted", [fit_attempt(), attempt(accuracy=1.0), attempt(accuracy=0.95)])
def test_it_passes_when_either_attempt_fits(fitted):
    assert apply(cannot_fit_one_batch, trying(fitted)) == ()
    assert apply(cannot_fit_one_batch, trying(attempt(), fitted)) == ()


def test_it_passes_a_tenth_of_the_first_loss():
    assert apply(cannot_fit_one_batch, trying(attempt(falling(2.3, 0.2, 60), accuracy=None))) == ()


def test_it_passes_a_tenth_of_what_a_constant_prediction_reaches():
    assert apply(cannot_fit_one_batch, trying(attempt(flat(0.2, 200), accuracy=None))) == ()


# ---- not fitted, and not stuck either ----


@pytest.mark.parametrize("accuracy", [None, 0.4])
def test_it_skips_a_loss_that_is_still_falling(accuracy):
    with pytest.raises(Skip, match="still falling"):
        apply(cannot_fit_one_batch, trying(attempt(falling(2.3, 1.9, 200), accuracy)))


def test_it_skips_a_loss_that_has_a_floor():
    with pytest.raises(Skip, match="may be all that it can"):
        apply(cannot_fit_one_batch, trying(attempt((2.3, *flat(1.0, 199)), accuracy=None)))


def test_it_skips_a_negative_loss_that_moved():
    with pytest.raises(Skip, match="may be all that it can"):
        apply(cannot_fit_one_batch, trying(attempt((-0.5, *flat(-3.0, 199)), None), constant_loss=-1.0))


def test_it_skips_a_probe_of_too_few_steps():
    with pytest.raises(Skip, match="not fitted in 30 steps, which are too few to tell"):
        apply(cannot_fit_one_batch, trying(attempt(flat(steps=30))))


# ---- NaN and options ----


def test_it_leaves_a_loss_that_is_not_finite_from_the_start_to_the_rule_that_names_it():
    assert judge(cannot_fit_one_batch, poisoned(one_batch_fit())).status == "skipped"


def test_it_takes_its_limits_as_options():
    nearly = trying(attempt(accuracy=0.9))
    assert apply(cannot_fit_one_batch, nearly)
    assert apply(cannot_fit_one_batch, nearly, error=0.2) == ()
    half = trying(attempt(flat(CHANCE, 200), None))
    assert apply(cannot_fit_one_batch, half, loss=1.1) == ()


def test_it_skips_a_loss_whose_parts_are_trained_against_each_other():
    game = one_batch_fit(attempts=(fit_attempt(losses=flat(steps=200), accuracy=None, slope=-0.3),))
    with pytest.raises(Skip, match="trained against each other"):
        apply(cannot_fit_one_batch, game)


def test_it_names_such_a_dropout_where_the_loss_only_came_back_to_that_of_a_constant():
    came_back = training(losses=falling(start=40.0, end=CHANCE))
    assert not came_back.harm
    (finding,) = apply(cannot_fit_one_batch, one_batch_fit(**DROPPED), came_back)
    assert "no better than always predicting class frequencies (2.3)." in finding.message
