"""Whether images are normalised as the weights of a pretrained torchvision model expect.

What the weights expect is torchvision's own record of them. Whether this model has those weights cannot be seen, so its
first BatchNorm is asked: its running statistics remember the images that it was trained on, and they fit better either
as the images are, or as torchvision says they should be.
"""

from __future__ import annotations

import inspect
import itertools
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from gradcheck_kit.experiments import NotApplicable, Probe
from gradcheck_kit_vision.experiments.pipeline import image_in
from gradcheck_kit_vision.facts import Channels, ImagePipeline, PretrainedInput, same_channels, spread

if TYPE_CHECKING:
    from gradcheck_kit.target.workspace import Workspace

MODELS = "torchvision.models."
SAMPLES = 64
BATCHES = 16
CLOSE = 0.02  # statistics that differ by less are the same, copied or measured anew

Statistics = tuple[Channels, Channels]


class _Seen(Exception):  # noqa: N818  # no error: it ends a forward pass that has shown what it was to show
    pass


def compare_with_weights(probe: Probe) -> PretrainedInput:
    """The distance of what enters the first BatchNorm from what it remembers, as it is and normalised as expected."""
    pipeline: ImagePipeline | None = probe.facts.get(ImagePipeline)
    if pipeline is None:
        raise NotApplicable("the model takes no images, as a tensor of 4 dimensions")
    with probe.workspace() as work:
        part = next((m for m in work.model.modules() if type(m).__module__.startswith(MODELS)), None)
        wanted = [] if part is None else list(dict.fromkeys(_expected(type(part).__module__)))
        if part is None or not wanted:
            raise NotApplicable("the model is none of torchvision's for which there are weights")
        norms = {n: m for n, m in work.model.named_modules() if isinstance(m, nn.BatchNorm2d) and _trained(m)}
        if not norms:
            raise NotApplicable("the model has no BatchNorm that has been trained before, so it may start from scratch")
        used_mean, used_std, scale = _used(pipeline)
        batches = list(_enough(map(work.to_device, itertools.islice(probe.train_data, BATCHES)), work))
        images, entered = _images(work, batches)
        if not all(torch.equal(a, b) for a, b in zip(images, entered, strict=True)):
            raise NotApplicable("the model changes its images before its first convolution")
        own = (spread(used_mean or (0.0,), images[0].shape[1]), spread(used_std or (1.0,), images[0].shape[1]))
        usual = [w for w in wanted if len(w[0]) == images[0].shape[1]]
        if not usual:
            raise NotApplicable(f"the weights are for {len(wanted[0][0])} channels, the images have {len(own[0])}")
        same = any(same_channels(own[0], m, CLOSE) and same_channels(own[1], s, CLOSE) for m, s in usual) and scale == 1
        found = _distances(work, batches, norms, None)
        if found is None:
            raise NotApplicable("no BatchNorm that has been trained before ran")
        name, distance = found
        best: tuple[Tensor | None, Statistics] = (None, usual[0])
        for mean, std in [] if same else usual:
            again = _distances(work, batches, {name: norms[name]}, _renormalized(own, (mean, std), scale))
            if again is not None and (best[0] is None or float(again[1].mean()) < float(best[0].mean())):
                best = (again[1], (mean, std))
    other = best[0]
    return PretrainedInput(
        family=type(part).__name__,
        layer=name,
        channels=len(distance),
        used_mean=used_mean,
        used_std=used_std,
        maximum=scale,
        expected_mean=best[1][0],
        expected_std=best[1][1],
        expected=same,
        distance=None if other is None else float(distance.mean()),
        expected_distance=None if other is None else float(other.mean()),
        nearer=0 if other is None else int((other < distance).sum()),
    )


def _expected(module: str) -> Iterator[Statistics]:
    """Mean and standard deviation that each of torchvision's weights for the models of a module goes with."""
    from torchvision.models import WeightsEnum

    kinds: list[Any] = [k for k in vars(sys.modules[module]).values() if isinstance(k, type)]
    for kind in kinds:
        if issubclass(kind, WeightsEnum):
            for weights in kind:
                # A partial of a preset: what it does not name is the preset's default.
                made = weights.transforms
                defaults = inspect.signature(getattr(made, "func", made)).parameters
                given = {name: p.default for name, p in defaults.items()} | getattr(made, "keywords", {})
                mean, std = given.get("mean"), given.get("std")
                if isinstance(mean, tuple | list) and isinstance(std, tuple | list):
                    yield tuple(map(float, mean)), tuple(map(float, std))


def _trained(norm: nn.BatchNorm2d) -> bool:
    """Whether its running statistics are not those that it is made with."""
    if norm.running_mean is None or norm.running_var is None:
        return False
    return bool((norm.running_mean != 0).any()) and bool((norm.running_var != 1).any())


def _used(pipeline: ImagePipeline) -> tuple[Channels, Channels, float]:
    """The Normalize of the training images, empty where there is none, and the largest value of images before it."""
    train = pipeline.train
    if len(train.normalizations) > 1:
        raise NotApplicable("the training images go through several Normalize")
    if train.normalizations:
        one = train.normalizations[0]
        return one.mean, one.std, 255.0 if one.maximum is not None and one.maximum > 2 else 1.0
    if train.minimum is None or train.maximum is None or train.minimum < 0 or train.maximum > 255:
        raise NotApplicable("the images are normalised by something else than torchvision's Normalize")
    return (), (), 255.0 if train.maximum > 2 else 1.0


def _enough(batches: Iterator[Any], work: Workspace) -> Iterator[Any]:
    """Batches until there are images enough."""
    count = 0
    for batch in batches:
        image = image_in(work.inputs(batch))
        if image is None:
            raise NotApplicable("the model takes no images, as a tensor of 4 dimensions")
        yield batch
        count += len(image)
        if count >= SAMPLES:
            return


def _images(work: Workspace, batches: list[Any]) -> tuple[list[Tensor], list[Tensor]]:
    """The images of the batches, and what enters the first convolution for each."""
    images, entered = [], []
    for batch in batches:
        image = image_in(work.inputs(batch))
        first: list[Tensor] = []

        def enter(module: nn.Module, args: Any, first: list[Tensor] = first) -> None:
            if isinstance(module, nn.Conv2d) and args and isinstance(args[0], Tensor):
                first.append(args[0].detach())
                raise _Seen

        handle = register_module_forward_pre_hook(enter)
        try:
            work.step(batch)
        except _Seen:
            pass
        finally:
            handle.remove()
        if image is None or not first:
            raise NotApplicable("no Conv2d takes a batch of images as they are")
        images.append(image)
        entered.append(first[0])
    return images, entered


def _renormalized(own: Statistics, wanted: Statistics, scale: float) -> Any:
    """A function from images as they are to images in [0, 1] that were normalised as wanted."""
    own_mean, own_std, mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (*own, *wanted))

    def change(x: Tensor) -> Tensor:
        pixels = (x * own_std.to(x) + own_mean.to(x)) / scale
        return (pixels - mean.to(x)) / std.to(x)

    return change


def _distances(
    work: Workspace, batches: list[Any], norms: dict[str, nn.BatchNorm2d], change: Any
) -> tuple[str, Tensor] | None:
    """The first of the norms that runs, and per channel the distance of what enters it from what it remembers.

    Kullback-Leibler between normal distributions of the remembered and the present mean and variance, in nats.
    """
    seen: dict[str, list[Tensor]] = {}
    names = {id(module): name for name, module in norms.items()}
    started = False

    def enter(module: nn.Module, args: Any) -> Any:
        nonlocal started
        if id(module) in names:
            seen.setdefault(names[id(module)], []).append(args[0].detach().movedim(1, 0).flatten(1).cpu().double())
            raise _Seen
        if isinstance(module, nn.Conv2d) and not started:
            started = True
            return (change(args[0]), *args[1:]) if change is not None else None
        return None

    with torch.no_grad():
        for batch in batches:
            started = False
            handle = register_module_forward_pre_hook(enter)
            try:
                work.step(batch)
            except _Seen:
                pass
            finally:
                handle.remove()
    if not seen:
        return None
    name = next(iter(seen))
    norm, values = norms[name], torch.cat(seen[name], 1)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    mean, variance = norm.running_mean.cpu().double(), norm.running_var.cpu().double() + norm.eps
    present = values.var(1, correction=0) + norm.eps
    ratio = present / variance
    distance = (ratio - 1 - ratio.log() + (values.mean(1) - mean).square() / variance) / 2
    return name, distance
