"""Watches the outputs of modules and the gradients that reach them.

A hook on the output tensor, set when the module has returned: `register_full_backward_hook` breaks in-place
activations and sees no dicts. Closures hold an index and never a tensor, which would live as long as the graph.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from gradcheck_kit.observe.names import named_modules
from gradcheck_kit.observe.statistics import LARGE, SMALL, measurable, sample
from gradcheck_kit.target.layers import is_machinery
from gradcheck_kit.target.outputs import tensors


def sites(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The modules whose outputs are watched: those without children and those with parameters of their own."""
    return [
        (name, module)
        for name, module in named_modules(model)
        if name
        and not is_machinery(name)
        and (not any(True for _ in module.children()) or any(True for _ in module.parameters(recurse=False)))
    ] or [("", model)]


def first_float(output: Any) -> Tensor | None:
    """The first floating-point tensor of an output of any form."""
    if isinstance(output, Tensor):
        return output if output.is_floating_point() or output.is_complex() else None
    return next((t for t in tensors(output) if t.is_floating_point() or t.is_complex()), None)


class _Norms:
    """The 2-norms of some tensors of a pass, written into one buffer per device and type as they come.

    In float32, which costs least; of sites whose last norm was next to nothing, or huge, in float64: squares of float32
    vanish below 1e-23 and overflow above 1e19. Large tensors are sampled.
    """

    def __init__(self, sites: int) -> None:
        self._sites = sites
        self._slots: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
        self._buffers: dict[tuple[torch.device, torch.dtype], Tensor] = {}
        self._exact = set(range(sites))  # whose norm is not known to be of a usual size
        self.found: dict[int, tuple[tuple[torch.device, torch.dtype], int]] = {}  # by site: where, of how many elements

    def begin(self) -> None:
        self.found.clear()

    def add(self, index: int, tensor: Tensor) -> None:
        """Note the norm of a tensor that needs no gradient."""
        if tensor.is_complex():
            tensor = torch.view_as_real(tensor.resolve_conj())
        if tensor.numel() > LARGE:
            tensor = sample(tensor)
        kind = torch.float32
        if (index in self._exact and tensor.device.type != "mps") or tensor.dtype is torch.float64:
            kind = torch.float64
        key = (tensor.device, kind)
        slots = self._slots.get(key)
        if slots is None:
            self._buffers[key] = torch.zeros(self._sites, dtype=kind, device=tensor.device)
            slots = self._slots[key] = list(self._buffers[key].unbind())
        if tensor.dtype is kind:
            torch.linalg.vector_norm(tensor, out=slots[index])
        else:
            torch.linalg.vector_norm(tensor, dtype=kind, out=slots[index])
        self.found[index] = (key, tensor.numel())

    @property
    def buffers(self) -> list[Tensor]:
        return list(self._buffers.values())

    def sort(self, values: Iterator[float]) -> dict[int, float]:
        """The root mean square by site, from the values of the buffers."""
        table = {key: list(itertools.islice(values, self._sites)) for key in self._buffers}
        result = {}
        for index, (key, count) in self.found.items():
            norm = table[key][index]
            (self._exact.discard if SMALL < norm < 1 / SMALL else self._exact.add)(index)
            result[index] = norm / math.sqrt(count)
        return result


class OutputWatch:
    """Root mean squares of each site's first output in a pass, and of the gradient that arrives there.

    A pass is one forward pass and its backward pass. Statistics stay on the device until the step's one read.
    """

    def __init__(self, model: nn.Module, report: Callable[[str, Exception], None]) -> None:
        self.sites = sites(model)
        self.order: list[int] = []  # sites by the end of their first call, over all steps
        self.shapes: dict[int, tuple[int, ...]] = {}
        self.last: int | None = None  # the site that finished last
        self._outputs, self._gradients = _Norms(len(self.sites)), _Norms(len(self.sites))
        self._report = report
        self._index = {id(module): index for index, (_, module) in enumerate(self.sites)}
        self._layers = {  # that have parameters of their own: what the others do is seen at the layers around them
            id(module): index
            for index, (_, module) in enumerate(self.sites)
            if any(True for _ in module.parameters(recurse=False))
        } or self._index
        self._watched = self._index
        self._hooks = [self._gradient_hook(index) for index in range(len(self.sites))]
        self._handles: list[RemovableHandle] = []

    def begin(self, *, everything: bool = True) -> None:
        """Forget the pass before; its tensors' hooks go too. Watch every site in this one, or only layers."""
        self._watched = self._index if everything else self._layers
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._outputs.begin()
        self._gradients.begin()
        self.last = None

    @property
    def count(self) -> int:
        """How many sites have put something out in this pass."""
        return len(self._outputs.found)

    def returned(self, module: nn.Module, output: Any, *, again: bool = False) -> None:
        """Note what a module returned. `again`: activation checkpointing calls it a second time, in the backward pass.

        The second call's graph is the one that the gradient takes where checkpointing is reentrant.
        """
        index = self._watched.get(id(module))
        if index is None or index in (self._gradients if again else self._outputs).found:
            return
        try:
            self._note(index, output, again=again)
        except Exception as error:  # noqa: BLE001  # observation must never end a training run
            self._lost(index, error)

    def _lost(self, index: int, error: Exception) -> None:
        name, module = self.sites[index]
        for known in (self._index, self._layers):
            known.pop(id(module), None)
        self._report(name, error)

    def _note(self, index: int, output: Any, *, again: bool) -> None:
        tensor = first_float(output)
        if tensor is None or not measurable(tensor):
            return
        if not again:
            if index not in self.shapes:
                self.shapes[index] = tuple(tensor.shape)
                self.order.append(index)
            self.last = index
            self._outputs.add(index, tensor.detach())
        if tensor.requires_grad:
            self._handles.append(tensor.register_hook(self._hooks[index]))

    def _gradient_hook(self, index: int) -> Callable[[Tensor | None], None]:
        """Made once for each site: thousands of new closures in a step would keep the garbage collector busy."""
        norms = self._gradients

        def hook(gradient: Tensor | None) -> None:  # None where a backward of the user's own returns nothing
            if gradient is None:
                return
            if index not in norms.found and measurable(gradient):
                try:
                    norms.add(index, gradient.detach())
                except Exception as error:  # noqa: BLE001  # as above
                    self._lost(index, error)

        return hook

    @property
    def scalars(self) -> list[Tensor]:
        """What the step's read has to bring over."""
        return [*self._outputs.buffers, *self._gradients.buffers]

    def sort(self, values: Iterable[float]) -> tuple[dict[int, float], dict[int, float]]:
        """Output RMS and gradient RMS by site, from what `scalars` turned out to be."""
        found = iter(values)
        return self._outputs.sort(found), self._gradients.sort(found)
