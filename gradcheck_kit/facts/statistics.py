"""Statistics of recorded series, on plain numbers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from statistics import fmean, median

Series = tuple[float | None, ...]


def middle(values: Iterable[float | None]) -> float | None:
    """The median of what was recorded; None when nothing was, NaN when any of it is NaN."""
    present = [value for value in values if value is not None]
    if not present:
        return None
    return math.nan if any(map(math.isnan, present)) else median(present)


def end_to_end(norms: Sequence[float]) -> float | None:
    """The largest norm among the first fifth over the largest among the last fifth; zeros do not count.

    A fifth and not one layer: one odd branch at either end is no profile. Exact zeros are a cut or dead units, which
    other rules name. None when fewer than three values are left.
    """
    present = [norm for norm in norms if norm > 0]
    if len(present) < 3:
        return None
    fifth = math.ceil(len(present) / 5)
    return max(present[:fifth]) / max(present[-fifth:])


def mann_kendall(values: Sequence[float]) -> float:
    """The Mann-Kendall trend statistic as a z-score: negative when the values fall (0.0 for fewer than four)."""
    n = len(values)
    if n < 4:
        return 0.0
    s = sum((b > a) - (b < a) for i, a in enumerate(values) for b in values[i + 1 :])
    ties = sum(t * (t - 1) * (2 * t + 5) for t in Counter(values).values() if t > 1)
    variance = (n * (n - 1) * (2 * n + 5) - ties) / 18
    if variance <= 0:
        return 0.0
    return (s - (s > 0) + (s < 0)) / math.sqrt(variance)


def signed_rank(differences: Iterable[float]) -> float:
    """The z-score of Wilcoxon's signed-rank test: positive where the differences are (0.0 for fewer than six).

    Wilcoxon (1945), "Individual comparisons by ranking methods", Biometrics Bulletin 1. Zeros do not count.
    """
    present = sorted((d for d in differences if d != 0), key=abs)
    n = len(present)
    if any(map(math.isnan, present)):
        return math.nan
    if n < 6:
        return 0.0
    ranks: dict[float, list[int]] = {}
    for rank, d in enumerate(present, start=1):
        ranks.setdefault(abs(d), []).append(rank)
    positive = math.fsum(fmean(ranks[d]) for d in present if d > 0)
    return (positive - n * (n + 1) / 4) / math.sqrt(n * (n + 1) * (2 * n + 1) / 24)


def binomial_tail(least: int, samples: int, chance: float) -> float:
    """P(X >= least) for X ~ Binomial(samples, chance)."""
    if chance <= 0:
        return 1.0 if least <= 0 else 0.0
    logs = [
        math.lgamma(samples + 1) - math.lgamma(k + 1) - math.lgamma(samples - k + 1)
        + k * math.log(chance) + (samples - k) * math.log1p(-chance)
        for k in range(least, samples + 1)
    ]  # fmt: skip
    return math.fsum(map(math.exp, logs))


def swing(losses: Sequence[float]) -> float:
    """The RMS deviation of the second half from a straight line through it, in units of the loss; inf where it is."""
    half = losses[len(losses) // 2 :]
    if not half or not all(map(math.isfinite, losses)):
        return math.inf
    middle_step, mean = (len(half) - 1) / 2, fmean(half)
    times = [i - middle_step for i in range(len(half))]
    spread = math.fsum(t * t for t in times)
    slope = math.fsum(t * loss for t, loss in zip(times, half, strict=True)) / spread if spread else 0.0
    try:
        return math.sqrt(fmean((loss - mean - slope * t) ** 2 for t, loss in zip(times, half, strict=True)))
    except OverflowError:
        return math.inf


def windows(values: Sequence[float], count: int) -> list[float]:
    if len(values) <= count:
        return list(values)
    edges = [round(i * len(values) / count) for i in range(count + 1)]
    return [fmean(values[a:b]) for a, b in pairwise(edges)]
