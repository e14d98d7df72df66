"""What the first batches of the training data hold."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import torch
from torch import Tensor

from gradcheck_kit.experiments import Probe
from gradcheck_kit.facts import DataSummary, TensorSummary
from gradcheck_kit.target.batches import batch_size_of
from gradcheck_kit.target.keep import keep_random_state, kept_generators
from gradcheck_kit.target.task import tensors
from gradcheck_kit.target.workspace import seed_everything

BATCHES = 16


def summarize_data(probe: Probe) -> DataSummary:
    """Shapes, ranges and labels over the first batches of the training data."""
    prepared = probe.prepared
    batches: list[Any] = []
    with keep_random_state(), kept_generators(prepared.train):
        seed_everything(prepared.settings.seed)
        for batch in prepared.train:
            batches.append(batch)
            if len(batches) == BATCHES:
                break
    inputs = [tensors(prepared.task.inputs(batch)) for batch in batches]
    targets = [tensors(prepared.task.target(batch)) for batch in batches]
    labels: Counter[int] = Counter()
    if prepared.task.classes_from:
        for found in targets:
            for target in found[:1]:
                if not target.is_floating_point():
                    labels.update(target.reshape(-1).tolist())
    return DataSummary(
        source=prepared.data,
        synthetic=prepared.synthetic,
        batches=len(batches),
        samples=sum(batch_size_of(batch) or 0 for batch in batches),
        inputs=_summaries("input", inputs),
        targets=_summaries("target", targets),
        labels=tuple(sorted(labels.items())),
    )


def _summaries(name: str, batches: list[list[Tensor]]) -> tuple[TensorSummary, ...]:
    count = min((len(found) for found in batches), default=0)
    return tuple(_summary(name if count == 1 else f"{name} {i}", [found[i] for found in batches]) for i in range(count))


def _summary(name: str, found: list[Tensor]) -> TensorSummary:
    values = torch.cat([t.detach().reshape(-1).to("cpu") for t in found])
    values = values.abs() if values.is_complex() else values.double()
    kept = values[torch.isfinite(values)]
    empty = kept.numel() == 0
    return TensorSummary(
        name=name,
        shape=tuple(found[0].shape),
        dtype=str(found[0].dtype).removeprefix("torch."),
        minimum=None if empty else float(kept.min()),
        maximum=None if empty else float(kept.max()),
        mean=None if empty else float(kept.mean()),
        std=None if kept.numel() < 2 else math.sqrt(float(kept.var())),
        non_finite=int(values.numel() - kept.numel()),
    )
