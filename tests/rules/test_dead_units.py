from __future__ import annotations

import math

import pytest

from gradcheck_kit.rule import Skip
from gradcheck_kit.rules.dead_units import dead_units
from gradcheck_kit.testing import (
    activation,
    apply,
    falling,
    fit_attempt,
    flat,
    judge,
    learning_rate_response,
    one_batch_fit,
    poisoned,
    stack,
    training,
)


def run(*activations, **changes):
    """Four layers; the activations after them are the given ones."""
    return training(**{**stack([1e-3] * 4), "activations": activations, "optimizer_given": True, **changes})


def dead(name="1", share=0.9, *, start=0.0, **changes):
    own = {"order": int(name) if name.isdigit() else 1, "dead_share": share, "dead_share_at_start": start}
    return activation(name, **{**own, **changes})


def test_it_names_the_activation_with_share_and_limit():
    (finding,) = apply(dead_units, run(dead(), losses=flat()))
    assert finding.where == "1"
    assert (
        "90% of the 32 units of 1 are active in less than 1 % of 640 samples; up to 50% is healthy" in finding.message
    )
    assert finding.evidence == {"dead_share": 0.9, "limit": 0.5, "units": 32, "samples": 640}
    assert finding.severity is None


def test_it_names_the_worst_and_lists_the_others():
    (finding,) = apply(dead_units, run(dead("1", 0.8), dead("3", 0.95), dead("5", 0.1), losses=flat()))
    assert finding.where == "3"
    assert "The same in 1." in finding.message
    assert [(bar.place, bar.value) for bar in finding.profile] == [("1", 0.8), ("3", 0.95), ("5", 0.1)]


def test_it_warns_when_the_loss_falls_all_the_same():
    (finding,) = apply(dead_units, run(dead()))
    assert finding.severity == "warning"
    assert finding.message.endswith("the loss falls all the same.")


def test_it_initialises_the_layer_before_units_that_were_born_dead():
    (finding,) = apply(dead_units, run(dead("3", start=0.9), losses=flat()))
    assert "They were dead before the first update" in finding.message
    assert finding.fixes[0].startswith("Initialise 2 with nn.init.kaiming_normal_")


def test_it_lowers_the_learning_rate_that_killed_them():
    (finding,) = apply(dead_units, run(dead(), losses=flat()))
    assert "They died during training" in finding.message
    assert finding.fixes[0].startswith("Lower the learning rate (now 0.1; try 0.01)")


def test_it_names_the_users_activations_and_layers_in_its_other_fixes():
    (finding,) = apply(dead_units, run(dead(), dead("3")))
    assert finding.fixes[1].startswith("Or use LeakyReLU or GELU in 1 and 3")
    assert finding.fixes[2] == "Or put BatchNorm between 0 and 2 and the activation."


def test_it_proposes_no_norm_to_a_model_that_has_some():
    (finding,) = apply(dead_units, run(dead(), norm_layers=1))
    assert not any("BatchNorm" in fix for fix in finding.fixes)


def test_it_judges_a_function_before_the_last_layer():
    """No module stands between them, so its place in the order is that of the layer after it."""
    called = dead("relu in forward (model.py:9)", function="relu", module="", order=6)
    (finding,) = apply(dead_units, run(called))
    assert finding.where == "relu in forward (model.py:9)"


# ---- silence ----


@pytest.mark.parametrize("changes", [{"activations": (dead(share=0.8),)}, {"losses": falling(end=0.05)}])
def test_it_skips_a_run_that_learns_with_the_units_that_are_left(changes):
    with pytest.raises(Skip, match="the run learns with the units that are left"):
        apply(dead_units, run(**{"losses": falling(), "activations": (dead(),), **changes}))


def test_it_skips_a_run_that_learns_when_it_is_given_more_steps():
    patient = learning_rate_response({0.1: 2.3, 1.0: 0.5})
    with pytest.raises(Skip, match="at the same learning rate it does"):
        apply(dead_units, run(dead(), losses=flat()), patient)


def test_it_skips_units_dead_from_the_start_where_one_batch_is_learned_by_heart():
    born_dead = run(dead(start=0.9), losses=flat())
    with pytest.raises(Skip, match="one batch is learned by heart"):
        apply(dead_units, born_dead, one_batch_fit())
    assert apply(dead_units, run(dead(), losses=flat()), one_batch_fit()) != ()
    unfitted = one_batch_fit(attempts=(fit_attempt(losses=flat(steps=200), accuracy=0.1),))
    assert apply(dead_units, born_dead, unfitted) != ()


def test_it_passes_healthy_units():
    assert apply(dead_units, run(dead(share=0.0), dead("3", share=0.5))) == ()


def test_it_skips_what_too_few_samples_tell():
    with pytest.raises(Skip, match="only 32 samples were seen; 64 are needed"):
        apply(dead_units, run(dead(samples=32)))


def test_it_judges_only_the_activations_that_saw_enough():
    (finding,) = apply(dead_units, run(dead(samples=32, share=1.0), dead("3")))
    assert finding.where == "3"


def test_it_passes_three_dead_units_of_four():
    assert apply(dead_units, run(dead(units=4, share=0.75))) == ()


def test_it_finds_four_dead_units_of_four():
    (finding,) = apply(dead_units, run(dead(units=4, share=1.0)))
    assert "100% of the 4 units" in finding.message


def test_it_skips_activations_that_cannot_die():
    with pytest.raises(Skip, match="no hidden activation ran that has units which can die"):
        apply(dead_units, run(activation("1", "gelu", dead_share=None), activation("3", "tanh")))


def test_it_does_not_blame_the_model_for_what_the_probes_own_learning_rate_killed():
    assert apply(dead_units, run(dead(), optimizer_given=False)) == ()
    assert apply(dead_units, run(dead(start=0.9), optimizer_given=False))


def test_it_leaves_the_models_output_alone():
    assert apply(dead_units, run(dead(share=0.0), dead("7", share=1.0, is_output=True))) == ()


# ---- NaN and options ----


def test_it_finds_a_share_that_is_nan():
    (finding,) = apply(dead_units, run(dead(share=math.nan)))
    assert finding.where == "1"
    assert apply(dead_units, poisoned(run(dead())))


def test_it_does_not_pass_shares_that_are_nan_under_the_probes_own_learning_rate():
    assert judge(dead_units, poisoned(run(dead(), optimizer_given=False))).status != "passed"


def test_it_takes_the_limit_as_an_option():
    assert apply(dead_units, run(dead()), share=0.95) == ()
    (finding,) = apply(dead_units, run(dead(share=0.5), losses=flat()), share=0.1)
    assert "up to 10% is healthy" in finding.message
