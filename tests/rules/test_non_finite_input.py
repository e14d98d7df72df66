from __future__ import annotations

import math

import pytest

from gradcheck_kit.rule import Skip
from gradcheck_kit.rules.non_finite import non_finite as gk106
from gradcheck_kit.rules.non_finite_input import non_finite_input
from gradcheck_kit.testing import apply, bad_values, data_summary, judge, non_finite, poisoned, training


def broken(kind="input", step=1, **changes):
    """A run whose loss is NaN from `step` on because of what the data holds there."""
    origin = non_finite(kind=kind, where="", module_type="", step=step)
    return training(**{"losses": (*(2.3,) * step, math.nan), "non_finite": origin, **changes})


def holding(*bad, **changes):
    return data_summary(bad_values=bad or (bad_values(),), **changes)


def test_it_names_tensor_count_feature_batch_and_sample():
    (finding,) = apply(non_finite_input, holding(), broken())
    assert finding.where == "input"
    assert finding.message == (
        "The input is NaN in 5 elements of 5 of 2,048 samples, in feature 3, first in batch 1, sample 17."
    )
    assert "x[..., 3]" in finding.fixes[0]
    assert finding.severity is None


def test_it_says_infinite_and_target_where_it_is_so():
    bad = bad_values("target", value="inf", elements=1, samples=1, axis="", features=())
    (finding,) = apply(non_finite_input, holding(bad), broken("target"))
    assert finding.message == (
        "The target is infinite in 1 element of 1 of 2,048 samples, first in batch 1, sample 17."
    )
    assert "torch.isfinite(y)" in finding.fixes[1]


def test_it_takes_the_tensor_at_which_the_run_broke():
    bad = (bad_values("input"), bad_values("target 1"))
    (finding,) = apply(non_finite_input, holding(*bad), broken("target"))
    assert finding.where == "target 1"


def test_it_lists_the_worst_features_of_many():
    bad = bad_values(axis="channel", features=tuple((i, 9 - i) for i in range(8)))
    (finding,) = apply(non_finite_input, holding(bad), broken())
    assert ", in channels 0, 1, 2, 3, 4, ...," in finding.message


def test_it_finds_a_batch_that_lies_beyond_the_ones_that_were_counted():
    (finding,) = apply(non_finite_input, data_summary(), broken(step=40))
    assert finding.message == "The input of batch 40 holds NaN values; the first 32 batches hold none."


def test_it_explains_the_loss_that_is_not_finite():
    assert gk106.code in non_finite_input.explains


def test_it_only_warns_where_nothing_was_trained():
    (finding,) = apply(non_finite_input, holding())
    assert finding.severity == "warning"


def test_it_skips_values_that_the_loss_leaves_out():
    with pytest.raises(Skip, match="they are left out"):
        apply(non_finite_input, holding(), training())


def test_it_skips_a_run_that_outlived_such_a_batch_before():
    with pytest.raises(Skip, match="batch 1 holds such values too, and its loss was finite"):
        apply(non_finite_input, holding(), broken(step=9))


def test_it_skips_a_run_that_broke_elsewhere():
    with pytest.raises(Skip, match="did not begin in the data"):
        apply(non_finite_input, holding(), training(losses=(2.3, math.nan), non_finite=non_finite()))


def test_it_skips_made_up_data():
    with pytest.raises(Skip, match="made up"):
        apply(non_finite_input, holding(synthetic=True), broken())


def test_it_passes_finite_data():
    assert apply(non_finite_input, data_summary(), training()) == ()


def test_it_does_not_pass_numbers_that_are_all_nan():
    assert judge(non_finite_input, poisoned(data_summary()), poisoned(training())).status != "passed"
