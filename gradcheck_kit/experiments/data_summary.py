"""What the first batches of the training data hold."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    WeightedRandomSampler,
)
from torch.utils.data import _utils as loading

from gradcheck_kit.errors import ProbeError
from gradcheck_kit.experiments import Probe
from gradcheck_kit.experiments.constant_input import SameInputs, given_of
from gradcheck_kit.experiments.stream_source import stream_source
from gradcheck_kit.facts import BadValues, ConstantInput, DataSummary, TensorSummary
from gradcheck_kit.target.batches import Remembered, batch_size_of
from gradcheck_kit.target.blame import located
from gradcheck_kit.target.keep import keep_random_state, kept_generators
from gradcheck_kit.target.outputs import tensors
from gradcheck_kit.target.task import Task
from gradcheck_kit.target.workspace import seed_everything

BATCHES = 12
FEWEST = 4  # batches, however large
NUMBERS = 2**24  # in all of them, beyond which no further batch is read
WIDE = 8  # numbers of a sample that two samples do not share by chance
SPREAD = 32  # samples from all over a data set whose first batches are of one class
WORKER_SAMPLES = 4  # that two workers are compared by


def summarize_data(probe: Probe) -> DataSummary:
    """Shapes, ranges, labels, bad values and repetitions over the first batches of one epoch."""
    prepared = probe.prepared
    seen = _Seen(prepared.task)
    with keep_random_state(), kept_generators(prepared.train):
        seed_everything(prepared.settings.seed)
        try:
            for batch in itertools.islice(prepared.train, BATCHES):
                seen.add(batch)
                if seen.batches >= FEWEST and seen.numbers > NUMBERS:
                    break
        except Exception as error:
            raise ProbeError(f"{prepared.name}: reading batch {seen.batches + 1} raised {located(error)}") from error
        order = _order(prepared.train)
        spread = _spread_labels(prepared.train, prepared.task, seen)
        repeat = _workers_repeat(prepared.train, prepared.settings.seed)
        holds, draws = _behind_one_batch(prepared.train, seen)
        constant = _constant_input(probe, seen)
    return DataSummary(
        source=prepared.data,
        synthetic=prepared.synthetic,
        batches=seen.batches,
        samples=sum(seen.sizes),
        inputs=tuple(s.summary() for s in _aligned(seen.inputs, seen.batches)),
        targets=tuple(s.summary() for s in _aligned(seen.targets, seen.batches)),
        labels=tuple(sorted(seen.labels.items())),
        order=order,
        dataset_size=_length(prepared.train),
        bad_values=tuple(s.bad() for s in (*seen.inputs.values(), *seen.targets.values()) if s.bad_elements),
        sizes=tuple(seen.sizes),
        same_as=tuple(seen.same_as),
        distinct=tuple(seen.distinct),
        same_chance=seen.same_chance(),
        label_batches=tuple(seen.label_batches),
        spread_labels=tuple(sorted(spread.items())),
        workers_repeat=repeat,
        stream_holds=holds,
        stream_draws=draws,
        distinct_samples=len(seen.rows) if seen.continuous else None,
        constant=constant,
    )


class _Seen:
    """What is kept of batches while they are read: a loader may fill the same memory again and again."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.batches = self.numbers = 0
        self.inputs: dict[str, _Statistics] = {}
        self.targets: dict[str, _Statistics] = {}
        self.labels: Counter[int] = Counter()
        self.label_batches: list[tuple[tuple[int, int], ...]] = []
        self.sizes: list[int] = []
        self.same_as: list[int] = []
        self.distinct: list[int] = []
        self.first: Any = None  # batch, for what its parts are called; a loader may have filled it again
        self.same = SameInputs(task)
        self._digests: dict[bytes, int] = {}
        self.rows: Counter[int] = Counter()  # samples, by what they hold
        self.continuous = False

    def add(self, batch: Any) -> None:
        size = batch_size_of(batch) or 0
        self.first = batch if self.first is None else self.first
        inputs, target = self.task.inputs(batch), self.task.target(batch)
        for name, tensor in _named("input", inputs):
            self.inputs.setdefault(name, _Statistics(name, is_target=False)).add(tensor, self.batches)
        for name, tensor in _named("target", target):
            self.targets.setdefault(name, _Statistics(name, is_target=True)).add(tensor, self.batches)
        self.continuous |= any(_is_continuous(tensor, size) for tensor in tensors(inputs))
        self._count_labels(target, size)
        self._compare(tensors([inputs, target]), size)
        self.same.add(batch)
        self.sizes.append(size)
        self.batches += 1

    def _count_labels(self, target: Any, size: int) -> None:
        if not self.task.classes_from or not isinstance(target, Tensor):
            return
        classes = target.argmax(1) if self.task.classes_from == "one-hot" else target
        found = Counter(classes.reshape(-1).long().tolist())
        self.labels.update(found)
        if classes.numel() == size:
            self.label_batches.append(tuple(sorted(found.items())))

    def _compare(self, found: list[Tensor], size: int) -> None:
        kept = [t for t in found if t.layout is torch.strided and t.numel()]
        parts = [_bytes(t) for t in kept]
        self.numbers += sum(t.numel() for t in found)
        whole = hashlib.blake2b(digest_size=16)
        for part in parts:
            whole.update(part)
        self.same_as.append(self._digests.setdefault(whole.digest(), self.batches))
        aligned = [part for part, tensor in zip(parts, kept, strict=True) if tensor.ndim and len(tensor) == size]
        if not aligned:
            self.distinct.append(size)
            return
        # Python's own hash differs between processes; here only equality counts.
        columns = [(part.tobytes(), part.shape[1]) for part in aligned]
        rows = [hash(tuple(data[i * n : (i + 1) * n] for data, n in columns)) for i in range(size)]
        self.distinct.append(len(set(rows)))
        self.rows.update(rows)

    def same_chance(self) -> float:
        total = sum(self.rows.values())
        if total == 0 or self.batches < 2:
            return 1.0
        one = sum((count / total) ** 2 for count in self.rows.values())
        pairs = self.batches * (self.batches - 1) / 2
        return min(1.0, pairs * one ** min(self.sizes))


def _is_continuous(tensor: Tensor, size: int) -> bool:
    """Whether a sample holds so many real numbers that no two are equal by chance: no flags, tokens or one-hots."""
    if not tensor.is_floating_point() or tensor.layout is not torch.strided or not size:
        return False
    return tensor.numel() >= WIDE * size and bool((tensor != tensor.round()).double().mean() > 0.1)


def _named(role: str, value: Any) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a part of a batch, by key where they have one."""
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[1], Mapping) and isinstance(value[0], tuple):
        value = value[1] or value[0]
    value = value[0] if isinstance(value, tuple) and len(value) == 1 else value
    if isinstance(value, Mapping):
        for key, part in value.items():
            for i, tensor in enumerate(found := tensors(part)):
                yield (f"{role} {key}" if len(found) == 1 else f"{role} {key} {i}"), tensor
        return
    found = tensors(value)
    for i, tensor in enumerate(found):
        yield (role if len(found) == 1 else f"{role} {i}"), tensor


def _bytes(tensor: Tensor) -> Any:
    """The tensor's bytes as an array, one row per sample."""
    dense = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
    dense = torch.view_as_real(dense).contiguous() if dense.is_complex() else dense
    return dense.reshape(len(dense) if dense.ndim else 1, -1).view(torch.uint8).numpy()


def _aligned(found: Mapping[str, _Statistics], batches: int) -> list[_Statistics]:
    """Those that every batch had."""
    return [statistics for statistics in found.values() if statistics.batches == batches]


class _Statistics:
    """Range, mean and spread of one tensor of a batch over batches, and where it is not finite."""

    def __init__(self, name: str, *, is_target: bool) -> None:
        self.name, self.is_target = name, is_target
        self.batches = self.count = self.bad_elements = self.bad_samples = self.bad_batches = 0
        self.mean = self.squares = 0.0
        self.low, self.high = math.inf, -math.inf
        self.shape: tuple[int, ...] = ()
        self.dtype = ""
        self.nan = self.infinite = False
        self.first: tuple[int, int] = (0, 0)
        self.features: Counter[int] = Counter()
        self.axis = ""

    def add(self, tensor: Tensor, batch: int) -> None:
        if not self.batches:
            self.shape, self.dtype = tuple(tensor.shape), str(tensor.dtype).removeprefix("torch.")
        self.batches += 1
        values = tensor.detach()
        values = values.coalesce().values() if values.layout is torch.sparse_coo else values
        if values.layout is not torch.strided or not values.numel():
            return
        values = values.to("cpu")
        values = values.abs() if values.is_complex() else values.double()
        fine = torch.isfinite(values)
        if not bool(fine.all()):
            self._locate(values, ~fine, batch)
            values = values[fine]
        if not values.numel():
            return
        self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))
        # Chan et al. (1983): means and squares of parts make those of the whole, without cancellation.
        variance, mean = torch.var_mean(values, correction=0)
        n, delta = values.numel(), float(mean) - self.mean
        self.squares += float(variance) * n + delta**2 * self.count * n / (self.count + n)
        self.mean += delta * n / (self.count + n)
        self.count += n

    def _locate(self, values: Tensor, bad: Tensor, batch: int) -> None:
        self.nan |= bool(torch.isnan(values).any())
        self.infinite |= bool(torch.isinf(values).any())
        rows = bad.reshape(len(bad) if bad.ndim else 1, -1).any(1)
        if not self.bad_elements:
            self.first = (batch, int(rows.nonzero()[0]))
        self.bad_elements += int(bad.sum())
        self.bad_samples += int(rows.sum())
        self.bad_batches += 1
        if bad.ndim >= 2 and bad[0].numel() > 1:
            # Images (N, C, H, W) have channels; vectors, sequences (N, T, F) and volumes without them, features.
            self.axis, dim = ("channel", 1) if bad.ndim >= 4 else ("feature", -1)
            counts = bad.movedim(dim, 0).reshape(bad.shape[dim], -1).sum(1)
            self.features.update({int(i): int(counts[i]) for i in counts.nonzero()[:, 0]})

    def summary(self) -> TensorSummary:
        return TensorSummary(
            name=self.name,
            shape=self.shape,
            dtype=self.dtype,
            minimum=self.low if self.count else None,
            maximum=self.high if self.count else None,
            mean=self.mean if self.count else None,
            std=math.sqrt(self.squares / (self.count - 1)) if self.count > 1 else None,
            non_finite=self.bad_elements,
        )

    def bad(self) -> BadValues:
        return BadValues(
            tensor=self.name,
            is_target=self.is_target,
            value="nan and inf" if self.nan and self.infinite else "nan" if self.nan else "inf",
            elements=self.bad_elements,
            samples=self.bad_samples,
            batches=self.bad_batches,
            first_batch=self.first[0],
            first_sample=self.first[1],
            axis=self.axis,
            features=tuple(self.features.most_common(8)),
        )


# ---- in which order ----------------------------------------------------------------------------------------------


def _order(train: Any) -> str:
    """By whom batches are chosen, see `DataSummary.order`."""
    if not isinstance(train, DataLoader):
        return "stream" if isinstance(train, Remembered) else "batches"
    if isinstance(train.dataset, IterableDataset):
        return "stream"
    if train.batch_sampler is None:
        return "batches"
    if type(train.batch_sampler) is not BatchSampler:
        return "own"
    kinds = {SequentialSampler: "sequential", RandomSampler: "shuffled", WeightedRandomSampler: "weighted"}
    return kinds.get(type(train.sampler), "own")


def _length(train: Any) -> int | None:
    if not isinstance(train, DataLoader) or isinstance(train.dataset, IterableDataset):
        return None
    try:
        return len(train.dataset)  # type: ignore[arg-type]
    except TypeError:
        return None


def _spread_labels(train: Any, task: Task, seen: _Seen) -> Counter[int]:
    """The labels of samples from all over the data set, where the first batches may be of its first class.

    A sampler of one's own may read the data set in its order, too.
    """
    found: Counter[int] = Counter()
    length = _length(train) or 0
    if _order(train) not in ("sequential", "own"):
        return found
    if not seen.label_batches or length <= sum(seen.sizes) or len(seen.labels) > len(seen.label_batches):
        return found
    try:
        target = task.target(_spread_batch(train))
    except Exception:  # noqa: BLE001  # a data set that is read otherwise than by its sampler is left alone
        return found
    if isinstance(target, Tensor):
        classes = target.argmax(1) if task.classes_from == "one-hot" else target
        found.update(classes.reshape(-1).long().tolist())
    return found


def _spread_batch(train: Any) -> Any:
    """Samples from all over a data set, as a batch."""
    length = _length(train) or 0
    places: Sequence[int] = range(0, length, max(1, length // SPREAD))
    return train.collate_fn([train.dataset[place] for place in places])


def _constant_input(probe: Probe, seen: _Seen) -> ConstantInput | None:
    """What all samples hold, also those from all over a data set that is read in its order."""
    prepared = probe.prepared
    if not seen.same.alive or prepared.synthetic:
        return None
    named = {id(tensor): name for name, tensor in _named("input", prepared.task.inputs(seen.first))}
    names = {i: named.get(id(t), "input") for i, t in enumerate(given_of(prepared.task, seen.first))}
    try:
        if _order(prepared.train) == "sequential" and (_length(prepared.train) or 0) > sum(seen.sizes):
            seen.same.add(_spread_batch(prepared.train))
        return seen.same.result(probe, names)
    except Exception:  # noqa: BLE001  # a data set that is read otherwise than by its sampler is left alone
        return None


def _behind_one_batch(train: Any, seen: _Seen) -> tuple[int | None, bool]:
    """Of a stream, or a loader of one's own making, whose batches are all equal: see `stream_source`."""
    if seen.batches < 2 or set(seen.same_as) != {0}:
        return None, False
    try:
        if isinstance(train, DataLoader) and isinstance(train.dataset, IterableDataset):
            return stream_source(train.dataset, seen.sizes[0], train.batch_size)
        if not isinstance(train, DataLoader | Remembered | list | tuple) and hasattr(train, "__iter__"):
            return stream_source(train, seen.sizes[0], None)
    except Exception:  # noqa: BLE001, S110  # a stream that cannot be read twice, or hides what it holds
        pass
    return None, False


def _workers_repeat(train: Any, seed: int) -> bool | None:
    """Whether two workers of a stream begin with the same samples, which then come once per worker in every epoch.

    No process is started: the data set is told that it runs in one worker, and then in the other.
    """
    workers = getattr(train, "workers_left_out", 0)
    if not isinstance(train, DataLoader) or workers < 2:
        return None
    if not isinstance(train.dataset, IterableDataset) or train.worker_init_fn is not None:
        return None
    if isinstance(train.dataset, torch.utils.data.IterDataPipe):
        return None  # a loader shards these by itself
    begun: list[list[bytes]] = []
    for worker in range(2):
        loading.worker._worker_info = loading.worker.WorkerInfo(  # noqa: SLF001  # what get_worker_info returns
            id=worker, num_workers=workers, seed=seed + worker, dataset=train.dataset
        )
        try:
            seed_everything(seed + worker)
            samples = list(itertools.islice(iter(train.dataset), WORKER_SAMPLES))
        except Exception:  # noqa: BLE001  # what does not work in a worker is not judged
            return None
        finally:
            loading.worker._worker_info = None  # noqa: SLF001
        found = [[_bytes(t).tobytes() for t in tensors(_as_tensors(sample))] for sample in samples]
        begun.append([b"".join(parts) for parts in found])
    first, second = begun
    return bool(first) and all(first) and len(set(first)) > 1 and first == second


def _as_tensors(sample: Any) -> Any:
    """A sample with its numbers and arrays as tensors, as collating makes them."""
    return torch.utils.data.default_convert(sample)
