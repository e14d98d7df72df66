"""Finds the operation at fault: every function of torch that runs in a forward pass, with what it returned."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gradcheck_kit.facts import MixingOperation
from gradcheck_kit.observe.module_stack import ModuleStack, source_line
from gradcheck_kit.target.outputs import tensors

MOST_ELEMENTS = 20_000_000  # kept of one pass: what comes after them is not told apart

Judge = Callable[[Sequence[Tensor]], bool]


@dataclass(slots=True)
class Call:
    """One call: what it returned, and the calls whose results it was given."""

    operation: str
    module: str
    source: str
    outputs: list[Tensor]
    given: list[int]


class _Watch(TorchFunctionMode):
    def __init__(self, stack: ModuleStack) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self._stack = stack
        self._made_by: dict[int, int] = {}
        self._alive: list[Tensor] = []  # so that no id is given twice
        self._elements = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        returned = [t for t in tensors(result) if t.is_floating_point() or t.is_complex()]
        self._elements += sum(t.numel() for t in returned)
        if returned and self._elements <= MOST_ELEMENTS:
            given = [self._made_by[id(t)] for t in tensors((args, kwargs)) if id(t) in self._made_by]
            name = getattr(func, "__name__", "").strip("_")
            kept = [t.detach().clone() for t in returned]
            self.calls.append(Call(name, self._stack.name(), source_line(), kept, given))
            for tensor in returned:
                self._made_by[id(tensor)] = len(self.calls) - 1
                self._alive.append(tensor)
        return result


def calls_of(model: nn.Module, forward: Callable[[], Any]) -> list[Call]:
    """Every function that returned a floating-point tensor in one forward pass, in order."""
    stack = ModuleStack(model)
    watch = _Watch(stack)
    with torch.no_grad(), stack.watch(), watch:
        forward()
    return watch.calls


def aligned(passes: Sequence[Sequence[Call]]) -> Iterator[tuple[Call, list[list[Tensor]]]]:
    """Each call with what it returned in every pass, by output; up to where the passes went different ways."""
    for calls in zip(*passes, strict=False):
        shapes = {(call.operation, *(tuple(t.shape) for t in call.outputs)) for call in calls}
        if len(shapes) > 1:
            return
        yield calls[0], [list(group) for group in zip(*(call.outputs for call in calls), strict=True)]


def first_operation(
    model: nn.Module,
    passes: Sequence[Sequence[Call]],
    *,
    wrong: Judge,
    reduced: Judge = lambda _: False,
) -> MixingOperation | None:
    """The first call with a wrong result although nothing wrong went in.

    `wrong` and `reduced` are asked with one output as it was in every pass. `reduced` says that an operand no longer
    has the dimension that is watched: then the operation that made it is told too.
    """
    guilty: set[int] = set()
    reducing: set[int] = set()
    first = passes[0]
    for index, (call, outputs) in enumerate(aligned(passes)):
        if any(map(wrong, outputs)):
            if not any(i in guilty for i in call.given):
                by = next((i for i in call.given if i in reducing), None)
                # The line is the user's also where the reduction is in another call of it.
                return MixingOperation(
                    call.operation,
                    call.module,
                    type(dict(model.named_modules()).get(call.module, model)).__name__,
                    call.source,
                    _name(first, by) if by is not None else "",
                )
            guilty.add(index)
        elif any(map(reduced, outputs)):
            reducing.add(index)
    return None


def _name(calls: Sequence[Call], index: int) -> str:
    """The operation that reduced: views of what it made, such as `.values` or `[..., None]`, are followed back."""
    views = ("get", "getitem", "unsqueeze", "squeeze", "view", "reshape", "expand", "detach", "clone", "to", "sqrt")
    call = calls[index]
    while call.operation in views and call.given:
        call = calls[call.given[-1]]
    return call.operation
