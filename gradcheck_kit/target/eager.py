"""Looks through what people wrap around their model: torch.compile and data parallelism.

Hooks on a compiled module are ignored or break its graph, and a wrapper puts words into every name that nobody wrote:
the probe runs the eager modules inside, which compute the same with the same parameters.
"""

from __future__ import annotations

import copy
import sys
from contextlib import AbstractContextManager, nullcontext, suppress

import torch
from torch import nn

_PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)


def compiled_parts(model: nn.Module) -> list[str]:
    """Names of the modules that torch.compile or `.compile()` was called on, as the eager model has them."""
    if "torch._dynamo" not in sys.modules:  # which both of them import
        return []
    return list(
        dict.fromkeys(
            plain_name(name)
            for name, module in model.named_modules()
            if _is_wrapper(module) or module.__dict__.get("_compiled_call_impl") is not None
        )
    )


def plain_name(name: str) -> str:
    """A module's or parameter's name as the eager model has it."""
    return ".".join(part for part in name.split(".") if part != "_orig_mod")


def inside(model: nn.Module, *, parallel: bool = True) -> nn.Module:
    """The model without wrappers around it. `parallel`: also without DataParallel and DistributedDataParallel."""
    while True:
        if _is_wrapper(model):
            model = model.get_submodule("_orig_mod")
        elif parallel and isinstance(model, _PARALLEL):
            model = model.module
        else:
            return model


def make_eager(model: nn.Module) -> None:
    """Put the eager modules in the place of compiled ones, everywhere inside; on a copy, or on what is restored."""
    for module in list(model.modules()):
        if module.__dict__.get("_compiled_call_impl") is not None:
            vars(module)["_compiled_call_impl"] = None
        children = module._modules  # noqa: SLF001  # a shared child stands in it twice; named_children() tells it once
        for name, child in children.items():
            if child is not None and _is_wrapper(child):
                children[name] = inside(child, parallel=False)


def eager(model: nn.Module) -> nn.Module:
    """A copy that is eager throughout; the model itself when nothing is compiled or no copy can be made."""
    if compiled_parts(model):
        with suppress(Exception):  # whatever a user's __deepcopy__ raises
            model = copy.deepcopy(model)
            make_eager(model)
    return model


def compiling_nothing() -> AbstractContextManager[object]:
    """A context in which compiled functions that a forward calls run as they were written."""
    if "torch._dynamo" not in sys.modules or not hasattr(torch.compiler, "set_stance"):
        return nullcontext()
    stance: AbstractContextManager[object] = torch.compiler.set_stance("force_eager")
    return stance


def _is_wrapper(module: nn.Module) -> bool:
    """Whether it is torch.compile's; told by its one child, because importing its class costs a second."""
    return any(name == "_orig_mod" for name, _ in module.named_children())
