"""The user's data as batches: each time anew, deterministic, and moved to the device."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from gradcheck_kit.errors import DataError, UsageError
from gradcheck_kit.target import ProbeSettings
from gradcheck_kit.target.blame import located
from gradcheck_kit.target.fields import has_fields, with_fields
from gradcheck_kit.target.outputs import tensors


def as_batches(data: Any, name: str, settings: ProbeSettings, *, shuffle: bool) -> Iterable[Any]:
    """The user's data as something that yields batches, each time anew."""
    size = settings.batch_size
    if isinstance(data, DataLoader):
        if size is None or size == data.batch_size:
            return with_workers(data, 0) if data.worker_init_fn is None else with_workers(data)
        if data.batch_size is None or type(data.batch_sampler) is not torch.utils.data.BatchSampler:
            raise UsageError(f"--batch-size does not fit {name}, which makes its own batches; leave it out")
        return DataLoader(
            data.dataset,
            size,
            sampler=None if isinstance(data.dataset, IterableDataset) else data.sampler,
            collate_fn=data.collate_fn,
            drop_last=data.drop_last,
            generator=data.generator,
        )
    if isinstance(data, Tensor):
        data = TensorDataset(data)
    if isinstance(data, tuple) and data and all(isinstance(t, Tensor) and t.ndim for t in data):
        if len({len(t) for t in data}) == 1:
            data = TensorDataset(*data)
        else:
            raise DataError(f"{name} holds tensors of different lengths: {[len(t) for t in data]}")
    if isinstance(data, Dataset):
        count = None if isinstance(data, IterableDataset) else len(data)  # type: ignore[arg-type]
        if count == 0:
            raise DataError(f"{name} is empty: it holds no samples")
        return DataLoader(data, size or 64, shuffle=shuffle and count is not None)
    if size is not None:
        raise UsageError(f"--batch-size does not fit {name}, which already comes in batches; leave it out")
    if hasattr(data, "__next__"):
        return Remembered(data, settings.steps)
    if not hasattr(data, "__iter__") and not hasattr(data, "__getitem__"):
        raise DataError(f"{name} is a {type(data).__name__}, which cannot be iterated; use a DataLoader")
    return data  # type: ignore[no-any-return]


def with_workers(loader: DataLoader[Any], workers: int | None = None) -> DataLoader[Any]:
    """The loader with its own sampler and data set, and with no worker process that outlives an iteration.

    `workers` is how many, None for as many as it has. The probe iterates some ten times, often for one batch: starting
    processes for that costs more than it saves.
    """
    if not loader.num_workers and not loader.pin_memory:
        return loader
    twin = copy.copy(loader)
    # DataLoader forbids to set most of these after it was made.
    vars(twin).update(persistent_workers=False, pin_memory=False, _iterator=None)
    vars(twin).update(workers_left_out=loader.num_workers if workers == 0 else 0)
    if workers == 0:
        vars(twin).update(num_workers=0, timeout=0, prefetch_factor=None, _DataLoader__multiprocessing_context=None)
    return twin


class Remembered:
    """The first batches of an iterator that cannot be restarted, read when first asked for."""

    def __init__(self, source: Iterator[Any], most: int) -> None:
        self._source = itertools.islice(source, most)
        self._seen: list[Any] = []

    def __iter__(self) -> Iterator[Any]:
        yield from list(self._seen)
        for batch in self._source:
            self._seen.append(batch)
            yield batch


def first_batch(data: Iterable[Any], name: str) -> Any:
    """The first batch. Raises DataError when there is none or when loading it raises."""
    try:
        for batch in data:
            return batch
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{name} raised {located(error)} while its first batch was read") from error
    raise DataError(f"{name} yields no batch: it is empty; check its length, batch_size and drop_last")


def endless(batches: Iterable[Any]) -> Iterator[Any]:
    """Batch after batch, from the start again when they run out. Raises DataError when there is none."""
    while True:
        empty = True
        for batch in batches:
            empty = False
            yield batch
        if empty:
            raise DataError("the training data yields no batch; check its length, batch_size and drop_last")


def move(batch: Any, device: torch.device) -> Any:
    """A batch with its tensors on `device`; what pytree does not know is asked for its own `.to`."""

    def one(leaf: Any) -> Any:
        if isinstance(leaf, Tensor) or (not isinstance(leaf, nn.Module) and hasattr(leaf, "to")):
            return leaf.to(device)
        return with_fields(leaf, lambda part: move(part, device)) if has_fields(leaf) else leaf

    return pytree.tree_map(one, batch)


def batch_size_of(batch: Any) -> int | None:
    """How many samples a batch holds: one per dict in a list of them, as detectors take, else one per row."""
    parts = batch.values() if isinstance(batch, Mapping) else batch if isinstance(batch, list | tuple) else ()
    for part in parts:
        if isinstance(part, list | tuple) and part and all(isinstance(item, Mapping) for item in part):
            return len(part)
    return next((len(t) for t in tensors(batch) if t.ndim), None)


def describe(data: Iterable[Any], name: str) -> str:
    """How the header names the user's data: "train_loader: 2,048 samples in batches of 64"."""
    if isinstance(data, DataLoader):
        size = f"batches of {data.batch_size}" if data.batch_size else "its own batches"
        try:
            return f"{name}: {len(data.dataset):,} samples in {size}"  # type: ignore[arg-type]
        except TypeError:
            return f"{name}: samples in {size}"
    try:
        return f"{name}: {len(data):,} batches"  # type: ignore[arg-type]
    except TypeError:
        return f"{name}: batches"
