"""Images with objects for a detector that comes without data: boxes, labels, and what else its heads ask for."""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from gradcheck_kit.errors import ProbeError
from gradcheck_kit.target.keep import keep_state
from gradcheck_kit.target.outputs import own_loss
from gradcheck_kit.target.resizing import limit_resizing
from gradcheck_kit.target.trial import Failure, Trial
from gradcheck_kit.target.workspace import copyable

IMAGES = 2  # in a batch: each holds thousands of anchors, and torchvision trains its detectors on two per GPU
SHARES = (0.2, 0.35, 0.5, 0.65, 0.8, 0.95)  # of the side of the image: SSD's scales, so that each head finds a match
OBJECTS = len(SHARES)
SIDES = (128, 224, 320, 512)
_TARGET_NAMES = ("targets", "target", "annotations", "ground_truth", "gt")


@dataclass(frozen=True, slots=True)
class Scenes:
    """How a detector wants its data: `images` of (C, H, W) as a list or stacked, and one dict per image."""

    image: tuple[int, int, int]
    stacked: bool
    keys: tuple[str, ...]  # of the dict: boxes, labels, masks, ...
    labels: tuple[int, int]  # from, and up to without
    keypoints: int

    def make(self, count: int, device: torch.device, generator: torch.Generator) -> tuple[Any, list[dict[str, Tensor]]]:
        """`count` images in [0, 1] and their targets. Boxes are x1, y1, x2, y2 in pixels."""
        images = torch.rand(count, *self.image, generator=generator).to(device)
        targets = [self._objects(number, device, generator) for number in range(count)]
        return images if self.stacked else list(images), targets

    def _objects(self, number: int, device: torch.device, generator: torch.Generator) -> dict[str, Tensor]:
        _, height, width = self.image
        size = torch.tensor([width, height], dtype=torch.float32)
        shares = torch.tensor(SHARES)[:, None] * (0.9 + 0.15 * torch.rand(OBJECTS, 2, generator=generator))
        sides = size * shares
        corner = (size - sides) * torch.rand(OBJECTS, 2, generator=generator)
        boxes = torch.cat([corner, corner + sides], 1)
        rows, columns = torch.arange(height)[:, None] + 0.5, torch.arange(width)[None, :] + 0.5
        x1, y1, x2, y2 = boxes[:, :, None, None].unbind(1)
        # An ellipse in its box: a mask that is all of the box could be told without looking.
        ellipse = ((2 * columns - x1 - x2) / (x2 - x1)) ** 2 + ((2 * rows - y1 - y2) / (y2 - y1)) ** 2 <= 1
        places = corner[:, None] + sides[:, None] * torch.rand(OBJECTS, self.keypoints, 2, generator=generator)
        visible = torch.full((OBJECTS, self.keypoints, 1), 2.0)
        known = {
            "boxes": boxes,
            "labels": torch.randint(*self.labels, (OBJECTS,), generator=generator),
            "masks": ellipse.to(torch.uint8),
            "keypoints": torch.cat([places, visible], 2),
            "area": sides.prod(1),
            "iscrowd": torch.zeros(OBJECTS, dtype=torch.int64),
            "image_id": torch.tensor([number]),
        }
        return {key: known[key].to(device) for key in self.keys}

    def __str__(self) -> str:
        more = "".join(f", {key}" for key in self.keys if key not in ("boxes", "labels"))
        labels = f"labels {self.labels[0]} to {self.labels[1] - 1}" if self.labels[1] - self.labels[0] > 1 else "labels"
        return f"images {'x'.join(map(str, self.image))} with {OBJECTS} objects each (boxes, {labels}{more})"


_KNOWN = ("boxes", "labels", "masks", "keypoints", "area", "iscrowd", "image_id")


def find_scenes(model: nn.Module, shape: tuple[int, ...] | None = None, classes: int | None = None) -> Scenes | None:
    """How `model` takes images and objects; None when it is no detector.

    A detector takes the targets as its second argument and, in training mode, returns its losses. `shape` (C, H, W)
    settles the images, `classes` the number of labels with the background's.
    """
    convolution = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    if not _takes_targets(model) or convolution is None or (shape is not None and len(shape) != 3):
        return None
    sizes = [(shape[0], shape[1], shape[2])] if shape else [(convolution.in_channels, side, side) for side in SIDES]
    device = convolution.weight.device
    told: set[str] = set()
    for size in sizes:
        with _scratch(model) as scratch:
            limit_resizing(scratch, min(size[1:]))
            trial = Trial(scratch)
            for stacked in (False, True):
                # With a background the classes start at 1; a number that another module states may be too high.
                for labels in dict.fromkeys([(1, max(classes or stated_classes(model), 2)), (1, 2), (0, 1)]):
                    found = _fitting(trial, Scenes(size, stacked, ("boxes", "labels"), labels, 17), device)
                    if isinstance(found, Scenes):
                        return found
                    if not found.training:
                        break  # labels matter to the loss alone
                told.add(str(found))
        if len(told) < 2 * len(sizes[: sizes.index(size) + 1]):
            break  # another size is answered as this one was
    return None


def _takes_targets(model: nn.Module) -> bool:
    try:
        names = list(inspect.signature(model.forward).parameters)
    except (TypeError, ValueError):  # a scripted module has no Python signature
        return False
    return len(names) > 1 and names[1] in _TARGET_NAMES


@contextmanager
def _scratch(model: nn.Module) -> Iterator[nn.Module]:
    """A model that may be changed."""
    if copyable(model, None, ()):
        yield copy.deepcopy(model)
        return
    with keep_state(model, None, []):
        yield model


def _fitting(trial: Trial, scenes: Scenes, device: torch.device) -> Scenes | Failure:
    """The scenes with the keys and keypoints that the model wants, which it tells by what it raises and detects."""
    seen: list[Any] = []

    def call(model: nn.Module, samples: int) -> tuple[Callable[[], Any], list[Any]]:
        images, targets = scenes.make(samples, device, torch.Generator().manual_seed(0))

        def forward() -> Any:
            seen.append(model(images, targets))
            return seen[-1]

        return forward, [images]

    outcome = trial.run(call, length=1)
    while isinstance(outcome, Failure) and (missing := _missing(scenes, outcome, seen)):
        scenes = replace(scenes, keys=(*scenes.keys, *missing))
        seen.clear()
        outcome = trial.run(call, length=1)
    if isinstance(outcome, Failure):
        return outcome
    detections, losses = _dicts(seen[0]), seen[1]
    if not _is_loss(losses):
        return Failure("TypeError: in training mode it returns no loss", TypeError)
    points = [d["keypoints"].shape[-2] for d in detections if isinstance(d.get("keypoints"), Tensor)]
    if scenes.labels == (1, 2):  # a class that it detects is one of its classes
        found = [d["labels"] for d in detections if isinstance(d.get("labels"), Tensor) and d["labels"].numel()]
        scenes = replace(scenes, labels=(1, max([2, *(int(labels.max()) + 1 for labels in found)])))
    return replace(scenes, keypoints=points[0] if points and points[0] else scenes.keypoints)


def _missing(scenes: Scenes, failure: Failure, seen: list[Any]) -> list[str]:
    """What the targets lack: what the model detects, or names in its complaint."""
    named = {failure.key, *re.findall(r"\w+", failure.error)}
    named |= {key for detection in _dicts(seen[0] if seen else None) for key in detection}
    return [key for key in _KNOWN if key in named and key not in scenes.keys]


def _dicts(detections: Any) -> list[Mapping[str, Any]]:
    return [d for d in detections if isinstance(d, Mapping)] if isinstance(detections, list | tuple) else []


def _is_loss(output: Any) -> bool:
    if isinstance(output, Tensor) and output.ndim:
        return False
    try:
        own_loss(output)
    except ProbeError:
        return False
    return True


def stated_classes(model: nn.Module) -> int:
    """The number of classes that a head states, or that its two layers tell: four numbers of a box for each class."""
    for module in model.modules():
        stated = getattr(module, "num_classes", None)
        if isinstance(stated, int) and stated > 1:
            return stated
        widths = [child.out_features for child in module.children() if isinstance(child, nn.Linear)]
        if len(widths) == 2 and max(widths) == 4 * min(widths) and min(widths) > 1:
            return min(widths)
    return 2
