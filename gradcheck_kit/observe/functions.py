"""Watches functions as they are called, by modules or directly in somebody's forward: activations, and losses."""

from __future__ import annotations

import linecache
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.overrides import TorchFunctionMode

_TORCH = str(Path(torch.__file__).parent)
_OURS = str(Path(__file__).parent.parent)


def source_line() -> str:
    """Where in the user's code the running call comes from: "model.py:31", or "" when it is all torch's."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001  # inspect.stack() reads every file on the way
    while frame is not None:
        name = frame.f_code.co_filename
        if not name.startswith((_TORCH, _OURS)) and linecache.getline(name, frame.f_lineno):
            return f"{Path(name).name}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


class ModuleStack:
    """Which modules' forward is running now, innermost last. Sees modules that the model does not register."""

    def __init__(self, model: nn.Module) -> None:
        self.names = {id(module): name for name, module in model.named_modules()}
        self.running: list[nn.Module] = []
        self.calls: dict[int, int] = {}
        self.finished: list[nn.Module] = []  # by the end of their first call
        self.callers: dict[int, nn.Module | None] = {}

    @contextmanager
    def watch(self) -> Iterator[None]:
        before = register_module_forward_pre_hook(self._enter)
        after = register_module_forward_hook(self._leave, always_call=True)
        try:
            yield
        finally:
            before.remove()
            after.remove()
            self.running.clear()

    def _enter(self, module: nn.Module, _args: Any) -> None:
        self.callers.setdefault(id(module), self.running[-1] if self.running else None)
        self.running.append(module)

    def _leave(self, module: nn.Module, _args: Any, _output: Any) -> None:
        if self.running and self.running[-1] is module:
            self.running.pop()
        if id(module) not in self.calls:
            self.finished.append(module)
        self.calls[id(module)] = self.calls.get(id(module), 0) + 1

    def name(self) -> str:
        """The innermost running module that has a name in the model; "" for the model itself."""
        return next((self.names[id(m)] for m in reversed(self.running) if id(m) in self.names), "")

    def leaf(self) -> nn.Module | None:
        return self.running[-1] if self.running else None


# ---- activations -------------------------------------------------------------------------------------------------

Derivative = Callable[[Tensor, Tensor], Tensor]

# Flat ends: where the derivative is below 5 % of its largest value. From input x and output y.
_FLAT: dict[str, Derivative] = {
    "sigmoid": lambda _x, y: y * (1 - y) < 0.05 * 0.25,
    "tanh": lambda _x, y: 1 - y * y < 0.05,
    "softsign": lambda _x, y: (1 - y.abs()).square() < 0.05,
    "hardtanh": lambda _x, y: (y <= -1) | (y >= 1),
    "hardsigmoid": lambda _x, y: (y <= 0) | (y >= 1),
    "erf": lambda x, _y: (-x * x).exp() < 0.05,
    "atan": lambda x, _y: 1 / (1 + x * x) < 0.05,
}
# Functions whose derivative is exactly zero on one side: a unit that stays there gets no gradient.
_CAN_DIE = ("relu", "relu6", "threshold", "clamp_min")
_OTHERS = ("leaky_relu", "elu", "selu", "celu", "gelu", "silu", "mish", "softplus", "hardswish", "prelu", "rrelu")
_NAMES = {*_FLAT, *_CAN_DIE, *_OTHERS}


@dataclass(slots=True)
class ActivationSite:
    """One activation call of the forward pass; the counts are over passes."""

    module: str
    name: str
    function: str
    order: int
    units: int
    is_output: bool = False
    active: dict[str, Tensor] = field(default_factory=dict)  # by phase: samples in which each unit was active
    samples: dict[str, int] = field(default_factory=dict)
    flat: dict[str, list[Tensor]] = field(default_factory=dict)  # by phase: share of elements at the flat ends


class ActivationWatch(TorchFunctionMode):
    """Sees every activation function of a forward pass, module or not, and counts dead and saturated units.

    `position` tells how many module outputs there have been so far, which places a call in the execution order.
    """

    def __init__(self, stack: ModuleStack, position: Callable[[], int], channels_second: Callable[[], bool]) -> None:
        super().__init__()
        self.stack = stack
        self.position = position
        self.channels_second = channels_second
        self.sites: dict[tuple[str, str, int], ActivationSite] = {}
        self.phase = "start"
        self._calls: dict[tuple[str, str], int] = {}
        self._outputs: list[tuple[ActivationSite, int]] = []

    def begin(self, phase: str) -> None:
        self.phase = phase
        self._calls.clear()
        self._outputs.clear()

    def end(self, output: Tensor | None) -> None:
        """Note which activation, if any, made the model's output."""
        if output is not None:
            storage = _storage(output)
            for site, own in self._outputs:
                site.is_output = site.is_output or own == storage
        self._outputs.clear()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "").rstrip("_")
        if name == "clamp" and _clamps_at_zero(args, kwargs):
            name = "clamp_min"
        if name not in _NAMES or not args or not isinstance(args[0], Tensor):
            return func(*args, **kwargs)
        # An in-place activation overwrites its input; only two functions need it.
        before = args[0].detach().clone() if name in ("erf", "atan") else args[0].detach()
        result = func(*args, **kwargs)
        if isinstance(result, Tensor) and result.numel() and result.is_floating_point():
            with torch._C.DisableTorchFunction(), torch.no_grad():  # noqa: SLF001
                self._look(name, before, result.detach())
        return result

    def _look(self, function: str, x: Tensor, y: Tensor) -> None:
        module = self.stack.name()
        count = self._calls[module, function] = self._calls.get((module, function), -1) + 1
        key = (module, function, count)
        site = self.sites.get(key)
        dim = 1 if y.ndim >= 4 or (y.ndim == 3 and self.channels_second()) else -1
        if site is None:
            leaf = self.stack.leaf()
            own = leaf is not None and not any(True for _ in leaf.children()) and not any(
                True for _ in leaf.parameters(recurse=False)
            ) and type(leaf).__module__.startswith("torch.nn")  # fmt: skip
            line = "" if own else source_line()
            place = module if own else f"{function} in {module or 'forward'}" + (f" ({line})" if line else "")
            site = ActivationSite(module, place, function, self.position(), y.shape[dim] if y.ndim else 1)
            self.sites[key] = site
        self._outputs.append((site, _storage(y)))
        if y.ndim < 2:
            return
        if function in _CAN_DIE:
            active = (y > 0).movedim(dim, -1)
            if y.ndim > 3 or dim == 1:
                active = active.flatten(1, -2).any(1) if active.ndim > 2 else active
            active = active.reshape(-1, active.shape[-1])
            if site.units == active.shape[-1]:
                total = active.sum(0)
                known = site.active.get(self.phase)
                site.active[self.phase] = total if known is None else known + total
                site.samples[self.phase] = site.samples.get(self.phase, 0) + len(active)
        if function in _FLAT:
            site.flat.setdefault(self.phase, []).append(_FLAT[function](x, y).float().mean())
            site.samples[self.phase] = site.samples.get(self.phase, 0) + math.prod(y.shape[:-1])


def _clamps_at_zero(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    low = args[1] if len(args) > 1 else kwargs.get("min")
    high = args[2] if len(args) > 2 else kwargs.get("max")
    return low == 0 and high is None if not isinstance(low, Tensor) else False


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


# ---- losses ------------------------------------------------------------------------------------------------------

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
        self.found.append(Stretched(name, tuple(prediction.shape), tuple(target.shape), tuple(result)))


def _among(tensor: Tensor, family: list[Tensor]) -> bool:
    return any(tensor is member for member in family)
