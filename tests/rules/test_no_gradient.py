from __future__ import annotations

from dataclasses import replace

import pytest

from gradcheck_kit.facts import LossTerm
from gradcheck_kit.rule import Skip
from gradcheck_kit.rules.no_gradient import no_gradient
from gradcheck_kit.testing import (
    RECORDED,
    activation,
    apply,
    flat,
    judge,
    loss_terms,
    output,
    parameter,
    poisoned,
    stack,
    training,
    wired_parameter,
    wiring,
)


def run(*parameters, outputs=(), **changes):
    return training(parameters=parameters, outputs=outputs, activations=(), **changes)


def without(name, value=None, **changes):
    return parameter(name, gradient_rms=value, **changes)


def experts(*busy):
    """Four experts of which those that are named ran."""
    names = [f"experts.{i}.weight" for i in range(4)]
    ran = {f"experts.{i}" for i in busy}
    parameters = [parameter(n) if n.rpartition(".")[0] in ran else without(n, order=None) for n in names]
    return run(*parameters, outputs=tuple(output(name) for name in ("router", *sorted(ran))))


# ---- no gradient ----


def test_it_names_the_layers_that_get_none():
    (finding,) = apply(no_gradient, training(**stack([None, None, 1e-3])))
    assert finding.where == "0"
    assert finding.message.startswith("0 and 2: each of 4 parameters gets no gradient at all 20 recorded steps")
    assert finding.evidence["parameters"] == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert finding.severity is None


def test_it_names_the_place_where_the_gradient_is_lost():
    (finding,) = apply(no_gradient, training(**stack([None, None, 1e-3])))
    assert "lost after 3 (Relu) and before the output of 4 (Linear)" in finding.message
    assert finding.fixes[0].startswith("Remove the detach(), .data, torch.no_grad(), argmax")
    assert "after 3 (Relu) and before the output of 4 (Linear)" in finding.fixes[0]
    assert "requires_grad_(False)" in finding.fixes[1]
    assert "0 and 2" in finding.fixes[1]


def test_it_names_a_single_parameter_in_the_model_itself():
    (finding,) = apply(no_gradient, run(without("scale", layer="", order=None), parameter("0.weight")))
    assert finding.where == "scale"
    assert "parameter scale gets no gradient" in finding.message


# ---- the last of a series ----


def series(*names, unused, blocks=3):
    """Blocks of the layers, one after the other; the loss is the same whatever values `unused` has."""
    parameters = [
        (without if name.format(i) == unused else parameter)(f"{name.format(i)}.weight", order=i * len(names) + k)
        for i in range(blocks)
        for k, name in enumerate(names)
    ]
    wired = tuple(
        wired_parameter(p.name, matters=False if p.layer == unused else None, gradient="none") for p in parameters
    )
    return run(*parameters), wiring(parameters=wired)


@pytest.mark.parametrize(
    ("names", "unused"),
    [
        (("blocks.{}.backcast", "blocks.{}.forecast"), "blocks.2.backcast"),  # N-BEATS
        (("stacks.0.blocks.{}.back", "stacks.0.blocks.{}.fore"), "stacks.0.blocks.2.back"),
        (("residual.{}", "skip.{}"), "residual.2"),  # WaveNet
    ],
)
def test_it_passes_the_last_of_a_series_that_hands_on_to_a_next_block(names, unused):
    assert apply(no_gradient, *series(*names, unused=unused)) == ()


@pytest.mark.parametrize(
    ("names", "unused"),
    [
        (("blocks.{}.backcast", "blocks.{}.forecast"), "blocks.1.backcast"),  # not the last
        (("layers.{}",), "layers.2"),  # nothing of its block learns
        (("only", "blocks.{}.forecast"), "only"),
    ],
)
def test_it_warns_of_what_nobody_reads_elsewhere(names, unused):
    (finding,) = apply(no_gradient, *series(*names, unused=unused))
    assert finding.where == unused
    assert finding.severity == "warning"


def test_it_warns_of_the_last_encoder_that_no_decoder_reads():
    training_, wired = series("layer.{}", unused="layer.2")
    decoders = tuple(parameter(f"decoder.{i}.weight", order=3 + i) for i in range(3))
    (finding,) = apply(no_gradient, replace(training_, parameters=(*training_.parameters, *decoders)), wired)
    assert finding.where == "layer.2"


# ---- a gradient of zero ----


def test_it_finds_a_gradient_of_exactly_zero():
    (finding,) = apply(no_gradient, training(**stack([0.0, 0.0, 1e-3])))
    assert "gets a gradient of exactly zero at all 20 recorded steps" in finding.message
    assert finding.evidence["exactly_zero"] is True
    assert finding.severity is None
    assert finding.fixes[-1].startswith("Look for a factor of exactly zero between 0 and 2 and the loss")


def test_it_wants_a_frozen_layer_of_zeros_trained():
    facts = training(**stack([0.0, 0.0, 0.0]), losses=flat())
    frozen = parameter("head.weight", trainable=False, weight_rms=0.0)
    (finding,) = apply(no_gradient, replace(facts, parameters=(*facts.parameters, frozen)))
    assert finding.fixes[0].startswith("Train head, whose weight is all zero and has requires_grad=False")


def test_it_brings_dead_activations_back_to_life_first():
    dead = activation("3", dead_share=1.0, order=3)
    (finding,) = apply(no_gradient, training(**{**stack([0.0, 0.0, 1e-3]), "activations": (dead,)}))
    assert finding.fixes[0].startswith("Bring 3 back to life")


def test_it_passes_a_bias_on_which_the_loss_does_not_depend():
    """The difference of two outputs, as in a siamese network or a critic, is the same whatever the last bias is."""
    assert apply(no_gradient, run(parameter("0.weight"), without("0.bias", 0.0), outputs=(output("0"),))) == ()


def test_it_warns_of_a_layer_that_runs_and_changes_nothing():
    unused = wired_parameter("skip.weight", gradient="none", matters=False)
    records = run(parameter("0.weight"), without("skip.weight"), outputs=(output("0"), output("skip", order=1)))
    (finding,) = apply(no_gradient, records, wiring(parameters=(unused,)))
    assert finding.severity == "warning"
    assert "the loss is the same whatever values parameter skip.weight has" in finding.message
    assert finding.fixes == ("Use the output of skip, or remove skip.",)


def test_it_warns_of_a_zero_gradient_that_flows_around_a_layer_in_a_run_that_learns():
    """Local attention of a token that only global attention is read of, as at the end of a Longformer."""
    (finding,) = apply(no_gradient, training(**stack([1e-3, 0.0, 1e-3])))
    assert finding.severity == "warning"
    assert finding.evidence["parameters"] == ["2.weight", "2.bias"]


def test_it_fails_a_zero_gradient_that_flows_around_a_layer_in_a_run_that_does_not_learn():
    (finding,) = apply(no_gradient, training(**stack([1e-3, 0.0, 1e-3]), losses=flat()))
    assert finding.severity is None


def zero_wired(*layers):
    return wiring(
        parameters=tuple(
            wired_parameter(f"{layer}.{kind}", gradient="zero", matters=False)
            for layer in layers
            for kind in ("weight", "bias")
        )
    )


def test_it_warns_of_a_zero_gradient_of_a_branch_without_influence_also_in_a_run_that_does_not_learn():
    """Queries of all tokens but the one that is read, as at the end of an MViT."""
    records = training(**stack([1e-3, 0.0, 1e-3]), losses=flat())
    (finding,) = apply(no_gradient, records, zero_wired("2"))
    assert "2: the loss is the same whatever values each of 2 parameters has" in finding.message
    assert finding.severity == "warning"


def test_it_fails_a_zero_gradient_without_influence_below_which_nothing_learns():
    (finding,) = apply(no_gradient, training(**stack([0.0, 0.0, 1e-3]), losses=flat()), zero_wired("0", "2"))
    assert finding.severity is None
    assert finding.where == "0"


def test_it_warns_of_a_zero_gradient_of_a_parameter_beside_layers_that_get_one():
    """The table of relative positions where the maps have shrunk to one pixel, as at the end of a LeViT."""
    outputs = tuple(output(name, order=place) for place, name in enumerate(("attn.qkv", "attn", "head")))
    attention = parameter("attn.qkv.weight"), without("attn.biases", 0.0, shape=(4, 9), order=None)
    (finding,) = apply(no_gradient, run(*attention, parameter("head.weight", order=5), outputs=outputs))
    assert finding.severity == "warning"
    assert "attn: parameter attn.biases gets a gradient of exactly zero" in finding.message


def test_it_fails_a_zero_gradient_of_a_parameter_beside_layers_that_get_none():
    outputs = tuple(output(name, order=place) for place, name in enumerate(("attn.qkv", "attn", "head")))
    attention = without("attn.qkv.weight", 0.0), without("attn.biases", 0.0, shape=(4, 9), order=None)
    (finding,) = apply(no_gradient, run(*attention, parameter("head.weight", order=5), outputs=outputs))
    assert finding.severity is None


def test_it_fails_a_lost_gradient_that_flows_around_a_layer():
    (finding,) = apply(no_gradient, training(**stack([1e-3, None, 1e-3])))
    assert finding.severity is None


# ---- layers that never ran ----


def test_it_warns_of_a_layer_that_never_ran():
    (finding,) = apply(no_gradient, run(parameter("0.weight"), without("aux.weight", order=None), outputs=(output(),)))
    assert finding.severity == "warning"
    assert finding.where == "aux"
    assert finding.message == "aux never ran in forward, so parameter aux.weight never learns."
    assert finding.fixes[0].startswith("Call aux in forward, or remove it")


def test_it_passes_idle_experts_beside_busy_twins():
    assert apply(no_gradient, experts(0, 2)) == ()


def test_it_warns_when_no_expert_ran():
    (finding,) = apply(no_gradient, experts())
    assert finding.severity == "warning"
    assert finding.message.startswith("experts.0, experts.1, experts.2 and experts.3 never ran")


def test_it_only_warns_where_no_module_was_seen():
    """A compiled model calls no hook: what never ran cannot be told from what is cut off."""
    (finding,) = apply(no_gradient, run(parameter("head.weight"), without("body.weight", order=None), outputs=()))
    assert finding.severity == "warning"
    assert "gets no gradient at all 20 recorded steps" in finding.message


def test_it_wants_a_twin_of_the_same_shape():
    odd = run(
        parameter("heads.0.weight"), without("heads.1.weight", shape=(7, 32), order=None), outputs=(output("heads.0"),)
    )
    (finding,) = apply(no_gradient, odd)
    assert finding.where == "heads.1"


# ---- silence ----


def test_it_passes_a_healthy_run():
    assert apply(no_gradient, training()) == ()


def test_it_passes_frozen_layers():
    made = stack([None, None, 1e-3])
    frozen = tuple(replace(p, trainable=p.layer == "4") for p in made["parameters"])
    assert apply(no_gradient, training(**{**made, "parameters": frozen})) == ()


def test_it_passes_what_a_zero_head_keeps_from_a_gradient_at_step_0_only():
    waking = (0.0,) + (1e-3,) * (RECORDED - 1)
    assert apply(no_gradient, training(**stack([waking, waking, 1e-3]))) == ()


def test_it_passes_a_branch_that_is_used_in_a_single_step():
    once = (None,) * (RECORDED - 1) + (1e-3,)
    assert apply(no_gradient, training(**stack([once, 1e-3, 1e-3]))) == ()


def test_it_fails_nothing_for_a_zero_gradient_in_a_run_of_one_step():
    """A zero-initialised head gives the layers below it exactly zero at step 0, and is healthy."""
    assert judge(no_gradient, training(losses=(2.3,), **stack([0.0, 0.0, 1e-3]))).status != "failed"


def test_it_fails_nothing_where_no_step_was_recorded():
    assert judge(no_gradient, training(recorded=())).status == "skipped"


def test_it_skips_a_model_in_which_everything_is_frozen():
    with pytest.raises(Skip, match="no parameter requires a gradient"):
        apply(no_gradient, run(parameter(trainable=False)))


def test_it_does_not_pass_gradients_that_are_all_nan():
    assert judge(no_gradient, poisoned(training())).status != "passed"


def test_it_finds_a_term_of_the_loss_that_nothing_trains():
    terms = loss_terms(untrained=(LossTerm("pinn.py:41", 0.5, True),))
    (finding,) = apply(no_gradient, run(parameter()), terms)
    assert finding.where == "pinn.py:41"
    assert finding.message == (
        "The loss of 2 adds 0.5 (pinn.py:41), which changes with the parameters and is constant to autograd: nothing "
        "trains it."
    )
    assert finding.fixes[0].startswith("Pass create_graph=True to torch.autograd.grad")
    assert apply(no_gradient, run(parameter()), loss_terms()) == ()


def test_it_takes_no_attention_for_a_layer_that_never_ran_because_its_weights_are_used_elsewhere():
    cut = without("attention.out_proj.weight", layer="attention.out_proj")
    attention = output("attention", module_type="MultiheadAttention", gradient_rms=None)
    (finding,) = apply(no_gradient, run(cut, parameter("head.weight"), outputs=(attention, output("head"))))
    assert "never ran" not in finding.message
