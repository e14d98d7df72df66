from __future__ import annotations

import math

import pytest

from gradcheck_kit.facts import LayerOutput
from gradcheck_kit.rule import Skip
from gradcheck_kit.rules.exploding_activation import exploding_activation
from gradcheck_kit.testing import (
    activation_growth,
    apply,
    falling,
    flat,
    judge,
    learning_rate_response,
    poisoned,
    training,
)

STUCK = training(losses=flat())
FAR_ABOVE_CHANCE = training(losses=falling(start=1e6, end=600.0))


def growing(*, largest=6000.0, **changes):
    """Signals that grow ten-thousandfold, and the run with norms, which learns."""
    return activation_growth((0.6, 60.0, largest), **{"norm_losses": falling(end=0.3), "norm_largest": 3.0, **changes})


def test_it_fails_growth_without_which_the_run_learns():
    outcome = judge(exploding_activation, growing(), STUCK)
    assert outcome.status == "failed"
    (finding,) = outcome.findings
    assert finding.where == "4"
    assert finding.message.startswith("The output of 4 is 1e+04 times that of 0 before training (6e+03 and 0.6, RMS)")
    assert "up to 100 times is healthy. So the loss did not fall" in finding.message
    assert "divided by its root mean square the same run goes from 2.35 to 0.386" in finding.message
    assert finding.fixes[0] == "Put nn.LayerNorm before 2 and 4, to normalise what enters."
    assert [bar.value for bar in finding.profile] == [0.6, 60.0, 6000.0]


def test_it_warns_of_a_run_that_comes_down_from_a_huge_loss():
    (finding,) = apply(exploding_activation, growing(), FAR_ABOVE_CHANCE)
    assert finding.severity == "warning"
    assert "the loss is still at" in finding.message


def test_it_only_warns_where_the_data_is_made_up():
    (finding,) = apply(exploding_activation, growing(), training(losses=flat(), synthetic=True))
    assert finding.severity == "warning"


def test_it_names_the_norm_of_convolutions():
    layers = tuple(LayerOutput(str(i), "Conv2d", 10.0**i) for i in range(5))
    (finding,) = apply(exploding_activation, growing(layers=layers), STUCK)
    assert finding.fixes[0].startswith("Put nn.GroupNorm before 1, 2, 3 and 4")


def test_it_finds_signals_that_are_infinite():
    assert apply(exploding_activation, growing(largest=math.inf), STUCK)


# ---- silence ----


def test_it_passes_a_residual_stream_that_grows_slowly():
    assert apply(exploding_activation, activation_growth((1.0, 2.0, 8.0)), STUCK) == ()


@pytest.mark.parametrize(
    ("changes", "run", "reason"),
    [
        ({"norm_losses": ()}, training(), "and the run learns as it is"),
        ({"norm_losses": ()}, STUCK, "the run with norms was not tried"),
        ({"norm_losses": flat()}, STUCK, "with a norm before each layer the run is not clearly better"),
        ({"norm_losses": falling(end=1.4)}, STUCK, "is not clearly better"),
    ],
    ids=["learns", "not tried", "as bad with norms", "hardly better"],
)
def test_it_skips_without_proof(changes, run, reason):
    with pytest.raises(Skip, match=reason):
        apply(exploding_activation, growing(**changes), run)


def test_it_skips_a_run_that_learns_in_more_steps():
    with pytest.raises(Skip, match="in 20 steps it does"):
        apply(exploding_activation, growing(), STUCK, learning_rate_response({1.0: 0.5}))


# ---- NaN and options ----


def test_it_does_not_pass_poisoned_facts():
    assert judge(exploding_activation, poisoned(activation_growth()), STUCK).status != "passed"
    assert judge(exploding_activation, poisoned(growing()), STUCK).status != "passed"
    assert judge(exploding_activation, growing(), poisoned(STUCK)).status != "passed"


def test_it_takes_the_limit_as_an_option():
    assert apply(exploding_activation, growing(), STUCK, growth=1e5) == ()
