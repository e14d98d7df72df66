from __future__ import annotations

import math

import pytest

from gradcheck_kit.rule import Skip
from gradcheck_kit.rules.saturated_activation import saturated_activation
from gradcheck_kit.testing import activation, apply, flat, poisoned, stack, training


def run(*activations, **changes):
    return training(**{**stack([1e-3] * 4), "activations": activations, **changes})


def flat_ends(name="1", share=0.9, *, start=0.9, function="sigmoid", **changes):
    own = {"order": int(name) if name.isdigit() else 1, "saturated_share": share, "saturated_share_at_start": start}
    return activation(name, function, **{**own, **changes})


def test_it_names_the_activation_with_share_and_limit():
    (finding,) = apply(saturated_activation, run(flat_ends(), losses=flat()))
    assert finding.where == "1"
    assert "90% of the values of 1 are where sigmoid is flat; up to 50% is healthy" in finding.message
    assert finding.evidence == {"saturated_share": 0.9, "at_start": 0.9, "limit": 0.5}
    assert finding.severity is None


def test_it_names_the_worst_and_lists_the_others():
    (finding,) = apply(saturated_activation, run(flat_ends("1", 0.8), flat_ends("3", 0.95), flat_ends("5", 0.1)))
    assert finding.where == "3"
    assert "The same in 1." in finding.message
    assert [bar.place for bar in finding.profile] == ["1", "3", "5"]


def test_it_warns_of_what_starts_saturated_when_the_loss_falls():
    (finding,) = apply(saturated_activation, run(flat_ends()))
    assert finding.severity == "warning"
    assert "Before the first update it was 90%" in finding.message


@pytest.mark.parametrize(("function", "gain"), [("tanh", "'tanh'"), ("sigmoid", "'sigmoid'")])
def test_it_initialises_the_layers_before_it(function, gain):
    (finding,) = apply(saturated_activation, run(flat_ends("3", function=function)))
    assert finding.fixes[0].startswith("Initialise 0 and 2 with nn.init.xavier_normal_")
    assert f"calculate_gain({gain})" in finding.fixes[0]


def test_it_normalises_the_inputs_of_the_first_layer():
    (finding,) = apply(saturated_activation, run(flat_ends()))
    assert finding.fixes[0].startswith("Normalise the inputs")
    assert "what reaches 0 is too large" in finding.fixes[0]


def test_it_lowers_the_learning_rate_that_saturated_it():
    (finding,) = apply(saturated_activation, run(flat_ends(start=0.1), losses=flat()))
    assert "It came so during training" in finding.message
    assert finding.fixes[0] == "Lower the learning rate (now 0.1; try 0.01)."


def test_it_names_the_users_activations_in_its_other_fixes():
    (finding,) = apply(saturated_activation, run(flat_ends(), flat_ends("3")))
    assert "Or put BatchNorm or LayerNorm before 1 and 3." in finding.fixes
    assert "Or use ReLU or GELU in 1 and 3." in finding.fixes


def test_it_judges_a_function_before_the_last_layer():
    """No module stands between them, so its place in the order is that of the layer after it."""
    called = flat_ends("tanh in forward (model.py:9)", function="tanh", module="", order=6)
    (finding,) = apply(saturated_activation, run(called))
    assert finding.where == "tanh in forward (model.py:9)"


# ---- silence ----


def test_it_passes_activations_in_their_steep_part():
    assert apply(saturated_activation, run(flat_ends(share=0.2, start=0.2), flat_ends("3", share=0.5))) == ()


def test_it_passes_units_that_decide_themselves_while_the_model_learns():
    assert apply(saturated_activation, run(flat_ends(start=0.1))) == ()


def test_it_lets_the_models_output_saturate():
    output = flat_ends("7", 1.0, start=1.0, is_output=True)
    assert apply(saturated_activation, run(flat_ends(share=0.1), output, losses=flat())) == ()
    with pytest.raises(Skip, match="no hidden activation with flat ends"):
        apply(saturated_activation, run(output, losses=flat()))


def test_it_skips_activations_without_flat_ends():
    with pytest.raises(Skip, match="no hidden activation with flat ends"):
        apply(saturated_activation, run(activation("1", "relu")))


# ---- NaN and options ----


def test_it_finds_a_share_that_is_nan():
    (finding,) = apply(saturated_activation, run(flat_ends(share=math.nan, start=math.nan)))
    assert finding.where == "1"
    assert apply(saturated_activation, poisoned(run(flat_ends())))


def test_it_takes_the_limit_as_an_option():
    assert apply(saturated_activation, run(flat_ends(), losses=flat()), share=0.95) == ()
    (finding,) = apply(saturated_activation, run(flat_ends(share=0.3), losses=flat()), share=0.2)
    assert "up to 20% is healthy" in finding.message
