"""Healthy models with attention have no finding of this pack, on padded data and on their own."""

from __future__ import annotations

import pytest

pytest.importorskip("transformers")

import torch
from bases import BASES
from gradcheck_kit_transformers import gradcheck_experiments, gradcheck_rules
from gradcheck_kit_transformers.facts import PaddingUse
from kept_out_bases import KEPT_OUT_BASES
from padded_data import encoded, loader
from transformers_models import TINY, build

import gradcheck_kit as gk
from gradcheck_kit.experiments import NotApplicable
from gradcheck_kit.probe import measure

pytestmark = pytest.mark.filterwarnings("ignore")  # transformers warns of its own deprecated calls

PADDING = next(e for e in gradcheck_experiments() if e.fact is PaddingUse)
TEXTS = [
    name
    for name in TINY
    if name.endswith(("Classification", "LM", "LMHeadModel", "QuestionAnswering", "Generation", "MTModel"))
    and not name.startswith(("ViT", "DeiT", "Beit", "Dino", "Swin", "ConvN", "ResN", "Wav2", "Hub", "Whisper", "AST"))
    and not name.startswith("Reformer")  # takes texts of one length only
] + ["ElectraForPreTraining"]
WITHOUT_ATTENTION = ("FNet", "Mamba", "Mamba2", "Rwkv")


def findings(report):
    return [f"{o.rule.name}: {o.findings[0].message}" for o in report.outcomes if o.findings]


def crashed(report):
    return [o.reason for o in report.of("error")]


@pytest.mark.parametrize("name", TEXTS)
def test_its_words_do_not_depend_on_padding(name):
    torch.manual_seed(0)
    model = build(name)
    left = name.startswith("XLNet")  # made to be padded on the left: it reads its verdict off the last position
    token = getattr(model.config, "pad_token_id", None)
    data = loader(lambda *row: encoded(name, *row), left=left, padding=0 if token is None else token)
    if name.startswith(WITHOUT_ATTENTION):
        with pytest.raises(NotApplicable, match="has no attention"):
            measure(PADDING, model, data)
    else:
        use = measure(PADDING, model, data)
        # transformers' experts are multiplied by a kernel that has no float64.
        assert use.precision == ("float32" if name.startswith(("Mixtral", "Qwen2Moe")) else "float64")
        assert use.padded_rows > 8
        assert use.moved < 1e-9
        assert use.loss_moved is None or use.loss_moved < 1e-9
        assert use.shifted is None or use.shifted < 1e-5


@pytest.mark.parametrize("name", TINY)
def test_a_model_of_transformers_has_no_findings(name):
    torch.manual_seed(0)
    report = gk.scan(build(name), steps=10, select=[rule.code for rule in gradcheck_rules()])
    assert findings(report) == []
    assert crashed(report) == []


ATTENTION = {
    **{name: BASES[name] for name in ("encoder", "causal_language_model")},
    **{
        name: KEPT_OUT_BASES[name]
        for name in (
            "vision_transformer_with_a_class_token",
            "transformer_with_a_padding_mask",
            "tied_language_model_with_warmup",
            "masked_language_model",
        )
    },
}


@pytest.mark.parametrize("name", ATTENTION)
def test_a_program_with_attention_of_its_own_has_no_findings(name):
    torch.manual_seed(0)
    report = gk.scan(ATTENTION[name](), select=[rule.code for rule in gradcheck_rules()])
    assert findings(report) == []
    assert crashed(report) == []
    assert [o.rule.code for o in report.of("passed")][-2:] == ["GKT106", "GKT107"]
