"""Brings the user's world back bit for bit: random state, data generators, and a model that had to be used in place."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


@contextmanager
def keep_random_state() -> Iterator[None]:
    """Put back the random state of Python, NumPy and torch on every device that has been used."""
    python, cpu = random.getstate(), torch.get_rng_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() and torch.cuda.is_initialized() else None
    mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
    try:
        import numpy as np
    except ImportError:
        np = None  # type: ignore[assignment]
    numpy_state = np.random.get_state() if np is not None else None  # the global one is the user's
    try:
        yield
    finally:
        random.setstate(python)
        torch.set_rng_state(cpu)
        if cuda is not None:
            torch.cuda.set_rng_state_all(cuda)
        if mps is not None:
            torch.mps.set_rng_state(mps)
        if numpy_state is not None:
            np.random.set_state(numpy_state)


@contextmanager
def kept_generators(*sources: Any) -> Iterator[None]:
    """Put back the generators that a DataLoader, its sampler or its data set draw from."""
    found: list[torch.Generator] = []
    for source in sources:
        for name in ("", "sampler", "batch_sampler", "dataset"):
            holder = getattr(source, name, None) if name else source
            holder = getattr(holder, "sampler", holder) if name == "batch_sampler" else holder
            generator = getattr(holder, "generator", None)
            if isinstance(generator, torch.Generator):
                found.append(generator)
    states = [generator.get_state() for generator in found]
    try:
        yield
    finally:
        for generator, state in zip(found, states, strict=True):
            generator.set_state(state)


@contextmanager
def keep_state(model: nn.Module, loss_fn: Any, optimizers: Sequence[Optimizer]) -> Iterator[None]:
    """Put back values, gradients, modes, flags, hooks, plain attributes and optimizer state of objects used in place.

    `state_dict` is no snapshot: it omits non-persistent buffers, modes and everything that is no tensor.
    """
    modules = [*model.modules(), *(loss_fn.modules() if isinstance(loss_fn, nn.Module) else ())]
    held = {id(t): t for m in modules for t in (*m._parameters.values(), *m._buffers.values()) if t is not None}  # noqa: SLF001
    for optimizer in optimizers:
        held |= {id(p): p for group in optimizer.param_groups for p in group["params"]}
    attributes = _work_on_own_attributes(modules, held)
    values = {key: (t.data, t.detach().clone(), t.grad, t.requires_grad) for key, t in held.items()}
    for tensor in held.values():
        tensor.grad = None  # backward adds in place to a gradient that is there
    groups = [[dict(group) for group in optimizer.param_groups] for optimizer in optimizers]
    states = [optimizer.state for optimizer in optimizers]
    plain = [dict(optimizer.__dict__) for optimizer in optimizers]
    for optimizer in optimizers:
        _work_on_copies(optimizer)
    try:
        yield
    finally:
        for optimizer, state, kept, former in zip(optimizers, states, groups, plain, strict=True):
            optimizer.__dict__.clear()
            optimizer.__dict__.update(former)
            optimizer.state = state
            for group, was in zip(optimizer.param_groups, kept, strict=True):
                group.clear()
                group.update(was)
        for module, (former, tables) in zip(modules, attributes, strict=True):
            module.__dict__.clear()
            module.__dict__.update(former)
            for table, was in tables:
                table.clear()
                table.update(was)
        for key, tensor in held.items():
            data, value, gradient, requires_grad = values[key]
            with torch.no_grad():
                tensor.data = data
                if not (isinstance(tensor, nn.Parameter) and nn.parameter.is_lazy(tensor)):
                    tensor.data.copy_(value)
            tensor.requires_grad_(requires_grad)
            tensor.grad = gradient


_TABLES = tuple(name for name, value in vars(nn.Module()).items() if isinstance(value, dict | set))
Tables = list[tuple[Any, Any]]  # torch's own (parameters, hooks, children), each with what it held


def _work_on_own_attributes(
    modules: Sequence[nn.Module], held: dict[int, Tensor]
) -> list[tuple[dict[str, Any], Tables]]:
    """Every module's attributes; in the place of lists, dicts and sets of the user's there are copies from now on.

    torch's tables stay the objects they are: a user's RemovableHandle knows its table. Modules that share a list share
    the copy.
    """
    memo: dict[int, Any] = {id(module): module for module in modules} | dict(held)
    kept: list[tuple[dict[str, Any], Tables]] = []
    for module in modules:
        attributes = dict(vars(module))
        tables = [
            (value, value.copy())
            for name, value in attributes.items()
            if name in _TABLES and isinstance(value, dict | set)
        ]
        kept.append((attributes, tables))
        for name, value in attributes.items():
            if isinstance(value, dict | list | set) and name not in _TABLES:
                with suppress(Exception):  # what cannot be copied is used as it is
                    vars(module)[name] = copy.copy(value) if _holds_modules(value) else copy.deepcopy(value, memo)
    return kept


def _holds_modules(value: Any) -> bool:
    items = value.values() if isinstance(value, dict) else value
    return any(isinstance(item, nn.Module | Tensor) for item in items)


def _work_on_copies(optimizer: Optimizer) -> None:
    """Give the optimizer copies of all that a step may change, on the same parameters and groups.

    Not all of them keep everything in `state`: SAM holds another optimizer, many hold counters and tensors.
    """
    memo: dict[int, Any] = {id(p): p for group in optimizer.param_groups for p in group["params"]}
    memo[id(optimizer.param_groups)] = optimizer.param_groups
    memo |= {id(group): group for group in optimizer.param_groups}
    optimizer.state = copy.deepcopy(optimizer.state, memo)
    for name, value in vars(optimizer).items():
        # A scheduler's `step` stays as it is, and so do hooks.
        if name not in ("state", "param_groups", "defaults") and not callable(value) and "hook" not in name:
            with suppress(Exception):  # what cannot be copied is kept as it is
                vars(optimizer)[name] = copy.deepcopy(value, memo)
