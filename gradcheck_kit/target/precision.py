"""Mixed precision: forward and loss under autocast, and float16's gradients scaled so that they do not underflow."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gradcheck_kit.errors import UsageError


@dataclass(frozen=True, slots=True)
class Precision:
    """What autocast computes in, and where."""

    device: str
    dtype: torch.dtype


def find_precision(amp: Literal["bf16", "fp16"] | None, device: torch.device, model: nn.Module) -> Precision | None:
    """The precision that `--amp` names. Raises UsageError where torch offers none on this device or for this model."""
    if amp is None:
        return None
    if not torch.amp.is_autocast_available(device.type):
        raise UsageError(f"--amp {amp}: torch has no autocast for {device.type}; leave it out")
    half = next((name for name, p in model.named_parameters() if p.dtype is torch.float16 and p.requires_grad), None)
    if amp == "fp16" and half is not None:
        raise UsageError(
            f"--amp fp16 keeps the weights in float32, and {half} is in float16, whose gradients GradScaler does not "
            "unscale; leave out --amp, or call model.float()"
        )
    return Precision(device.type, {"bf16": torch.bfloat16, "fp16": torch.float16}[amp])


def autocast(precision: Precision | None) -> AbstractContextManager[object]:
    """The context that forward and loss run in; without mixed precision the one that the caller has."""
    if precision is None:
        return nullcontext()
    return torch.autocast(precision.device, precision.dtype)


class LossScale:
    """A GradScaler as it is by default, in the order in which one step of the probe uses it.

    Gradients of parameters that no optimizer owns are unscaled too: they are looked at.
    """

    def __init__(self, device: str) -> None:
        self._scaler = torch.amp.GradScaler(device)
        self._unscaled = False
        self._with_gradients: set[int] = set()  # optimizers: GradScaler refuses to step those that have none
        self.skipped = False  # the last update was left out, because a gradient was not finite

    def factor(self) -> float:
        """What the loss is multiplied by in this step; halved after each one that was skipped."""
        return float(self._scaler.get_scale())

    def backward(self, loss: Tensor) -> None:
        self._unscaled = False
        self._scaler.scale(loss).backward()

    def unscale(self, optimizers: Iterable[Optimizer], parameters: Iterable[nn.Parameter]) -> None:
        """Divide every gradient by the scale, once between backward and update."""
        if self._unscaled:
            return
        self._unscaled = True
        owned: set[int] = set()
        for optimizer in optimizers:
            held = [p for group in optimizer.param_groups for p in group["params"]]
            owned |= {id(p) for p in held}
            if any(p.grad is not None for p in held):
                self._scaler.unscale_(optimizer)
                self._with_gradients.add(id(optimizer))
        others = [p.grad for p in parameters if id(p) not in owned and p.grad is not None]
        factor = self.factor() if others else 1.0
        for gradient in others:
            gradient.div_(factor)

    def step(self, optimizer: Optimizer) -> None:
        """The optimizer's step, unless one of its gradients is not finite."""
        if id(optimizer) in self._with_gradients:
            self._scaler.step(optimizer)

    def update(self) -> None:
        """Adapt the scale after the last optimizer's step."""
        before = self.factor()
        if self._with_gradients:
            self._scaler.update()
        self.skipped = self.factor() < before
        self._with_gradients.clear()
        self._unscaled = False
