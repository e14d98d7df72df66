"""Tells who wants to know of every backward pass. torch has no hook there: `Tensor.backward` is wrapped meanwhile."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

_LISTENERS: list[Callable[[Tensor], None]] = []  # are called with the tensor whose backward pass begins
_backward = torch.Tensor.backward  # as it was before the first of them


def listen_to_backward(listener: Callable[[Tensor], None]) -> None:
    """Call the listener, which must not raise, before every `Tensor.backward`."""
    global _backward  # noqa: PLW0603  # there is one Tensor.backward for all
    if not _LISTENERS and torch.Tensor.backward is not _told:
        _backward = torch.Tensor.backward
        torch.Tensor.backward = _told  # type: ignore[method-assign]
    _LISTENERS.append(listener)


def stop_listening_to_backward(listener: Callable[[Tensor], None]) -> None:
    _LISTENERS.remove(listener)
    # Somebody else may have wrapped it since: then ours stays below theirs and has nobody to tell.
    if not _LISTENERS and torch.Tensor.backward is _told:
        torch.Tensor.backward = _backward  # type: ignore[method-assign]


@functools.wraps(torch.Tensor.backward)
def _told(self: Tensor, *args: Any, **kwargs: Any) -> None:
    for listener in _LISTENERS:
        listener(self)
    _backward(self, *args, **kwargs)
