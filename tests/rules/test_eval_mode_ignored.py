from __future__ import annotations

import pytest

from gradcheck_kit.rule import Skip
from gradcheck_kit.rules.eval_mode_ignored import eval_mode_ignored
from gradcheck_kit.testing import apply, eval_mode, mode_holder


def norm(name="2", **changes):
    return mode_holder(name, type="BatchNorm1d", own_statistics=True, **changes)


def test_it_names_modules_that_the_model_does_not_register():
    drops = [mode_holder(f"drops[{i}]", registered=False) for i in range(2)]
    (finding,) = apply(eval_mode_ignored, eval_mode(*drops, differing=0))
    assert finding.where == "drops[0]"
    assert finding.message == (
        "2 of 2 modules that heed the mode are in training mode after model.eval(): drops[0] (Dropout) and drops[1] "
        "(Dropout), which the model does not register: model.eval() does not reach them."
    )
    assert finding.fixes[0].startswith("Assign drops[0] and drops[1] to an attribute")


def test_it_says_where_a_module_is_made_anew():
    made = mode_holder("a Dropout made in block.forward", registered=False)
    (finding,) = apply(eval_mode_ignored, eval_mode(made))
    assert "a Dropout made in block.forward, which the model" in finding.message
    assert finding.fixes[0].startswith("Make the module once in __init__")


def test_it_finds_a_model_that_does_not_switch():
    (finding,) = apply(
        eval_mode_ignored, eval_mode(mode_holder(overridden=True), norm(overridden=True), model_left=True)
    )
    assert finding.message.startswith("2 of 2 modules that heed the mode are in training mode after model.eval()")
    assert finding.message.endswith("as is the model itself: its own train() or eval() does not switch it.")
    assert finding.severity is None


def test_it_finds_a_forward_that_switches_back():
    (finding,) = apply(eval_mode_ignored, eval_mode(mode_holder(by_forward=True), model_left_after_forward=True))
    assert finding.message.endswith("1 (Dropout), because the model's forward switches back to it.")
    assert finding.severity is None


def test_it_warns_of_a_batchnorm_that_is_kept_in_training_mode():
    (finding,) = apply(eval_mode_ignored, eval_mode(norm(overridden=True)))
    assert finding.severity == "warning"
    assert "by a train() or eval() of the model's own" in finding.message


@pytest.mark.parametrize("how", ["overridden", "by_forward"])
def test_it_skips_monte_carlo_dropout(how):
    with pytest.raises(Skip, match="Monte Carlo"):
        apply(eval_mode_ignored, eval_mode(mode_holder(**{how: True})))


def test_it_skips_a_model_without_any_such_module():
    with pytest.raises(Skip, match="no module computes something else"):
        apply(eval_mode_ignored, eval_mode(differing=0))


def test_it_passes_modules_that_heed_the_mode():
    assert apply(eval_mode_ignored, eval_mode()) == ()
