from __future__ import annotations

import math

import pytest

from gradcheck_kit.rule import Skip
from gradcheck_kit.rules.sum_reduction import sum_reduction
from gradcheck_kit.testing import apply, batch_repetition, falling, flat, judge, non_finite, poisoned, training

RISING = tuple(147.0 * 1.1**i for i in range(60))
STUCK = training(losses=RISING, learning_rates=(0.05,), constant_loss=147.0)


def summed(**changes):
    """A sum over 64 samples that does learn when it is divided by them."""
    values = {"losses": (37.0, 74.0, 111.0), "divisor": 64, "divided_losses": falling()}
    return batch_repetition(**{**values, **changes})


def test_it_gives_growth_harm_and_proof():
    (finding,) = apply(sum_reduction, STUCK, summed())
    assert finding.where == "loss"
    assert finding.message.startswith(
        "The loss is a sum over the batch: from 37 it goes to 74 when every sample is there twice, 2 times as much"
    )
    assert "At learning rate 0.05 the loss rose from 147 to " in finding.message
    assert "divided by the 64 samples of a batch, the same run goes from 2.35 to 0.3" in finding.message
    assert finding.evidence == {"ratio": 2.0, "share": 1.0, "limit": 0.5, "divisor": 64}
    assert finding.fixes[0].startswith('Average in CrossEntropyLoss, reduction="mean" or .mean()')
    assert "from 0.05 to 0.00078, which goes for batches of 64 only" in finding.fixes[1]


def test_it_names_the_numbers_of_images():
    facts = training(losses=RISING, constant_loss=None)
    (finding,) = apply(sum_reduction, facts, summed(divisor=9216, divided_losses=falling(0.016, 0.002)))
    assert "divided by the 9,216 numbers that a batch compares" in finding.message


def test_it_finds_a_run_that_became_nan():
    broken = training(losses=(147.0, 9e3, math.nan), non_finite=non_finite(step=2, kind="loss"), constant_loss=147.0)
    (finding,) = apply(sum_reduction, broken, summed())
    assert "the loss became NaN" in finding.message


def test_it_finds_a_sum_beside_a_penalty_on_weights():
    assert apply(sum_reduction, STUCK, summed(losses=(39.0, 76.0, 113.0)))


def test_it_finds_a_run_that_learns_and_ends_far_above_the_divided_one():
    learns = training(losses=falling(147.0, 64.0), constant_loss=147.0)
    (finding,) = apply(sum_reduction, learns, summed())
    assert "the loss ends at 1.08 times 64" in finding.message


@pytest.mark.parametrize("losses", [(2.3, 2.3, 2.3), (2.3, 9.2, 20.7), (40.0, 43.0, 46.0), (2.3, 1.1, 0.8)])
def test_it_passes_averages_sums_over_pairs_and_small_parts(losses):
    assert apply(sum_reduction, STUCK, summed(losses=losses)) == ()


def test_it_skips_a_sum_with_which_the_run_learns():
    with pytest.raises(Skip, match="the run learns with it"):
        apply(sum_reduction, training(), summed(divisor=None, divided_losses=()))


def test_it_skips_where_no_other_run_was_made():
    with pytest.raises(Skip, match="was not tried"):
        apply(sum_reduction, STUCK, summed(divisor=None, divided_losses=()))


def test_it_skips_an_optimizer_that_takes_the_same_steps_at_any_scale():
    same = (147.0 / 64, RISING[1] / 64, *falling()[2:])
    with pytest.raises(Skip, match="the same steps whatever its scale"):
        apply(sum_reduction, STUCK, summed(divided_losses=same))


@pytest.mark.parametrize("divided", [flat(), (2.3, math.nan), (2.3, math.inf)])
def test_it_skips_where_the_divided_run_does_not_learn_either(divided):
    with pytest.raises(Skip, match="does not fall either"):
        apply(sum_reduction, STUCK, summed(divided_losses=divided))


def test_it_skips_where_the_divided_run_ends_no_better():
    at_half = training(losses=falling(147.0, 25.0), constant_loss=147.0)
    with pytest.raises(Skip, match="ends no better"):
        apply(sum_reduction, at_half, summed())


def test_it_skips_a_first_loss_of_zero_or_nan():
    for losses in ((0.0, 0.0, 0.0), (math.nan,) * 3):
        with pytest.raises(Skip, match="zero, or not finite"):
            apply(sum_reduction, STUCK, summed(losses=losses))


def test_it_does_not_pass_numbers_that_are_all_nan():
    assert judge(sum_reduction, poisoned(STUCK), poisoned(summed())).status == "skipped"
    assert judge(sum_reduction, STUCK, summed(divided_losses=(math.nan,) * 60)).status == "skipped"


def test_it_takes_the_share_as_an_option():
    mixed = summed(losses=(10.0, 14.0, 18.0))
    assert apply(sum_reduction, STUCK, mixed) == ()
    assert apply(sum_reduction, STUCK, mixed, share=0.3)
