"""Optimizers that evaluate the loss again, through a closure: LBFGS, and those that people write, such as SAM."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import torch
from torch import Tensor
from torch.optim import Optimizer

Closure = Callable[[], Tensor]


def needs_closure(optimizer: Optimizer) -> bool:
    """Whether `step` cannot do without one. Of torch's own optimizers that is LBFGS alone."""
    if isinstance(optimizer, torch.optim.LBFGS):
        return True
    if _is_torchs_own(optimizer):
        return False
    parameter = _closure_parameter(optimizer)
    return parameter is not None and parameter.default is parameter.empty


def step(optimizer: Optimizer, closure: Closure, *, tried: set[int]) -> None:
    """One step. `tried` holds optimizers that have stepped before: what these raise is a failure.

    Many a `step(self, closure=None)` asserts that there is a closure: nothing but a first call tells.
    """
    if needs_closure(optimizer):
        optimizer.step(closure)  # type: ignore[arg-type]
        return
    try:
        optimizer.step()
    except Exception as error:
        if id(optimizer) in tried or _is_torchs_own(optimizer) or _closure_parameter(optimizer) is None:
            raise
        try:
            optimizer.step(closure)  # type: ignore[arg-type]
        except Exception:  # noqa: BLE001  # then it was not the closure that was missing
            raise error from None
    else:
        tried.add(id(optimizer))


def _is_torchs_own(optimizer: Optimizer) -> bool:
    return type(optimizer).step.__module__.startswith("torch.optim")


def _closure_parameter(optimizer: Optimizer) -> inspect.Parameter | None:
    """The first parameter of `step`; torch wraps what a class defines, and keeps its signature."""
    try:
        parameters = list(inspect.signature(optimizer.step).parameters.values())
    except (TypeError, ValueError):
        return None
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return next((p for p in parameters if p.kind in kinds), None)
