"""Padded texts as a tokenizer and its collator make them, for models of transformers."""

from __future__ import annotations

import torch
from torch.utils.data import DataLoader

PADDING = 0
LONGEST = 16


def texts(count=64, vocabulary=99, least=5):
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(least, LONGEST + 1, (count,), generator=generator)
    return [torch.randint(5, vocabulary, (int(n),), generator=generator) for n in lengths]


def padded(text, *, left=False, padding=PADDING, length=LONGEST):
    """The tokens and their attention mask."""
    fill = torch.full((length - len(text),), padding)
    ids = torch.cat([fill, text] if left else [text, fill])
    words = torch.zeros(length, dtype=torch.long)
    words[(length - len(text) if left else 0) :][: len(text)] = 1
    return ids, words


def loader(make, *, left=False, padding=PADDING, batch=12, **options):
    """Batches of what `make(ids, mask, text)` returns for every text."""
    rows = [make(*padded(text, left=left, padding=padding), text) for text in texts(**options)]
    return DataLoader(rows, batch, shuffle=True)


def encoded(name, ids, mask, text):
    """A row for the class of transformers with that name."""
    if name.startswith("Bart"):
        ids = ids.clone()
        ids[mask.sum() - 1] = 2  # the end of the text, where it reads its verdict off
    row = {"input_ids": ids, "attention_mask": mask}
    if name.endswith(("ForMaskedLM", "ForCausalLM", "LMHeadModel")):
        return row | {"labels": ids.masked_fill(mask == 0, -100)}
    if name.endswith("ForTokenClassification"):
        return row | {"labels": (ids % 5).masked_fill(mask == 0, -100)}
    if name.endswith("ForQuestionAnswering"):
        first = int(mask.argmax())
        return row | {"start_positions": torch.tensor(first), "end_positions": torch.tensor(first + 3)}
    if name.endswith(("ForConditionalGeneration", "MTModel")):
        return row | {"labels": text[:5] % 90 + 5}
    if name == "ElectraForPreTraining":
        return row | {"labels": ((ids % 2) * mask)}
    if name == "XLMRobertaForSequenceClassification":
        return row | {"labels": text[0].float()}
    if name == "RobertaForSequenceClassification":
        return row | {"labels": (text[:5] % 2).float()}
    return row | {"labels": text[0] % 2}
