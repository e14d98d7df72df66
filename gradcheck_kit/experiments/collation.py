"""Whether a collate_fn of somebody's own only stacks and pads: then the samples of a batch are bound no more than
torch's own collation binds them.

The same samples are collated together, in part and one by one, and each row is looked for. A mixup, a graph, pairs
within the batch and an episode do not come out as what their samples give alone.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils.data import DataLoader, IterableDataset

from gradcheck_kit.experiments import NotApplicable
from gradcheck_kit.target.outputs import tensors
from gradcheck_kit.target.task import Task
from gradcheck_kit.target.workspace import seed_everything

FEWEST = 4


def refuse_binding(train: DataLoader[Any], task: Task, *, most: int, seed: int) -> None:
    """Raise NotApplicable, with the reason, unless the loader's own collate_fn is seen to stack and pad only.

    It draws from the loader's sampler and from the global generators; whoever calls this puts them back.
    """
    try:
        samples = _samples(train, most)
        together, again = (_collated(train, samples, task, seed + i) for i in range(2))
        part = _collated(train, samples[: len(samples) // 2], task, seed)
        alone = [_collated(train, [sample], task, seed) for sample in samples]
    except Exception as error:
        raise NotApplicable("the data has a collate_fn of its own, which cannot be tried on fewer samples") from error
    if len(samples) < FEWEST:
        raise NotApplicable("a batch of fewer than four samples tells nothing")
    if not _equal(together, again):
        raise NotApplicable("the data has a collate_fn of its own, which draws random numbers")
    if not (_are_rows(together, alone) and _are_rows(part, alone[: len(samples) // 2])):
        raise NotApplicable("the data has a collate_fn of its own, which may mean to bind samples")


def _samples(train: DataLoader[Any], most: int) -> list[Any]:
    """The first samples of an epoch, as the loader would fetch them."""
    data: Any = train.dataset
    if isinstance(data, IterableDataset):
        return list(itertools.islice(data, min(most, train.batch_size or 1)))
    assert train.batch_sampler is not None
    indices = list(next(iter(train.batch_sampler)))[:most]
    return list(data.__getitems__(indices)) if hasattr(data, "__getitems__") else [data[i] for i in indices]


def _collated(train: DataLoader[Any], samples: Sequence[Any], task: Task, seed: int) -> list[Tensor]:
    """The tensors of the batch that these samples make.

    Raises TypeError where the model is given anything beside tensors: a number may be of the whole batch.
    """
    seed_everything(seed)
    batch = train.collate_fn(copy.deepcopy(list(samples)))  # which may well write into its samples
    if any(isinstance(leaf, int | float) for leaf in pytree.tree_leaves(task.inputs(batch))):
        raise TypeError
    return [t.detach() for t in tensors(batch)]


def _equal(first: Sequence[Tensor], second: Sequence[Tensor]) -> bool:
    return len(first) == len(second) and all(
        a.shape == b.shape and a.dtype == b.dtype and _same(a, b) for a, b in zip(first, second, strict=True)
    )


def _same(a: Tensor, b: Tensor) -> bool:
    return bool(((a == b) | ((a != a) & (b != b))).all())  # noqa: PLR0124  # NaN is not equal to itself


def _are_rows(together: Sequence[Tensor], alone: Sequence[Sequence[Tensor]]) -> bool:
    """Whether each row of every tensor is that of one sample collated alone, up to padding.

    Rows are in the order of the samples, or sorted by their length, as packed sequences used to want it.
    """
    count = len(alone)
    if not together or any(len(one) != len(together) for one in alone):
        return False
    for whole, *rows in zip(together, *alone, strict=True):
        if whole.layout is not torch.strided or not whole.ndim or len(whole) != count:
            return False
        if any(row.ndim != whole.ndim or len(row) != 1 for row in rows):
            return False
        # What is wider than the widest of its samples is not padded to the longest: it grows with their number.
        if tuple(whole.shape[1:]) != tuple(map(max, zip(*(row.shape[1:] for row in rows), strict=True))):
            return False
    return _in_place(together, alone) or any(
        _in_place(together, [alone[j] for j in order]) for order in _orders_by_length(alone)
    )


def _in_place(together: Sequence[Tensor], alone: Sequence[Sequence[Tensor]]) -> bool:
    return all(_padded(whole, [row[0] for row in rows]) for whole, *rows in zip(together, *alone, strict=True))


def _padded(whole: Tensor, rows: Sequence[Tensor]) -> bool:
    """Whether the rows are these, each in one corner of its place, and one number fills all the rest."""
    filling: list[Tensor] = []
    for place, row in zip(whole, rows, strict=True):
        if row.dtype != place.dtype:
            return False
        if row.shape == place.shape:
            if not _same(place, row):
                return False
            continue
        at_end = tuple(slice(0, n) for n in row.shape)
        at_start = tuple(slice(m - n, m) for n, m in zip(row.shape, place.shape, strict=True))
        corner = next((c for c in (at_end, at_start) if _same(place[c], row)), None)
        if corner is None:
            return False
        outside = torch.ones(place.shape, dtype=torch.bool, device=place.device)
        outside[corner] = False
        filling.append(place[outside])
    if not filling:
        return True
    rest = torch.cat(filling)
    return _same(rest, rest[:1].expand_as(rest))


def _orders_by_length(alone: Sequence[Sequence[Tensor]]) -> list[list[int]]:
    """The samples by their number of elements in each tensor that is not equally long for all, the longest first."""
    found = []
    for i in range(len(alone[0])):
        lengths = [one[i].numel() for one in alone]
        if len(set(lengths)) > 1:
            found.append(sorted(range(len(alone)), key=lengths.__getitem__, reverse=True))
    return found
