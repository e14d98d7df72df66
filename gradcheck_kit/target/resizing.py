"""What a model itself makes of an image's size, and how a probe keeps it from enlarging made-up ones."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn


def _resizers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The modules that bring images to a size between `min_size` and `max_size`, as torchvision's detectors do."""
    for name, module in model.named_modules():
        least, most = getattr(module, "min_size", None), getattr(module, "max_size", None)
        sizes = least if isinstance(least, list | tuple) else [least]
        fixed = getattr(module, "fixed_size", None) is not None
        if isinstance(most, int) and not fixed and sizes and all(isinstance(size, int) for size in sizes):
            yield name, module


def limit_resizing(model: nn.Module, side: int) -> None:
    """Keep `model` from enlarging images whose shorter side is `side`. Only for models that may be changed."""
    for _, module in _resizers(model):
        least: Any = module.min_size
        several = isinstance(least, list | tuple)
        module.min_size = type(least)(min(size, side) for size in least) if several else min(least, side)


def describe_limit(model: nn.Module, side: int) -> str:
    """What `limit_resizing` would change, as a clause; "" for nothing."""
    for name, module in _resizers(model):
        least: Any = module.min_size
        smallest = min(least) if isinstance(least, list | tuple) else least
        if smallest > side:
            where = f"{name}.min_size" if name else "min_size"
            return f"{where} is {side} in the probe, not {smallest}: made-up images gain nothing by being enlarged"
    return ""
