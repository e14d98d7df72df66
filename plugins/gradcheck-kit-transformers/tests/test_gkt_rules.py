"""The rules on built facts: sick, healthy, absent and poisoned."""

from __future__ import annotations

import pytest
from gradcheck_kit_transformers import gradcheck_rules
from gradcheck_kit_transformers.attention_entropy_collapse import attention_entropy_collapse
from gradcheck_kit_transformers.attention_logit_growth import attention_logit_growth
from gradcheck_kit_transformers.facts import (
    AttentionSite,
    AttentionUse,
    PaddingUse,
    Pair,
    PositionTable,
    PositionUse,
    Ties,
)
from gradcheck_kit_transformers.loss_on_padding import loss_on_padding
from gradcheck_kit_transformers.padding_leakage import padding_leakage
from gradcheck_kit_transformers.padding_shifts_positions import padding_shifts_positions
from gradcheck_kit_transformers.untied_weights import untied_weights
from gradcheck_kit_transformers.untrained_positions import untrained_positions

from gradcheck_kit.facts import Training
from gradcheck_kit.rule import Skip
from gradcheck_kit.testing import apply, fact, falling, flat, judge, poisoned, training


def padding(**changes):
    healthy = {
        "content": "input_ids",
        "source": "attention_mask",
        "side": "right",
        "rows": 12,
        "padded_rows": 10,
        "length": 16,
        "mask": "attention_mask",
        "precision": "float64",
        "output": "logits",
        "per_position": True,
        "loss_moved": 0.0,
        "shifted": 0.0,
    }
    return fact(PaddingUse, **{**healthy, **changes})


def pair(**changes):
    tied = {
        "name": "wte.weight",
        "other": "lm_head.weight",
        "stated": "config.tie_word_embeddings",
        "tied": True,
        "shape": (99, 32),
        "other_shape": (99, 32),
        "equal": True,
        "optimized": True,
        "other_optimized": True,
        "scale": 0.02,
        "width": 32,
    }
    return fact(Pair, **{**tied, **changes})


def table(**changes):
    healthy = {"name": "wpe.weight", "rows": 64, "trained": 16, "tested": 16}
    return fact(PositionTable, **{**healthy, **changes})


def positions(*tables, **changes):
    return fact(PositionUse, **{"tables": tables, "train_batches": 2, "test_batches": 10, **changes})


def site(**changes):
    healthy = {
        "module": "h.0.attn",
        "module_type": "Attention",
        "keys": 8.0,
        "entropy_before": (2.0, 2.0),
        "entropy": (1.5, 1.0),
        "logit_before": (0.1, 0.1),
        "logit": (3.0, 4.0),
    }
    return fact(AttentionSite, **{**healthy, **changes})


def attention(*sites):
    return fact(AttentionUse, sites=sites)


LEARNS, STUCK = training(losses=falling()), training(losses=flat())

# ---- padding ----


def test_it_tells_how_far_the_output_moves_and_where_first():
    leak = padding(moved=0.34, moved_rows=9, module="layer.0.attn", module_type="Attention", mask="", takes_mask="mask")
    (finding,) = apply(padding_leakage, padding_leak := leak)
    assert finding.where == "layer.0.attn"
    assert finding.message == (
        "Changing what the padding of input_ids holds moves logits at what is no padding, in 9 of 12 rows and by up to "
        "0.34 times its size (float64, evaluation mode); healthy is 0 (limit 1e-06). No mask hides it (10 rows of "
        "length 16 are padded on the right, told by attention_mask). It is first seen in layer.0.attn (Attention)."
    )
    assert finding.fixes[0].startswith("Pass mask to the model beside input_ids")
    assert finding.evidence["change"] == padding_leak.moved


@pytest.mark.parametrize(
    ("changes", "fix"),
    [
        ({"mask_inverted": True}, "Invert attention_mask: 1 is for words"),
        ({"mask_inverted": True, "mask": "src_key_padding_mask of body"}, "Invert src_key_padding_mask of body: torch"),
        ({"source": "padding_idx 0 of embed"}, "Let attention_mask hide the padding"),
        ({"per_position": False}, "Pool over words only"),
        ({"module": "body.attn"}, "Hide the padding in body.attn"),
        ({"mask": ""}, "Hide the padding in the model's forward"),
    ],
)
def test_it_says_what_to_do_about_that_leak(changes, fix):
    (finding,) = apply(padding_leakage, padding(moved=0.3, **changes))
    assert finding.fixes[0].startswith(fix)


@pytest.mark.parametrize(("precision", "moved", "found"), [("float64", 1e-5, 1), ("float32", 1e-5, 0)])
def test_it_allows_for_the_rounding_of_that_precision(precision, moved, found):
    assert len(apply(padding_leakage, padding(precision=precision, moved=moved))) == found


@pytest.mark.parametrize("rule", [padding_leakage, padding_shifts_positions, loss_on_padding])
def test_it_passes_padding_that_changes_nothing(rule):
    assert apply(rule, padding()) == ()


def test_it_warns_of_positions_that_padding_shifts():
    outcome = judge(padding_shifts_positions, padding(shifted=0.4, side="left"))
    assert outcome.status == "warned"
    assert (
        outcome.findings[0]
        .fixes[0]
        .startswith(
            "Number positions from the first word: pass position_ids=(attention_mask.cumsum(1) - 1).clamp(min=0)"
        )
    )


def test_it_warns_of_a_loss_that_counts_padding():
    outcome = judge(loss_on_padding, padding(loss_moved=0.02))
    assert outcome.status == "warned"
    assert "labels.masked_fill(attention_mask == 0, -100)" in outcome.findings[0].fixes[0]


@pytest.mark.parametrize("rule", [padding_shifts_positions, loss_on_padding])
def test_it_leaves_to_the_leak_what_the_leak_explains(rule):
    with pytest.raises(Skip, match="see padding-leakage"):
        apply(rule, padding(moved=0.3, shifted=0.3, loss_moved=0.3))


@pytest.mark.parametrize(
    ("rule", "absent"), [(padding_shifts_positions, {"shifted": None}), (loss_on_padding, {"loss_moved": None})]
)
def test_it_skips_what_could_not_be_measured(rule, absent):
    with pytest.raises(Skip):
        apply(rule, padding(**absent))


# ---- ties ----


@pytest.mark.parametrize(
    ("changes", "said", "fix"),
    [
        ({}, "with the same values to the last bit", "Call model.tie_weights()"),
        ({"equal": False}, "with different values", "Call model.tie_weights()"),
        ({"equal": False, "shape": (120, 32)}, "of shapes (99, 32) and (120, 32)", "Change the vocabulary with model."),
        ({"other_optimized": False}, "Only wte.weight is in an optimizer; lm_head.weight stays", "Call model."),
    ],
)
def test_it_tells_how_the_two_differ(changes, said, fix):
    (finding,) = apply(untied_weights, Ties((pair(tied=False, **changes),)))
    assert finding.where == "lm_head.weight"
    assert finding.message.startswith("config.tie_word_embeddings is True, but lm_head.weight and wte.weight are two")
    assert said in finding.message
    assert finding.fixes[0].startswith(fix)


def test_it_warns_of_a_copy_that_nobody_says_is_tied():
    outcome = judge(untied_weights, Ties((pair(tied=False, stated=""),)))
    assert outcome.status == "warned"
    assert "lm_head.weight = wte.weight" in outcome.findings[0].fixes[0]


def test_it_warns_of_two_that_were_loaded_as_two():
    outcome = judge(untied_weights, Ties((pair(tied=False, equal=False, loaded_apart=True),)))
    assert outcome.status == "warned"
    assert outcome.findings[0].fixes[0].startswith("Set config.tie_word_embeddings = False")


def test_it_passes_weights_that_are_tied():
    assert apply(untied_weights, Ties((pair(),))) == ()


def test_it_skips_a_model_that_ties_nothing():
    with pytest.raises(Skip, match="no configuration ties weights"):
        apply(untied_weights, Ties(()))


# ---- positions ----


def test_it_names_the_rows_that_nothing_trains():
    (finding,) = apply(
        untrained_positions, positions(table(tested=24, untrained=tuple(range(16, 24)), batches=4), longest_in="test")
    )
    assert finding.message.startswith(
        "The test loss depends on 8 rows (16 to 23) of wpe.weight, which the loss of no training batch does"
    )
    assert finding.severity == "error"


def test_it_warns_where_few_batches_are_touched():
    few = positions(table(tested=17, untrained=(16,), batches=1), test_batches=100)
    assert judge(untrained_positions, few).status == "warned"
    assert judge(untrained_positions, few, share=0.001).status == "failed"


def test_it_passes_positions_that_training_reaches():
    assert apply(untrained_positions, positions(table())) == ()


def test_it_skips_an_embedding_that_was_trained_before():
    with pytest.raises(Skip, match="was trained before"):
        apply(untrained_positions, positions(table(untrained=(16,), batches=9, pretrained=True)))


def test_it_warns_of_texts_longer_than_the_configuration_states():
    use = positions(longest=128, longest_in="training", limit=64, limit_name="max_position_embeddings")
    outcome = judge(untrained_positions, use)
    assert outcome.status == "warned"
    assert outcome.findings[0].message == (
        "The training data has sequences of 128 tokens; config.max_position_embeddings is 64."
    )
    assert apply(untrained_positions, positions(longest=64, limit=64, limit_name="max_position_embeddings")) == ()


# ---- attention ----


def test_logits_that_grow_are_a_warning_while_the_loss_falls_and_an_error_otherwise():
    grown = attention(site(), site(module="h.1.attn", logit=(3.0, 900.0)))
    (finding,) = apply(attention_logit_growth, grown, LEARNS)
    assert finding.where == "h.1.attn"
    assert finding.message.startswith("The largest attention logit of h.1.attn (Attention) is 900 after 60 steps, 0.1")
    assert judge(attention_logit_growth, grown, LEARNS).status == "warned"
    assert judge(attention_logit_growth, grown, STUCK).status == "failed"


@pytest.mark.parametrize("changes", [{}, {"logit": (900.0, 3.0), "logit_before": (800.0, 3.0)}])
def test_it_passes_logits_that_are_small_or_were_large_before(changes):
    assert apply(attention_logit_growth, attention(site(**changes)), STUCK) == ()


def test_heads_that_collapse_are_an_error_where_the_loss_does_not_fall():
    collapsed = attention(site(entropy=(0.001, 0.01)))
    (finding,) = apply(attention_entropy_collapse, collapsed, STUCK)
    assert finding.message.startswith(
        "In h.0.attn (Attention) 2 of 2 heads look at one key: their mean attention entropy is 0.01 nats after "
        "training, 2 before; healthy is at least 0.05. The loss did not fall"
    )
    assert apply(attention_entropy_collapse, collapsed, LEARNS) == ()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"entropy": (0.001, 1.0, 1.0), "entropy_before": (2.0, 2.0, 2.0)},  # one head of three
        {"entropy": (0.001, 0.001), "entropy_before": (0.002, 0.002)},  # one-hot from the start
    ],
)
def test_it_passes_heads_that_look_around_or_never_did(changes):
    assert apply(attention_entropy_collapse, attention(site(**changes)), STUCK) == ()


@pytest.mark.parametrize("rule", [attention_logit_growth, attention_entropy_collapse])
def test_it_skips_a_model_without_attention(rule):
    with pytest.raises(Skip, match="no attention"):
        apply(rule, attention(), LEARNS)


# ---- all ----


FACTS = {PaddingUse: padding(), AttentionUse: attention(site()), Training: STUCK}


@pytest.mark.parametrize("rule", [r for r in gradcheck_rules() if set(r.needs) <= set(FACTS)], ids=lambda r: r.name)
def test_it_finds_what_is_no_number(rule):
    poison = [STUCK if need is Training else poisoned(FACTS[need]) for need in rule.needs]
    assert judge(rule, *poison).hit


@pytest.mark.parametrize("rule", gradcheck_rules(), ids=lambda r: r.name)
def test_it_is_skipped_where_its_fact_is_absent(rule):
    assert judge(rule).status == "skipped"
