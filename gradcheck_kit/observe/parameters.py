"""Watches parameters: their gradients after backward, and what the optimizer's step changes.

Gradients need no hook: `.grad` is read after `backward()`, all of them with fused norms.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from gradcheck_kit.observe.statistics import TINY, as_dense, fingerprint, norms, read, sample

Row = tuple[float | None, float | None, float | None]  # gradient, weight and update RMS; None: not looked at

SMALL = 1e-12  # a norm below it is taken again, scaled up: squares of float32 vanish below 1e-23


class ParameterWatch:
    """Gradient, weight and update of every parameter of a model, tied ones once, as scalars on their device.

    A gradient's RMS is of all its elements, and exactly zero only if they all are; weight and update are sampled.
    """

    def __init__(self, model: nn.Module) -> None:
        self.named = [(name, p) for name, p in model.named_parameters() if p.numel()]
        with torch.no_grad():
            self._start = [fingerprint(p) for _, p in self.named]
        self._moved = [False] * len(self.named)
        self._tiny = set(range(len(self.named)))  # whose gradient's norm is not known to be well above `SMALL`
        self._sampled: dict[int, int] = {}  # elements in each parameter's sample
        self.begin()

    def begin(self) -> None:
        """Forget the step before."""
        self._cells: list[tuple[str, int, Tensor]] = []  # what it is, of which parameter
        self._copies: tuple[list[int], list[Tensor]] = ([], [])
        self._views: dict[int, tuple[int, Tensor]] = {}  # by index: address of the values, and a sample of them

    def before(self, indices: Iterable[int] | None = None, *, gradients: bool = True) -> None:
        """Look at gradients and weights, after backward and before the optimizer's step. All parameters, or some."""
        chosen = list(range(len(self.named)) if indices is None else indices)
        with torch.no_grad():
            if gradients:
                self.gradients(chosen)
            views = [self._view(i) for i in chosen]
            copies = [view.clone() for view in views]
            self._copies = (chosen, copies)
            self._add("weight", chosen, norms(copies))

    def gradients(self, indices: Iterable[int]) -> None:
        """Look at the gradients alone; a closure's come into being inside the optimizer's step."""
        present = [(i, as_dense(g)) for i in indices if (g := self.named[i][1].grad) is not None]
        self._add("gradient", [i for i, _ in present], norms([g for _, g in present]))
        tiny = [(i, g) for i, g in present if i in self._tiny]
        self._add("tiny", [i for i, _ in tiny], norms([g for _, g in tiny], factor=TINY))

    def after(self) -> None:
        """Look at what the step changed."""
        chosen, copies = self._copies
        if chosen:
            with torch.no_grad():
                views = [self._view(i) for i in chosen]
                # a parameter may have changed its type or size meanwhile: then there is no difference to speak of
                same = [k for k, (v, c) in enumerate(zip(views, copies, strict=True)) if v.shape == c.shape]
                differences = [views[k] - copies[k] for k in same]
                self._add("update", [chosen[k] for k in same], norms(differences))
        self._copies = ([], [])

    def _add(self, kind: str, indices: Sequence[int], scalars: Sequence[Tensor]) -> None:
        self._cells.extend((kind, i, scalar) for i, scalar in zip(indices, scalars, strict=True))

    def _view(self, index: int) -> Tensor:
        parameter = self.named[index][1].detach()
        address = parameter.data_ptr()
        known = self._views.get(index)
        if known is None or known[0] != address:
            view = sample(parameter)
            known = self._views[index] = (address, view)
            self._sampled[index] = view.numel()
        return known[1]

    @property
    def scalars(self) -> list[Tensor]:
        """What the step's read has to bring over."""
        return [scalar for _, _, scalar in self._cells]

    def sort(self, values: Iterable[float], *, scale: float = 1.0) -> list[Row]:
        """The row of each parameter, from what `scalars` turned out to be; gradients are divided by `scale`."""
        kinds: dict[str, dict[int, float]] = {"gradient": {}, "tiny": {}, "weight": {}, "update": {}}
        for (kind, index, _), value in zip(self._cells, values, strict=True):
            kinds[kind][index] = value
        for index, value in kinds["gradient"].items():
            if value > SMALL:
                self._tiny.discard(index)
            else:
                self._tiny.add(index)
                kinds["gradient"][index] = kinds["tiny"].get(index, value * TINY) / TINY
        rows: list[Row] = []
        for index, (_, parameter) in enumerate(self.named):
            count = parameter.numel()
            sampled = self._sampled.get(index, count)
            gradient, weight, update = (kinds[kind].get(index) for kind in ("gradient", "weight", "update"))
            rows.append(
                (
                    None if gradient is None else gradient / scale / math.sqrt(count),
                    None if weight is None else weight / math.sqrt(sampled),
                    None if update is None else update / math.sqrt(sampled),
                )
            )
            if update is not None and update != 0:
                self._moved[index] = True
        return rows

    def changed(self) -> list[bool]:
        """Whether each parameter differs by any bit from what it was when watching began."""
        still = [i for i, moved in enumerate(self._moved) if not moved]
        with torch.no_grad():
            now = [fingerprint(self.named[i][1]) for i in still]
        different = read([(a != self._start[i]) for i, a in zip(still, now, strict=True)]) if still else []
        for i, value in zip(still, different, strict=True):
            self._moved[i] = bool(value)
        return list(self._moved)
