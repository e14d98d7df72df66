from __future__ import annotations

import math
from dataclasses import replace

import pytest

from gradcheck_kit.rule import Skip
from gradcheck_kit.rules.vanishing_gradient import vanishing_gradient
from gradcheck_kit.testing import RECORDED, activation, apply, flat, poisoned, stack, training

SHRINKING = [1e-10, 1e-8, 1e-6, 1e-4, 1e-2]


def stuck(gradients=SHRINKING, function="relu", **changes):
    return training(**{"losses": flat(), **stack(gradients, function), **changes})


def retyped(facts, layer_type, weight_shape, output_shape):
    """The same run with layers of another kind."""
    return replace(
        facts,
        parameters=tuple(
            replace(p, layer_type=layer_type, shape=weight_shape) if p.is_weight else p for p in facts.parameters
        ),
        outputs=tuple(replace(o, shape=output_shape) for o in facts.outputs),
    )


def test_it_names_the_first_layers_with_ratio_and_limit():
    (finding,) = apply(vanishing_gradient, stuck())
    assert finding.where == "0"
    assert "at the first layers (0) is 1.0e-08 of that at the last (8); healthy is at least 1e-03" in finding.message
    assert finding.evidence["ratio"] == pytest.approx(1e-8)
    assert finding.evidence["limit"] == 1e-3
    assert finding.severity is None


def test_it_says_how_much_every_layer_takes():
    (finding,) = apply(vanishing_gradient, stuck())
    assert finding.evidence["shrinkage_per_layer"] == pytest.approx(100)
    assert "about 100.0x at every layer" in finding.message


def test_it_draws_the_gradient_over_depth():
    (finding,) = apply(vanishing_gradient, stuck())
    assert [bar.place for bar in finding.profile] == ["0", "2", "4", "6", "8"]
    assert [bar.value for bar in finding.profile] == pytest.approx([g * 32 for g in SHRINKING])


def test_it_says_why_the_run_is_harmed():
    (finding,) = apply(vanishing_gradient, stuck())
    assert finding.message.endswith("and the loss did not fall: 2.26 at the start, 2.3 at the end.")


def test_it_warns_when_the_loss_falls_all_the_same():
    (finding,) = apply(vanishing_gradient, training(**stack(SHRINKING)))
    assert finding.severity == "warning"
    assert finding.message.endswith("the loss falls all the same.")


# ---- fixes ----


def test_it_replaces_the_bounded_activations_by_name():
    (finding,) = apply(vanishing_gradient, stuck(function="sigmoid"))
    assert finding.fixes[0].startswith("Replace Sigmoid by ReLU in 1, 3, 5 and 7 and initialise the Linear layers")
    assert finding.fixes[1] == "Or put nn.BatchNorm1d(32) before each Sigmoid."
    assert "at every layer with its sigmoid" in finding.message


def test_it_initialises_the_layers_where_no_activation_is_to_blame():
    (finding,) = apply(vanishing_gradient, stuck())
    assert finding.fixes[0].startswith("Initialise the weights of 0, 2, 4, 6 and 8 with nn.init.kaiming_normal_")
    assert "around each of 2, 4 and 6" in finding.fixes[-1]


def test_it_leaves_an_output_sigmoid_alone():
    made = stack(SHRINKING)
    last = activation("9", "sigmoid", order=9, is_output=True)
    (finding,) = apply(vanishing_gradient, stuck(activations=(*made["activations"], last)))
    assert not any("Sigmoid" in fix for fix in finding.fixes)


def test_it_proposes_no_norm_to_a_model_that_has_some():
    (finding,) = apply(vanishing_gradient, stuck(norm_layers=2))
    assert not any("Norm" in fix for fix in finding.fixes)


@pytest.mark.parametrize(
    ("layer_type", "weight_shape", "output_shape", "norm"),
    [
        ("Conv2d", (16, 8, 3, 3), (64, 16, 8, 8), "nn.BatchNorm2d(16)"),
        ("Conv1d", (16, 8, 3), (64, 16, 8), "nn.BatchNorm1d(16)"),
        ("Linear", (16, 16), (64, 10, 16), "nn.LayerNorm(16)"),
        ("Linear", (16, 16), (64, 16), "nn.BatchNorm1d(16)"),
    ],
)
def test_it_proposes_the_norm_that_fits_the_layer(layer_type, weight_shape, output_shape, norm):
    (finding,) = apply(vanishing_gradient, retyped(stuck(), layer_type, weight_shape, output_shape))
    assert finding.fixes[1].startswith(f"Or put {norm} ")


# ---- silence ----


def test_it_passes_a_healthy_run():
    assert apply(vanishing_gradient, training()) == ()


def test_it_passes_a_squeezenet_whose_ratio_is_seven_thousandths():
    assert apply(vanishing_gradient, stuck([7e-6, 1e-4, 1e-3])) == ()


@pytest.mark.parametrize("first", [0.0, 1e-12])
def test_it_passes_a_zero_head_that_wakes_up_after_the_first_steps(first):
    below = (first, first) + (1e-3,) * (RECORDED - 2)
    assert apply(vanishing_gradient, training(**stack([below, below, 1e-3]))) == ()


def test_it_passes_frozen_first_layers():
    made = stack([None, None, 1e-3, 1e-3, 1e-3])
    frozen = tuple(replace(p, trainable=p.layer not in ("0", "2")) for p in made["parameters"])
    assert apply(vanishing_gradient, stuck(**{**made, "parameters": frozen})) == ()


@pytest.mark.parametrize("steady", ["parameters", "outputs"])
def test_it_counts_the_milder_of_the_two_profiles(steady):
    mixed = {**stack(SHRINKING), steady: stack([1e-3] * 5)[steady]}
    assert apply(vanishing_gradient, stuck(**mixed)) == ()


def test_it_leaves_exact_zeros_to_no_gradient():
    assert apply(vanishing_gradient, stuck([0.0, 1e-3, 1e-3, 1e-3])) == ()


def test_it_skips_a_model_without_depth():
    with pytest.raises(Skip, match="fewer than three trainable layers"):
        apply(vanishing_gradient, stuck([1e-9, 1e-3]))


def test_it_skips_a_run_that_is_too_short_to_tell():
    """A LayerScale of 1e-5 in each of many layers, as in CaiT, after two steps."""
    with pytest.raises(Skip, match="2 steps are too few to tell; use --steps 10 or more"):
        apply(vanishing_gradient, stuck(losses=flat(steps=2)))


def test_it_skips_a_run_without_gradients():
    with pytest.raises(Skip, match="no finite gradient reaches three layers"):
        apply(vanishing_gradient, stuck([None] * 5))


def test_it_finds_a_shrinking_gradient_also_where_all_weights_get_exactly_zero():
    made = stack(SHRINKING)
    zero = tuple(replace(p, gradient_rms=(0.0,) * RECORDED) for p in made["parameters"])
    try:
        findings = apply(vanishing_gradient, stuck(**{**made, "parameters": zero}))
    except Skip:
        return
    assert findings


def test_it_skips_gradients_that_are_all_nan():
    with pytest.raises(Skip, match="non-finite"):
        apply(vanishing_gradient, poisoned(training()))


def test_it_skips_outputs_whose_gradient_is_infinite():
    with pytest.raises(Skip, match="non-finite"):
        apply(vanishing_gradient, stuck([math.inf] * 5))


# ---- options ----


def test_it_takes_the_limit_as_an_option():
    assert apply(vanishing_gradient, stuck(), ratio=1e-9) == ()
    (finding,) = apply(vanishing_gradient, stuck([7e-6, 1e-4, 1e-3]), ratio=0.01)
    assert "healthy is at least 1e-02" in finding.message
