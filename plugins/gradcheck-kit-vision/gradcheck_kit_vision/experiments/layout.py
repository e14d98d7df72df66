"""Whether the dimensions that a convolution reads as channels, rows and columns are those of the images it is given.

No threshold tells a channel from a row, but their order does: rows that are shuffled give another picture, channels
do not. That is a permutation test, exact whatever the images are.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from gradcheck_kit.experiments import NotApplicable, Probe
from gradcheck_kit_vision.facts import ImageLayout

SAMPLES = 64
BATCHES = 16
PERMUTATIONS = 999
COLOURS = (1, 3, 4)
SMALLEST = 8  # rows and columns
FEATURES = 1024  # numbers of a row that are compared
SHADES = 256  # of an 8-bit colour


class _Seen(Exception):  # noqa: N818  # no error: it ends a forward pass that has shown what it was to show
    pass


def look_at_layout(probe: Probe) -> ImageLayout:
    """What enters the first convolution, tested for rows in the place of channels and for memory read wrongly."""
    entered: list[tuple[nn.Module, Tensor]] = []

    def enter(module: nn.Module, args: Any) -> None:
        if isinstance(module, nn.Conv2d) and args and isinstance(args[0], Tensor):
            if not args[0].requires_grad:  # what requires a gradient has been through a trained layer
                entered.append((module, args[0].detach().cpu()))
            raise _Seen

    with probe.workspace() as work:
        for batch in map(work.to_device, itertools.islice(probe.train_data, BATCHES)):  # each image once
            handle = register_module_forward_pre_hook(enter)
            try:
                work.step(batch)
            except _Seen:
                pass
            finally:
                handle.remove()
            if not entered or sum(len(x) for _, x in entered) >= SAMPLES:
                break
        names = {id(module): name for name, module in work.model.named_modules()}
        if not entered:
            raise NotApplicable("no Conv2d takes the input as it is")
        layer = entered[0][0]
        images = [x for module, x in entered if module is layer and x.shape[1:] == entered[0][1].shape[1:]]
        x = torch.cat(images)[:SAMPLES]
    if x.ndim != 4 or not x.is_floating_point():
        raise NotApplicable("no Conv2d takes a batch of images as they are")
    colours_last = _colours_last(x)
    rows, columns = (_order_chance(x, 1), _order_chance(x, 2)) if colours_last else (None, None)
    rough, reshaped, compared, smoother = _reshaped(x)
    return ImageLayout(
        layer=names.get(id(layer), ""),
        shape=tuple(x.shape),
        samples=len(x),
        colours_last=colours_last,
        row_chance=rows,
        column_chance=columns,
        roughness=rough,
        roughness_if_reshaped=reshaped,
        compared=compared,
        smoother_if_reshaped=smoother,
    )


def _colours_last(x: Tensor) -> bool:
    """Whether the last dimension is that of colours: few, and each of them of no more than 256 shades."""
    _, rows, columns, colours = x.shape
    if colours not in COLOURS or min(rows, columns) < SMALLEST or (colours == 1 and rows != columns):
        return False
    shades = [x[..., i].unique() for i in range(colours)]
    enough = x[..., 0].numel() >= 4 * SHADES
    return enough and all(16 <= len(values) <= SHADES for values in shades)


def _order_chance(x: Tensor, dim: int) -> float:
    """How often a shuffled order along a dimension has neighbours as close as the order that it has, of 1000."""
    lines = x.movedim(dim, 0).reshape(x.shape[dim], -1).float()
    lines = lines[:, :: max(1, lines.shape[1] // FEATURES)]
    apart = torch.cdist(lines, lines, p=1)
    generator = torch.Generator().manual_seed(0)

    def length(order: Tensor) -> float:
        return float(apart[order[:-1], order[1:]].sum())

    own = length(torch.arange(len(lines)))
    closer = sum(length(torch.randperm(len(lines), generator=generator)) <= own for _ in range(PERMUTATIONS))
    return (closer + 1) / (PERMUTATIONS + 1)


def _reshaped(x: Tensor) -> tuple[float | None, float | None, int, int]:
    """Roughness as it is and with the same memory read as (N, H, W, 3); samples, and in how many that is smoother."""
    count, channels, rows, columns = x.shape
    if channels not in COLOURS[1:] or min(rows, columns) < SMALLEST:
        return None, None, 0, 0
    as_it_is = _roughness(x, x)
    other = _roughness(x.contiguous().reshape(count, rows, columns, channels).movedim(-1, 1), x)
    varied = (as_it_is > 0) & (other > 0)
    if not bool(varied.any()):
        return None, None, 0, 0
    as_it_is, other = as_it_is[varied], other[varied]
    return float(as_it_is.mean()), float(other.mean()), len(other), int((other < as_it_is).sum())


def _roughness(x: Tensor, measure: Tensor) -> Tensor:
    """Per image, shape (N,): squared differences of neighbours over twice the variance, which is 1.0 for noise.

    The variance is within the channels of `measure`, one for both readings: channels on different levels would make
    the variance of a wrong reading large, and itself smooth.
    """
    x = x.double()
    variance = measure.double().var((2, 3), correction=0).mean(1)
    differences = (x.diff(dim=2).square().mean((1, 2, 3)) + x.diff(dim=3).square().mean((1, 2, 3))) / 2
    return torch.where(variance > 0, differences / (2 * variance), torch.zeros_like(variance))
