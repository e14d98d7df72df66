from __future__ import annotations

import pytest

from gradcheck_kit.rule import Skip
from gradcheck_kit.rules.weight_decay_dominates import weight_decay_dominates
from gradcheck_kit.testing import apply, falling, flat, judge, learning_rate_response, poisoned, training, weight_decay

STUCK = training(losses=flat(), optimizer_given=True)


def strong(**changes):
    """A decay that shrinks the weights to nothing, and the run without it, which learns."""
    found = {"decay": 10.0, "decoupled": False, "shares": (40.0, 60.0), "shrinkage": 0.01, "proposed": 1e-4}
    return weight_decay(**{**found, "free_losses": falling(end=0.3), **changes})


def test_it_fails_a_decay_without_which_the_run_learns():
    outcome = judge(weight_decay_dominates, STUCK, strong())
    assert outcome.status == "failed"
    (finding,) = outcome.findings
    assert finding.where == "optimizer"
    assert "weight_decay=10 shrinks the weights to 0.01 of their size" in finding.message
    assert "It makes 50 times as much of the first update as the gradient does" in finding.message
    assert finding.fixes[0].startswith("Set weight_decay=0.0001 in place of 10, or use AdamW")


def test_it_fails_a_decay_that_outweighs_the_gradient_before_the_weights_have_shrunk():
    (finding,) = apply(weight_decay_dominates, STUCK, strong(shrinkage=0.75, shares=(4.0,)))
    assert finding.severity is None


def test_it_passes_weights_that_keep_their_size_where_the_gradient_outweighs_decay():
    assert apply(weight_decay_dominates, STUCK, strong(shrinkage=0.75, shares=(0.4,))) == ()


LEARNS = training(losses=falling(end=1.0))


def test_it_warns_of_a_run_that_learns_and_would_get_much_further_without():
    (finding,) = apply(weight_decay_dominates, LEARNS, strong())
    assert finding.severity == "warning"
    assert "of their size, and the loss goes from 2.3" in finding.message


@pytest.mark.parametrize("changes", [{"decay": 0.1}, {"shrinkage": 0.75}, {"shares": (0.4,)}])
def test_it_passes_a_run_that_learns_under_a_decay_that_does_not_rule_it(changes):
    assert apply(weight_decay_dominates, LEARNS, strong(**changes)) == ()


def test_it_skips_a_run_that_learns_and_gets_little_further_without():
    with pytest.raises(Skip, match="without it the run is not clearly better"):
        apply(weight_decay_dominates, LEARNS, strong(free_losses=falling(end=0.7)))


def test_it_passes_a_usual_decay_also_in_a_run_that_does_not_learn():
    assert apply(weight_decay_dominates, STUCK, weight_decay()) == ()


@pytest.mark.parametrize(
    ("run", "changes", "reason"),
    [
        (STUCK, {"free_losses": ()}, "was not tried"),
        (STUCK, {"free_losses": flat()}, "without it the run is not clearly better"),
        (STUCK, {"shrinkage": None}, "no decayed weight was recorded"),
    ],
    ids=["not tried", "as bad without", "nothing recorded"],
)
def test_it_skips_without_proof(run, changes, reason):
    with pytest.raises(Skip, match=reason):
        apply(weight_decay_dominates, run, strong(**changes))


def test_it_only_warns_of_a_run_that_learns_in_more_steps():
    (finding,) = apply(weight_decay_dominates, STUCK, strong(), learning_rate_response({1.0: 0.5}))
    assert finding.severity == "warning"


def test_it_compares_a_longer_run_with_one_of_the_users_that_was_as_long():
    free = strong(free_losses=falling(end=0.9 * STUCK.last_loss, steps=120))
    response = learning_rate_response({1.0: 0.95 * STUCK.last_loss})
    with pytest.raises(Skip, match="not clearly better"):
        apply(weight_decay_dominates, STUCK, free, response)
    longer = strong(free_losses=falling(end=0.6 * STUCK.last_loss, steps=120))
    (finding,) = apply(weight_decay_dominates, STUCK, longer, learning_rate_response({1.0: STUCK.last_loss}))
    assert finding.message.endswith("in 120 steps.")


def test_it_does_not_pass_poisoned_facts():
    assert judge(weight_decay_dominates, STUCK, poisoned(strong())).status != "passed"
