from __future__ import annotations

import math

import pytest

from gradcheck_kit.rule import Skip
from gradcheck_kit.rules.batch_leakage import batch_leakage
from gradcheck_kit.testing import apply, batch_mixing, judge, mixing_operation, poisoned


def leaking(operation=None, **changes):
    return batch_mixing(**{"influence": 0.74, "operation": operation, **changes})


def test_it_names_the_function_the_module_and_the_line():
    (finding,) = apply(batch_leakage, leaking(mixing_operation("softmax", "attention")))
    assert finding.where == "attention"
    assert finding.message == (
        "In eval mode a change of other samples of the batch changes a sample's output 0.74 times as much as the same "
        "change of its own input; healthy is 0 (limit 0.001). They first mix in softmax of attention (Attention), "
        "model.py:31."
    )
    assert finding.evidence == {"influence": 0.74, "limit": 0.001, "samples": 11, "operation": "softmax"}
    assert finding.severity is None


@pytest.mark.parametrize(
    ("operation", "fix"),
    [
        (mixing_operation("softmax"), "Take softmax in 2 over the features of each sample, dim=-1"),
        (mixing_operation("sub", reduced_by="mean"), "Take mean in 2 over the features of each sample, dim=-1"),
        (mixing_operation("lstm", "rnn"), "Make rnn with batch_first=True"),
        (mixing_operation("multi_head_attention_forward", "0.self_attn"), "Make 0 with batch_first=True"),
        (mixing_operation("batch_norm"), "Pass training=self.training to batch_norm in 2"),
        (mixing_operation("linear", "head"), "Keep dimension 0 for the batch up to linear in head"),
        (mixing_operation("matmul", ""), "Keep dimension 0 for the batch up to matmul in the model's forward"),
        (mixing_operation("view", ""), "Use transpose or permute and not view in the model's forward"),
        (None, "Look in forward for a reshape"),
    ],
)
def test_it_says_what_to_change_there(operation, fix):
    (finding,) = apply(batch_leakage, leaking(operation))
    assert finding.fixes[0].startswith(fix)


def test_it_warns_of_a_batch_norm_that_was_told_to_keep_no_statistics():
    operation = mixing_operation("batch_norm", "1", module_type="BatchNorm1d")
    (finding,) = apply(batch_leakage, leaking(operation, batch_statistics="1"))
    assert finding.severity == "warning"
    assert finding.fixes[0] == "Let 1 keep running statistics for evaluation: track_running_stats=True."


def test_it_warns_of_batches_in_order_which_may_be_one_sequence():
    (finding,) = apply(batch_leakage, leaking(mixing_operation("lstm", "rnn"), shuffled=False))
    assert finding.severity == "warning"
    assert "--ignore GK405" in finding.fixes[-1]


def test_it_finds_an_influence_that_is_nan():
    assert judge(batch_leakage, poisoned(batch_mixing())).status == "failed"
    assert judge(batch_leakage, leaking(influence=math.nan)).status == "failed"


# ---- silence ----


@pytest.mark.parametrize("influence", [0.0, 1e-5])
def test_it_passes_samples_that_do_not_see_each_other(influence):
    assert apply(batch_leakage, batch_mixing(influence=influence)) == ()


def test_it_takes_another_limit():
    assert apply(batch_leakage, leaking(), influence=1.0) == ()


def test_it_skips_an_output_that_does_not_depend_on_its_own_input():
    with pytest.raises(Skip, match="not even change its own output"):
        apply(batch_leakage, batch_mixing(influence=None))


def test_it_skips_a_discriminators_minibatch_layer():
    with pytest.raises(Skip, match="as its name says"):
        apply(batch_leakage, leaking(mixing_operation("std", module_type="MinibatchStdDev")))


def test_it_skips_what_the_experiment_could_not_look_at():
    assert judge(batch_leakage).status == "skipped"


def test_it_finds_samples_that_mix_on_the_way_to_an_output_that_nothing_moves():
    attention = mixing_operation("multi_head_attention_forward", "blocks.0.attention")
    (finding,) = apply(batch_leakage, leaking(attention, influence=None))
    assert "what the model computes for a sample on the way, though not even its own change moves" in finding.message
    assert finding.fixes[0].startswith("Make blocks.0.attention with batch_first=True")


def test_it_proposes_running_statistics_in_the_place_of_statistics_only():
    (finding,) = apply(batch_leakage, leaking(mixing_operation("softmax", "attention")))
    assert not any("BatchNorm1d" in fix for fix in finding.fixes)
    (finding,) = apply(batch_leakage, leaking(mixing_operation("sub", reduced_by="mean")))
    assert any("BatchNorm1d" in fix for fix in finding.fixes)
