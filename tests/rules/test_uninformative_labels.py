from __future__ import annotations

import pytest

from gradcheck_kit.rule import Skip
from gradcheck_kit.rules.uninformative_labels import uninformative_labels
from gradcheck_kit.testing import (
    CHANCE,
    apply,
    falling,
    fit_attempt,
    flat,
    judge,
    learning_rate_response,
    one_batch_fit,
    poisoned,
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
