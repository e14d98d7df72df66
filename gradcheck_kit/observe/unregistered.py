"""What takes part and the model does not know: modules in a plain list, a closure, or made anew; bare parameters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gradcheck_kit.facts import UnregisteredModule
from gradcheck_kit.observe.module_stack import ModuleStack

_OWN = frozenset(nn.Module().__dict__)  # attributes of every module


def unregistered_modules(
    model: nn.Module, stack: ModuleStack, owned: set[int], *, beside: Any = None
) -> Iterable[UnregisteredModule]:
    """Modules with parameters that ran inside the model's forward and that neither it nor `beside` registers.

    `owned` holds the ids of the parameters that an optimizer has.
    """
    registered = {id(p) for p in model.parameters()}
    known = {id(m) for m in model.modules()}
    if isinstance(beside, nn.Module):
        registered |= {id(p) for p in beside.parameters()}
        known |= {id(m) for m in beside.modules()}
    for module in stack.finished:
        parameters = [p for p in module.parameters() if id(p) not in registered]
        if id(module) in known or not parameters:
            continue
        caller = stack.callers.get(id(module))
        if caller is not None and id(caller) not in known and id(caller) in {id(m) for m in stack.finished}:
            continue  # its parent is unregistered too and says it
        yield UnregisteredModule(
            find_attribute(model, module) or _made_in(stack, caller),
            type(module).__name__,
            len(parameters),
            any(p.requires_grad for p in parameters),
            all(id(p) in owned for p in parameters if p.requires_grad),
        )


@contextmanager
def bare_tensors(model: nn.Module, owned: set[int]) -> Iterator[list[UnregisteredModule]]:
    """Parameters in plain lists and dictionaries of the model's modules, and tensors of theirs that want a gradient.

    The list is of those that get one while this is entered. Of plain tensors only those that nobody differentiates by,
    as physics-informed losses do by their points.
    """
    registered = {id(p) for p in model.parameters()}
    places: dict[int, tuple[str, Tensor]] = {}
    for name, module in model.named_modules():
        for attribute, value in module.__dict__.items():
            if attribute not in _OWN:
                for place, tensor in _within(value):
                    if _wants_gradient(tensor) and id(tensor) not in registered:
                        places.setdefault(id(tensor), (f"{name}.{attribute}{place}".removeprefix("."), tensor))
    reached: set[int] = set()
    handles = [tensor.register_hook(lambda _, key=key: reached.add(key)) for key, (_, tensor) in places.items()]
    found: list[UnregisteredModule] = []
    watch = _Differentiated()
    try:
        with watch if any(not isinstance(tensor, nn.Parameter) for _, tensor in places.values()) else nullcontext():
            yield found
    finally:
        for handle in handles:
            handle.remove()
    found += [
        UnregisteredModule(place, "Parameter" if isinstance(tensor, nn.Parameter) else "Tensor", 1, True, key in owned)
        for key, (place, tensor) in places.items()
        if key in reached - watch.inputs
    ]


def _wants_gradient(thing: Any) -> bool:
    return isinstance(thing, Tensor) and thing.is_leaf and thing.requires_grad


class _Differentiated(TorchFunctionMode):
    """Sees by what `torch.autograd.grad` differentiates."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs: set[int] = set()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.autograd.grad:
            inputs = args[1] if len(args) > 1 else kwargs.get("inputs", ())
            self.inputs |= {id(tensor) for tensor in ([inputs] if isinstance(inputs, Tensor) else inputs)}
        return func(*args, **kwargs)


def _made_in(stack: ModuleStack, caller: nn.Module | None) -> str:
    name = stack.names.get(id(caller), "") if caller is not None else ""
    return f"{name or 'the model'}.forward"


def find_attribute(model: nn.Module, wanted: nn.Module) -> str:
    """Where an unregistered module is kept: "blocks.hidden[0]"; "" when no attribute holds it."""
    for name, module in model.named_modules():
        for attribute, value in module.__dict__.items():
            if attribute.startswith("_") and attribute in _OWN:
                continue
            for place, thing in _within(value):
                if thing is wanted:
                    return f"{name}.{attribute}{place}".removeprefix(".")
    return ""


def _within(value: Any, depth: int = 3) -> Iterator[tuple[str, Any]]:
    """The value and all that lists, dictionaries and bound methods in it hold, each with its place: "['a'][0]"."""
    yield "", value
    items: Iterable[tuple[str, Any]] = ()
    if isinstance(value, Mapping):
        items = ((f"[{key!r}]", item) for key, item in value.items())
    elif isinstance(value, list | tuple):
        items = ((f"[{index}]", item) for index, item in enumerate(value))
    elif callable(value) and hasattr(value, "__self__"):
        items = [(".__self__", value.__self__)]
    for here, item in items if depth else ():
        for place, thing in _within(item, depth - 1):
            yield f"{here}{place}", thing
