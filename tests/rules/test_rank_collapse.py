from __future__ import annotations

import math

import pytest

from gradcheck_kit.facts import SampleCollapse
from gradcheck_kit.rule import Skip
from gradcheck_kit.rules.rank_collapse import rank_collapse
from gradcheck_kit.testing import apply, collapse, falling, flat, judge, learning_rate_response, poisoned, training

STUCK = training(losses=flat())
SLOW = training(losses=falling(end=1.5))


def collapsed(**changes):
    """Blocks after which all positions are the same, and the run with residual connections, which learns."""
    found = {"residual_losses": falling(end=0.1), "residual_after": 0.8}
    return collapse((0.9, 1e-3, 1e-9), **{**found, **changes})


def test_it_fails_a_run_that_learns_only_with_residual_connections():
    (finding,) = apply(rank_collapse, collapsed(), STUCK)
    assert finding.severity == "error"
    assert finding.where == "blocks.1"
    assert finding.message == (
        "Before training the 20 positions of a sequence differ by 0.9 of their size before blocks.0 and by 1e-09 after "
        "blocks.1; the loss did not fall: 2.26 at the start, 2.3 at the end. With a residual connection around each of "
        "blocks.0 and blocks.1 the same run goes from 2.35 to 0.149."
    )
    assert finding.fixes == ("Add what goes in to what comes out (x = x + layer(x)) of blocks.0 and blocks.1.",)
    assert [bar.value for bar in finding.profile] == [1e-3, 1e-9]


def test_it_warns_of_a_run_that_learns_far_less_than_with_them():
    outcome = judge(rank_collapse, collapsed(), SLOW)
    assert outcome.status == "warned"
    assert "; the loss went from 2.35 to 1.5" in outcome.findings[0].message


def test_it_only_warns_where_the_data_is_made_up():
    (finding,) = apply(rank_collapse, collapsed(), training(losses=flat(), synthetic=True))
    assert finding.severity is None


def test_it_asks_less_of_the_other_run_where_the_own_does_not_learn():
    noisy = collapsed(residual_losses=falling(end=1.4))
    assert apply(rank_collapse, noisy, STUCK)
    with pytest.raises(Skip, match="not clearly better"):
        apply(rank_collapse, noisy, SLOW)


# ---- silence ----


def test_it_passes_positions_that_still_differ():
    assert apply(rank_collapse, collapse(), STUCK) == ()
    assert apply(rank_collapse, collapse((0.9, 0.4, 0.1)), STUCK) == ()


@pytest.mark.parametrize(
    ("changes", "run", "reason"),
    [
        ({"residual_losses": ()}, training(), "and the run learns as it is"),
        ({"residual_losses": ()}, STUCK, "residual connections were not tried"),
        ({"residual_losses": flat()}, STUCK, "with residual connections the run is not clearly better"),
    ],
    ids=["learns", "not tried", "as bad with them"],
)
def test_it_skips_without_proof(changes, run, reason):
    with pytest.raises(Skip, match=reason):
        apply(rank_collapse, collapsed(**changes), run)


def test_it_skips_positions_that_are_alike_from_the_start():
    with pytest.raises(Skip, match="much alike from the start"):
        apply(rank_collapse, collapse((0.05, 1e-3, 1e-9), residual_losses=falling(end=0.1)), STUCK)


def test_it_skips_a_run_that_learns_in_more_steps():
    with pytest.raises(Skip, match="in 20 steps it does"):
        apply(rank_collapse, collapsed(), STUCK, learning_rate_response({1.0: 0.5}))


# ---- NaN and options ----


def test_it_does_not_pass_poisoned_facts():
    assert judge(rank_collapse, poisoned(collapse()), STUCK).status != "passed"
    assert judge(rank_collapse, poisoned(collapsed()), STUCK).status != "passed"
    assert judge(rank_collapse, collapse((0.9, 0.8, math.nan)), STUCK).status != "passed"


def test_it_takes_the_limit_as_an_option():
    assert apply(rank_collapse, collapsed(), STUCK, spread=1e-12) == ()


def together(**changes):
    return SampleCollapse(**{"start": 0.88, "end": 0.43, "loss": -0.984, "equal_loss": -0.999, **changes})


def test_it_warns_of_samples_that_come_out_the_same():
    outcome = judge(rank_collapse, together(), training())
    assert outcome.status == "warned"
    (finding,) = outcome.findings
    assert finding.message == (
        "What the model makes of different samples differs by 0.43 of its size after training (0.88 before), and the "
        "loss, -0.984, is -0.999 where all come out the same: it asks for nothing else, and the model collapses to one "
        "answer."
    )
    assert finding.fixes[0].startswith("Stop the gradient on one side, z.detach()")


@pytest.mark.parametrize("changes", [{"end": 0.8}, {"equal_loss": -0.2}, {"equal_loss": math.nan}])
def test_it_skips_samples_that_stay_apart_and_losses_that_keep_them_so(changes):
    with pytest.raises(Skip, match="no layers draw positions together"):
        apply(rank_collapse, together(**changes), training())
