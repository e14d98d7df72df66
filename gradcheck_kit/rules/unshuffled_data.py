from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

from gradcheck_kit.facts import DataSummary
from gradcheck_kit.rule import Bar, Finding, Skip, rule


@rule("GK505", needs=(DataSummary,), explains=("GK104", "GK205", "GK601", "GK603"))
def unshuffled_data(data: DataSummary, *, excess: float = 0.9, p: float = 1e-6) -> Iterator[Finding]:
    """Batches are of one class, one batch after the other, as data that is sorted by class yields them in its order.

    The chance that two samples of a batch are of one class is 0 above the whole data's for batches drawn at random
    and 1 above it for batches of one class; from `excess` on is an error, from half of it a warning, where the loader
    reads the data in its order. Where somebody else chooses the batches, from `excess` on is a warning.
    """
    if data.synthetic:
        raise Skip("the data is made up")
    if data.order in ("shuffled", "weighted"):
        raise Skip("samples are drawn at random")
    chosen = data.order != "sequential"  # by the user's own sampler, stream or loader
    shares = data.same_class_shares()
    if shares is None or len(data.label_batches) < 2 or max(data.sizes) < 4:
        raise Skip("there are no class labels, one per sample, of several batches")
    within, whole = shares
    if whole >= 0.95:
        raise Skip("nearly all samples are of one class")
    measured = (within - whole) / (1 - whole)
    if not measured > excess / 2:
        return
    if chosen and (measured < excess or not _in_blocks(data)):
        raise Skip("the user's own sampler or loader makes batches of few classes, which come in no order")
    chance = _chance(data)
    if not chance < p:
        raise Skip("the batches are too few to tell their order from chance")
    pure = sum(1 for batch in data.label_batches if _purity(batch) >= 0.9)
    runs = len(set(map(_commonest, data.label_batches)))
    yield Finding(
        where=data.source.partition(":")[0],
        message=f"{pure} of the first {len(data.label_batches)} batches are of one class (nine samples in ten or more);"
        f" two samples of a batch are of the same class in {within:.0%} of cases, two samples of the whole data in "
        f"{whole:.0%}. The data is sorted by class and "
        + (
            "your sampler or loader keeps that order from batch to batch." if chosen else "the loader does not shuffle."
        ),
        evidence={"within": within, "whole": whole, "excess": measured, "limit": excess, "classes": runs, "p": chance},
        fixes=(
            "Shuffle the order of all samples before they are cut into batches: torch.randperm(len(dataset))."
            if chosen
            else "Pass shuffle=True to the training DataLoader.",
        ),
        severity=None if measured >= excess and not chosen else "warning",
        profile=tuple(
            Bar(f"batch {i}", f"class {_commonest(batch)}", _purity(batch))
            for i, batch in enumerate(data.label_batches[:8])
        ),
    )


def _in_blocks(data: DataSummary) -> bool:
    """Whether a class stays for several batches, as in sorted data; real and generated samples in turn do not."""
    classes = [_commonest(batch) for batch in data.label_batches]
    return 2 * sum(one != other for one, other in itertools.pairwise(classes)) <= len(classes)


def _purity(batch: tuple[tuple[int, int], ...]) -> float:
    return max(n for _, n in batch) / sum(n for _, n in batch)


def _commonest(batch: tuple[tuple[int, int], ...]) -> int:
    return max(batch, key=lambda pair: pair[1])[0]


def _chance(data: DataSummary) -> float:
    """An upper bound of the probability that as many samples share their batch's commonest class by chance.

    Each batch's commonest class may be any: a union bound over the classes, and Hoeffding's inequality (1963) over
    its samples.
    """
    counts = data.spread_labels or data.labels
    total = sum(n for _, n in counts)
    largest = max(n for _, n in counts) / total
    exponent = 0.0
    for batch in data.label_batches:
        n = sum(count for _, count in batch)
        above = _purity(batch) - largest
        exponent += max(0.0, 2 * n * above * abs(above) - math.log(len(counts)))
    return math.exp(-exponent)
