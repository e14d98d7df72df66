from __future__ import annotations

import math

import pytest

from gradcheck_kit.rule import Skip
from gradcheck_kit.rules.causal_leakage import causal_leakage
from gradcheck_kit.testing import apply, future_mixing, judge, mixing_operation, poisoned


def leaking(operation=None, **changes):
    return future_mixing(**{"influence": 0.16, "reached": 15, "operation": operation, **changes})


def test_it_names_the_function_the_module_and_the_line():
    (finding,) = apply(causal_leakage, leaking(mixing_operation("scaled_dot_product_attention", "blocks.0.attention")))
    assert finding.where == "blocks.0.attention"
    assert finding.message == (
        "The target is the input shifted by one, and replacing input 15 of 16 changes 15 of the 15 outputs before it, "
        "by up to 0.16 times as much as those from it on; healthy is 0 (limit 0.001). The future first arrives in "
        "scaled_dot_product_attention of blocks.0.attention (Attention), model.py:31."
    )
    assert finding.evidence["influence"] == 0.16
    assert finding.severity is None


@pytest.mark.parametrize(
    ("operation", "fix"),
    [
        (mixing_operation("scaled_dot_product_attention"), "Pass is_causal=True to scaled_dot_product_attention in 2."),
        (mixing_operation("multi_head_attention_forward", "0.self_attn"), "Pass 0.self_attn a causal mask"),
        (mixing_operation("matmul"), "Mask the scores in 2 before their softmax"),
        (mixing_operation("gru", "rnn"), "Make rnn with bidirectional=False"),
        (mixing_operation("conv1d", "conv"), "Pad conv on the left only"),
        (mixing_operation("group_norm", "norm"), "Normalise each position by itself in norm"),
        (mixing_operation("add", "", reduced_by="mean"), "Let mean in the model's forward run over the past only"),
        (None, "Let every position see only itself and what is before it"),
    ],
)
def test_it_says_what_to_change_there(operation, fix):
    (finding,) = apply(causal_leakage, leaking(operation))
    assert finding.fixes[0].startswith(fix)


def test_it_finds_one_output_that_sees_one_step_ahead():
    (finding,) = apply(causal_leakage, leaking(reached=1))
    assert "changes 1 of the 15 outputs" in finding.message


def test_it_finds_a_model_that_is_given_its_target():
    (finding,) = apply(causal_leakage, leaking(influence=0.0, reached=0, answer_given=True))
    assert finding.where == "forward"
    assert finding.message.startswith("The model is given its target: at each position its input is the very element")
    assert "sequence[:, :-1] as input" in finding.fixes[0]


@pytest.mark.parametrize("influence", [math.nan, math.inf])
def test_it_finds_an_influence_that_is_no_number(influence):
    assert judge(causal_leakage, leaking(influence=influence)).status == "failed"
    assert judge(causal_leakage, poisoned(future_mixing())).status == "failed"


# ---- silence ----


@pytest.mark.parametrize("influence", [0.0, 1e-6])
def test_it_passes_a_causal_model_and_the_rounding_of_a_fourier_transform(influence):
    assert apply(causal_leakage, future_mixing(influence=influence)) == ()


def test_it_takes_another_limit():
    assert apply(causal_leakage, leaking(), influence=0.5) == ()


def test_it_skips_an_output_that_does_not_depend_on_the_input():
    with pytest.raises(Skip, match="does not depend on the element"):
        apply(causal_leakage, future_mixing(influence=None))


def test_it_skips_what_the_experiment_could_not_look_at():
    assert judge(causal_leakage).status == "skipped"
