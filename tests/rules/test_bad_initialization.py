from __future__ import annotations

import pytest

from gradcheck_kit.rule import Skip
from gradcheck_kit.rules.bad_initialization import bad_initialization
from gradcheck_kit.testing import (
    apply,
    falling,
    flat,
    initial_weight,
    initialization,
    judge,
    learning_rate_response,
    poisoned,
    training,
)

STUCK = training(losses=flat(), optimizer_given=True)


def large(**changes):
    """Two layers whose weights are ten times too large, and the run from usual ones, which learns."""
    layers = initial_weight("0", std=2.0), initial_weight("2", std=2.0)
    twin = {"gradient_ratio": 1e3, "twin_losses": falling(end=0.3), "twin_gradient_ratio": 1.0}
    return initialization(*layers, **{**twin, **changes})


def test_it_fails_large_weights_where_usual_ones_learn():
    outcome = judge(bad_initialization, large(), STUCK)
    assert outcome.status == "failed"
    (finding,) = outcome.findings
    assert finding.where == "0"
    assert "start with a root mean square of 2, where usual initialisers give at most 0.21" in finding.message
    assert "the same run goes from 2.35 to 0.386" in finding.message
    assert finding.fixes[0].startswith("Initialise 0 and 2 with nn.init.kaiming_normal_(weight")


def test_it_fails_layers_of_usual_size_that_multiply_to_next_to_nothing():
    layers = [initial_weight(str(i), std=0.08) for i in range(0, 20, 2)]
    facts = initialization(*layers, gradient_ratio=1e-4, twin_losses=falling(end=0.3), twin_gradient_ratio=1.0)
    (finding,) = apply(bad_initialization, facts, STUCK)
    assert "within a factor of 100 is healthy" in finding.message


def test_it_names_the_scale_of_a_matrix_of_the_users_own():
    own = initial_weight("0", std=1.0, initializer="torch.randn(64, 64) * 0.18")
    (finding,) = apply(bad_initialization, large(weights=(own,)), STUCK)
    assert finding.fixes[0].startswith("Start 0.weight from torch.randn(64, 64) * 0.18")


def test_it_only_warns_of_a_run_that_learns():
    slow = training(losses=falling(end=1.2), optimizer_given=True)
    (finding,) = apply(bad_initialization, large(), slow)
    assert finding.severity == "warning"


WRONG = training(losses=falling(start=9.0, end=1.5), optimizer_given=True)


def test_it_warns_of_a_confidently_wrong_start_that_others_are_ahead_of_all_along():
    (finding,) = apply(bad_initialization, large(twin_losses=falling(end=1.2)), WRONG)
    assert finding.severity == "warning"
    assert "and the loss went from 9.18 to 1.77. With only these" in finding.message


@pytest.mark.parametrize(
    ("twin", "run"),
    [
        (falling(start=9.0, end=1.45), WRONG),
        (falling(end=1.2), training(losses=falling(start=4.0, end=1.5), optimizer_given=True)),
    ],
    ids=["not a tenth lower in the end", "not confidently wrong"],
)
def test_it_skips_a_start_that_others_are_not_clearly_ahead_of(twin, run):
    with pytest.raises(Skip, match="is not clearly better"):
        apply(bad_initialization, large(twin_losses=twin), run)


def test_it_passes_usual_sizes_also_in_a_run_that_does_not_learn():
    assert apply(bad_initialization, initialization(), STUCK) == ()


def test_it_passes_sizes_that_a_norm_absorbs():
    layers = [initial_weight(str(i), std=0.08) for i in range(0, 20, 2)]
    assert apply(bad_initialization, initialization(*layers, norm_layers=9, gradient_ratio=1e-4), STUCK) == ()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"twin_losses": ()}, "whether others help was not tried"),
        ({"twin_losses": flat()}, "is not clearly better"),
        ({"twin_gradient_ratio": 1e-6}, "is not clearly better"),
    ],
    ids=["not tried", "no better", "the activation vanishes"],
)
def test_it_skips_without_proof(changes, reason):
    with pytest.raises(Skip, match=reason):
        apply(bad_initialization, large(**changes), STUCK)


def test_it_skips_a_run_that_only_needs_more_steps():
    with pytest.raises(Skip, match="in 20 steps from the same weights it does"):
        apply(bad_initialization, large(), STUCK, learning_rate_response({1.0: 0.5}))


def test_it_does_not_pass_poisoned_facts():
    assert judge(bad_initialization, poisoned(large()), STUCK).status != "passed"
