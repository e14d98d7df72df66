"""Other values in the place of a tensor that a model is given, and whether they change what it returns."""

from __future__ import annotations

import torch
from torch import Tensor


def every_second_row(tensor: Tensor) -> Tensor:
    """Every second row in the place of the one before: a batch of samples that exist, and no permutation of it."""
    if not tensor.ndim or len(tensor) < 2:
        return tensor
    index = torch.arange(len(tensor), device=tensor.device)
    index[::2] = (index[::2] + 1) % len(tensor)
    return tensor[index]


def noisy(tensor: Tensor, scale: float) -> Tensor:
    """The tensor with noise of `scale` times its own size; anything but floating-point numbers stays as it is."""
    if not tensor.is_floating_point() or not tensor.numel():
        return tensor
    wide = tensor.detach().float()
    spread = wide.std(correction=0) + wide.abs().mean() + 1e-3
    noise = torch.randn(tensor.shape, generator=torch.Generator().manual_seed(0)).to(tensor.device)
    return (wide + scale * spread * noise).to(tensor.dtype)


def outputs_differ(first: list[Tensor], second: list[Tensor]) -> bool:
    """Whether two lists of outputs differ by a bit, a shape or their number."""
    if len(first) != len(second):
        return True
    return any(a.shape != b.shape or not torch.equal(a, b) for a, b in zip(first, second, strict=True))
