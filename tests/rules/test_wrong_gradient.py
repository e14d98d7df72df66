from __future__ import annotations

import math

import pytest

from gradcheck_kit.rule import Skip
from gradcheck_kit.rules.wrong_gradient import wrong_gradient
from gradcheck_kit.testing import apply, function_check, gradient_check, judge, poisoned


def wrong(loss_error=0.17, **changes):
    return gradient_check(
        loss_error=loss_error, functions=(function_check(**{"relative_error": 0.29, "factor": None, **changes}),)
    )


def test_it_names_the_function_the_module_and_the_argument():
    (finding,) = apply(wrong_gradient, wrong())
    assert finding.where == "1"
    assert finding.message == (
        "Swish, run in 1 (Act), model.py:31, has a wrong backward: for x it differs from central differences of the "
        "forward by 0.29 (relative error; limit 0.01, right is below 1e-04). The gradient of the loss is off by 0.17."
    )
    assert finding.evidence["relative_error"] == 0.29
    assert finding.severity is None


@pytest.mark.parametrize(
    ("module", "kind", "where"),
    [("", "Net", "the model's forward"), ("loss", "", "the loss"), ("loss", "Net", "loss (Net)")],
)
def test_it_says_where_it_ran(module, kind, where):
    (finding,) = apply(wrong_gradient, wrong(module=module, module_type=kind))
    assert finding.message.startswith(f"Swish, run in {where}, model.py:31, has")


@pytest.mark.parametrize(
    ("changes", "fix"),
    [
        ({}, "Correct what Swish.backward returns for x"),
        ({"factor": -1.0}, "Change the sign of what Swish.backward returns for x."),
        ({"factor": 0.5}, "Divide what Swish.backward returns for x by 0.5"),
        ({"ignores_upstream": True}, "Multiply what Swish.backward returns by its grad_output"),
    ],
)
def test_it_says_what_to_change(changes, fix):
    (finding,) = apply(wrong_gradient, wrong(**changes))
    assert finding.fixes[0].startswith(fix)
    assert "torch.autograd.gradcheck(Swish.apply, inputs)" in finding.fixes[1]


def test_it_finds_it_also_where_the_loss_could_not_be_compared():
    (finding,) = apply(wrong_gradient, wrong(loss_error=None))
    assert "The gradient of the loss" not in finding.message


def test_it_finds_the_wrong_one_among_right_ones():
    functions = (function_check("Right"), function_check("Wrong", relative_error=1.0), function_check("Too"))
    (finding,) = apply(wrong_gradient, gradient_check(functions=functions))
    assert finding.message.startswith("Wrong,")


def test_it_finds_an_error_that_is_nan():
    assert judge(wrong_gradient, wrong(relative_error=math.nan)).status == "failed"
    assert judge(wrong_gradient, poisoned(gradient_check())).status == "failed"


# ---- silence ----


def test_it_passes_a_right_backward():
    assert apply(wrong_gradient, gradient_check()) == ()


def test_it_passes_an_error_that_the_gradient_of_the_loss_does_not_show():
    assert apply(wrong_gradient, wrong(loss_error=1e-8)) == ()


def test_it_passes_a_loss_that_ignores_its_upstream_gradient():
    assert apply(wrong_gradient, wrong(loss_error=None, ignores_upstream=True)) == ()


def test_it_skips_an_error_between_right_and_wrong():
    with pytest.raises(Skip, match="it cannot be told"):
        apply(wrong_gradient, wrong(relative_error=3e-3))


def test_it_skips_functions_that_were_left_out_and_says_why():
    left_out = function_check("Round", relative_error=None, left_out="its forward is flat")
    with pytest.raises(Skip, match="Round: its forward is flat"):
        apply(wrong_gradient, gradient_check(functions=(left_out,)))


def test_it_skips_what_the_experiment_could_not_look_at():
    assert judge(wrong_gradient).status == "skipped"
