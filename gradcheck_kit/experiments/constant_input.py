"""Whether all samples are one and the same, but for how far they are padded: exact, over the batches that were read.

Words that a vocabulary does not know all become one token; a picture that does not open is black. What is told by the
numbers alone needs no training, and only where they are all the same is the model asked which embedding looks them up.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gradcheck_kit.experiments import Probe
from gradcheck_kit.facts import ConstantInput
from gradcheck_kit.target.batches import endless
from gradcheck_kit.target.layers import takes_hooks
from gradcheck_kit.target.outputs import tensors
from gradcheck_kit.target.task import Task
from gradcheck_kit.target.workspace import workspace

FEWEST = 8  # samples


@dataclass(frozen=True, slots=True)
class _Constant:
    """A tensor of a batch that held one value so far, and after it in some rows another, which is padding then."""

    value: float
    padding: float | None = None
    elements: int = 0  # that are the value
    width: int = 0  # the most numbers in a sample

    def with_batch(self, other: _Constant) -> _Constant | None:
        """This and the next batch together; None where that holds something else."""
        paddings = {self.padding, other.padding} - {None}
        if self.value != other.value or len(paddings) > 1:
            return None
        elements, width = self.elements + other.elements, max(self.width, other.width)
        return _Constant(self.value, next(iter(paddings), None), elements, width)


class SameInputs:
    """Looks at batches as they are read, and at none after the first that holds different samples."""

    def __init__(self, task: Task) -> None:
        self._task = task
        # By place among the tensors that the model is given; where each row has padding, either may be it.
        self._found: dict[int, list[_Constant]] = {}
        self._count = 0
        self.samples = 0
        self.alive = task.training_step is None

    def add(self, batch: Any) -> None:
        if not self.alive:
            return
        given = given_of(self._task, batch)
        found = {i: ways for i, t in enumerate(given) if (ways := _constant(t))}
        told = {i for i, t in enumerate(given) if _follows(t, given, found)}
        found = {i: ways for i, ways in found.items() if i not in told}
        if not self.samples:
            self._found, self._count = found, len(given)
        else:
            self._found = {
                i: [both for one in self._found.get(i, ()) for other in ways if (both := one.with_batch(other))]
                for i, ways in found.items()
            }
        self.alive = bool(found) and all(self._found.values()) and len(given) == self._count == len(found) + len(told)
        self.samples += len(given[0]) if self.alive else 0

    def result(self, probe: Probe, names: Mapping[int, str]) -> ConstantInput | None:
        """What all samples hold; None where they differ, or are too few. Padding is none but before an embedding."""
        if not self.alive or self.samples < FEWEST:
            return None
        place, embedding, rows, padding = self._looked_up(probe)
        if not embedding and any(one.padding is not None for ways in self._found.values() for one in ways):
            return None  # how many there are of a number may be what a sample says
        if not embedding and len(self._found) < self._count:
            return None  # nor is it known what else means
        one = max(self._found[place], key=lambda one: one.padding == padding)
        name = names.get(place, "input")
        return ConstantInput(name, one.value, one.padding, one.elements, self.samples, one.width, embedding, rows)

    def _looked_up(self, probe: Probe) -> tuple[int, str, int, int]:
        """Which tensor goes into the embedding with most rows, its name, rows and padding; else the widest tensor."""
        widest = max(self._found, key=lambda i: self._found[i][0].width)
        looked: list[tuple[int, str, int, int]] = []
        with workspace(probe.prepared, seed=probe.prepared.settings.seed) as work, torch.no_grad():
            kinds = (nn.Embedding, nn.EmbeddingBag)
            embeddings = {m: n for n, m in work.model.named_modules() if isinstance(m, kinds) and takes_hooks(m)}
            if not embeddings:
                return widest, "", 0, 0
            batch = work.to_device(next(endless(probe.prepared.train)))
            given = given_of(work.task, batch)

            def hook(module: Any, args: Any, _output: Any) -> None:
                indices = args[0] if args else None
                if isinstance(indices, Tensor):
                    found = embeddings[module] or "the model", module.num_embeddings, module.padding_idx or 0
                    looked.extend((i, *found) for i in self._found if i < len(given) and _same(indices, given[i]))

            handles = [module.register_forward_hook(hook) for module in embeddings]
            try:
                work.task.forward(work.model, batch)
            finally:
                for handle in handles:
                    handle.remove()
        return max(looked, key=lambda one: one[2], default=(widest, "", 0, 0))


def given_of(task: Task, batch: Any) -> list[Tensor]:
    """The tensors that the model is given of a batch, without its target, which some are given for their own loss."""
    known = tensors(task.form.split(batch)[2])
    return [t for t in tensors(task.inputs(batch)) if not any(t is target for target in known)]


def _constant(tensor: Tensor) -> list[_Constant]:
    """The one value that a tensor of shape (n, ...) holds, or (n, time) besides padding at one end; empty: neither."""
    if tensor.layout is not torch.strided or not tensor.ndim or not tensor.numel() or tensor.is_complex():
        return []
    values = tensor.detach().cpu()
    values = values.to(torch.uint8) if values.dtype is torch.bool else values
    width = values[0].numel()
    low, high = (float(v) for v in values.aminmax())
    if not (math.isfinite(low) and math.isfinite(high)):
        return []
    if low == high:
        return [_Constant(low, None, values.numel(), width)]
    if values.ndim != 2 or not bool(((values == low) | (values == high)).all()):
        return []
    found = []
    for value, padding in ((high, low), (low, high)):
        own = (values == value).int()
        if any(bool(t[:, 0].all()) and bool((t.diff(dim=1) <= 0).all()) for t in (own, own.flip(1))):
            found.append(_Constant(value, padding, int(own.sum()), width))
    return found


def _follows(tensor: Tensor, given: list[Tensor], found: Mapping[int, list[_Constant]]) -> bool:
    """Whether a tensor says no more than how far others are padded: lengths, or positions in a row."""
    if tensor.layout is not torch.strided or tensor.is_floating_point() or tensor.ndim not in (1, 2):
        return False
    if tensor.ndim == 2:
        if tensor.shape[1] == 1:
            return False
        counting = torch.arange(tensor.shape[1], device=tensor.device)
        return bool(((tensor == counting) | (tensor == counting + 1)).all())
    return any(
        given[i].ndim == 2 and len(given[i]) == len(tensor) and torch.equal((given[i] == one.value).sum(1), tensor)
        for i, ways in found.items()
        for one in ways
    )


def _same(indices: Tensor, given: Tensor) -> bool:
    """Whether these are the same numbers, perhaps in another layout or with the samples in another order."""
    if indices.numel() != given.numel():
        return False
    return torch.equal(*(t.detach().flatten().double().sort().values for t in (indices, given)))
