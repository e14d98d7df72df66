from __future__ import annotations

from collections.abc import Iterator

from gradcheck_kit import Finding, Skip, rule
from gradcheck_kit_vision.facts import DrawnImages, ImagePipeline, Normalization, spread

SCALES = 8.0  # images of one kind do not differ so much in brightness; bytes and fractions by 255


@rule("GKV103", needs=(ImagePipeline,), explains=("GK601",))
def preprocessing_mismatch(pipeline: ImagePipeline, *, shift: float = 1.0) -> Iterator[Finding]:
    """Test images are normalised or scaled otherwise than training images.

    An error where a normalised pixel comes out more than `shift` elsewhere, else a warning.
    """
    train, test = pipeline.train, pipeline.test
    if test is None:
        raise Skip("there is no test data of its own")
    if train.normalizations and test.normalizations:
        yield from _different(train, test, shift)
        return
    if train.normalizations or test.normalizations:
        yield from _one_sided(train, test)
        return
    yield from _scaled(train, test)


def _different(train: DrawnImages, test: DrawnImages, shift: float) -> Iterator[Finding]:
    strange = [n for n in test.normalizations if not any(n.same(known) for known in train.normalizations)]
    if not strange:
        return
    one, usual = strange[0], train.normalizations[0]
    apart = _apart(one, usual)
    yield Finding(
        where="test data",
        message=f"The test images ({test.source}) go through {one.called}, the training images ({train.source}) "
        f"through {usual.called}. The same pixel comes out up to {apart:.2g} apart; 0 is meant.",
        evidence={"apart": apart, "limit": shift},
        fixes=(f"Use {usual.called} in the transform of the test data too.",),
        severity=None if not apart <= shift else "warning",
    )


def _apart(one: Normalization, other: Normalization) -> float:
    """How far a pixel, black or white, is apart after the one and after the other."""
    size = max(len(one.mean), len(one.std), len(other.mean), len(other.std))
    rows = zip(*(spread(v, size) for v in (one.mean, one.std, other.mean, other.std)), strict=False)
    white = max([1.0, *(n.maximum for n in (one, other) if n.maximum is not None)])
    return max((abs((v - m) / s - (v - n) / t) for m, s, n, t in rows for v in (0.0, white)), default=0.0)


def _one_sided(train: DrawnImages, test: DrawnImages) -> Iterator[Finding]:
    """One goes through a Normalize, and the other holds plain pixels: nothing below zero."""
    used, plain, names = (train, test, "training test") if train.normalizations else (test, train, "test training")
    with_it, without = names.split()
    if plain.minimum is None or used.minimum is None or plain.maximum is None:
        raise Skip(f"the values of the {without} images are not known")
    if plain.minimum < 0:
        raise Skip(
            f"only the {with_it} images go through a Normalize; the {without} images are below zero all the same"
        )
    if not (used.minimum < 0 and plain.maximum > 0):
        return
    one = used.normalizations[0]
    yield Finding(
        where="test data",
        message=f"The {with_it} images ({used.source}) go through {one.called} and are {used.minimum:.3g} to "
        f"{_number(used.maximum)}; the {without} images ({plain.source}) go through none and are {plain.minimum:.3g} "
        f"to {plain.maximum:.3g}.",
        evidence={"train_minimum": train.minimum, "test_minimum": test.minimum, "limit": 0.0},
        fixes=(f"Add {one.called} to the transform of the {without} data.",),
    )


def _scaled(train: DrawnImages, test: DrawnImages) -> Iterator[Finding]:
    """Neither is normalised; one holds fractions and the other bytes."""
    sides = {"training": train, "test": test}
    values = (train.minimum, train.maximum, test.minimum, test.maximum)
    if any(v is None for v in values) or not train.channel_means or not test.channel_means:
        raise Skip("the values of the images are not known")
    if min(train.minimum or 0.0, test.minimum or 0.0) < 0:
        raise Skip("no Normalize of torchvision's ran while samples were drawn, and the images are below zero")
    small, large = sorted(sides, key=lambda name: sides[name].maximum or 0.0)
    low, high = sides[small], sides[large]
    dark, bright = max(low.channel_means), max(high.channel_means)
    if (low.maximum or 0.0) <= 1 and (high.maximum or 0.0) > 1 and dark > 0 and not bright <= SCALES * dark:
        yield Finding(
            where="test data",
            message=f"The {small} images ({low.source}) are {low.minimum:.3g} to {low.maximum:.3g} with a mean of "
            f"{dark:.3g}, the {large} images ({high.source}) {high.minimum:.3g} to {high.maximum:.3g} with "
            f"{bright:.3g}: {bright / dark:.3g} times as much (up to {SCALES:g} may be brightness).",
            evidence={"ratio": bright / dark, "limit": SCALES},
            fixes=(f"Scale the {large} images as the {small} images are: x / 255 for bytes.",),
        )


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:.3g}"
