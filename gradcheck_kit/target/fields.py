"""Batches and outputs that are objects: data classes, and graphs or feature sets with a `.to` of their own."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn


def has_fields(value: Any) -> bool:
    """Whether it is a bundle of named parts: no container, tensor or module."""
    if isinstance(value, type | Tensor | nn.Module | Mapping | list | tuple | str | bytes):
        return False
    return dataclasses.is_dataclass(value) or (callable(getattr(value, "to", None)) and hasattr(value, "__dict__"))


def field_names(value: Any) -> list[str]:
    """The public names of its parts, in their order."""
    if dataclasses.is_dataclass(value):
        return [field.name for field in dataclasses.fields(value) if hasattr(value, field.name)]
    keys = getattr(value, "keys", None)
    names = list(keys()) if callable(keys) else list(vars(value))
    return [name for name in names if isinstance(name, str) and not name.startswith("_") and hasattr(value, name)]


def item(batch: Any, name: Any) -> Any:
    """A part by key or by attribute; None when there is none."""
    return batch.get(name) if isinstance(batch, Mapping) else getattr(batch, name, None) if name is not None else None


def with_fields(value: Any, change: Callable[[Any], Any]) -> Any:
    """A shallow copy with every part changed; a frozen data class too."""
    twin = copy.copy(value)
    for name in field_names(value):
        object.__setattr__(twin, name, change(getattr(value, name)))
    return twin
