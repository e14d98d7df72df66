"""Watches activation functions as they are called, by modules or directly in somebody's forward."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode, _pop_mode, _push_mode

from gradcheck_kit.observe.module_stack import ModuleStack, source_line
from gradcheck_kit.observe.statistics import measurable, sample

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


LAST_PASSES = 4  # the latest passes that are kept beside the first
MOST_COUNTED = 1 << 18  # elements of one activation that are counted in a pass, in whole samples


@dataclass(slots=True)
class ActivationSite:
    """One activation call of the forward pass; the counts are by pass."""

    module: str
    name: str
    function: str
    order: int
    units: int
    is_output: bool = False
    active: dict[int, Tensor] = field(default_factory=dict)  # samples in which each unit was active, shape (units,)
    samples: dict[int, int] = field(default_factory=dict)
    flat: dict[int, list[Tensor]] = field(default_factory=dict)  # share of elements at the flat ends


class ActivationWatch(TorchFunctionMode):
    """Sees every activation function of a forward pass, module or not, and counts dead and saturated units.

    `position` tells how many module outputs there have been so far, which places a call in the execution order.
    The first pass and the latest ones are kept.
    """

    def __init__(self, stack: ModuleStack, position: Callable[[], int], channels_second: Callable[[], bool]) -> None:
        super().__init__()
        self.stack = stack
        self.position = position
        self.channels_second = channels_second
        self.sites: dict[tuple[str, str, int], ActivationSite] = {}
        self._passes: list[int] = []
        self._next = 0
        self._calls: dict[tuple[str, str], int] = {}
        self._outputs: list[tuple[ActivationSite, int]] = []

    def begin(self) -> None:
        """A pass of its own; the oldest but the first makes room."""
        self._passes.append(self._next)
        self._next += 1
        if len(self._passes) > LAST_PASSES + 1:
            self._drop(self._passes[1])
        self._calls.clear()
        self._outputs.clear()

    def cancel(self) -> None:
        """What begins now replaces the pass before: that one's step never came."""
        if self._passes:
            self._drop(self._passes[-1])

    def _drop(self, number: int) -> None:
        self._passes.remove(number)
        for site in self.sites.values():
            for counts in (site.active, site.samples, site.flat):
                counts.pop(number, None)

    def leave(self) -> None:
        """End this mode, also where the model's forward has left another one on top of it."""
        above = []
        while (top := _pop_mode()) is not self:
            above.append(top)
        for mode in reversed(above):
            _push_mode(mode)

    def end(self, output: Tensor | None) -> None:
        """Note which activation, if any, made the model's output."""
        if output is not None:
            storage = _storage(output)
            for site, own in self._outputs:
                site.is_output = site.is_output or own == storage
        self._outputs.clear()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = _name_of(func)
        if name == "clamp" and _clamps_at_zero(args, kwargs):
            name = "clamp_min"
        if name not in _NAMES or not args or not isinstance(args[0], Tensor):
            return func(*args, **kwargs)
        # An in-place activation overwrites its input; only two functions need it.
        before = args[0].detach().clone() if name in ("erf", "atan") else args[0].detach()
        result = func(*args, **kwargs)
        if isinstance(result, Tensor) and result.is_floating_point() and measurable(result):
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
            site = self.sites[key] = self._site(function, module, y, dim)
        self._outputs.append((site, _storage(y)))
        if y.ndim < 2 or not self._passes:
            return
        now = self._passes[-1]
        if function in _CAN_DIE:
            active = _active(y, dim)
            if site.units == active.shape[-1]:
                total, known = active.sum(0), site.active.get(now)
                site.active[now] = total if known is None else known + total
                site.samples[now] = site.samples.get(now, 0) + len(active)
        if function in _FLAT:
            samples = math.prod(y.shape[:-1])
            if x.stride() == y.stride() and x.shape == y.shape:
                x, y = sample(x), sample(y)
            site.flat.setdefault(now, []).append(_FLAT[function](x, y).float().mean())
            site.samples[now] = site.samples.get(now, 0) + samples

    def _site(self, function: str, module: str, y: Tensor, dim: int) -> ActivationSite:
        leaf = self.stack.leaf()
        own = leaf is not None and not any(True for _ in leaf.children()) and not any(
            True for _ in leaf.parameters(recurse=False)
        ) and type(leaf).__module__.startswith("torch.nn")  # fmt: skip
        line = "" if own else source_line()
        place = module if own else f"{function} in {module or 'forward'}" + (f" ({line})" if line else "")
        return ActivationSite(module, place, function, self.position(), y.shape[dim] if y.ndim else 1)


def _active(y: Tensor, dim: int) -> Tensor:
    """Which units are active in which samples, shape (samples, units); a channel is, if it is so at any position."""
    if dim == -1:
        y = y.reshape(-1, y.shape[-1])
        return y[:: max(1, y.numel() // MOST_COUNTED)] > 0
    y = y[: max(4, MOST_COUNTED // max(1, y[0].numel()))]
    return y.amax(tuple(range(2, y.ndim))) > 0


_function_names: dict[Any, str] = {}


def _name_of(func: Any) -> str:
    """A torch function's name without the underscore of in-place ones; some 300 of them are looked up all the time."""
    try:
        return _function_names[func]
    except KeyError:
        name = getattr(func, "__name__", "").rstrip("_")
        if len(_function_names) < 4096:
            _function_names[func] = name
        return name


def _clamps_at_zero(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    low = args[1] if len(args) > 1 else kwargs.get("min")
    high = args[2] if len(args) > 2 else kwargs.get("max")
    return low == 0 and high is None if not isinstance(low, Tensor) else False


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
