"""The names of modules and parameters as their author knows them: without what torch.compile puts between."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from gradcheck_kit.target.eager import plain_name


def named_modules(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, module in model.named_modules():
        yield plain_name(name), module


def named_parameters(model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    for name, parameter in model.named_parameters():
        yield plain_name(name), parameter
