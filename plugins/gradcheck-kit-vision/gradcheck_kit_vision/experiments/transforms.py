"""Watches torchvision's transforms as they run, wherever they are called from.

Most of them are nn.Modules, so torch's global hooks see them: in a Compose, in somebody's `__getitem__`, in a wrapper
around a Subset, in a collate function. Nothing is searched for, and nothing is hung on the user's objects.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.utils import _pytree as pytree

from gradcheck_kit_vision.facts import Channels, Normalization

TORCHVISION = "torchvision.transforms."
NORMALIZE = "Normalize"
PRESETS = ("ImageClassification", "ObjectDetection", "SemanticSegmentation", "VideoClassification", "OpticalFlow")
# Those that draw random numbers and do not say so in their name. A CutMix or MixUp runs in a collate function.
RANDOM = (
    "ColorJitter", "RandAugment", "AutoAugment", "TrivialAugmentWide", "AugMix", "ElasticTransform", "GaussianBlur",
    "GaussianNoise", "ScaleJitter", "CutMix", "MixUp", "JPEG",
)  # fmt: skip
Statistics = tuple[Channels, Channels, bool]


def own_class(module: nn.Module) -> str:
    """The class of torchvision's that a transform is or inherits from; "" when it is no transform of torchvision's."""
    for kind in type(module).__mro__:
        if kind.__module__.startswith(TORCHVISION):
            return kind.__name__
    return ""


def is_random(name: str) -> bool:
    return name.startswith("Random") or name in RANDOM


@dataclass(slots=True)
class _Entered:
    """What entered one Normalize so far."""

    calls: int = 0
    minimum: float = float("inf")
    maximum: float = float("-inf")
    count: int = 0
    total: Tensor | None = None
    squares: Tensor | None = None

    def add(self, image: Tensor) -> None:
        pixels = image.detach().double().movedim(-3, 0).reshape(image.shape[-3], -1)
        self.minimum = min(self.minimum, float(pixels.min()))
        self.maximum = max(self.maximum, float(pixels.max()))
        if self.total is not None and len(self.total) != len(pixels):
            return
        self.count += pixels.shape[1]
        total, squares = pixels.sum(1), pixels.square().sum(1)
        self.total = total if self.total is None else self.total + total
        self.squares = squares if self.squares is None else self.squares + squares

    def moments(self) -> tuple[Channels, Channels]:
        if self.total is None or self.squares is None or not self.count:
            return (), ()
        mean = self.total / self.count
        variance = (self.squares / self.count - mean.square()).clamp_min(0)
        return tuple(mean.tolist()), tuple(variance.sqrt().tolist())


@dataclass(slots=True)
class TransformWatch:
    """Notes which transforms run while it is open; `begin()` before each sample."""

    seen: dict[str, str] = field(default_factory=dict)  # the user's class: torchvision's
    random: dict[str, None] = field(default_factory=dict)
    entered: dict[Statistics, _Entered] = field(default_factory=dict)
    _normalized: bool = False

    @contextmanager
    def watching(self) -> Iterator[None]:
        handle = register_module_forward_pre_hook(self._enter)
        try:
            yield
        finally:
            handle.remove()

    def begin(self) -> None:
        self._normalized = False

    def normalizations(self) -> Iterator[Normalization]:
        for (mean, std, again), entered in self.entered.items():
            known = entered.total is not None
            means, stds = entered.moments()
            low, high = (entered.minimum, entered.maximum) if known else (None, None)
            yield Normalization(mean, std, entered.calls, again, low, high, means, stds)

    def _enter(self, module: nn.Module, args: Any) -> None:
        kind = own_class(module)
        if not kind:
            return
        self.seen.setdefault(type(module).__name__, kind)
        probability = getattr(module, "p", 1.0)
        if is_random(kind) and (not isinstance(probability, int | float) or probability > 0):
            self.random.setdefault(type(module).__name__)
        if kind in (NORMALIZE, *PRESETS) and hasattr(module, "mean") and hasattr(module, "std"):
            self._note(_channels(module.mean), _channels(module.std), _image(args), scales=kind in PRESETS)

    def _note(self, mean: Channels, std: Channels, image: Tensor | None, *, scales: bool) -> None:
        if not mean or not std:
            return
        entered = self.entered.setdefault((mean, std, self._normalized), _Entered())
        entered.calls += 1
        if image is not None and not scales:
            entered.add(image)
        self._normalized = True


def _channels(value: Any) -> Channels:
    """Statistics per channel, however they were given; empty for what is none."""
    try:
        return tuple(float(v) for v in torch.as_tensor(value, dtype=torch.float64).reshape(-1).tolist())
    except (TypeError, ValueError, RuntimeError):
        return ()


def _image(args: Any) -> Tensor | None:
    """The first tensor that can be an image: v2 transforms may be given whole samples."""
    found = (t for t in pytree.tree_leaves(args) if isinstance(t, Tensor))
    return next((t for t in found if t.ndim >= 3 and t.is_floating_point() and t.numel()), None)
