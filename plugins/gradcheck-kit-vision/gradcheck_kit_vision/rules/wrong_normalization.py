from __future__ import annotations

from collections.abc import Iterator
from math import isfinite

from gradcheck_kit import Finding, Skip, rule
from gradcheck_kit_vision.facts import DrawnImages, ImagePipeline, Normalization, same_channels, spread, written

SYMPTOMS = ("GK104", "GK105", "GK203", "GK205", "GK301", "GK501", "GK601", "GK603", "GK606", "GKV103", "GKV104")
# Mean and standard deviation of images in [0, 1], as everybody copies them.
KNOWN = {
    "ImageNet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "CIFAR-10": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    "CIFAR-10 (per image)": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "CIFAR-100": ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761)),
    "MNIST": ((0.1307,), (0.3081,)),
    "SVHN": ((0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
}
BYTE = 1 / 255
ROUNDING = 1e-3  # what is left below zero when a Normalize is undone


@rule("GKV102", needs=(ImagePipeline,), explains=SYMPTOMS)
def wrong_normalization(pipeline: ImagePipeline) -> Iterator[Finding]:
    """A Normalize is given pixels of another scale than its mean and std, or of images normalised before, or has both
    swapped.
    """
    sides = {"training": pipeline.train, "test": pipeline.test}
    ran = {name: side for name, side in sides.items() if side is not None and side.normalizations}
    if not ran:
        raise Skip("no Normalize of torchvision's ran while samples were drawn")
    if not any(isfinite(n.minimum or 0.0) for side in ran.values() for n in side.normalizations):
        raise Skip("the images are not finite (see non-finite-input)")
    findings: dict[tuple[str, ...], Finding] = {}
    for name, side in ran.items():
        for normalization in side.normalizations:
            for look in (_scale, _again, _swapped):
                found = look(normalization, name, side)
                if found is not None:
                    # Test images mostly go through the same, and so does a second view: once is enough.
                    findings.setdefault((normalization.called, *found.fixes), found)
                    break
    yield from findings.values()


def _place(name: str, side: DrawnImages) -> str:
    return f"the {name} images ({side.source})"


def _scale(one: Normalization, name: str, side: DrawnImages) -> Finding | None:
    """Numbers of bytes where the statistics are of [0, 1], the reverse, or pixels divided by 255 twice."""
    low, high = one.minimum, one.maximum
    if low is None or high is None or low < 0:
        return None
    fraction = all(0 <= m <= 1 for m in one.mean) and all(0 < s <= 1 for s in one.std)
    identity = all(m == 0 for m in one.mean) and all(s == 1 for s in one.std)
    if fraction and not identity and high > 2 and not _rms_after(one) <= 10:
        return Finding(
            where=name,
            message=f"{one.called} is given pixels of {low:.3g} to {high:.3g} in {_place(name, side)}; its numbers are "
            f"for 0 to 1. The images come out with a root mean square of {_rms_after(one):.3g}; about 1 is meant.",
            evidence={"maximum": high, "limit": 1.0, "rms": _rms_after(one)},
            fixes=(
                "Scale the pixels to 0 to 1 before Normalize: transforms.ToTensor() does so for PIL images and uint8 "
                "arrays (not for float arrays), v2.ToDtype(torch.float32, scale=True) for uint8 tensors; a float "
                "tensor of bytes needs x / 255.",
            ),
        )
    if high <= BYTE * 1.001 and high > low and fraction and not identity and any(m > high for m in one.mean):
        return Finding(
            where=name,
            message=f"{one.called} is given pixels of {low:.3g} to {high:.3g} in {_place(name, side)}: they were "
            f"divided by 255 twice. No pixel comes near the mean; all come out within {_span_after(one):.2g} of each "
            "other.",
            evidence={"maximum": high, "limit": 1.0},
            fixes=("Divide by 255 once: transforms.ToTensor() and v2.ToDtype(scale=True) do it already.",),
        )
    if high <= 1 and (any(m > 1 for m in one.mean) or any(s > 1 for s in one.std)):
        scaled = Normalization(
            tuple(m / 255 for m in one.mean), tuple(s / 255 for s in one.std), 0, False, None, None, (), ()
        )  # fmt: skip
        return Finding(
            where=name,
            message=f"{one.called} is given pixels of {low:.3g} to {high:.3g} in {_place(name, side)}; its numbers are "
            f"for 0 to 255. All pixels come out within {_span_after(one):.2g} of each other; about 4 is meant.",
            evidence={"maximum": high, "limit": 255.0, "span": _span_after(one)},
            fixes=(f"Use {scaled.called}: the same numbers for pixels of 0 to 1.",),
        )
    return None


def _again(one: Normalization, name: str, side: DrawnImages) -> Finding | None:
    """What enters was normalised before. Undoing a Normalize, with negative means, is something else."""
    before = next((n for n in side.normalizations if not n.again), None)
    if not one.again or before is None or one.minimum is None or one.minimum >= -ROUNDING:
        return None
    if not all(0 < m <= 1 for m in one.mean) or not all(0 < s <= 1 for s in one.std):
        return None
    means = ", ".join(f"{m:.2g}" for m in _means_after(one))
    return Finding(
        where=name,
        message=f"{one.called} is given images that {before.called} has normalised already, in {_place(name, side)}: "
        f"values from {one.minimum:.3g} on, which no pixel has. They come out with means of {means} per channel; 0 is "
        "meant.",
        evidence={"minimum": one.minimum, "limit": 0.0, "means": list(_means_after(one))},
        fixes=(f"Normalise once: leave out {one.called}.",),
    )


def _swapped(one: Normalization, name: str, side: DrawnImages) -> Finding | None:
    """Mean and std in each other's place: those of a known data set, or what was measured here."""
    if one.again:
        return None
    known = next(
        (n for n, (m, s) in KNOWN.items() if same_channels(one.mean, s, 0.006) and same_channels(one.std, m, 0.006)),
        None,
    )
    channels = len(one.channel_means)
    measured = bool(channels) and (
        same_channels(one.mean, one.channel_stds, 0.02) and same_channels(one.std, one.channel_means, 0.02)
    )
    # A data set may have these statistics in this order: then they fit what is measured better than swapped.
    fits = bool(channels) and _misfit(one.mean, one.std, one) <= _misfit(one.std, one.mean, one)
    if not (known or measured) or fits or same_channels(one.mean, one.std, 0.05):
        return None
    right = Normalization(one.std, one.mean, 0, False, None, None, (), ())
    seen = (
        f" Here the means are {written(one.channel_means)} and the standard deviations {written(one.channel_stds)}."
        if channels
        else ""
    )
    return Finding(
        where=name,
        message=f"{one.called} in {_place(name, side)} has mean and std swapped: "
        + (f"these are the numbers of {known} in the wrong order." if known else "it is given the std as its mean.")
        + seen,
        evidence={"mean": list(one.mean), "std": list(one.std)},
        fixes=(f"Use {right.called}.",),
        severity="warning",
    )


def _misfit(mean: tuple[float, ...], std: tuple[float, ...], one: Normalization) -> float:
    size = len(one.channel_means)
    pairs = [
        *zip(spread(mean, size), one.channel_means, strict=False),
        *zip(spread(std, size), one.channel_stds, strict=False),
    ]
    return max(abs(a - b) for a, b in pairs)


def _means_after(one: Normalization) -> tuple[float, ...]:
    size = max(len(one.channel_means), 1)
    mean, std = spread(one.mean, size), spread(one.std, size)
    return tuple((x - m) / s for x, m, s in zip(one.channel_means, mean, std, strict=False))


def _rms_after(one: Normalization) -> float:
    """Root mean square of what comes out, of the channel with the largest."""
    size = max(len(one.channel_means), 1)
    stds = spread(one.std, size)
    after = zip(_means_after(one), one.channel_stds, stds, strict=False)
    return max(((m**2 + (s / std) ** 2) ** 0.5 for m, s, std in after), default=0.0)


def _span_after(one: Normalization) -> float:
    assert one.minimum is not None
    assert one.maximum is not None
    return (one.maximum - one.minimum) / min(one.std)
