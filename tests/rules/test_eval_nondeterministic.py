from __future__ import annotations

import math

import pytest

from gradcheck_kit.facts import RandomOperation
from gradcheck_kit.rule import Skip
from gradcheck_kit.rules.eval_nondeterministic import eval_nondeterministic
from gradcheck_kit.testing import apply, evaluation, judge


def drawing(operation="dropout", module="encoder", source="model.py:31", *, by_design=False):
    return RandomOperation(operation, module, source, by_design)


def differing(*operations, **changes):
    own = {"deterministic": False, "largest_difference": 0.37, "random_operations": operations}
    return evaluation(**{**own, **changes})


def test_it_names_the_random_function_and_its_line():
    (finding,) = apply(eval_nondeterministic, differing(drawing()))
    assert finding.where == "encoder"
    assert finding.message == (
        "Two evaluations of the same batch in eval mode differ by up to 0.37: dropout in encoder (model.py:31) draws "
        "random numbers."
    )
    assert finding.evidence["difference"] == 0.37
    assert finding.evidence["limit"] == 0.0
    assert finding.severity is None


@pytest.mark.parametrize(
    ("operation", "fix"),
    [
        ("dropout", "Pass training=self.training to dropout in encoder (model.py:31)"),
        ("feature_alpha_dropout", "Pass training=self.training to feature_alpha_dropout in encoder"),
        ("scaled_dot_product_attention", "Pass dropout_p=p if self.training else 0.0 to scaled_dot_product_attention"),
        ("bernoulli", "If bernoulli in encoder (model.py:31) is augmentation"),
    ],
)
def test_it_says_how_to_tell_the_function_the_mode(operation, fix):
    (finding,) = apply(eval_nondeterministic, differing(drawing(operation)))
    assert finding.fixes[0].startswith(fix)
    assert finding.severity is None


def test_it_warns_of_other_random_numbers():
    (finding,) = apply(eval_nondeterministic, differing(drawing("rand", "", "")))
    assert finding.severity == "warning"
    assert finding.where == "forward"
    assert "rand in the model's forward draws random numbers" in finding.message


def test_it_blames_the_dropout_where_there_are_other_random_numbers_too():
    (finding,) = apply(eval_nondeterministic, differing(drawing("randperm"), drawing()))
    assert "randperm" not in finding.message
    assert finding.severity is None


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"parted_at": "cache", "parted_type": "Memory", "parted_itself": True}, "They part in cache (Memory)."),
        ({"parted_at": "head", "parted_type": "Linear"}, "They part before head (Linear)."),
        ({"parted_at": ""}, "They part in the model's own forward."),
    ],
)
def test_it_names_the_place_where_nothing_random_was_seen(changes, place):
    (finding,) = apply(eval_nondeterministic, differing(**changes))
    assert finding.message.endswith(place)
    assert finding.where == changes["parted_at"] or finding.where == "forward"
    assert finding.fixes[0].startswith(f"Look in {changes['parted_at'] or 'the model'}")
    assert finding.severity is None


# ---- silence ----


def test_it_passes_equal_evaluations():
    assert apply(eval_nondeterministic, evaluation()) == ()


def test_it_skips_a_model_that_samples_by_design():
    with pytest.raises(Skip, match="as it is meant to"):
        apply(eval_nondeterministic, differing(drawing("randn_like", by_design=True)))


def test_it_finds_dropout_also_in_a_model_that_samples_by_design():
    (finding,) = apply(eval_nondeterministic, differing(drawing("randn_like", by_design=True), drawing()))
    assert "randn_like" not in finding.message


def test_it_skips_an_output_without_tensors():
    with pytest.raises(Skip, match="no tensor to compare"):
        apply(eval_nondeterministic, evaluation(deterministic=None))


def test_it_finds_a_difference_that_is_nan():
    outcome = judge(eval_nondeterministic, differing(drawing(), largest_difference=math.nan))
    assert outcome.status == "failed"


def test_it_asks_what_sets_a_module_back_to_training_mode():
    operation = RandomOperation("dropout", "enc.drop", "model.py:57", by_design=False, in_training_mode=True)
    (finding,) = apply(eval_nondeterministic, evaluation(deterministic=False, random_operations=(operation,)))
    assert finding.fixes[0].startswith("Leave enc.drop in evaluation mode: something sets it back to training mode")
    assert not any("training=self.training" in fix for fix in finding.fixes)
