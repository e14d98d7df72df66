"""What the data holds."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


def _same(counts: Iterable[tuple[int, int]]) -> float | None:
    """The chance that two different samples are of one class."""
    numbers = [count for _, count in counts]
    n = sum(numbers)
    return sum(count * (count - 1) for count in numbers) / (n * (n - 1)) if n > 1 else None


@dataclass(frozen=True, slots=True)
class TensorSummary:
    """One tensor of a batch over the batches looked at. `mean` and `std` are over finite elements."""

    name: str
    shape: tuple[int, ...]  # of one batch
    dtype: str
    minimum: float | None
    maximum: float | None
    mean: float | None
    std: float | None
    non_finite: int  # elements


@dataclass(frozen=True, slots=True)
class BadValues:
    """Where one tensor of the training data holds NaN or infinity, over the batches looked at."""

    tensor: str  # "input", "target 1", ...
    is_target: bool
    value: str  # "nan", "inf" or "nan and inf"
    elements: int
    samples: int  # that hold any
    batches: int
    first_batch: int
    first_sample: int  # in that batch
    axis: str  # what `features` counts along: "feature" or "channel"; "" when the tensor has one number per sample
    features: tuple[tuple[int, int], ...]  # (index, bad elements), the worst first


@dataclass(frozen=True, slots=True)
class ConstantInput:
    """What all samples hold, where all that the model is given of them is the same but for how far it is padded."""

    tensor: str  # "input", "input 1", ...
    value: float
    padding: float | None  # that follows it, or comes before; None: there is none
    elements: int  # that are the value
    samples: int
    width: int  # numbers of a sample
    embedding: str  # the module that looks the value up; "": none does
    rows: int  # of that embedding


@dataclass(frozen=True, slots=True)
class DataSummary:
    """What the training data holds, over the first batches of one epoch."""

    source: str
    synthetic: bool
    batches: int
    samples: int
    inputs: tuple[TensorSummary, ...]
    targets: tuple[TensorSummary, ...]
    labels: tuple[tuple[int, int], ...]  # (class, count), when the target is class indices
    order: str  # by whom batches are chosen: "sequential", "shuffled", "weighted" or "own" sampler, "stream", "batches"
    dataset_size: int | None  # samples, of a data set with a length
    bad_values: tuple[BadValues, ...]
    sizes: tuple[int, ...]  # samples per batch
    same_as: tuple[int, ...]  # per batch: the first one that equals it to the last bit, which may be itself
    distinct: tuple[int, ...]  # per batch: samples that differ from the others in it
    same_chance: float  # that any two batches are equal by chance, were samples drawn from those that were seen
    label_batches: tuple[tuple[tuple[int, int], ...], ...]  # (class, count) per batch; empty unless one per sample
    spread_labels: tuple[tuple[int, int], ...]  # likewise, of samples from all over a data set, read in order perhaps
    workers_repeat: bool | None  # two workers of a stream yield the same samples; None: not a stream with workers
    # Of a stream whose batches are all equal:
    stream_holds: int | None = None  # samples in memory that it takes its own from; None: none that can be seen
    stream_draws: bool = False  # its code names random numbers or files
    distinct_samples: int | None = None  # over all batches; None: samples hold too few numbers to tell
    constant: ConstantInput | None = None  # None: samples differ, or that was not looked at

    def same_class_shares(self) -> tuple[float, float] | None:
        """The chance that two samples of one batch are of one class, and that of two samples of the whole data."""
        whole = _same(self.spread_labels or self.labels)
        within = [
            (share, sum(n for _, n in batch)) for batch in self.label_batches if (share := _same(batch)) is not None
        ]
        if whole is None or not within:
            return None
        return sum(share * n for share, n in within) / sum(n for _, n in within), whole
