"""Watches parameters: their gradients after backward, and what the optimizer's step changes.

Gradients need no hook: `.grad` is read after `backward()`, all of them with fused norms.
"""

from __future__ import annotations

import math
from array import array
from collections import defaultdict
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from gradcheck_kit.observe.names import named_parameters
from gradcheck_kit.observe.statistics import ABSENT, SMALL, TINY, as_dense, fingerprint, norms, read, sample

MOST = 1024  # elements of a parameter that weight and update are sampled from


class ParameterWatch:
    """Gradient, weight and update of every parameter of a model, tied ones once, as scalars on their device.

    A gradient's RMS is of all its elements, and exactly zero only if they all are; weight and update are sampled.
    """

    def __init__(self, model: nn.Module) -> None:
        self.named = [(name, p) for name, p in named_parameters(model) if p.numel()]
        with torch.no_grad():
            self._start = [fingerprint(p) for _, p in self.named]
        self._moved = [False] * len(self.named)
        self._tiny = set(range(len(self.named)))  # whose gradient's norm is not known to be well above `SMALL`
        self._sampled: dict[int, int] = {}  # elements in each parameter's sample
        self.begin()

    def begin(self) -> None:
        """Forget the step before."""
        self._found: list[tuple[str, Sequence[int], Sequence[Tensor]]] = []  # what it is, of which parameters
        self._samples: list[tuple[list[int], Tensor]] = []  # of parameters of one device and type, end to end

    def before(self, indices: Iterable[int] | None = None, *, gradients: bool = True) -> None:
        """Look at gradients and weights, after backward and before the optimizer's step. All parameters, or some."""
        chosen = list(range(len(self.named)) if indices is None else indices)
        with torch.no_grad():
            if gradients:
                self.gradients(chosen)
            groups: dict[tuple[torch.device, torch.dtype], list[int]] = defaultdict(list)
            for i in chosen:
                parameter = self.named[i][1]
                groups[parameter.device, parameter.dtype].append(i)
            self._samples = [(members, self._sample(members)) for members in groups.values()]
            for members, values in self._samples:
                self._found.append(("weight", members, self._norms(members, values)))

    def gradients(self, indices: Iterable[int]) -> None:
        """Look at the gradients alone; a closure's come into being inside the optimizer's step."""
        present = [i for i in indices if self.named[i][1].grad is not None]
        dense = [as_dense(g) for i in present if (g := self.named[i][1].grad) is not None]
        tiny = [k for k, i in enumerate(present) if i in self._tiny]
        with torch.no_grad():
            self._found.append(("gradient", present, norms(dense)))
            self._found.append(("tiny", [present[k] for k in tiny], norms([dense[k] for k in tiny], factor=TINY)))

    def after(self) -> None:
        """Look at what the step changed."""
        with torch.no_grad():
            for members, before in self._samples:
                now = self._sample(members)
                # a parameter may have changed its size or type meanwhile: then there is no difference to speak of
                if now.shape == before.shape and now.dtype == before.dtype and now.device == before.device:
                    self._found.append(("update", members, self._norms(members, now.sub_(before))))
        self._samples = []

    def _sample(self, indices: Sequence[int]) -> Tensor:
        """Samples of the parameters, end to end, shape (n,): one copy instead of one for each."""
        views = [sample(self.named[i][1], MOST).reshape(-1) for i in indices]
        self._sampled.update(zip(indices, map(Tensor.numel, views), strict=True))
        return torch.cat(views)

    def _norms(self, indices: Sequence[int], values: Tensor) -> list[Tensor]:
        return norms(list(values.split([self._sampled[i] for i in indices])))

    @property
    def scalars(self) -> list[Tensor]:
        """What the step's read has to bring over."""
        return [scalar for _, _, scalars in self._found for scalar in scalars]

    def sort(self, values: Iterable[float], *, scale: float = 1.0) -> array[float]:
        """Gradient, weight and update RMS of one parameter after another, from what `scalars` turned out to be.

        Gradients are divided by `scale`; what was not looked at is ABSENT.
        """
        given = iter(values)
        kinds: dict[str, dict[int, float]] = {"gradient": {}, "tiny": {}, "weight": {}, "update": {}}
        for kind, indices, _ in self._found:
            kinds[kind].update(zip(indices, given, strict=False))
        for index, value in kinds["gradient"].items():
            if value > SMALL:
                self._tiny.discard(index)
            else:
                self._tiny.add(index)
                kinds["gradient"][index] = kinds["tiny"].get(index, value * TINY) / TINY
        row = array("d", [ABSENT]) * (3 * len(self.named))
        for index, value in kinds["gradient"].items():
            row[3 * index] = value / scale / math.sqrt(self.named[index][1].numel())
        for index, value in kinds["weight"].items():
            row[3 * index + 1] = value / math.sqrt(self._sampled[index])
        for index, value in kinds["update"].items():
            row[3 * index + 2] = value / math.sqrt(self._sampled[index])
            self._moved[index] = self._moved[index] or value != 0
        return row

    def changed(self) -> list[bool]:
        """Whether each parameter differs by any bit from what it was when watching began."""
        still = [i for i, moved in enumerate(self._moved) if not moved]
        with torch.no_grad():
            now = [fingerprint(self.named[i][1]) for i in still]
        different = read([(a != self._start[i]) for i, a in zip(still, now, strict=True)]) if still else []
        for i, value in zip(still, different, strict=True):
            self._moved[i] = bool(value)
        return list(self._moved)
