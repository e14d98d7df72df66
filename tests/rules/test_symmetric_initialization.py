from __future__ import annotations

import math

import pytest

from gradcheck_kit.facts import EqualLayers
from gradcheck_kit.rules.symmetric_initialization import symmetric_initialization
from gradcheck_kit.testing import apply, equal_units, flat, judge, poisoned, symmetry, training

COPIES = equal_units(zero=False, spread=1e-7)
STUCK = equal_units("2", spread=None, gradient_zero=True)
ALIKE = equal_units(zero=False, biases_equal=False, spread=0.24)


def said(*equal, run=None, **options):
    facts = [symmetry(*equal)] + ([] if run is None else [run])
    (finding,) = apply(symmetric_initialization, *facts, **options)
    return finding


def test_it_proves_copies_by_what_they_moved():
    finding = said(COPIES, equal_units("2", zero=False, spread=0.0))
    assert finding.where == "0"
    assert finding.message == (
        "All 32 units of 0 (and of 2) start with the same weights and after 5 steps of training they still differ by "
        "1e-07 of what they moved; up to 0.001 is rounding. They get the same gradient, so the layer stays one unit."
    )
    assert finding.evidence == {"units": 32, "spread": 1e-7, "limit": 1e-3, "layers": ["0", "2"]}
    assert finding.fixes[0].startswith("Initialise 0 and 2 at random")
    assert finding.severity is None


def test_it_advises_to_draw_a_matrix_of_the_users_own_where_there_is_no_default_to_keep():
    finding = said(equal_units("l1.w_self", layer_type="Sage", zero=False, spread=0.0, bare=True))
    assert finding.where == "l1.w_self"
    assert finding.fixes == (
        "Initialise l1.w_self at random: for example with nn.init.xavier_uniform_, which takes a matrix either way "
        "round.",
    )


def test_it_finds_zeros_that_no_gradient_reaches_in_a_run_that_does_not_learn():
    finding = said(STUCK, run=training(losses=flat()))
    assert finding.where == "2"
    assert "their gradient is exactly 0 in each of 5 steps" in finding.message
    assert finding.severity is None


def test_it_warns_where_only_biases_tell_units_apart_and_fails_that_with_harm():
    assert said(ALIKE).severity == "warning"
    assert said(ALIKE, run=training()).severity == "warning"
    finding = said(ALIKE, run=training(losses=flat()))
    assert finding.severity is None
    assert "they differ by 24% of the movement, and the loss did not fall" in finding.message


def test_it_names_the_surest_first():
    assert "is rounding" in said(ALIKE, STUCK, COPIES, run=training(losses=flat())).message


@pytest.mark.parametrize(
    "one",
    [
        equal_units(),
        equal_units(zero=False, spread=0.9),
        equal_units(zero=False, spread=0.0, hidden=False),  # an output layer: its classes may not have come up
        equal_units(zero=True, biases_equal=False, spread=0.2),
        equal_units(zero=False, spread=None),
        STUCK,  # a run that learns goes around it
    ],
)
def test_it_passes_layers_that_come_apart_or_need_not(one):
    assert apply(symmetric_initialization, symmetry(one), training()) == ()


def copied(spread):
    return symmetry(copies=(EqualLayers(("experts.0", "experts.1"), "Linear", spread),), steps=5)


def test_it_names_layers_that_are_copies_and_stay_copies():
    (finding,) = apply(symmetric_initialization, copied(1e-8))
    assert finding.message == (
        "experts.0 and experts.1 start with the same weights and after 5 steps of training they still differ by 1e-08 "
        "of what they moved; up to 0.001 is rounding. They get the same gradient, so 2 layers stay one."
    )
    assert finding.places == ("experts.0", "experts.1")


@pytest.mark.parametrize("spread", [None, 0.9])
def test_it_passes_copies_that_come_apart_or_rest(spread):
    assert apply(symmetric_initialization, copied(spread)) == ()


def test_it_passes_a_model_without_equal_units():
    assert judge(symmetric_initialization, symmetry()).status == "passed"


def test_it_takes_the_limit_as_an_option():
    assert said(equal_units(spread=0.01), spread=0.05)
    assert apply(symmetric_initialization, symmetry(equal_units(spread=0.01))) == ()


def test_it_does_not_pass_a_movement_that_is_nan():
    assert said(equal_units(zero=False, spread=math.nan))
    assert judge(symmetric_initialization, poisoned(symmetry(COPIES))).status == "failed"
