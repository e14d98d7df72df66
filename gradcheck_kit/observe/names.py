"""The names of modules and parameters as their author knows them: without the layers that wrappers put between."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

WRAPPER = "_orig_mod"  # what torch.compile calls the module that it wraps


def plain(name: str) -> str:
    return ".".join(part for part in name.split(".") if part != WRAPPER) if WRAPPER in name else name


def named_modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, module in model.named_modules():
        yield plain(name), module


def named_parameters(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    for name, parameter in model.named_parameters():
        yield plain(name), parameter
