"""One key for all that a target holds: where two are equal, the same probe sees the same.

Values are compared and not identities, so that a parameter changed in place, or through `.data`, makes a difference.
What can neither be pickled nor is taken apart here has no key; nothing is then known to be equal.
"""

from __future__ import annotations

import hashlib
import pickle
import sys
from collections.abc import Iterator
from dataclasses import fields
from types import FunctionType, ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from gradcheck_kit.target import Target

MOST = 1 << 30  # bytes; hashing more takes longer than many a probe


def fingerprint(target: Target) -> tuple[object, ...] | None:
    """A key that equals another target's where everything is equal; None where that cannot be told.

    It keeps the code that it compares by identity, and no model or data. What code reads from its module's names is
    not compared: a function there that is replaced between two scans goes unnoticed.
    """
    writer = _Writer(_Sink())
    try:
        writer.dump([getattr(target, field.name) for field in fields(target)])
    except Exception:  # noqa: BLE001  # whatever somebody's __reduce__ raises: it cannot be told
        return None
    settings = (torch.get_default_dtype(), torch.get_num_threads(), torch.are_deterministic_algorithms_enabled())
    return writer.sink.hash.digest(), settings, *writer.code


class _Sink:
    """A file that keeps nothing but a hash. Raises OverflowError for more than is worth it."""

    def __init__(self) -> None:
        self.hash = hashlib.blake2b()
        self.bytes = 0

    def write(self, chunk: Any) -> int:
        size = memoryview(chunk).nbytes
        self.bytes += size
        if self.bytes > MOST:
            raise OverflowError(f"more than {MOST} bytes")
        self.hash.update(chunk)
        return size


class _Identity:
    """An object that equals itself alone, and is kept: its identity is not given away again."""

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and self.value is other.value

    def __hash__(self) -> int:
        return id(self.value)


class _Writer(pickle.Pickler):
    def __init__(self, sink: _Sink) -> None:
        super().__init__(sink, protocol=5)
        self.sink = sink
        self.tensors: dict[int, int] = {}  # by identity, the order in which they were met: one that is shared stays so
        self.kept: list[Tensor] = []  # what `tensors` has the identities of
        self.classes: set[type] = set()
        self.code: list[object] = []

    def persistent_id(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self._tensor(value)
        if isinstance(value, torch.Generator):
            return "generator", str(value.device), value.get_state().numpy().tobytes()
        if isinstance(value, ModuleType):
            return "module", value.__name__
        self._remember(value if isinstance(value, type) else type(value))
        return None

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, nn.Module):
            return _stand_in, (type(value),), vars(value)  # also what its __getstate__ would leave out
        if isinstance(value, FunctionType) and not _importable(value):
            self.code.append(_Identity(value.__code__))
            cells = tuple(cell.cell_contents for cell in value.__closure__ or ())
            return _stand_in, (value.__module__,), {"held": (value.__defaults__, value.__kwdefaults__, cells)}
        return NotImplemented

    def _tensor(self, tensor: Tensor) -> tuple[object, ...]:
        if id(tensor) in self.tensors:
            return "tensor", self.tensors[id(tensor)]
        number = self.tensors[id(tensor)] = len(self.tensors)
        self.kept.append(tensor)
        if type(tensor) not in (Tensor, nn.Parameter) or tensor.layout is not torch.strided or tensor.is_quantized:
            raise TypeError("a tensor of a kind of its own")
        values = tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
        if values.numel():
            self.sink.write(values.reshape(-1).view(torch.uint8).numpy())
        gradient = self._tensor(tensor.grad) if tensor.is_leaf and tensor.grad is not None else None
        shape = (tuple(tensor.shape), tensor.stride())
        kind = (type(tensor) is nn.Parameter, str(tensor.dtype), str(tensor.device), tensor.requires_grad)
        return "tensor", number, *shape, *kind, gradient

    def _remember(self, kind: type) -> None:
        """Methods may be replaced, and class attributes: they are compared, too."""
        if kind not in self.classes and kind.__module__ not in ("builtins", "collections"):
            self.classes.add(kind)
            self.code.extend(_attributes(kind))


def _attributes(kind: type) -> Iterator[object]:
    for base in kind.__mro__:
        if base.__module__ != "builtins":
            for name, value in vars(base).items():
                if name in ("__slotnames__", "__doc__"):  # the first is added by pickle
                    continue
                plain = isinstance(value, int | float | str | None)
                yield name, value if plain else _Identity(value)


def _importable(function: FunctionType) -> bool:
    found: Any = sys.modules.get(function.__module__)
    for part in function.__qualname__.split("."):
        found = getattr(found, part, None)
    return found is function


def _stand_in(_: object) -> None:
    """Stands for what is taken apart, in a pickle that nobody reads."""
