from __future__ import annotations

import pytest

from gradcheck_kit.rule import Skip
from gradcheck_kit.rules.low_precision import low_precision
from gradcheck_kit.testing import apply, falling, flat, judge, poisoned, training
from gradcheck_kit.testing import low_precision as low

STUCK = training(losses=flat())


def test_it_fails_updates_that_round_to_nothing_in_a_run_that_does_not_learn():
    outcome = judge(low_precision, low(lost_updates=0.97, lost_layer="2"), STUCK)
    assert outcome.status == "failed"
    (finding,) = outcome.findings
    assert finding.where == "2"
    assert finding.message.startswith("97% of the bfloat16 weights that have a gradient are the same to the last bit")
    assert finding.fixes[0].startswith("Keep 0 and 2 in float32 and compute in bfloat16 under torch.autocast")


def test_it_fails_a_gradient_that_vanishes_in_a_run_that_does_not_learn():
    (finding,) = apply(low_precision, low(dtype="float16", underflow=0.4), STUCK)
    assert "40% of the float16 gradient is exactly zero, and a normal number when" in finding.message
    assert "GradScaler" in finding.fixes[0]


@pytest.mark.parametrize("changes", [{"underflow": 0.4}, {"lost_updates": 0.97}])
def test_it_passes_either_in_a_run_that_learns(changes):
    assert judge(low_precision, low(**changes), training(losses=falling())).status == "passed"


@pytest.mark.parametrize("changes", [{"underflow": 0.4}, {"lost_updates": 0.97}])
def test_it_only_warns_where_no_run_was_recorded(changes):
    assert judge(low_precision, low(**changes)).status == "warned"


def test_it_passes_a_step_that_loses_little():
    assert apply(low_precision, low(underflow=0.05, lost_updates=0.3), STUCK) == ()


def test_it_skips_where_nothing_could_be_compared():
    with pytest.raises(Skip, match="neither gradients nor updates"):
        apply(low_precision, low(underflow=None, lost_updates=None))


def test_it_does_not_pass_poisoned_facts():
    assert judge(low_precision, poisoned(low()), STUCK).status != "passed"
