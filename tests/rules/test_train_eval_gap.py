from __future__ import annotations

import math

import pytest

from gradcheck_kit.rule import Skip
from gradcheck_kit.rules.train_eval_gap import train_eval_gap
from gradcheck_kit.testing import apply, flat, judge, mode_gap, poisoned, training

WORSE = tuple(2.0 + 0.01 * i for i in range(8))


def test_it_gives_both_losses_and_the_layers():
    (finding,) = apply(train_eval_gap, mode_gap(by_average=WORSE), training())
    assert finding.where == "1"
    assert finding.message == (
        "On 8 training batches of 64 the loss is 0.335 with 1 and 4 (BatchNorm1d) in training mode and 2.04 in "
        "evaluation mode, 6.1 times as much (up to 1.5 is healthy), though the running statistics were averaged anew."
    )
    assert "a norm of their own" in finding.fixes[0]


def test_it_advises_larger_batches_where_they_are_small():
    (finding,) = apply(train_eval_gap, mode_gap(by_average=WORSE, samples=2), training())
    assert finding.fixes[0].startswith("Use larger batches than 2, or GroupNorm")


def test_it_names_a_momentum_that_keeps_statistics_from_moving():
    (finding,) = apply(train_eval_gap, mode_gap(by_running=(9.0,) * 8, still=("4",)), training())
    assert finding.where == "4"
    assert "9 in evaluation mode" in finding.message
    assert finding.message.endswith(": momentum=0 keeps the running statistics where they started.")
    assert finding.fixes[0].startswith("Leave out momentum=0 in 4: torch's default is 0.1")


def slowly(**changes):
    own = {"by_running": (9.0,) * 8, "slow": ("4",), "momentum": 0.001, "epoch": 30}
    return mode_gap(**{**own, **changes})


def test_it_names_a_momentum_far_below_the_usual():
    (finding,) = apply(train_eval_gap, slowly(), training())
    assert finding.where == "4"
    assert "with momentum=0.001 the running statistics move so slowly that 5 epochs of 30 batches" in finding.message
    assert "leave 86% of where they started" in finding.message
    assert "in TensorFlow and Keras" in finding.fixes[0]


@pytest.mark.parametrize(
    "changes", [{"epoch": 5000}, {"epoch": None}, {"momentum": None, "slow": ()}, {"by_running": (0.34,) * 8}]
)
def test_it_passes_a_small_momentum_that_does_no_harm_in_some_epochs(changes):
    assert apply(train_eval_gap, slowly(**changes), training()) == ()


def test_it_names_a_norm_of_the_users_own_that_never_moves_its_statistics():
    (finding,) = apply(train_eval_gap, mode_gap(by_running=(9.0,) * 8, still=("4",), own=True), training())
    assert finding.where == "4"
    assert finding.message.endswith(": forward leaves its buffers where they started.")
    assert finding.fixes[0].startswith("Move the statistics of 4 in forward while self.training is set")


def test_it_has_both_ways_of_a_norm_of_the_users_own_compared():
    (finding,) = apply(train_eval_gap, mode_gap(by_average=WORSE, own=True), training())
    assert finding.fixes[0].startswith("Compare what the forward of 1 and 4 does while self.training is set")


def test_it_passes_running_statistics_that_lag_behind():
    assert apply(train_eval_gap, mode_gap(by_running=(9.0,) * 8), training()) == ()


@pytest.mark.parametrize(
    "after",
    [(0.45,) * 8, (*WORSE[:7], 0.1)],
    ids=["small", "not every batch"],
)
def test_it_passes_a_difference_that_is_small_or_not_everywhere(after):
    assert apply(train_eval_gap, mode_gap(by_average=after), training()) == ()


def test_it_passes_next_to_nothing_that_doubles():
    assert apply(train_eval_gap, mode_gap(by_batch=(0.01,) * 8, by_average=(0.03,) * 8), training()) == ()


@pytest.mark.parametrize(
    ("gap", "run", "reason"),
    [
        ({}, {"synthetic": True}, "made up"),
        ({}, {"losses": flat()}, "did not learn"),
        ({"by_batch": (-1.0,) * 8}, {}, "zero or negative"),
        ({"by_average": (math.inf,) * 8}, {}, "not finite"),
        ({"by_batch": (2.4,) * 8, "by_average": (20.0,) * 8}, {"constant_loss": 2.3}, "nothing to lose"),
    ],
)
def test_it_skips_what_it_cannot_compare(gap, run, reason):
    with pytest.raises(Skip, match=reason):
        apply(train_eval_gap, mode_gap(**gap), training(**run))


def test_it_does_not_pass_numbers_that_are_all_nan():
    assert judge(train_eval_gap, poisoned(mode_gap()), training()).status == "skipped"


def test_it_takes_the_ratio_as_an_option():
    assert apply(train_eval_gap, mode_gap(by_average=WORSE), training(), ratio=10.0) == ()
