"""Which layer a parameter belongs to, as a person would point at it."""

from __future__ import annotations

import torch
from torch import nn


def layer_of(parameter: str) -> str:
    """The module that a parameter is of: "fc" for "fc.weight" and for "fc.parametrizations.weight.original0".

    torch keeps what weight_norm or spectral_norm split a weight into below the layer that uses it.
    """
    return layer_name(parameter.rpartition(".")[0])


def layer_name(module: str) -> str:
    """A module's name without what torch's parametrizations put below it."""
    parts = module.split(".")
    return ".".join(parts[: parts.index("parametrizations")]) if "parametrizations" in parts else module


def is_machinery(module: str) -> bool:
    """Whether a module of that name computes a weight for the layer above it: what it returns is no activation."""
    return layer_name(module) != module


def takes_hooks(module: nn.Module) -> bool:
    """Whether a forward hook can be registered and would be called: a ScriptModule's parts run outside of Python."""
    return not isinstance(module, torch.jit.ScriptModule)
