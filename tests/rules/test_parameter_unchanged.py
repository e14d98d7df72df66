from __future__ import annotations

import pytest

from gradcheck_kit.rule import Skip
from gradcheck_kit.rules.parameter_unchanged import parameter_unchanged
from gradcheck_kit.testing import RECORDED, apply, parameter, poisoned, training


def run(*parameters, **changes):
    return training(parameters=(parameter("body.weight"), *parameters), **changes)


def still(name="head.weight", **changes):
    return parameter(name, **{"update_rms": 0.0, "changed": False, **changes})


def test_it_names_the_layer_that_no_step_changed():
    (finding,) = apply(parameter_unchanged, run(still()))
    assert finding.where == "head"
    assert finding.message.startswith("head: parameter head.weight got gradients")
    assert "did not change by one bit in 60 steps" in finding.message
    assert finding.evidence["parameters"] == ["head.weight"]
    assert finding.severity is None


def test_it_lists_all_of_them_in_one_finding():
    (finding,) = apply(parameter_unchanged, run(still(), still("head.bias"), still("neck.weight")))
    assert finding.message.startswith("head and neck: 2 parameters got gradients")


def test_it_passes_a_bias_that_rounding_keeps_where_the_run_learns():
    assert apply(parameter_unchanged, run(still("head.bias"))) == ()


def test_it_tells_a_learning_rate_of_zero():
    (finding,) = apply(parameter_unchanged, run(still(), learning_rates=(0.0,)))
    assert finding.message.endswith("the learning rate is 0.")
    assert finding.fixes == ("Set a learning rate above 0 for every parameter group of the optimizer.",)


def test_it_tells_a_group_whose_learning_rate_is_zero():
    (finding,) = apply(parameter_unchanged, run(still(), learning_rates=(0.1, 0.0)))
    assert finding.fixes[0].startswith("Set a learning rate above 0 for every parameter group")


def test_it_tells_updates_that_are_rounded_away():
    (finding,) = apply(parameter_unchanged, run(still()))
    assert "keep the weights in float32" in finding.fixes[0]


# ---- silence ----


def test_it_passes_a_run_that_moves_everything():
    assert apply(parameter_unchanged, training()) == ()


def test_it_passes_a_parameter_that_moved_by_one_bit():
    assert apply(parameter_unchanged, run(still(changed=True))) == ()


def test_it_passes_a_bias_before_batchnorm_whose_gradient_is_rounding_error():
    assert apply(parameter_unchanged, run(still("0.bias", gradient_rms=1e-9))) == ()


@pytest.mark.parametrize("gradient", [None, 0.0])
def test_it_passes_what_gets_no_gradient(gradient):
    assert apply(parameter_unchanged, run(still(gradient_rms=gradient))) == ()


@pytest.mark.parametrize("changes", [{"trainable": False}, {"optimized": False}])
def test_it_passes_what_nobody_wants_to_move(changes):
    assert apply(parameter_unchanged, run(still(**changes))) == ()


def test_it_passes_a_warm_up_that_starts_with_a_learning_rate_of_zero():
    warm = parameter("head.weight", update_rms=(0.0,) + (1e-4,) * (RECORDED - 1))
    assert apply(parameter_unchanged, run(warm)) == ()


# ---- NaN ----


def test_it_skips_what_was_not_looked_at():
    with pytest.raises(Skip, match="it is not known whether the parameters changed"):
        apply(parameter_unchanged, run(still(), parameter("neck.weight", changed=None)))


def test_it_skips_a_run_without_gradients():
    with pytest.raises(Skip, match="no parameter of an optimizer receives a gradient"):
        apply(parameter_unchanged, poisoned(training()))
