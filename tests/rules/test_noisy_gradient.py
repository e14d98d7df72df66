from __future__ import annotations

import math

import pytest

from gradcheck_kit.rule import Skip
from gradcheck_kit.rules.noisy_gradient import noisy_gradient
from gradcheck_kit.testing import (
    apply,
    falling,
    flat,
    gradient_noise,
    judge,
    learning_rate_response,
    poisoned,
    training,
)

STUCK = training(losses=flat())


def noisy(**changes):
    """Batches of two, and the same samples in batches of 64, which are learned."""
    found = {"batch": 2, "scale_at_end": 50.0, "factor": 32, "same_losses": flat()}
    return gradient_noise(**{**found, "large_losses": falling(end=0.3), **changes})


def test_it_warns_of_batches_whose_samples_are_learned_in_larger_ones():
    outcome = judge(noisy_gradient, noisy(), STUCK)
    assert outcome.status == "warned"
    (finding,) = outcome.findings
    assert finding.where == "batch size"
    assert finding.message == (
        "In batches of 2 most of a gradient is noise (it equals the signal at about 50 samples), and the loss did not "
        "fall: 2.26 at the start, 2.3 at the end. 60 steps with batches of 64 bring the loss from 2.35 to 0.386, and "
        "32 times as many over the same samples, in batches of 2, to 2.3."
    )
    assert finding.fixes == ("Use batches of 64 (batch_size=64), or add up the gradients of 32 batches.",)


def test_it_takes_the_larger_of_the_noise_at_the_start_and_at_the_end():
    (finding,) = apply(noisy_gradient, noisy(scale_at_start=math.inf), STUCK)
    assert "a gradient is nothing but noise, as far as sixteen of them can tell" in finding.message
    assert apply(noisy_gradient, noisy(scale_at_start=30.0, scale_at_end=None), STUCK)


def test_it_finds_small_batches_in_which_the_loss_becomes_nan():
    (finding,) = apply(noisy_gradient, noisy(same_losses=(2.3, 9.0, math.nan)), STUCK)
    assert finding.message.endswith("in batches of 2, to NaN or infinity.")


# ---- silence ----


def test_it_passes_a_batch_with_more_signal_than_noise():
    assert apply(noisy_gradient, gradient_noise(), STUCK) == ()


def test_it_passes_a_run_that_learns_however_noisy():
    assert apply(noisy_gradient, noisy(), training()) == ()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"large_losses": ()}, "larger batches were not tried"),
        ({"large_losses": flat()}, "in batches of 64 it does not learn either"),
        ({"same_losses": falling(end=0.3)}, "learned in batches of 2 too"),
        ({"large_losses": falling(end=1.9), "same_losses": flat(2.0)}, "learned in batches of 2 too"),
        ({"scale_at_start": None, "scale_at_end": None}, "could not be measured"),
    ],
    ids=["not tried", "as bad", "only too short", "hardly better", "not measured"],
)
def test_it_skips_without_proof(changes, reason):
    with pytest.raises(Skip, match=reason):
        apply(noisy_gradient, noisy(**changes), STUCK)


def test_it_skips_a_run_that_learns_in_more_steps():
    with pytest.raises(Skip, match="in 20 steps it does"):
        apply(noisy_gradient, noisy(), STUCK, learning_rate_response({1.0: 0.5}))


def test_it_skips_an_optimizer_that_nobody_chose():
    with pytest.raises(Skip, match="the optimizer is the probe's own"):
        apply(noisy_gradient, noisy(), training(losses=flat(), optimizer_given=False))


# ---- NaN and options ----


def test_it_does_not_pass_poisoned_facts():
    assert judge(noisy_gradient, poisoned(noisy()), STUCK).status != "passed"
    assert judge(noisy_gradient, poisoned(gradient_noise()), poisoned(STUCK)).status != "passed"


def test_it_takes_the_limit_as_an_option():
    assert apply(noisy_gradient, noisy(), STUCK, scale=100.0) == ()
