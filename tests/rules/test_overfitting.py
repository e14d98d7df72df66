from __future__ import annotations

import math

import pytest

from gradcheck_kit.facts import ClassAccuracy
from gradcheck_kit.rule import Skip
from gradcheck_kit.rules.overfitting import overfitting
from gradcheck_kit.testing import apply, evaluation, falling, flat, generalization, judge, poisoned, training

RISES = (2.3, 1.2, 0.8, 0.9, 1.2, 1.6, 2.0)
NEVER_FELL = (1.0, 1.2, 0.99, 1.5, 2.0, 2.5, 3.0)


def by_samples(*looks):
    """The looks at twenty handfuls, each given one by one."""
    return tuple(tuple(look) for look in looks)


def by_heart(*test, **changes):
    return generalization(test or (2.3, 2.4, 2.6, 2.9), **{"accuracies": (0.1,) * len(test or "four"), **changes})


def test_it_warns_of_few_samples_that_are_known_by_heart():
    outcome = judge(overfitting, training(), by_heart())
    assert outcome.status == "warned"
    assert outcome.findings[0].message.startswith("In 30 passes over its 128 samples the training loss comes to 0.0")
    assert "no better than always predicting class frequencies (2.3)" in outcome.findings[0].message


@pytest.mark.parametrize(
    "facts",
    [
        by_heart(training_samples=2000),
        by_heart(training_losses=(2.3, 2.0, 1.5, 1.0)),
        by_heart(accuracies=(0.1, 0.2, 0.3, 0.4)),
        by_heart(2.3, 1.9, 2.4, 2.5),
    ],
    ids=["many", "not by heart", "more accurate", "better than a constant once"],
)
def test_it_does_not_call_by_heart_what_holds_for_others_or_may_be_the_labels(facts):
    found = judge(overfitting, training(), facts).findings
    assert not any("known by heart" in finding.message for finding in found)


def test_it_warns_of_a_test_loss_that_fell_and_rises():
    outcome = judge(overfitting, training(), generalization(RISES))
    assert outcome.status == "warned"
    (finding,) = outcome.findings
    assert finding.where == "test data"
    assert finding.message.startswith(
        "The loss on 320 test samples is lowest after 20 updates, 0.8, and then rises to 2"
    )
    assert "while the training loss falls from 0.383 to 0.0102" in finding.message
    assert "its 128 training samples 30 times" in finding.message
    assert finding.fixes[0].startswith("Stop after about 20 updates (early stopping)")
    assert finding.fixes[1].startswith("Or add training samples")
    assert [bar.value for bar in finding.profile] == pytest.approx(RISES)


def test_it_tells_accuracy_where_there_is_one():
    (finding,) = apply(overfitting, training(), generalization(RISES))
    (regression,) = apply(overfitting, training(), generalization(RISES, accuracies=(None,) * 7))
    assert "; accuracy went from 70.0% to 70.0%." in finding.message
    assert "accuracy" not in regression.message


def test_it_believes_accuracy_above_the_commonest_class_where_the_loss_hardly_fell():
    halves = evaluation(per_class=(ClassAccuracy(0, 80, 160), ClassAccuracy(1, 80, 160)))
    looks = by_samples(*([loss + 0.2 * (-1) ** i for i in range(20)] for loss in NEVER_FELL))
    crossed = by_samples([1 + 0.2 * (-1) ** (i // 2) for i in range(20)], *looks[1:])
    facts = generalization(NEVER_FELL, chunk_losses=crossed)
    assert apply(overfitting, training(), facts, halves)
    with pytest.raises(Skip, match="nothing that was learned holds for test data"):
        apply(overfitting, training(), generalization(NEVER_FELL, chunk_losses=crossed, accuracies=(0.5,) * 7), halves)


def test_it_proposes_data_first_where_stopping_would_cost_accuracy():
    surer = generalization((2.3, 1.2, 0.8, 0.9, 1.2, 2.0, 3.0), accuracies=(0.1, 0.5, 0.6, 0.7, 0.8, 0.8, 0.8))
    (finding,) = apply(overfitting, training(), surer)
    assert finding.fixes[0].startswith("Add training samples")
    assert finding.fixes[1].endswith("if probabilities matter more to you than accuracy.")


# ---- silence ----


def test_it_passes_a_test_loss_that_falls_to_the_end():
    assert apply(overfitting, training(), generalization()) == ()


def test_it_passes_a_small_rise():
    assert apply(overfitting, training(), generalization((2.3, 1.2, 0.8, 0.82, 0.84, 0.85, 0.86))) == ()


def test_it_passes_a_rise_of_next_to_nothing():
    assert apply(overfitting, training(), generalization((2.3, 1e-5, 1e-6, 2e-6, 3e-6, 4e-6, 5e-6))) == ()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"epochs": 1.4}, r"goes through its data 1\.4 times, too seldom"),
        ({"steps": (), "chunk_losses": ()}, "test and training loss are close together"),
        ({"training_losses": flat(steps=7)}, "the training loss did not go on falling"),
        ({"accuracies": (0.1, 0.5, 0.6, 0.7, 0.8, 0.8, 0.8)}, "only too certain of what it gets wrong"),
    ],
    ids=["one epoch", "no gap", "nothing by heart", "accuracy rises"],
)
def test_it_skips_what_is_no_overfitting(changes, reason):
    with pytest.raises(Skip, match=reason):
        apply(overfitting, training(), generalization(RISES, **changes))


def test_it_skips_a_rise_of_a_few_samples():
    lower, higher = [0.8] * 20, [0.81] * 2 + [0.79] * 14 + [6.0] * 4
    few = by_samples([2.3] * 20, lower, higher)
    facts = generalization((2.3, 0.8, 1.8), chunk_losses=few)
    with pytest.raises(Skip, match="but not of enough of 320 samples to be sure"):
        apply(overfitting, training(), facts)


def test_it_skips_a_test_loss_that_only_rises():
    """Test data of another kind: normalised otherwise, with labels in another order."""
    with pytest.raises(Skip, match="nothing that was learned holds for test data"):
        apply(overfitting, training(), generalization((1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0)))


def test_it_skips_a_run_that_does_not_learn():
    with pytest.raises(Skip, match="the run does not learn"):
        apply(overfitting, training(losses=flat()), generalization(steps=(), chunk_losses=()))


# ---- NaN and options ----


def test_it_does_not_pass_poisoned_facts():
    assert judge(overfitting, training(), poisoned(generalization(RISES))).status != "passed"
    last = generalization((2.3, 1.2, 0.8, 0.9, math.nan))
    assert judge(overfitting, training(), last).status != "passed"


def test_it_takes_the_limit_as_an_option():
    assert apply(overfitting, training(), generalization(RISES), rise=2.0) == ()
    assert apply(overfitting, training(), generalization((*falling(end=0.8, steps=5), 0.84, 0.85)), rise=0.01)
