"""Finds which rows of a learned embedding of positions the losses of training and of test data depend on."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from gradcheck_kit.experiments import NotApplicable, Probe
from gradcheck_kit_transformers.experiments.calls import evaluated, in_evaluation_mode, part_equal_weights
from gradcheck_kit_transformers.facts import PositionTable, PositionUse

MOST_TEST = 32  # test batches that are looked at
MOST_TRAINING = 512  # training batches, until all that the test data reaches was reached: as a rule two or three
_POSITION = re.compile(r"(^|[._])(pos|wpe|position|positions|positional)([._]|$)|pos_?emb|position_?emb|posenc")


@dataclass(slots=True)
class _Table:
    name: str
    parameter: nn.Parameter
    dim: int
    pretrained: bool
    trained: set[int] = field(default_factory=set)
    tested: set[int] = field(default_factory=set)
    by_batch: list[set[int]] = field(default_factory=list)


def look_at_positions(probe: Probe) -> PositionUse:
    """Rows whose gradient is not exactly zero, in evaluation mode: test data first, then training until all is seen."""
    with probe.workspace() as work:
        tables = list(_tables(work.model))
        limit_name, limit = _stated_limit(work.model)
        if not tables and limit is None:
            raise NotApplicable("the model has no learned embedding of positions, and states no limit for rotary ones")
        in_evaluation_mode(work.model)
        part_equal_weights(work.model)
        try:
            test = list(itertools.islice(probe.test_batches(work), MOST_TEST))
        except NotApplicable:
            if limit is None:
                raise
            test = []
        for batch in test:
            for table, rows in zip(tables, _reached(work, tables, batch), strict=True):
                table.tested |= rows
                table.by_batch.append(rows)
        lengths = [(_length(work, batch), "test") for batch in test]
        seen = 0
        for seen, batch in enumerate(itertools.islice(map(work.to_device, probe.train_data), MOST_TRAINING), 1):
            if limit is not None:
                lengths.append((_length(work, batch), "training"))
            if any(table.tested - table.trained for table in tables):
                for table, rows in zip(tables, _reached(work, tables, batch), strict=True):
                    table.trained |= rows
            elif limit is None:
                break
            probe.tick(seen, MOST_TRAINING)
        if seen == MOST_TRAINING and any(table.tested - table.trained for table in tables):
            raise NotApplicable(f"{MOST_TRAINING} training batches did not reach every position, and more may")
    longest, where = max(lengths, default=(0, ""))
    return PositionUse(
        tuple(map(_fact, tables)), seen, len(test), longest if limit is not None else None, where, limit, limit_name
    )


def _fact(table: _Table) -> PositionTable:
    untrained = table.tested - table.trained
    touched = sum(bool(rows & untrained) for rows in table.by_batch)
    size = table.parameter.shape[table.dim]
    return PositionTable(
        table.name, size, len(table.trained), len(table.tested), tuple(sorted(untrained)), touched, table.pretrained
    )


def _tables(model: nn.Module) -> Iterator[_Table]:
    """Trainable embeddings, and parameters of a module of one's own, that are named as positions."""
    for prefix, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.modules.conv._ConvNd):  # noqa: SLF001  # the common base has no public name
            continue
        for own, parameter in module.named_parameters(prefix, recurse=False):
            if not parameter.requires_grad or not _POSITION.search(own.lower()):
                continue
            long = [d for d, size in enumerate(parameter.shape[:-1]) if size > 1]
            if parameter.ndim in (2, 3) and len(long) == 1 and parameter.shape[long[0]] >= 4:
                yield _Table(own, parameter, long[0], _structured(parameter.detach().movedim(long[0], 0).flatten(1)))


def _structured(rows: Tensor) -> bool:
    """Whether neighbouring rows resemble each other more than independent draws: training makes them so.

    The cosine of two independent rows of width d has mean 0 and variance 1/d.
    """
    rows = rows.double()[rows.double().square().sum(1) > 0]
    if len(rows) < 3 or bool((rows == rows[:1]).all()):
        return False
    cosine = torch.cosine_similarity(rows[1:], rows[:-1], dim=1)
    return bool(cosine.mean().abs() * (len(cosine) * rows.shape[1]) ** 0.5 > 6)


def _reached(work: Any, tables: Iterable[_Table], batch: Any) -> list[set[int]]:
    """By table, the rows that the loss of this batch depends on."""
    tables = list(tables)
    _, loss = evaluated(work, batch)
    if not tables or not loss.requires_grad:
        return [set() for _ in tables]
    parameters = [table.parameter for table in tables]
    gradients = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
    found = []
    for table, gradient in zip(tables, gradients, strict=True):
        dense = gradient.to_dense() if gradient.is_sparse else gradient
        rows = (dense != 0).movedim(table.dim, 0).flatten(1).any(1)  # NaN is not 0
        found.append(set(rows.nonzero()[:, 0].tolist()))
    return found


def _stated_limit(model: nn.Module) -> tuple[str, int | None]:
    """How long sequences may be by the configuration, for rotary positions that are not scaled to reach beyond.

    Learned positions have a table, which ends; relative biases and ALiBi have no end.
    """
    config = getattr(model, "config", None)
    if config is None or not any("rotary" in type(module).__name__.lower() for module in model.modules()):
        return "", None
    scaling = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    kind = scaling.get("rope_type", scaling.get("type", "default")) if isinstance(scaling, dict) else "default"
    limit = getattr(config, "max_position_embeddings", None)
    return ("max_position_embeddings", limit) if isinstance(limit, int) and kind == "default" else ("", None)


def _length(work: Any, batch: Any) -> int:
    """The longest sequence of tokens that the model is given."""
    leaves = torch.utils._pytree.tree_leaves(work.inputs(batch))  # noqa: SLF001  # torch's own name for it
    tokens = [t for t in leaves if isinstance(t, Tensor) and t.ndim == 2 and not t.is_floating_point()]
    return max((t.shape[1] for t in tokens), default=0)
