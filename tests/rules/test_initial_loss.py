from __future__ import annotations

import math

import pytest

from gradcheck_kit.rule import Skip
from gradcheck_kit.rules.initial_loss import initial_loss
from gradcheck_kit.testing import CHANCE, apply, falling, flat, judge, loss_call, loss_calls, poisoned, training


def start(times, **changes):
    """A run that starts at so many times chance and stays there."""
    return training(**{"losses": (times * CHANCE,) * 60, **changes})


def recovering(times):
    return training(losses=falling(start=times * CHANCE))


def test_it_names_the_last_layer_with_loss_and_limit():
    outcome = judge(initial_loss, start(5))
    assert outcome.status == "warned"
    (finding,) = outcome.findings
    assert finding.where == "4"
    assert finding.message == (
        "The first loss is 11.5, 5.0 times the 2.3 of an output that says nothing; up to 2 times is healthy."
    )
    assert finding.evidence == {"loss": 5 * CHANCE, "chance": CHANCE, "limit": 2 * CHANCE}
    assert finding.fixes[0].startswith("Scale down the initial weights of 4")


def test_it_finds_a_huge_start_also_when_the_run_recovers():
    (finding,) = apply(initial_loss, recovering(30))
    assert finding.evidence["limit"] == pytest.approx(20 * CHANCE)


@pytest.mark.parametrize("times", [3, 15])
def test_it_passes_a_high_start_that_is_gone_after_some_steps(times):
    assert apply(initial_loss, recovering(times)) == ()


@pytest.mark.parametrize("times", [0.9, 1.0, 1.9])
def test_it_passes_a_start_near_chance(times):
    assert apply(initial_loss, start(times)) == ()


def test_it_allows_for_the_error_of_small_batches():
    assert apply(initial_loss, start(2.5, constant_loss_error=2.0)) == ()


def test_it_judges_also_where_the_error_is_not_known():
    assert apply(initial_loss, start(5, constant_loss_error=None))


def test_it_skips_a_model_that_was_trained_before():
    with pytest.raises(Skip, match="it was trained before"):
        apply(initial_loss, training(losses=flat(0.3)))


def test_it_skips_a_loss_whose_chance_is_not_known():
    with pytest.raises(Skip, match="not known for this loss"):
        apply(initial_loss, start(5, constant_loss=None))


@pytest.mark.parametrize("chance", [0.0, -1.4])
def test_it_skips_a_loss_without_a_scale(chance):
    with pytest.raises(Skip, match="zero or negative"):
        apply(initial_loss, start(5, constant_loss=chance))


# ---- NaN and options ----


def test_it_leaves_a_first_loss_that_is_not_finite_to_non_finite():
    with pytest.raises(Skip, match="not finite"):
        apply(initial_loss, start(math.inf))


def test_it_does_not_pass_a_run_that_is_all_nan():
    assert judge(initial_loss, poisoned(training())).status != "passed"
    assert judge(initial_loss, start(1, constant_loss=math.nan)).status != "passed"


def test_it_takes_the_factor_as_an_option():
    assert apply(initial_loss, start(5), factor=6.0) == ()
    (finding,) = apply(initial_loss, start(1.5), factor=1.2)
    assert "up to 1.2 times is healthy" in finding.message


def called(times, **changes):
    """A training step of its own, in which cross_entropy is so many times what scores of zero get."""
    calls = loss_calls(loss_call(value=times * CHANCE, chance=CHANCE), loss_call(value=CHANCE, chance=CHANCE))
    return calls, training(constant_loss=None, **changes)


def test_it_compares_a_call_within_the_loss_where_chance_is_not_known():
    (finding,) = apply(initial_loss, *called(100))
    assert finding.where == "4"
    assert finding.message.startswith("Before training cross_entropy of the first batch is 230, 100.0 times the 2.3")
    assert finding.evidence["limit"] == pytest.approx(20 * CHANCE)


def test_it_takes_the_lower_limit_for_a_call_of_a_run_that_does_not_learn():
    assert apply(initial_loss, *called(5, losses=flat())) != ()
    assert apply(initial_loss, *called(5)) == ()


@pytest.mark.parametrize("call", [loss_call(), loss_call(value=math.nan, chance=CHANCE)])
def test_it_skips_calls_that_gave_no_number(call):
    outcome = judge(initial_loss, training(constant_loss=None), loss_calls(call))
    assert "constant prediction is not known" in outcome.reason
