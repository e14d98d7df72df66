"""Watches what a loss compares: operations that stretch prediction and target, or a column and a row, to a square."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
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
_MAKES_COLUMNS = {"linear", "addmm", "mm", "matmul", "__matmul__", "gather", "take_along_dim"}
_KEEPS_COLUMN = _KEEPS_SHAPE | _ELEMENTWISE | {"softplus", "leaky_relu", "elu", "square", "sqrt", "log1p"}


@dataclass(frozen=True, slots=True)
class Stretched:
    """Prediction and target, or a column and a row, broadcast against each other by one operation."""

    operation: str
    prediction: tuple[int, ...]  # or the column
    target: tuple[int, ...]  # or the row
    result: tuple[int, ...]
    known: bool = True  # that the two are the prediction and the target


class BroadcastWatch(TorchFunctionMode):
    """Sees every elementwise operation of a loss whose operands are the prediction and the target themselves.

    And those outside the model, which `running` tells, that combine a column of shape (n, 1), as a layer or the data
    has it, with a row of shape (n,). Reshaped ones are left alone: who writes `unsqueeze` wants the outer difference.
    """

    def __init__(self, running: Callable[[], bool] = lambda: False) -> None:
        super().__init__()
        self.running = running
        self.predictions: list[Tensor] = []
        self.targets: list[Tensor] = []
        self.parts: list[Tensor] = []  # columns of a prediction or target that has several
        self.columns: list[Tensor] = []
        self.found: list[Stretched] = []

    def compare(self, prediction: Tensor, target: Tensor) -> None:
        """Prediction and target are these two."""
        self.predictions.append(prediction)
        self.targets.append(target)

    def see(self, given: Iterable[Tensor]) -> None:
        """Data, or what a model returned: the columns among it are as they came."""
        self.columns += [tensor for tensor in given if _is_column(tensor)]

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        given = [a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)]
        if name in _ELEMENTWISE | _COMPARING_LOSSES and len(given) >= 2:
            before = len(self.found)
            self._compare(name, given)
            if len(self.found) == before and not self.running():
                self._cross(name, given)
        result = func(*args, **kwargs)
        if isinstance(result, Tensor) and _is_column(result):
            kept = name in _KEEPS_COLUMN and any(_among(t, self.columns) for t in given)
            if kept or name in _MAKES_COLUMNS:
                self.columns.append(result)
        if name in _KEEPS_SHAPE and given and isinstance(result, Tensor) and result.shape == given[0].shape:
            for family in (self.predictions, self.targets):
                if _among(given[0], family):
                    family.append(result)
                    if _among(given[0], self.parts):
                        self.parts.append(result)
        if name == "__getitem__" and isinstance(result, Tensor) and _takes_a_part(args[1]):
            for family in (self.predictions, self.targets):
                if _among(args[0], family):
                    family.append(result)
                    self.parts.append(result)
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
        part = _among(prediction, self.parts) or _among(target, self.parts)
        if part and math.prod(result) <= max(prediction.numel(), target.numel()):
            return  # one column beside several others may well be meant; an outer difference is not
        self.found.append(Stretched(name, tuple(prediction.shape), tuple(target.shape), tuple(result)))

    def _cross(self, name: str, given: list[Tensor]) -> None:
        column = next((t for t in given if _among(t, self.columns)), None)
        if column is None:
            return
        size = len(column)
        row = next((t for t in given if t.shape == (size,)), None)
        if row is not None and not _same_storage(column, row):  # whoever squeezed one of the two means it
            self.found.append(Stretched(name, (size, 1), (size,), (size, size), known=False))


def _is_column(tensor: Tensor) -> bool:
    return tensor.ndim == 2 and tensor.shape[1] == 1 and len(tensor) > 1


def _same_storage(one: Tensor, other: Tensor) -> bool:
    return one.untyped_storage().data_ptr() == other.untyped_storage().data_ptr()


def _takes_a_part(index: Any) -> bool:
    """Whether x[index] leaves out elements and does nothing else, as x[:, 0] does, and x[:, None] does not."""
    keys = index if isinstance(index, tuple) else (index,)
    return all(key is Ellipsis or (isinstance(key, int | slice) and not isinstance(key, bool)) for key in keys)


def _among(tensor: Tensor, family: list[Tensor]) -> bool:
    return any(tensor is member for member in family)
