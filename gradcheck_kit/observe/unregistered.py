"""Modules that run and that the model does not know: kept in a plain list, a closure, or made anew in forward."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import nn

from gradcheck_kit.facts import UnregisteredModule
from gradcheck_kit.observe.module_stack import ModuleStack


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


def _made_in(stack: ModuleStack, caller: nn.Module | None) -> str:
    name = stack.names.get(id(caller), "") if caller is not None else ""
    return f"{name or 'the model'}.forward"


def find_attribute(model: nn.Module, wanted: nn.Module) -> str:
    """Where an unregistered module is kept: "blocks.hidden[0]"; "" when no attribute holds it."""
    for name, module in model.named_modules():
        for attribute, value in module.__dict__.items():
            if attribute.startswith("_") and attribute in nn.Module().__dict__:
                continue
            place = _search(value, wanted, 3)
            if place is not None:
                return f"{name}.{attribute}{place}" if name else f"{attribute}{place}"
    return ""


def _search(value: Any, wanted: nn.Module, depth: int) -> str | None:
    if value is wanted:
        return ""
    if depth == 0:
        return None
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    elif callable(value) and hasattr(value, "__self__"):
        items = [("__self__", value.__self__)]
    for key, item in items:
        place = _search(item, wanted, depth - 1)
        if place is not None:
            return f".{key}{place}" if key == "__self__" else f"[{key!r}]{place}"
    return None
