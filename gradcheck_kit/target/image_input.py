"""The form in which a model takes images: channels and size, flat or row by row, found by running it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F  # its name everywhere
from torch import Tensor, nn

from gradcheck_kit.errors import DataError
from gradcheck_kit.target.trial import Failure, Trial

Shape = tuple[int, ...]
SIZES = (28, 32, 48, 64, 96, 128, 160, 192, 224, 256, 299, 384)
_SEQUENTIAL = (nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention)


@dataclass(frozen=True, slots=True)
class ImageInput:
    """Turns an image of any size into what the model takes: resized to `image` (C, H, W), then laid out as `shape`."""

    image: Shape
    shape: Shape
    dtype: torch.dtype = torch.float32

    def __call__(self, image: Tensor) -> Tensor:
        """The image (C, H, W) as a tensor of `shape`."""
        channels, *size = self.image
        if len(image) != channels:
            image = image.mean(0, keepdim=True).expand(channels, -1, -1)
        if list(image.shape[1:]) != size:
            image = F.interpolate(image[None], size, mode="bilinear", antialias=True)[0]
        return image.to(self.dtype).reshape(self.shape)

    def layout(self) -> str:
        """What is done with the image once it has its size, "" for nothing."""
        if self.shape == self.image:
            return ""
        if len(self.shape) == 1:
            return f"flattened to {self.shape[0]} numbers"
        if self.shape == self.image[1:]:
            return f"read row by row, as {self.shape[0]} steps of {self.shape[1]} numbers"
        return f"reshaped to {dimensions(self.shape)}"

    def changes(self, native: Shape) -> str:
        """What is done to images (C, H, W) of the data set, as a clause; "" for nothing."""
        channels, *size = self.image
        parts = [] if tuple(size) == native[1:] else [f"resized to {dimensions(size)}"]
        if channels != native[0]:
            averaged = "" if native[0] == 1 else "averaged and " if channels > 1 else "averaged into 1 channel"
            parts.append(f"{averaged}repeated over {channels} channels" if channels > 1 else averaged)
        parts.extend(filter(None, [self.layout()]))
        return f"images {' and '.join(parts)}" if parts else ""


def dimensions(shape: Any) -> str:
    """How a shape is written on the command line: 3x224x224."""
    return "x".join(map(str, shape))


def find_image_input(model: nn.Module, native: Shape, given: Shape | None = None) -> ImageInput:
    """The form in which `model` takes images of shape `native` (C, H, W); `given` settles it without running anything.

    Images are not made smaller where the model takes them as they are or larger, and not left so small that more than
    half of the Conv2d layers see a single point: nothing could be learned from that.

    Raises DataError when nothing fits.
    """
    first = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    if given is not None:
        image, shape = _given(native, given)
        return ImageInput(image, shape, first.dtype)
    trial = Trial(model)
    fitting: list[tuple[float, ImageInput]] = []
    tried: dict[ImageInput, Failure | None] = {}
    for candidates in (_images, _vectors, _sequences):
        for image, shape in candidates(model, native):
            candidate = ImageInput(image, shape, first.dtype)
            if candidate in tried:
                continue
            points, tried[candidate] = _run(trial, candidate, first.device)
            if tried[candidate] is None:
                if points <= 0.5:
                    return candidate
                fitting.append((points, candidate))
        if fitting:  # all of them collapse: the best there is
            return min(fitting, key=lambda fit: fit[0])[1]
    start, reason = next((form, failure) for form, failure in tried.items() if failure is not None)
    raise DataError(
        f"no image size fits the model: {len(tried)} shapes were tried, flat ones too, and at "
        f"{dimensions(start.shape)} it raises {reason}; give the shape that it takes, such as --input 3x224x224"
    )


def _run(trial: Trial, form: ImageInput, device: torch.device) -> tuple[float, Failure | None]:
    """The share of Conv2d outputs that are a single point, and why the model does not take this form, if so."""
    maps: list[bool] = []

    def call(model: nn.Module, samples: int) -> tuple[Callable[[], Any], list[Any]]:
        generator = torch.Generator().manual_seed(0)
        batch = torch.randn(samples, *form.shape, generator=generator).to(device, form.dtype)

        def forward() -> Any:
            watched = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear | nn.RNNBase)]
            handles = [module.register_forward_hook(partial(_watch, batch.shape, maps)) for module in watched]
            try:
                return model(batch)
            finally:
                for handle in handles:
                    handle.remove()

        return forward, [batch]

    outcome = trial.run(call, length=1)
    if isinstance(outcome, Failure):
        return 1.0, outcome
    if not outcome.good:
        return 1.0, Failure("ValueError: its output has no row per sample, or is not finite", ValueError)
    return sum(maps) / max(1, len(maps)), None


def _watch(shape: Shape, maps: list[bool], module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
    """A hook that notes the size of maps and refuses what runs by chance."""
    if isinstance(module, nn.Conv2d):
        maps.append(tuple(output.shape[-2:]) == (1, 1))
    elif args and isinstance(args[0], Tensor) and args[0].shape == shape:
        # Linear takes the last dimension whatever the others are, and a recurrent layer reads a batch of vectors as
        # one sequence: both run, and neither is meant.
        if isinstance(module, nn.Linear) and len(shape) == 4:
            raise TypeError("a Linear layer would see single rows of pixels")
        if isinstance(module, nn.RNNBase) and len(shape) == 2:
            raise TypeError("a recurrent layer would see the batch as one sequence")


# ---- candidates: an image's shape (C, H, W) and its layout, most likely first ------------------------------------


def _images(model: nn.Module, native: Shape) -> Iterator[tuple[Shape, Shape]]:
    convolution = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    channels = dict.fromkeys((native[0], 1, 3))
    if convolution is not None and not isinstance(convolution, nn.LazyConv2d):
        channels = dict.fromkeys((convolution.in_channels, *channels))
    larger = [(s, s) for s in SIZES if s >= max(native[1:])]
    smaller = [(s, s) for s in reversed(SIZES) if s < max(native[1:])]
    for count in channels:
        for size in dict.fromkeys((native[1:], *larger, *smaller)):
            yield (count, *size), (count, *size)


def _vectors(model: nn.Module, native: Shape) -> Iterator[tuple[Shape, Shape]]:
    lengths = [math.prod(native), *(m.in_features for m in model.modules() if isinstance(m, nn.Linear)), 28 * 28]
    for length in dict.fromkeys(lengths):
        image = _image_of(native, length)
        if image is not None:
            yield image, (length,)


def _sequences(model: nn.Module, native: Shape) -> Iterator[tuple[Shape, Shape]]:
    if not any(isinstance(m, _SEQUENTIAL) for m in model.modules()):
        return
    widths = [native[2]]
    for module in model.modules():
        for name in ("input_size", "in_features", "embed_dim"):
            width = getattr(module, name, None)
            if isinstance(width, int) and 2 <= width <= max(SIZES):
                widths.append(width)
    for width in dict.fromkeys(widths):
        size = native[1:] if width == native[2] else (width, width)
        yield (1, *size), size


def _image_of(native: Shape, length: int) -> Shape | None:
    """The image that has `length` numbers: as it is, or square."""
    if length == math.prod(native):
        return native
    for channels in (native[0], 1, 3):
        side = math.isqrt(length // channels)
        if side > 1 and channels * side * side == length:
            return channels, side, side
    return None


def _given(native: Shape, given: Shape) -> tuple[Shape, Shape]:
    if len(given) == 3:
        return given, given
    if math.prod(given) == math.prod(native):
        return native, given
    if len(given) == 2:
        return (1, *given), given
    image = _image_of(native, given[0]) if len(given) == 1 else None
    if image is None:
        raise DataError(
            f"--input {dimensions(given)} fits no image of {dimensions(native)}; "
            "write channels x height x width, such as 3x32x32, or the length of a flattened square image, such as 784"
        )
    return image, given
