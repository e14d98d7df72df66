"""The data sets that --data names, in the form that the model takes: digits (shipped), torchvision's, and folders."""

from __future__ import annotations

import gzip
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, Subset, TensorDataset

from gradcheck_kit.errors import DataError
from gradcheck_kit.target.image_input import ImageInput, Shape, dimensions, find_image_input
from gradcheck_kit.target.keep import keep_random_state

NAMES = ("digits", "mnist", "fashion-mnist", "cifar10", "fake")
CACHE = "~/.cache/gradcheck-kit"
_TEST_FOLDERS = ("test", "val", "valid", "validation")
_LARGEST = 384  # photographs larger than that are taken at 224, as ImageNet's are
_LOOKED_AT = 256  # images of a folder, for their size, mean and deviation


@dataclass(frozen=True, slots=True)
class NamedData:
    """A data set split in two; both yield (input, class index). Training data is in the order of the files."""

    train: Dataset[Any]
    test: Dataset[Any]
    classes: int
    description: str
    supplied: tuple[str, ...]  # what was adapted to the model


@dataclass(frozen=True, slots=True)
class _Images:
    """A data set as it is on disk: images (C, H, W), normalised, and class indices."""

    train: Dataset[Any]
    test: Dataset[Any]
    classes: int
    shape: Shape
    same_size: bool = True


def named_data(name: str, data_dir: str | None, model: nn.Module, input_shape: tuple[int, ...] | None) -> NamedData:
    """The data set `name` (or a folder of images) in the form that `model` takes.

    `input_shape`, without the batch dimension, settles that form. Raises DataError when the data cannot be read or
    downloaded, or when no form of it fits the model.
    """
    with keep_random_state():
        images = _load(name, data_dir)
        form = find_image_input(model, images.shape, input_shape)
    train, test = _Adapted(images.train, form), _Adapted(images.test, form)
    changes = form.changes(images.shape if images.same_size else (images.shape[0], 0, 0))
    description = f"{name}: {len(train):,} training and {len(test):,} test images"
    if images.same_size:
        description += f" of {dimensions(images.shape)}"
    if form.image != images.shape or not images.same_size:
        description += f", resized to {dimensions(form.image)}"
    if form.layout():
        description += f", {form.layout()}"
    return NamedData(train, test, images.classes, description, (changes,) if changes else ())


class _Adapted(Dataset[Any]):
    """Each image in the model's form, when it is asked for: at 224x224 they would not fit into memory at once."""

    def __init__(self, images: Dataset[Any], form: ImageInput) -> None:
        self.images = images
        self.form = form

    def __len__(self) -> int:
        return len(self.images)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> tuple[Tensor, Any]:
        image, label = self.images[index]
        return self.form(image), label


def _load(name: str, data_dir: str | None) -> _Images:
    if name == "digits":
        return _Images(*load_digits(), 10, (1, 8, 8))
    if name == "fake":
        return _fake()
    if name in _DOWNLOADS:
        return _downloaded(name, Path(data_dir or CACHE).expanduser())
    folder = Path(name).expanduser()
    if folder.is_dir():
        return _folder(folder)
    if folder.exists() or len(folder.parts) > 1:
        raise DataError(f"--data {name} is no folder; name a folder of images or one of {', '.join(NAMES)}")
    near = get_close_matches(name.lower(), NAMES, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise DataError(f"there is no data set {name!r}; {hint}known are {', '.join(NAMES)} and any folder of images")


# ---- shipped -----------------------------------------------------------------------------------------------------


def load_digits() -> tuple[TensorDataset, TensorDataset]:
    """1,437 training and 360 test images of handwritten digits: float (1, 8, 8), standardised, and a class 0 to 9.

    Alpaydin and Kaynak (1998), UCI; the licence is in data/DIGITS-LICENSE.txt.
    """
    packed = (resources.files("gradcheck_kit.target") / "data" / "digits.gz").read_bytes()
    values = torch.frombuffer(bytearray(gzip.decompress(packed)), dtype=torch.uint8)
    labels, images = values[:1797].long(), values[1797:].reshape(1797, 1, 8, 8) / 16
    train, test = _split(labels.tolist())
    images = (images - images[train].mean()) / images[train].std()
    return TensorDataset(images[train], labels[train]), TensorDataset(images[test], labels[test])


def _split(labels: list[int]) -> tuple[list[int], list[int]]:
    """Four fifths for training, one fifth of each class for testing, always the same ones."""
    by_class = sorted(range(len(labels)), key=labels.__getitem__)
    test = set(by_class[::5])
    return [i for i in range(len(labels)) if i not in test], sorted(test)


# ---- torchvision's -----------------------------------------------------------------------------------------------

# torchvision's class, shape, and mean and deviation per channel of the training images.
_DOWNLOADS: dict[str, tuple[str, Shape, tuple[float, ...], tuple[float, ...]]] = {
    "mnist": ("MNIST", (1, 28, 28), (0.1307,), (0.3081,)),
    "fashion-mnist": ("FashionMNIST", (1, 28, 28), (0.2860,), (0.3530,)),
    "cifar10": ("CIFAR10", (3, 32, 32), (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
}


@contextmanager
def _quiet() -> Iterator[None]:
    """Downloads tell their progress on stdout and warn about tar files; stdout is the report's."""
    with redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _torchvision(name: str) -> ModuleType:
    try:
        with _quiet():
            import torchvision.datasets
            import torchvision.transforms
    except Exception as error:  # one that does not fit the installed torch raises RuntimeError and others
        raise DataError(
            f"--data {name} needs torchvision, which cannot be imported ({_reason(error)}); "
            f"install the torchvision made for torch {torch.__version__}, or use --data digits"
        ) from error
    return torchvision  # type: ignore[no-any-return]


def _reason(error: Exception) -> str:
    text = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return f"{text[:197]}..." if len(text) > 200 else text


def _normalized(torchvision: ModuleType, mean: Any, deviation: Any) -> Any:
    transforms = torchvision.transforms
    return transforms.Compose([transforms.ToTensor(), transforms.Normalize(mean, deviation)])


def _downloaded(name: str, folder: Path) -> _Images:
    torchvision = _torchvision(name)
    kind, shape, mean, deviation = _DOWNLOADS[name]
    make = partial(
        getattr(torchvision.datasets, kind), folder, download=True, transform=_normalized(torchvision, mean, deviation)
    )
    try:
        with _quiet():
            train, test = make(train=True), make(train=False)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"cannot download {kind} to {folder} ({_reason(error)}); put the files there, or use --data digits"
        ) from error
    except Exception as error:  # a file that is damaged fails in as many ways as there are
        raise DataError(
            f"cannot read {kind} in {folder} ({_reason(error)}); remove it there to download it again"
        ) from error
    return _Images(train, test, len(train.classes), shape)


def _fake() -> _Images:
    """Noise with random labels: there is nothing to learn but by heart."""
    fake_data = _torchvision("fake").datasets.FakeData
    to_tensor = _torchvision("fake").transforms.ToTensor()
    parts = []
    for size, offset in ((512, 0), (128, 512)):
        # FakeData seeds torch's global generators whenever an item is read, so all are read here, where that is undone.
        images, labels = zip(*fake_data(size, (3, 32, 32), 10, to_tensor, random_offset=offset), strict=True)
        parts.append(TensorDataset((torch.stack(images) - 0.5) / 0.5, torch.tensor(labels)))
    return _Images(parts[0], parts[1], 10, (3, 32, 32))


# ---- folders -----------------------------------------------------------------------------------------------------


def _folder(folder: Path) -> _Images:
    """FOLDER/class/image, split here, or FOLDER/train/class/image with FOLDER/test (or val) beside it."""
    torchvision = _torchvision(str(folder))
    train_folder = folder / "train" if (folder / "train").is_dir() else folder
    test_folder = next((folder / name for name in _TEST_FOLDERS if (folder / name).is_dir()), None)
    separate = train_folder != folder and test_folder is not None
    every = _image_folder(torchvision, train_folder)
    labels = [label for _, label in every.samples]
    if separate:
        test_images: Any = _image_folder(torchvision, test_folder)
        if test_images.classes != every.classes:
            raise DataError(
                f"{train_folder} and {test_folder} hold different classes ({', '.join(every.classes)} and "
                f"{', '.join(test_images.classes)}); give both the same folders"
            )
        train, test = list(range(len(labels))), test_images
    else:
        train, held_out = _split(labels)
        test = Subset(every, held_out)
        test_images = every
    if not train:
        raise DataError(f"{train_folder} holds one image only; training and testing need at least one each")
    shape, same_size, mean, deviation = _look_at(every, train)
    every.transform = test_images.transform = _normalized(torchvision, mean, deviation)
    return _Images(Subset(every, train), test, len(every.classes), shape, same_size)


def _image_folder(torchvision: ModuleType, folder: Path | None) -> Any:
    def read(path: str) -> Any:
        try:
            return torchvision.datasets.folder.default_loader(path)
        except Exception as error:  # Pillow raises SyntaxError and struct.error too for damaged files
            raise DataError(f"{path} is no image that can be read ({_reason(error)}); replace or remove it") from error

    try:
        return torchvision.datasets.ImageFolder(str(folder), loader=read)
    except FileNotFoundError as error:
        raise DataError(
            f"{folder} is no folder of images ({_reason(error)}); put the images of each class into a folder of "
            f"its own, such as {folder}/cat/1.png"
        ) from error


def _look_at(images: Any, indices: list[int]) -> tuple[Shape, bool, list[float], list[float]]:
    """The shape to take images at, whether all have it, and mean and deviation per channel, from a sample of them."""
    step = -(-len(indices) // _LOOKED_AT)
    sizes, means, squares = set(), [], []
    for index in indices[::step]:
        picture = images.loader(images.samples[index][0])
        sizes.add((picture.height, picture.width))
        pixels = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8).reshape(-1, 3) / 255
        means.append(pixels.mean(0))
        squares.append(pixels.square().mean(0))
    mean = torch.stack(means).mean(0)
    variance = torch.stack(squares).mean(0) - mean.square()
    deviation = variance.clamp_min(0).sqrt().clamp_min(1e-3)
    height, width = (min(side) for side in zip(*sizes, strict=True))
    same = len(sizes) == 1
    if not same:
        height = width = min(height, width, 224)
    elif max(height, width) > _LARGEST:
        height = width = 224
        same = False
    return (3, height, width), same, mean.tolist(), deviation.tolist()
