"""Watches parameters: their gradients after backward, and what the optimizer's step changes.

Gradients need no hook: `.grad` is read after `backward()`, all of them with fused norms.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from gradcheck_kit.observe.statistics import as_dense, norms, rms, sample_elements


class ParameterWatch:
    """Gradient, weight and update of every parameter of a model, tied ones once, as scalars on their device."""

    def __init__(self, model: nn.Module) -> None:
        self.named = [(name, p) for name, p in model.named_parameters() if p.numel()]
        self._start = [p.detach().clone() for _, p in self.named]
        self.scalars: list[Tensor] = []  # of the last step: gradient norm and maximum, weight and update RMS
        self.present: list[bool] = []  # which parameters had a gradient in it

    @contextmanager
    def step(self) -> Iterator[None]:
        """Watch one update: enter after backward, leave after the optimizer's step."""
        gradients = [p.grad for _, p in self.named]
        self.present = [g is not None for g in gradients]
        dense = [as_dense(g) for g in gradients if g is not None]
        before = [sample_elements(p.detach()).clone() for _, p in self.named]
        self.scalars = [*norms(dense), *norms(dense, math.inf), *map(rms, before)]
        yield
        with torch.no_grad():
            for (_, parameter), old in zip(self.named, before, strict=True):
                self.scalars.append(rms(sample_elements(parameter.detach()) - old))

    def sort(self, values: list[float]) -> list[tuple[float | None, float | None, float, float]]:
        """Gradient RMS and maximum (None without a gradient), weight RMS and update RMS of each parameter."""
        count = sum(self.present)
        gradient_norms, maxima = iter(values[:count]), iter(values[count : 2 * count])
        weights, updates = values[2 * count : 2 * count + len(self.named)], values[2 * count + len(self.named) :]
        result: list[tuple[float | None, float | None, float, float]] = []
        for (_, p), present, weight, update in zip(self.named, self.present, weights, updates, strict=True):
            gradient = next(gradient_norms) / math.sqrt(p.numel()) if present else None
            result.append((gradient, next(maxima) if present else None, weight, update))
        return result

    def largest_changes(self) -> list[Tensor]:
        """Max |now - start| of each parameter, exact over all elements."""
        return [(p.detach() - start).abs().max() for (_, p), start in zip(self.named, self._start, strict=True)]
