from __future__ import annotations

import pytest

from gradcheck_kit.rule import Skip
from gradcheck_kit.rules.not_optimized import not_optimized
from gradcheck_kit.testing import apply, wired_parameter, wiring


def forgetting(**changes):
    """The optimizer has the body and not the head, whose parameters are as given."""
    body = [wired_parameter(f"body.{own}") for own in ("weight", "bias")]
    head = [wired_parameter(f"head.{own}", **{"optimized": False, **changes}) for own in ("weight", "bias")]
    return wiring(parameters=(*body, *head))


def test_it_names_the_layer_that_no_optimizer_has():
    (finding,) = apply(not_optimized, forgetting())
    assert finding.where == "head"
    assert finding.message == (
        "2 of 4 parameters receive a gradient but are in no optimizer: those of head. The optimizer owns 2 of this "
        "model's."
    )
    assert finding.evidence["parameters"] == ["head.weight", "head.bias"]
    assert finding.severity is None


def test_it_names_a_parameter_of_the_model_itself():
    facts = wiring(parameters=(wired_parameter(), wired_parameter("scale", layer="", optimized=False)))
    (finding,) = apply(not_optimized, facts)
    assert finding.where == "scale"


def test_it_says_how_to_freeze_on_purpose():
    (finding,) = apply(not_optimized, forgetting())
    assert "model.parameters()" in finding.fixes[0]
    assert "requires_grad_(False)" in finding.fixes[1]
    assert "head" in finding.fixes[1]


def test_it_tells_an_optimizer_that_was_made_for_another_object():
    lost = tuple(wired_parameter(f"{i}.weight", optimized=False) for i in range(3))
    (finding,) = apply(not_optimized, wiring(parameters=lost, foreign_parameters=3))
    assert "It owns 3 parameters that are not this model's" in finding.message
    assert finding.evidence["foreign_parameters"] == 3
    assert not any("frozen" in fix for fix in finding.fixes)


def test_it_finds_a_forgotten_parameter_whose_gradient_is_nan():
    assert apply(not_optimized, forgetting(gradient="nonfinite"))


def test_it_passes_an_optimizer_that_has_everything():
    assert apply(not_optimized, wiring()) == ()


def test_it_passes_deliberately_frozen_layers():
    assert apply(not_optimized, forgetting(trainable=False, gradient="none")) == ()


@pytest.mark.parametrize("gradient", ["none", "zero"])
def test_it_leaves_what_gets_no_gradient_to_no_gradient(gradient):
    assert apply(not_optimized, forgetting(gradient=gradient)) == ()


def test_it_skips_a_target_whose_optimizer_the_probe_made():
    with pytest.raises(Skip, match="no optimizer was given"):
        apply(not_optimized, wiring(optimizer_given=False))


def test_it_names_a_parameter_of_the_loss():
    log_variances = wired_parameter("log_variances", layer="", optimized=False)
    (finding,) = apply(not_optimized, wiring(loss_parameters=(log_variances,)))
    assert finding.where == "loss"
    assert finding.message.startswith("loss.log_variances receives a gradient but is in no optimizer")
    assert "*loss_fn.parameters()" in finding.fixes[0]


def test_it_passes_a_loss_whose_parameters_the_optimizer_has():
    assert apply(not_optimized, wiring(loss_parameters=(wired_parameter("centers", layer=""),))) == ()
