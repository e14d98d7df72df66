"""Architectures of transformers, as their users make them: found, examined, left alone, and not blamed."""

from __future__ import annotations

import json
import textwrap

import pytest

pytest.importorskip("transformers")

import torch
from hub import alarms, examined
from transformers_models import TINY, build

from gradcheck_kit.cli import run

# transformers warns of its own deprecated calls.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("name", TINY)
def test_it_comes_through_a_quick_probe_and_is_left_alone(name):
    torch.manual_seed(0)
    report = examined(build(name), steps=2, quick=True)
    assert alarms(report, "failed") == []
    assert alarms(report, "error") == []


# What the tool says of these at default initialisation is true, and no fault of the tool.
WARNED = {
    "BigBirdForMaskedLM": ["no-gradient"],  # computes a pooled vector that its head does not use
    "Dinov2ForImageClassification": ["no-gradient"],  # has a mask token, for pre-training
    "LongformerForSequenceClassification": ["no-gradient"],  # overwrites the first token's local attention
    "XLNetForSequenceClassification": ["no-gradient"],  # has embeddings of segments and masks, for pre-training
    "ReformerForSequenceClassification": ["eval-nondeterministic"],  # hashes at random
    "ViTMAEForPreTraining": ["eval-nondeterministic"],  # masks at random, in evaluation mode too
}


@pytest.mark.zoo_long
@pytest.mark.parametrize("name", TINY)
def test_it_is_not_blamed_by_a_probe_that_is_long_enough_to_judge(name):
    torch.manual_seed(0)
    report = examined(build(name), steps=20)
    assert alarms(report, "failed") == []
    assert alarms(report, "error") == []
    assert [o.rule.name for o in report.of("warned")] == WARNED.get(name, [])


PROGRAMS = {
    "a model and nothing else": """
        from transformers import BertConfig, BertForSequenceClassification
        config = BertConfig(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, vocab_size=99
        )
        model = BertForSequenceClassification(config)
    """,
    "a loader of dicts": """
        import torch
        from torch.utils.data import DataLoader
        from transformers import BertConfig, BertForSequenceClassification
        config = BertConfig(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, vocab_size=99
        )
        model = BertForSequenceClassification(config)
        texts = torch.randint(5, 99, (128, 12))
        rows = [
            {"input_ids": t, "attention_mask": torch.ones_like(t), "labels": (t[0] > 50).long()} for t in texts
        ]
        train_loader = DataLoader(rows, batch_size=16, shuffle=True)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    """,
    "labels of a language model, made by a collator": """
        import torch
        from torch.utils.data import DataLoader
        from transformers import GPT2Config, GPT2LMHeadModel
        model = GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=99, n_positions=64))

        def collate(texts):
            texts = torch.stack(texts)
            return {"input_ids": texts, "attention_mask": torch.ones_like(texts), "labels": texts.clone()}

        texts = list((torch.arange(16) + torch.arange(128)[:, None]) % 99)
        train_loader = DataLoader(texts, batch_size=16, shuffle=True, collate_fn=collate)
        optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    """,
    "starts and ends of answers": """
        import torch
        from torch.utils.data import DataLoader
        from transformers import DistilBertConfig, DistilBertForQuestionAnswering
        model = DistilBertForQuestionAnswering(
            DistilBertConfig(dim=32, n_layers=2, n_heads=2, hidden_dim=64, vocab_size=99)
        )
        texts = torch.randint(5, 99, (128, 12))
        rows = [
            {"input_ids": t, "start_positions": t.argmax(), "end_positions": t.argmax()} for t in texts
        ]
        train_loader = DataLoader(rows, batch_size=16)
    """,
    "a batch encoding, padded": """
        import torch
        from torch.utils.data import DataLoader
        from transformers import BatchEncoding, BertConfig, BertForTokenClassification
        config = BertConfig(
            hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, vocab_size=99,
            num_labels=3,
        )
        model = BertForTokenClassification(config)

        def collate(texts):
            ids = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True)
            labels = torch.where(ids > 0, ids % 3, -100)
            return BatchEncoding({"input_ids": ids, "attention_mask": (ids > 0).long(), "labels": labels})

        texts = [torch.randint(5, 99, (int(n),)) for n in torch.randint(4, 12, (128,))]
        train_loader = DataLoader(texts, batch_size=16, collate_fn=collate)
    """,
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_program_of_a_users_has_no_findings(name, tmp_path, capsys):
    path = tmp_path / "model.py"
    path.write_text(textwrap.dedent(PROGRAMS[name]))
    assert run(["scan", str(path), "--quick", "--steps", "20", "--format", "json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["summary"]["failed"] == report["summary"]["warned"] == 0
    assert report["target"]["loss"] == "the model's own loss"
