"""Small statistics of tensors as 0-dimensional tensors on their device: nothing here waits for the device."""

from __future__ import annotations

import functools
import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

ABSENT = -1.0  # in rows of root mean squares, which are never negative
SAMPLE = 4096  # elements that the statistics of a large tensor are taken from: a root mean square within some 1 %
LARGE = 1 << 16  # elements up to which a norm of all costs no more than one of a sample
SMALL = 1e-12  # a norm below it is taken again, more exactly: squares of float32 vanish below 1e-23
TINY = 2.0**100  # brings the smallest float32 to where its square is one, too


def as_dense(tensor: Tensor) -> Tensor:
    """The values of a tensor; of a sparse one those that are stored, duplicates added up."""
    if tensor.layout is torch.strided:
        return tensor
    tensor = tensor.detach()
    return tensor.coalesce().values() if tensor.layout is torch.sparse_coo else tensor.values()


def measurable(tensor: Tensor) -> bool:
    """Whether the tensor holds values of its own: no sparse, nested, meta or functorch tensor, and not empty."""
    return (
        tensor.layout is torch.strided
        and not tensor.is_nested
        and not tensor.is_meta
        and tensor.numel() > 0
        and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)  # noqa: SLF001  # vmap and grad of torch.func
    )


def sample(tensor: Tensor, most: int = SAMPLE) -> Tensor:
    """A view of at most some `most` evenly spread elements of a strided tensor, all of them when there are fewer."""
    if tensor.numel() <= most:
        return tensor
    return tensor.as_strided(*_spread(tensor.shape, tensor.stride(), most))


@functools.lru_cache(maxsize=4096)
def _spread(shape: tuple[int, ...], strides: tuple[int, ...], most: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Sizes and strides of the view: one odd step through the storage of a dense tensor, else steps per dimension.

    An odd step walks through all columns of the usual power-of-two rows.
    """
    kept = sorted((stride, size) for size, stride in zip(shape, strides, strict=True) if size > 1 and stride > 0)
    expected = 1
    for stride, size in kept:
        if stride != expected:
            break
        expected *= size
    else:
        step = (expected // most) | 1
        return ((expected - 1) // step + 1,), (step,)
    sizes, steps = [size for _, size in kept], [1] * len(kept)
    while math.prod(sizes) > most:
        longest = sizes.index(max(sizes))
        steps[longest] = 2 * steps[longest] + 1
        sizes[longest] = (kept[longest][1] - 1) // steps[longest] + 1
    return tuple(sizes), tuple(stride * step for (stride, _), step in zip(kept, steps, strict=True))


def norms(tensors: Sequence[Tensor], *, factor: float = 1.0) -> list[Tensor]:
    """The 2-norm of each tensor (dense, any mix of devices and types) times `factor`, fused; 0 for empty ones.

    A factor keeps the squares of tiny values above the smallest float.
    """
    result: list[Tensor] = [torch.zeros(())] * len(tensors)
    groups: dict[tuple[torch.device, torch.dtype], list[int]] = defaultdict(list)
    for i, tensor in enumerate(tensors):
        if tensor.numel():
            groups[tensor.device, tensor.dtype].append(i)
    for (_, dtype), members in groups.items():
        batch = [tensors[i] for i in members]
        if dtype in (torch.float16, torch.bfloat16):
            batch = [t.float() for t in batch]
        elif dtype.is_complex:
            batch = [torch.view_as_real(t.resolve_conj()) for t in batch]
        if factor != 1.0:
            batch = list(torch._foreach_mul(batch, factor))  # noqa: SLF001  # the fused call has no public name
        for i, value in zip(members, torch._foreach_norm(batch), strict=True):  # noqa: SLF001
            result[i] = value
    return result


def read(tensors: Iterable[Tensor]) -> list[float]:
    """The values of real tensors of shape () or (n,), one after another, with one synchronisation per device.

    NaN is `math.nan` itself.
    """
    tensors = list(tensors)
    result: list[list[float]] = [[] for _ in tensors]
    devices: dict[torch.device, dict[tuple[torch.dtype, int], list[int]]] = defaultdict(lambda: defaultdict(list))
    for i, tensor in enumerate(tensors):
        devices[tensor.device][tensor.dtype, tensor.numel() if tensor.ndim else -1].append(i)
    for device, groups in devices.items():
        wide = torch.float32 if device.type == "mps" else torch.float64
        columns = [torch.stack([tensors[i] for i in members]).view(-1).to(wide) for members in groups.values()]
        # one NaN object for all: tuples compare by identity first, so a saved trace equals its copy
        values = iter([math.nan if math.isnan(v) else v for v in torch.cat(columns).tolist()])
        for members in groups.values():
            for i in members:
                result[i] = list(itertools.islice(values, tensors[i].numel()))
    return [value for values in result for value in values]


# ---- fingerprints ------------------------------------------------------------------------------------------------

_CHUNK = 1 << 16
_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


@functools.cache
def _multipliers(device: torch.device) -> Tensor:
    drawn = torch.randint(-(2**62), 2**62, (_CHUNK,), generator=torch.Generator().manual_seed(1))
    return (drawn | 1).to(device)


def fingerprint(tensor: Tensor) -> Tensor:
    """A number, int64 of shape (), that two tensors of equal bits share and that others practically never do.

    A sum over the bits as integers, modulo 2^64, with a random odd multiplier for each place (multiply-shift hashing,
    Dietzfelbinger et al. 1997). It tells whether a parameter moved at all, without a copy of it.
    """
    tensor = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    bits = tensor.detach().contiguous().view(-1).view(_INTEGERS[tensor.element_size()])
    multipliers = _multipliers(tensor.device)
    total = torch.zeros((), dtype=torch.int64, device=tensor.device)
    for start in range(0, bits.numel(), _CHUNK):
        part = bits[start : start + _CHUNK].to(torch.int64)
        total = total * 1_000_003 + (part * multipliers[: part.numel()]).sum()
    return total
