"""Small statistics of tensors as 0-dimensional tensors on their device: nothing here waits for the device."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

SAMPLE = 1 << 16  # elements of a large tensor that its statistics are taken from


def as_dense(tensor: Tensor) -> Tensor:
    """The values of a tensor; of a sparse one those that are stored, duplicates added up."""
    tensor = tensor.detach()
    if tensor.layout is torch.sparse_coo:
        return tensor.coalesce().values()
    return tensor.values() if tensor.layout is not torch.strided else tensor


def sample_rows(tensor: Tensor) -> Tensor:
    """A view of whole samples from the front of a batch: they are as random as the batch is shuffled."""
    count = tensor.numel()
    if count <= SAMPLE or tensor.ndim == 0:
        return tensor
    per_row = count // len(tensor)
    if per_row <= SAMPLE:
        return tensor[: max(1, SAMPLE // per_row)]
    return sample_elements(tensor[0])


def sample_elements(tensor: Tensor) -> Tensor:
    """A view of evenly spread elements. An odd stride walks through all columns of the usual power-of-two rows."""
    count = tensor.numel()
    if count <= SAMPLE or not tensor.is_contiguous():
        return tensor
    return tensor.view(-1)[:: (count // SAMPLE) | 1]


def rms(tensor: Tensor) -> Tensor:
    """The root mean square of the elements, shape (), at least in float32: half precision would overflow."""
    if tensor.numel() == 0:
        return torch.zeros((), device=tensor.device)
    norm: Tensor = torch.linalg.vector_norm(tensor, dtype=_at_least_float32(tensor))
    return norm.real / math.sqrt(tensor.numel()) if norm.is_complex() else norm / math.sqrt(tensor.numel())


def _at_least_float32(tensor: Tensor) -> torch.dtype | None:
    if tensor.dtype in (torch.float16, torch.bfloat16):
        return torch.float32
    return None if tensor.is_floating_point() or tensor.is_complex() else torch.float32


def norms(tensors: Sequence[Tensor], order: float = 2.0) -> list[Tensor]:
    """A norm of each tensor (dense, any mix of devices and types), fused; 0 for empty ones."""
    result: list[Tensor] = [torch.zeros(())] * len(tensors)
    groups: dict[tuple[torch.device, torch.dtype], list[int]] = defaultdict(list)
    for i, tensor in enumerate(tensors):
        if tensor.numel():  # the infinity norm of nothing raises
            groups[tensor.device, tensor.dtype].append(i)
    for (_, dtype), members in groups.items():
        wide = torch.float32 if dtype in (torch.float16, torch.bfloat16) else None
        batch = [tensors[i].to(wide) if wide else tensors[i] for i in members]
        # _foreach_norm has no complex form of every order; the fused call is for the types that models have
        found = (
            [torch.linalg.vector_norm(t, order) for t in batch]
            if dtype.is_complex
            else torch._foreach_norm(batch, order)  # noqa: SLF001
        )
        for i, value in zip(members, found, strict=True):
            result[i] = value
    return result


def read(scalars: Iterable[Tensor]) -> list[float]:
    """The values of 0-dimensional tensors, with one synchronisation per device. NaN is `math.nan` itself."""
    scalars = list(scalars)
    values: list[float] = [0.0] * len(scalars)
    by_device: dict[torch.device, list[int]] = defaultdict(list)
    for i, scalar in enumerate(scalars):
        by_device[scalar.device].append(i)
    for device, members in by_device.items():
        wide = torch.float32 if device.type == "mps" else torch.float64
        for i, value in zip(members, torch.stack([scalars[i].to(wide) for i in members]).tolist(), strict=True):
            # one NaN object for all: tuples compare by identity first, so a saved trace equals its copy
            values[i] = math.nan if math.isnan(value) else value
    return values
