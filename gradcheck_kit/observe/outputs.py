"""Watches the outputs of modules and the gradients that reach them.

A hook on the output tensor, set when the module has returned: `register_full_backward_hook` breaks in-place
activations and sees no dicts. Closures hold an index and never a tensor, which would live as long as the graph.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from gradcheck_kit.observe.statistics import measurable, norm_of_sample
from gradcheck_kit.target.task import tensors


def sites(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The modules whose outputs are watched: those without children and those with parameters of their own."""
    return [
        (name, module)
        for name, module in model.named_modules()
        if name and (not any(True for _ in module.children()) or any(True for _ in module.parameters(recurse=False)))
    ] or [("", model)]


def first_float(output: Any) -> Tensor | None:
    """The first floating-point tensor of an output of any form."""
    if isinstance(output, Tensor):
        return output if output.is_floating_point() or output.is_complex() else None
    return next((t for t in tensors(output) if t.is_floating_point() or t.is_complex()), None)


class OutputWatch:
    """Root mean squares of each site's first output in a pass, and of the gradient that arrives there.

    A pass is one forward pass and its backward pass. Statistics stay on the device until the step's one read.
    """

    def __init__(self, model: nn.Module, report: Callable[[str, Exception], None]) -> None:
        self.sites = sites(model)
        self.order: list[int] = []  # sites by the end of their first call, over all steps
        self.shapes: dict[int, tuple[int, ...]] = {}
        self.output: dict[int, tuple[Tensor, int]] = {}  # norm and elements in it, of the pass being watched, by site
        self.gradient: dict[int, tuple[Tensor, int]] = {}
        self.last: int | None = None  # the site that finished last
        self._report = report
        self._index = {id(module): index for index, (_, module) in enumerate(self.sites)}
        self._handles: list[RemovableHandle] = []

    def begin(self) -> None:
        """Forget the pass before; its tensors' hooks go too."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self.output, self.gradient, self.last = {}, {}, None

    def returned(self, module: nn.Module, output: Any, *, again: bool = False) -> None:
        """Note what a module returned. `again`: activation checkpointing calls it a second time, in the backward pass.

        The second call's graph is the one that the gradient takes where checkpointing is reentrant.
        """
        index = self._index.get(id(module))
        if index is None or (index in self.gradient if again else index in self.output):
            return
        try:
            self._note(index, output, again=again)
        except Exception as error:  # noqa: BLE001  # observation must never end a training run
            del self._index[id(module)]
            self._report(self.sites[index][0], error)

    def _note(self, index: int, output: Any, *, again: bool) -> None:
        tensor = first_float(output)
        if tensor is None or not measurable(tensor):
            return
        if not again:
            if index not in self.shapes:
                self.shapes[index] = tuple(tensor.shape)
                self.order.append(index)
            self.last = index
            self.output[index] = norm_of_sample(tensor.detach())
        if tensor.requires_grad:
            self._handles.append(tensor.register_hook(self._gradient_hook(index)))

    def _gradient_hook(self, index: int) -> Callable[[Tensor], None]:
        found = self.gradient  # of this pass: a graph that outlives it must not write into the next

        def hook(gradient: Tensor) -> None:
            if index not in found and measurable(gradient):
                try:
                    found[index] = norm_of_sample(gradient.detach())
                except Exception as error:  # noqa: BLE001  # as above
                    self._report(self.sites[index][0], error)

        return hook

    @property
    def scalars(self) -> list[Tensor]:
        """What the step's read has to bring over: the norms of the outputs, then of the gradients."""
        return [norm for norm, _ in (*self.output.values(), *self.gradient.values())]

    def sort(self, values: Iterable[float]) -> tuple[dict[int, float], dict[int, float]]:
        """Output RMS and gradient RMS by site, from what `scalars` turned out to be."""
        found = iter(values)
        output = {index: next(found) / math.sqrt(count) for index, (_, count) in self.output.items()}
        gradient = {index: next(found) / math.sqrt(count) for index, (_, count) in self.gradient.items()}
        return output, gradient
