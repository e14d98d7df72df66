"""Watches the outputs of modules and the gradients that reach them.

A forward hook, then a hook on the output tensor: `register_full_backward_hook` breaks in-place activations and sees
no dicts. Closures hold an index and never a tensor, which would live as long as the graph.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from gradcheck_kit.observe.statistics import rms, sample_rows
from gradcheck_kit.target.task import tensors


def sites(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The modules whose outputs are watched: those without children and those with parameters of their own."""
    return [
        (name, module)
        for name, module in model.named_modules()
        if name and (not any(True for _ in module.children()) or any(True for _ in module.parameters(recurse=False)))
    ] or [("", model)]


def recomputing() -> bool:
    """Whether a backward pass is running: activation checkpointing then calls forward a second time."""
    return bool(torch._C._current_graph_task_id() != -1)  # noqa: SLF001


def first_float(output: Any) -> Tensor | None:
    """The first floating-point tensor of an output of any form."""
    if isinstance(output, Tensor):
        return output if output.is_floating_point() or output.is_complex() else None
    return next((t for t in tensors(output) if t.is_floating_point() or t.is_complex()), None)


class OutputWatch:
    """Root mean squares of each site's first output in a step, and of the gradient that arrives there.

    Statistics stay on the device until the step's one read.
    """

    def __init__(self, model: nn.Module) -> None:
        self.sites = sites(model)
        self.order: list[int] = []  # sites by the end of their first call, over all steps
        self.shapes: dict[int, tuple[int, ...]] = {}
        self.output: dict[int, Tensor] = {}  # of the step being watched, by site
        self.gradient: dict[int, Tensor] = {}
        self.last: int | None = None  # the site that finished last

    @contextmanager
    def step(self) -> Iterator[None]:
        """Watch one forward and backward pass; every handle is gone at the end."""
        self.output, self.gradient, self.last = {}, {}, None
        handles: list[RemovableHandle] = []
        try:
            for index, (_, module) in enumerate(self.sites):
                handles.append(
                    module.register_forward_hook(self._forward_hook(index))
                )  # handles registered so far must be removable
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _forward_hook(self, index: int) -> Any:
        def hook(_module: nn.Module, _args: Any, output: Any) -> None:
            if index in self.output or recomputing():
                return
            tensor = first_float(output)
            if tensor is None or tensor.numel() == 0 or tensor.layout is not torch.strided:
                return
            if index not in self.shapes:
                self.shapes[index] = tuple(tensor.shape)
                self.order.append(index)
            self.last = index
            self.output[index] = rms(sample_rows(tensor.detach()))
            if tensor.requires_grad:
                tensor.register_hook(self._gradient_hook(index))

        return hook

    def _gradient_hook(self, index: int) -> Any:
        def hook(gradient: Tensor) -> None:
            if gradient.layout is torch.strided:
                self.gradient[index] = rms(sample_rows(gradient.detach()))

        return hook
