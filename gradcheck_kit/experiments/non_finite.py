"""Where NaN or infinity came from first: the run again up to the step before, then every tensor looked at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from gradcheck_kit.facts import NonFinite
from gradcheck_kit.observe.module_stack import recomputing
from gradcheck_kit.observe.statistics import measurable
from gradcheck_kit.target.batches import endless
from gradcheck_kit.target.layers import takes_hooks
from gradcheck_kit.target.outputs import tensors
from gradcheck_kit.target.workspace import Prepared, Workspace, workspace


def find_non_finite(prepared: Prepared, step: int) -> NonFinite | None:
    """The first non-finite tensor of the run whose loss or gradient is known to be bad at `step`.

    None when the same run again stays finite, which happens where the device is not deterministic.
    """
    with workspace(prepared, seed=prepared.settings.seed) as work:
        batches = endless(prepared.train)
        for number in range(step + 1):
            batch = work.to_device(next(batches))
            work.clear_gradients()
            if number < step - 1:
                _, loss = work.step(batch)
                work.backward(loss)
                work.unscale()
            elif found := _look(work, batch, number):
                return found
            work.update(batch)
    return None


def _look(work: Workspace, batch: Any, step: int) -> NonFinite | None:
    """One step with every tensor checked in the order in which it is made."""

    def made(
        kind: str, where: str, tensor: Tensor, module_type: str = "", after: str = "", *, alone: bool = True
    ) -> NonFinite:
        bad = ~torch.isfinite(tensor.detach())
        nan = bool(torch.isnan(tensor).any())
        infinite = bool(torch.isinf(tensor).any())
        value = "nan and inf" if nan and infinite else "nan" if nan else "inf"
        return NonFinite(step, step, kind, where, module_type, value, float(bad.float().mean()), after, alone)

    for tensor in tensors(work.task.inputs(batch)):
        if not finite(tensor):
            return made("input", "", tensor)
    for tensor in tensors(work.task.target(batch)):
        if not finite(tensor):
            return made("target", "", tensor)
    for name, parameter in work.model.named_parameters():
        if not finite(parameter):
            return made("parameter", name, parameter)
    with _watch(work.model) as seen:
        output = work.task.forward(work.model, batch)
        loss = work.task.loss(output, batch)
        if seen.bad is not None:
            name, module, tensor = seen.bad
            return made("output", name, tensor, type(module).__name__, seen.after, alone=seen.inputs_finite)
        if not finite(loss):
            return made("loss", "", loss)
        if work.scaler is not None and loss.requires_grad:
            # Infinity is how GradScaler finds its scale: what counts is whether there is any without one.
            loss.backward(retain_graph=True)
        else:
            work.backward(loss)
    if seen.bad_gradient is not None:
        name, module, tensor = seen.bad_gradient
        return made("gradient", name, tensor, type(module).__name__, seen.gradient_after)
    for name, parameter in reversed(list(work.model.named_parameters())):
        if parameter.grad is not None and not finite(parameter.grad):
            return made("gradient", name, parameter.grad)
    if work.scaler is not None:
        work.clear_gradients()
        work.backward(loss)  # what this step's update goes by
    return None


def finite(tensor: Tensor) -> bool:
    if not (tensor.is_floating_point() or tensor.is_complex()):
        return True
    dense = tensor.detach()
    dense = dense.coalesce().values() if dense.layout is torch.sparse_coo else dense
    if not measurable(dense):
        return True
    return bool(torch.isfinite(dense).all())


class _Seen:
    def __init__(self) -> None:
        self.bad: tuple[str, nn.Module, Tensor] | None = None
        self.after = ""
        self.inputs_finite = True
        self.bad_gradient: tuple[str, nn.Module, Tensor] | None = None
        self.gradient_after = ""


@contextmanager
def _watch(model: nn.Module) -> Iterator[_Seen]:
    """Hooks on every module, also on those with children: what is finite inside and not outside is the parent's own."""
    seen = _Seen()

    def forward_hook(name: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            if recomputing():
                return
            for tensor in tensors(output):
                if seen.bad is None and not finite(tensor):
                    seen.bad = (name, module, tensor.detach())
                    seen.inputs_finite = all(finite(t) for t in tensors(args))
                if tensor.requires_grad:
                    tensor.register_hook(gradient_hook(name, module))
            if seen.bad is None:
                seen.after = name or seen.after

        return hook

    def gradient_hook(name: str, module: nn.Module) -> Any:
        def hook(gradient: Tensor | None) -> None:
            if gradient is None:  # a backward of the user's own may return nothing
                return
            if seen.bad_gradient is None and not finite(gradient):
                seen.bad_gradient = (name, module, gradient.detach())
            elif seen.bad_gradient is None:
                seen.gradient_after = name

        return hook

    handles = [
        module.register_forward_hook(forward_hook(name))
        for name, module in model.named_modules()
        if takes_hooks(module)
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
