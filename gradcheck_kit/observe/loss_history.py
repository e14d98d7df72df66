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
        self._means: list[float | Tensor] = []
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
            self._means.append(self._sum / self.window if self.window > 1 else self._sum)
            self._sum, self._count = None, 0
            if len(self._means) >= self._most:
                self._halve()

    def _halve(self) -> None:
        pairs = zip(self._means[::2], self._means[1::2], strict=False)
        self._means = [(a + b) / 2 for a, b in pairs]
        self.window *= 2

    @property
    def unread(self) -> list[Tensor]:
        """The means that are still on the device, oldest first."""
        return [mean for mean in self._means if isinstance(mean, Tensor)]

    def fill(self, values: Iterable[float]) -> None:
        """What the unread ones turned out to be."""
        found = iter(values)
        self._means = [next(found) if isinstance(mean, Tensor) else mean for mean in self._means]

    def values(self) -> tuple[float, ...]:
        """The means that have been read; NaN is `math.nan` itself."""
        known = (mean for mean in self._means if not isinstance(mean, Tensor))
        return tuple(math.nan if math.isnan(mean) else mean for mean in known)
