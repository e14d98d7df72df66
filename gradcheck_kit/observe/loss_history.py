"""The loss of every step of a run of any length, in bounded memory and without waiting for the device."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

MOST = 2048  # windows that are kept: more than a trend test needs
CHUNK = 64  # losses that wait as tensors of their own before they are added up


class LossHistory:
    """Means over windows of equally many steps, one step at first; a full history halves its resolution.

    What has not been read yet stays on the device, as tensors of shape ().
    """

    def __init__(self, most: int = MOST) -> None:
        self.window = 1  # steps in each mean
        self._most = most
        self._known: list[float] = []  # means that have been read; NaN is `math.nan` itself
        self._unread: list[Tensor] = []  # those after them
        self._waiting: list[Tensor] = []  # of the window that is not complete, at most CHUNK
        self._sum: Tensor | None = None  # of those of it that waited before
        self._count = 0

    def add(self, loss: Tensor) -> None:
        """The loss of one more step, shape () and without a graph."""
        self._waiting.append(loss)
        self._count += 1
        if len(self._waiting) >= CHUNK or self._count >= self.window:
            total = self._waiting[0] if len(self._waiting) == 1 else torch.stack(self._waiting).sum()
            self._sum = total if self._sum is None else self._sum + total
            self._waiting.clear()
        if self._count >= self.window and self._sum is not None:
            self._unread.append(self._sum / self.window if self.window > 1 else self._sum)
            self._sum, self._count = None, 0
            if len(self._known) + len(self._unread) >= self._most:
                self._halve()

    def _halve(self) -> None:
        means: list[float | Tensor] = [*self._known, *self._unread]
        pairs = [(a + b) / 2 for a, b in zip(means[::2], means[1::2], strict=False)]
        known = len(self._known) // 2
        self._known = [mean for mean in pairs[:known] if not isinstance(mean, Tensor)]
        self._unread = [mean for mean in pairs[known:] if isinstance(mean, Tensor)]
        self.window *= 2

    @property
    def unread(self) -> list[Tensor]:
        """The means that are still on the device, oldest first."""
        return list(self._unread)

    def fill(self, values: Iterable[float]) -> None:
        """What the unread ones turned out to be."""
        self._known += [math.nan if math.isnan(value) else value for value in values]
        self._unread.clear()

    @property
    def latest(self) -> float | None:
        """The last mean that has been read."""
        return self._known[-1] if self._known else None

    def values(self) -> tuple[float, ...]:
        """The means that have been read; NaN is `math.nan` itself."""
        return tuple(self._known)
