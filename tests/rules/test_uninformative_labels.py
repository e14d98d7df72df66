from __future__ import annotations

import pytest

from gradcheck_kit.rule import Skip
from gradcheck_kit.rules.uninformative_labels import uninformative_labels
from gradcheck_kit.testing import (
    CHANCE,
    apply,
    constant_input,
    data_summary,
    falling,
    fit_attempt,
    flat,
    held_out,
    judge,
    learning_rate_response,
    loss_call,
    loss_calls,
    one_batch_fit,
    poisoned,
    tensor_summary,
    training,
)

STUCK = training(losses=flat())
NOTHING_HELPS = learning_rate_response({0.01: CHANCE, 0.1: CHANCE, 1.0: CHANCE, 10.0: CHANCE})
UNFITTED = one_batch_fit(attempts=(fit_attempt(losses=flat(steps=200), accuracy=0.1),))


def test_it_warns_of_a_loss_at_chance_at_every_rate_while_one_batch_is_learned_by_heart():
    outcome = judge(uninformative_labels, STUCK, one_batch_fit(), NOTHING_HELPS)
    assert outcome.status == "warned"
    (finding,) = outcome.findings
    assert finding.where == "train_data"
    assert "with 3 other learning rates, while 16 samples are learned by heart" in finding.message
    assert finding.evidence["chance"] == CHANCE


SHUFFLED = {"order": "shuffled", "labels": ((-100, 7000), (1, 1827)), "label_batches": ()}


def test_it_warns_of_labels_that_are_all_one_class():
    facts = training(), one_batch_fit(), data_summary(**SHUFFLED), loss_calls(loss_call())
    (finding,) = apply(uninformative_labels, *facts)
    assert finding.message.startswith("All 1,827 labels that count in the first 32 batches, which are shuffled, are")


@pytest.mark.parametrize(
    ("changes", "function"),
    [
        ({"order": "sequential"}, "cross_entropy"),
        ({"labels": ((-100, 7000), (1, 60))}, "cross_entropy"),
        ({"labels": ((0, 1800), (1, 27))}, "cross_entropy"),
        ({}, "binary_cross_entropy_with_logits"),
    ],
    ids=["in order", "few", "two classes", "real samples of a discriminator"],
)
def test_it_passes_labels_of_one_class_that_may_be_meant(changes, function):
    data = data_summary(**{**SHUFFLED, **changes})
    assert apply(uninformative_labels, training(), one_batch_fit(), data, loss_calls(loss_call(function))) == ()


def judged(constant, run=STUCK, fit=UNFITTED, **changes):
    return judge(uninformative_labels, run, fit, NOTHING_HELPS, data_summary(constant=constant, **changes))


def test_it_finds_samples_whose_every_token_is_the_same():
    outcome = judged(constant_input())
    assert outcome.status == "failed"
    (finding,) = outcome.findings
    assert finding.where == "train_data"
    assert finding.message == (
        "All 20,000 tokens of the 2,048 samples that were read are 1 (the rest is padding, 0); the other rows of "
        "embed, which has 33, are never looked up. So the loss did not fall: 2.26 at the start, 2.3 at the end."
    )
    assert "each of them is unknown, which 1 may stand for" in finding.fixes[0]


def test_it_only_warns_of_them_where_the_run_learns():
    outcome = judged(constant_input(padding=None), training())
    assert outcome.status == "warned"
    assert outcome.findings[0].message.endswith("are 1; the other rows of embed, which has 33, are never looked up.")


def black(**changes):
    return constant_input(**{"value": 0.0, "padding": None, "embedding": "", "rows": 0, "width": 784, **changes})


def test_it_finds_pictures_that_are_all_black():
    outcome = judged(black())
    assert outcome.status == "failed"
    assert "numbers of the 2,048 samples that were read are 0, while their targets differ. So" in (
        outcome.findings[0].message
    )


@pytest.mark.parametrize(
    ("constant", "run", "changes"),
    [
        (constant_input(rows=2), training(), {}),
        (black(), training(), {}),
        (black(), STUCK, {"targets": (tensor_summary("target", minimum=1.0, maximum=1.0),)}),
        (black(), STUCK, {"targets": ()}),
        (black(width=1), STUCK, {}),
    ],
    ids=["a table of two", "it learns", "one target", "no target", "one number"],
)
def test_it_does_not_mind_one_number_for_all_where_nothing_else_is_wanted(constant, run, changes):
    assert judged(constant, run, **changes).status != "failed"
    assert judged(constant, run, **changes).status != "warned"


def test_it_passes_a_loss_that_falls():
    assert apply(uninformative_labels, training(losses=falling()), one_batch_fit(), NOTHING_HELPS) == ()


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ((training(losses=flat(), synthetic=True), one_batch_fit(), NOTHING_HELPS), "the data is random"),
        ((training(losses=flat(), constant_loss=None), one_batch_fit(), NOTHING_HELPS), "is not known"),
        ((training(losses=flat(steps=30)), one_batch_fit(), NOTHING_HELPS), "30 steps are too few"),
        ((STUCK, UNFITTED, NOTHING_HELPS), "one batch is not learned by heart either"),
        ((STUCK, one_batch_fit(with_dropout=UNFITTED.attempts[0]), NOTHING_HELPS), "with dropout on one batch is not"),
        ((STUCK, one_batch_fit(samples=2), NOTHING_HELPS), "2 samples are learned by heart, which are too few"),
        ((STUCK, one_batch_fit()), "was not tried"),
        ((STUCK, one_batch_fit(), learning_rate_response({0.1: 0.5, 1.0: CHANCE})), "the labels can be learned"),
        ((STUCK, one_batch_fit(), learning_rate_response({1.0: 3 * CHANCE})), "does not stay"),
    ],
    ids=[
        "made up",
        "no chance",
        "short",
        "unfitted",
        "dropout",
        "two samples",
        "not tried",
        "another rate",
        "diverged",
    ],
)
def test_it_skips(facts, reason):
    with pytest.raises(Skip, match=reason):
        apply(uninformative_labels, *facts)


def test_it_does_not_pass_poisoned_facts():
    assert judge(uninformative_labels, poisoned(STUCK), one_batch_fit(), NOTHING_HELPS).status != "failed"


HALVES = {
    "trained_on": 0.6 * CHANCE,
    "others": 1.2 * CHANCE,
    "lowest": 1.01 * CHANCE,
    "correct": 33,
    "commonest": 36,
}
BY_HEART = held_out(**HALVES)


def test_it_warns_of_labels_of_which_one_half_says_nothing_of_the_other():
    learned = learning_rate_response({1.0: 0.5})
    outcome = judge(uninformative_labels, STUCK, one_batch_fit(), learned, BY_HEART)
    assert outcome.status == "warned"
    (finding,) = outcome.findings
    assert finding.message == (
        "In 40 steps on every other training batch the loss on these comes down to 1.38, and on the batches between it "
        "is 2.76, 11.0% of them right: no better than always predicting class frequencies (12.0%, 2.3). What the "
        "inputs tell of one half of the labels says nothing of the other: they are learned by heart."
    )
    assert apply(uninformative_labels, training(), one_batch_fit(), BY_HEART)


@pytest.mark.parametrize(
    "changes",
    [{"trained_on": 0.95 * CHANCE}, {"others": 0.97 * CHANCE}, {"correct": 60}, {"lowest": 1.2 * CHANCE}],
    ids=["not learned", "holds for others", "tells classes, too surely", "falls on"],
)
def test_it_passes_halves_that_prove_nothing(changes):
    halves = held_out(**{**HALVES, **changes})
    assert apply(uninformative_labels, training(), one_batch_fit(), halves) == ()
