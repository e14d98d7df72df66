"""Optical flow, how far each pixel moves from one image to the next: made-up targets, and a loss over refinements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

PIXELS = 4.0  # standard deviation of a made-up displacement
SMOOTH = 32  # pixels over which it changes: no network tells neighbouring pixels apart that move at random
DECAY = 0.8  # weight of a prediction against the next one (Teed & Deng 2020, "RAFT", equation 7)


def looks_like_flow(prediction: Tensor, inputs: Sequence[Any]) -> bool:
    """Whether two images (N, C, H, W) of one shape went in and two numbers per pixel (N, 2, H, W) came out."""
    if len(inputs) < 2 or not all(isinstance(image, Tensor) for image in inputs[:2]):
        return False
    first, second = inputs[:2]
    if first.ndim != 4 or first.shape != second.shape or not first.is_floating_point():
        return False
    return prediction.ndim == 4 and prediction.shape[1] == 2 and prediction.shape[2:] == first.shape[2:]


def made_up_flow(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Smooth random displacements in pixels, of `shape` (N, 2, H, W)."""
    count, channels, height, width = shape
    coarse = torch.randn(count, channels, height // SMOOTH + 2, width // SMOOTH + 2, generator=generator)
    return PIXELS * F.interpolate(coarse, (height, width), mode="bicubic", align_corners=True)


def refinements(output: Any, target: Any) -> list[Tensor]:
    """The successive predictions of one target that a model returns as a list, the last one the best; else none."""
    if not isinstance(output, list) or len(output) < 2 or not isinstance(target, Tensor):
        return []
    if not target.is_floating_point() or not all(isinstance(t, Tensor) and t.shape == target.shape for t in output):
        return []
    return output


def sequence_loss(output: Any, target: Tensor) -> Tensor:
    """Mean absolute errors of all predictions, each weighing 0.8 of the next, shape ()."""
    last = len(output) - 1
    return torch.stack([DECAY ** (last - i) * F.l1_loss(p, target) for i, p in enumerate(output)]).sum()
