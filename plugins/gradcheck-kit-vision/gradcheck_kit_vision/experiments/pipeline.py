"""Draws samples from the data sets, some of them twice, and sees which transforms run and what comes out."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree
from torch.utils.data import ConcatDataset, DataLoader, Dataset, IterableDataset, Subset

from gradcheck_kit.experiments import NotApplicable, Probe
from gradcheck_kit_vision.experiments.transforms import TransformWatch
from gradcheck_kit_vision.facts import Channels, DrawnImages, ImagePipeline

SAMPLES = 32
AGAIN = 8  # of them are drawn again
DRAWS = 4  # times: of 8 images flipped with p = 0.5 none differs with a chance of 2^-32, with p = 0.1 of 3 %
KNOWN = 1 << 16  # places of a sampler that are looked at
BATCHES = 2  # of what has no places
COLOURS = (1, 3, 4)

Inputs = Callable[[Any], Any]


def look_at_pipeline(probe: Probe) -> ImagePipeline:
    """The images of both data sets with the transforms that made them. Raises NotApplicable where there are none."""
    test = probe.test_data
    with probe.workspace() as work:  # which puts back what samplers and transforms draw from
        if test is not None and _same_samples(probe.train_data, test):
            test = None
        train_images = _draw(probe.train_data, work.inputs)
        test_images = None if test is None else _draw(test, work.inputs)
    if train_images is None:
        raise NotApplicable("the model takes no images, as a tensor of 4 dimensions")
    shared = bool(_roots(probe.train_data) & _roots(test))
    return ImagePipeline(train_images, test_images, shared)


def _draw(data: Any, inputs: Inputs) -> DrawnImages | None:
    """Samples of one data set; None where they hold no images."""
    watch = TransformWatch()
    changed: int | None = None
    places = _places(data)
    with watch.watching():
        if places:
            drawn = [_sample(data, place, watch) for place in places]
        else:
            drawn = []
            batches = iter(data)
            while len(drawn) < BATCHES:
                watch.begin()
                batch = next(batches, None)
                if batch is None:
                    break
                drawn.append(batch)
    if places and watch.random:
        again = places[:AGAIN]
        changed = sum(_differs(data, place, first) for place, first in zip(again, drawn, strict=False))
    images = [image for sample in drawn if (image := image_in(inputs(sample))) is not None]
    if not images or image_in(inputs(drawn[0])) is None:
        return None
    return DrawnImages(
        source=_describe(data),
        samples=sum(map(len, images)),
        transforms=tuple(watch.seen),
        random=tuple(watch.random),
        normalizations=tuple(watch.normalizations()),
        changed=changed,
        dtype=str(images[0].dtype).removeprefix("torch."),
        minimum=min(float(image.min()) for image in images),
        maximum=max(float(image.max()) for image in images),
        channel_means=_means(images),
    )


def _sample(data: DataLoader[Any], place: Any, watch: TransformWatch | None = None) -> Any:
    """One sample as a batch of one: what is random in a collate function is part of the pipeline."""
    if watch is not None:
        watch.begin()
    return data.collate_fn([data.dataset[place]])


def _differs(data: DataLoader[Any], place: Any, first: Any) -> bool:
    return any(not _equal(first, _sample(data, place)) for _ in range(DRAWS))


def _equal(one: Any, other: Any) -> bool:
    """Whether all tensors of two samples are equal to the last bit."""
    pairs = zip(_tensors(one), _tensors(other), strict=False)
    return all(a.shape == b.shape and torch.equal(a, b) for a, b in pairs)


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, Tensor)]


def image_in(inputs: Any) -> Tensor | None:
    """The first tensor of a model's inputs that is a batch of images, (N, C, H, W) with C of 1, 3 or 4."""
    for tensor in _tensors(inputs):
        if tensor.ndim == 4 and tensor.shape[1] in COLOURS and tensor.numel() and not tensor.is_complex():
            return tensor
    return None


def _means(images: list[Tensor]) -> Channels:
    channels = images[0].shape[1]
    same = [image.double().mean((0, 2, 3)) for image in images if image.shape[1] == channels]
    return tuple(torch.stack(same).mean(0).tolist())


# ---- what the data is --------------------------------------------------------------------------------------------


def _places(data: Any) -> list[Any]:
    """Places of samples all over what the loader draws from; empty where it has no such thing."""
    if not isinstance(data, DataLoader) or isinstance(data.dataset, IterableDataset) or data.batch_sampler is None:
        return []
    known = list(itertools.islice(_sampled(data), KNOWN))
    return known[:: max(1, len(known) // SAMPLES)][:SAMPLES]


def _sampled(data: DataLoader[Any]) -> Iterator[Any]:
    """The places in the order of the epoch; a batch sampler of the user's own decides itself."""
    if type(data.batch_sampler) is torch.utils.data.BatchSampler:
        yield from data.sampler
    else:
        yield from itertools.chain.from_iterable(data.batch_sampler or ())


def _inner(data: Any) -> list[Dataset[Any]]:
    """The data sets that one is made of: of Subset, ConcatDataset and wrappers of the user's."""
    if isinstance(data, Subset):
        return [data.dataset]
    if isinstance(data, ConcatDataset):
        return list(data.datasets)
    return [value for value in getattr(data, "__dict__", {}).values() if isinstance(value, Dataset)]


def _chain(data: Any) -> Iterable[Any]:
    waiting, known = [data], set()
    while waiting:
        one = waiting.pop(0)
        if id(one) not in known:
            known.add(id(one))
            yield one
            waiting += _inner(one)


def _roots(data: Any) -> set[int]:
    """The data sets at the bottom, by identity."""
    dataset = getattr(data, "dataset", None)
    return set() if dataset is None else {id(one) for one in _chain(dataset) if not _inner(one)}


def _describe(data: Any) -> str:
    dataset = getattr(data, "dataset", None)
    if dataset is None:
        return type(data).__name__
    return " of ".join(type(one).__name__ for one in _chain(dataset))


def _same_samples(train: Any, test: Any) -> bool:
    """Whether the model is tested on its training data itself, whose transform then is the training one."""
    if train is test:
        return True
    if not (isinstance(train, DataLoader) and isinstance(test, DataLoader)) or train.dataset is not test.dataset:
        return False
    if isinstance(train.dataset, IterableDataset):
        return True
    return not set(itertools.islice(_sampled(train), KNOWN)).isdisjoint(itertools.islice(_sampled(test), KNOWN))
