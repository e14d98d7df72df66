"""What stands behind a stream whose batches are all equal: whether one batch is all there is, or most is never read.

Full-batch training from a stream is somebody's intent; so is a grid that is computed anew each time. A generator that
is seeded for every batch, or a slice that never moves on, is not.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_convert

from gradcheck_kit.target.outputs import tensors

# What code that makes different batches names: it draws random numbers, or reads on in a file.
DRAWS = frozenset({"normal", "normal_", "uniform", "uniform_", "choice", "choices", "shuffle", "permutation", "sample",
                   "bernoulli", "multinomial", "open", "read", "readline"})  # fmt: skip
PARTS = ("rand", "rng", "seed", "generator")
DEPTH = 3


def stream_source(stream: Any, size: int, period: int | None) -> tuple[int | None, bool]:
    """How many samples the stream holds in memory, None: none that can be seen; and whether it draws or reads them.

    `size` is that of a batch: where something holds just as many, that is what the stream consists of. `period` is how
    many of its items make a batch, None where it yields batches, as a loader of one's own making does.
    """
    sizes = {length for value in _held(stream, DEPTH) if (length := _length(value)) is not None}
    sizes |= _stored(stream, size, period)
    holds = size if size in sizes else max(sizes, default=None)
    return holds, any(_draws(name.lower()) for name in _names(stream))


def _length(value: Any) -> int | None:
    """The samples that a value may hold; None for what is no collection of them."""
    if isinstance(value, str | bytes | dict | DataLoader | IterableDataset):
        return None
    if not isinstance(value, Tensor | Dataset | list | tuple) and not hasattr(value, "__array__"):
        return None
    try:
        return len(value) if len(value) > 1 else None
    except TypeError:  # a tensor of no dimension, a data set without a length
        return None


def _held(value: Any, depth: int) -> Iterator[Any]:
    """What an object keeps in its attributes, and its functions in their closures."""
    parts = list(vars(value).values()) if hasattr(value, "__dict__") and not isinstance(value, type) else []
    if isinstance(value, Dataset) or depth == DEPTH:
        parts += [f for f in vars(type(value)).values() if isinstance(f, FunctionType)]
    if isinstance(value, FunctionType):
        parts = [cell.cell_contents for cell in value.__closure__ or () if _filled(cell)]
        parts += [*(value.__defaults__ or ())]
    yield from parts
    for part in parts:
        if depth and isinstance(part, FunctionType | Dataset | DataLoader):
            yield from _held(part, depth - 1)


def _filled(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018  # raises where a variable was not assigned yet
    except ValueError:
        return False
    return True


def _stored(stream: Any, size: int, period: int | None) -> set[int]:
    """As how many rows the memory is that the stream's items are views of, where it yields the same memory again."""
    apart = period or 1
    items = [tensors(default_convert(item)) for item in itertools.islice(stream, 0, apart + 1, apart)]
    if len(items) < 2:
        return set()
    found = set()
    for one, again in zip(*items, strict=False):
        if one.numel() and one.data_ptr() == again.data_ptr():
            row = one.numel() // size if period is None and one.ndim and len(one) == size else one.numel()
            found.add(one.untyped_storage().nbytes() // one.element_size() // max(1, row))
    return found


def _draws(name: str) -> bool:
    return name in DRAWS or any(part in name for part in PARTS)


def _names(dataset: Any) -> Iterator[str]:
    """What the code of a stream names, with that of its own methods and of functions of the file that these call."""
    start = getattr(type(dataset), "__iter__", None)
    waiting: list[tuple[Any, int]] = [(f, 0) for f in (start, *vars(dataset).values()) if isinstance(f, FunctionType)]
    seen: set[CodeType] = set()
    while waiting:
        function, depth = waiting.pop()
        if function.__code__ in seen:
            continue
        seen.add(function.__code__)
        names = {name for code in _codes(function.__code__) for name in code.co_names}
        yield from names
        if depth < DEPTH:
            called: list[Callable[..., Any] | None] = [getattr(type(dataset), name, None) for name in names]
            called += [function.__globals__.get(name) for name in names]
            called += [cell.cell_contents for cell in function.__closure__ or () if _filled(cell)]
            waiting += [(f, depth + 1) for f in called if isinstance(f, FunctionType)]


def _codes(code: CodeType) -> Iterator[CodeType]:
    """A function's code and that of what is defined inside of it: comprehensions, inner functions."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)
