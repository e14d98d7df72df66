"""Watches what a loss compares: operations that stretch prediction and target against each other."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_KEEPS_SHAPE = {
    "float", "double", "half", "bfloat16", "to", "type", "long", "int", "contiguous", "detach", "clone", "sigmoid",
    "tanh", "exp", "log", "neg", "__neg__", "abs", "relu", "type_as", "logsigmoid", "clamp", "log_softmax", "softmax",
}  # fmt: skip
_ELEMENTWISE = {
    "sub", "__sub__", "__rsub__", "rsub", "subtract", "mul", "__mul__", "__rmul__", "add", "__add__", "__radd__",
    "div", "__truediv__", "__rtruediv__", "pow", "__pow__",
}  # fmt: skip
_COMPARING_LOSSES = {
    "mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "poisson_nll_loss", "kl_div", "soft_margin_loss",
    "binary_cross_entropy_with_logits", "gaussian_nll_loss",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Stretched:
    """Prediction and target broadcast against each other by one operation."""

    operation: str
    prediction: tuple[int, ...]
    target: tuple[int, ...]
    result: tuple[int, ...]


class BroadcastWatch(TorchFunctionMode):
    """Sees every elementwise operation of a loss whose operands are the prediction and the target themselves.

    Reshaped ones are left alone: who writes `unsqueeze` wants the outer difference.
    """

    def __init__(self, prediction: Tensor, target: Tensor) -> None:
        super().__init__()
        self.predictions: list[Tensor] = [prediction]
        self.targets: list[Tensor] = [target]
        self.columns: list[Tensor] = []  # parts of the prediction or the target
        self.found: list[Stretched] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        given = [a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)]
        if name in _ELEMENTWISE | _COMPARING_LOSSES and len(given) >= 2:
            self._compare(name, given)
        result = func(*args, **kwargs)
        if name in _KEEPS_SHAPE and given and isinstance(result, Tensor) and result.shape == given[0].shape:
            for family in (self.predictions, self.targets):
                if _among(given[0], family):
                    family.append(result)
                    if _among(given[0], self.columns):
                        self.columns.append(result)
        if name == "__getitem__" and isinstance(result, Tensor) and _takes_a_part(args[1]):
            for family in (self.predictions, self.targets):
                if _among(args[0], family):
                    family.append(result)
                    self.columns.append(result)
        return result

    def _compare(self, name: str, given: list[Tensor]) -> None:
        prediction = next((t for t in given if _among(t, self.predictions)), None)
        target = next((t for t in given if _among(t, self.targets)), None)
        if prediction is None or target is None or prediction.shape == target.shape:
            return
        try:
            result = torch.broadcast_shapes(prediction.shape, target.shape)
        except RuntimeError:
            return  # the operation itself will say so
        part = _among(prediction, self.columns) or _among(target, self.columns)
        if part and math.prod(result) <= max(prediction.numel(), target.numel()):
            return  # one column beside several others may well be meant; an outer difference is not
        self.found.append(Stretched(name, tuple(prediction.shape), tuple(target.shape), tuple(result)))


def _takes_a_part(index: Any) -> bool:
    """Whether x[index] leaves out elements and does nothing else, as x[:, 0] does, and x[:, None] does not."""
    keys = index if isinstance(index, tuple) else (index,)
    return all(key is Ellipsis or (isinstance(key, int | slice) and not isinstance(key, bool)) for key in keys)


def _among(tensor: Tensor, family: list[Tensor]) -> bool:
    return any(tensor is member for member in family)
