"""What the experiments of this pack see: plain values, and no torch, so that the command may list the rules quickly."""

from __future__ import annotations

from dataclasses import dataclass

Channels = tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Normalization:
    """A Normalize of torchvision's, over all samples for which it was called with these statistics."""

    mean: Channels
    std: Channels
    calls: int
    again: bool  # another Normalize had run on the same sample before
    minimum: float | None  # of what entered; None where the transform scales bytes by itself, as a weights' preset does
    maximum: float | None
    channel_means: Channels  # of what entered
    channel_stds: Channels

    @property
    def called(self) -> str:
        """As it is written: "Normalize((0.5,), (0.5,))"."""
        return f"Normalize({written(self.mean)}, {written(self.std)})"

    def same(self, other: Normalization) -> bool:
        """Whether both have the same statistics to four digits, as people copy them, one for all channels or each."""
        return same_channels(self.mean, other.mean) and same_channels(self.std, other.std)


def same_channels(one: Channels, other: Channels, within: float = 1e-4) -> bool:
    """Whether statistics per channel differ by no more than that; one number may stand for all channels."""
    size = max(len(one), len(other))
    if size > min(len(one), len(other)) > 1:
        return False
    return all(abs(a - b) <= within for a, b in zip(spread(one, size), spread(other, size), strict=True))


def spread(values: Channels, size: int) -> Channels:
    """One number per channel where one was given for all."""
    return values * size if len(values) == 1 else values


def written(values: Channels) -> str:
    """As Python writes a tuple, with four digits at most."""
    inside = ", ".join(f"{value:.4g}" for value in values)
    return f"({inside},)" if len(values) == 1 else f"({inside})"


@dataclass(frozen=True, slots=True)
class DrawnImages:
    """Samples of one data set, as they are drawn for the model, and the torchvision transforms that ran meanwhile."""

    source: str  # "Subset of ImageFolder"
    samples: int
    transforms: tuple[str, ...]  # classes, in the order in which they first ran
    random: tuple[str, ...]  # those of them that draw random numbers
    normalizations: tuple[Normalization, ...]
    changed: int | None  # samples that differ when they are drawn again; None where none can be drawn again
    dtype: str
    minimum: float | None  # of the images as the model gets them
    maximum: float | None
    channel_means: Channels


@dataclass(frozen=True, slots=True)
class ImagePipeline:
    """How images come from the data sets for training and for testing."""

    train: DrawnImages
    test: DrawnImages | None
    shared: bool  # both are parts of one data set, and so share its transform


@dataclass(frozen=True, slots=True)
class ImageLayout:
    """What the first convolution is given, and whether its order of dimensions is that of images."""

    layer: str
    shape: tuple[int, ...]  # as it entered: samples, and what the layer reads as channels, rows and columns
    samples: int
    # The last dimension holds colours: 8-bit values, while the order of both others carries information.
    colours_last: bool
    row_chance: float | None  # that the order along dimension 1 is arbitrary; None: not tested
    column_chance: float | None
    # (N, 3, H, W) that was read out of the memory of (N, H, W, 3): roughness both ways, 1.0 being noise
    roughness: float | None
    roughness_if_reshaped: float | None
    compared: int  # samples, those of one colour left out
    smoother_if_reshaped: int  # of them


@dataclass(frozen=True, slots=True)
class PretrainedInput:
    """How well the images fit what the first BatchNorm of a pretrained torchvision model remembers of its own."""

    family: str  # "ResNet"
    layer: str  # the BatchNorm
    channels: int
    used_mean: Channels  # of the Normalize that ran; empty when there was none
    used_std: Channels
    maximum: float  # of the images before any Normalize: 1 or 255
    expected_mean: Channels  # by torchvision's own weights, the nearest where there are several
    expected_std: Channels
    expected: bool  # used is what the weights expect: nothing was measured
    distance: float | None  # Kullback-Leibler in nats per channel, between remembered and present statistics
    expected_distance: float | None  # the same with the images normalised as expected
    nearer: int  # channels that fit better so


@dataclass(frozen=True, slots=True)
class NormValues:
    """A normalisation by the batch, in training mode, and from how many values it takes mean and variance."""

    name: str
    type: str
    values: int  # per channel: samples times positions


@dataclass(frozen=True, slots=True)
class BatchNormValues:
    """What BatchNorm layers see of one training batch, and of the last one of an epoch if that holds one sample."""

    batch_size: int
    shape: tuple[int, ...]  # of the images
    layers: tuple[NormValues, ...]
    dataset_size: int | None  # of a loader whose last batch is known
    last_batch: int | None
    last_error: str  # what torch says to that batch; "" where it takes it, or it was not tried
    last_error_layer: str
