"""The named data sets: what they hold, how they are fitted to a model, and what is said when they cannot be read."""

import random
import struct
import sys

import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader

from gradcheck_kit.errors import DataError
from gradcheck_kit.target.datasets import named_data


class Rows(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.lstm = nn.LSTM(width, 4, batch_first=True)
        self.head = nn.Linear(4, 10)

    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1])


def flat(n):
    return nn.Sequential(nn.Flatten(), nn.Linear(n, 10))


def shape_of(data):
    return tuple(data.train[0][0].shape)


def sentence(*args):
    with pytest.raises(DataError) as caught:
        named_data(*args)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---- digits ------------------------------------------------------------------------------------------------------


def test_ships_handwritten_digits():
    data = named_data("digits", None, flat(64), None)
    assert data.description == "digits: 1,437 training and 360 test images of 1x8x8"
    assert data.supplied == ()
    assert data.classes == 10
    assert shape_of(data) == (1, 8, 8)


def test_normalises_digits_by_the_training_part():
    data = named_data("digits", None, flat(64), None)
    images = torch.stack([data.train[i][0] for i in range(1437)])
    assert images.mean().abs() < 1e-5
    assert (images.std() - 1).abs() < 1e-5


def test_tests_on_every_digit_in_proportion():
    data = named_data("digits", None, flat(64), None)
    counts = torch.bincount(torch.tensor([int(data.test[i][1]) for i in range(360)]))
    assert counts.min() >= 34
    assert counts.max() <= 38


def test_keeps_no_test_image_among_the_training_images():
    data = named_data("digits", None, flat(64), None)
    train = {data.train[i][0].numpy().tobytes() for i in range(1437)}
    assert not any(data.test[i][0].numpy().tobytes() in train for i in range(360))


def test_yields_batches_that_a_loader_can_stack():
    data = named_data("digits", None, nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.LazyLinear(2)), None)
    images, labels = next(iter(DataLoader(data.train, 5)))
    assert images.shape == (5, 3, 8, 8)
    assert labels.dtype == torch.int64


# ---- fitting them to the model -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "shape", "supplied"),
    [
        (nn.Linear(64, 10), (64,), "images flattened to 64 numbers"),
        (nn.Linear(784, 10), (784,), "images resized to 28x28 and flattened to 784 numbers"),
        (flat(784), (1, 28, 28), "images resized to 28x28"),
        (flat(3072), (3, 32, 32), "images resized to 32x32 and repeated over 3 channels"),
        (Rows(8), (8, 8), "images read row by row, as 8 steps of 8 numbers"),
        (Rows(28), (28, 28), "images resized to 28x28 and read row by row, as 28 steps of 28 numbers"),
        (nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()), (3, 8, 8),
         "images repeated over 3 channels"),
        (flat(64).double(), (1, 8, 8), ""),
    ],
)  # fmt: skip
def test_finds_the_form_the_model_takes(model, shape, supplied):
    data = named_data("digits", None, model, None)
    assert shape_of(data) == shape
    assert data.supplied == ((supplied,) if supplied else ())
    model(next(iter(DataLoader(data.train, 2)))[0])


def test_enlarges_images_until_most_convolutions_see_more_than_a_point():
    stages = [layer for _ in range(4) for layer in (nn.Conv2d(1, 1, 3, stride=2, padding=1), nn.ReLU())]
    model = nn.Sequential(*stages, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert shape_of(named_data("digits", None, model, None)) == (1, 8, 8)  # 4, 2, 1, 1
    deeper = nn.Sequential(*stages, nn.Conv2d(1, 1, 3, stride=2, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert shape_of(named_data("digits", None, deeper, None)) == (1, 28, 28)  # 14, 7, 4, 2, 1


def test_takes_the_least_collapsed_size_when_all_of_them_collapse():
    gate = [nn.AdaptiveAvgPool2d(1), nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1)]
    model = nn.Sequential(nn.Conv2d(1, 1, 3), *gate, nn.Flatten())
    assert shape_of(named_data("digits", None, model, None)) == (1, 8, 8)


def test_looks_at_training_mode_too():
    class TwoHeads(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Conv2d(1, 10, 30)

        def forward(self, x):
            return self.head(x).mean((2, 3)) if self.training else x.mean((1, 2))

    assert shape_of(named_data("digits", None, TwoHeads(), None)) == (1, 32, 32)


def test_says_what_was_tried_when_nothing_fits():
    message = sentence("digits", None, nn.Linear(7, 10), None)
    assert message.startswith("no image size fits the model: ")
    assert " at 1x8x8 it raises RuntimeError: " in message
    assert "mat1 and mat2 shapes cannot be multiplied" in message
    assert message.endswith("give the shape that it takes, such as --input 3x224x224")


def test_does_not_take_a_linear_layer_over_single_rows_for_a_fit():
    assert "a Linear layer would see single rows of pixels" in sentence("digits", None, nn.Linear(8, 10), None)


@pytest.mark.parametrize(
    ("given", "shape"),
    [((3, 16, 16), (3, 16, 16)), ((64,), (64,)), ((784,), (784,)), ((8, 8), (8, 8)), ((1, 64), (1, 64)),
     ((14, 14), (14, 14))],
)  # fmt: skip
def test_lets_an_explicit_shape_win(given, shape):
    assert shape_of(named_data("digits", None, nn.Identity(), given)) == shape


def test_says_what_an_explicit_shape_may_be():
    assert sentence("digits", None, nn.Identity(), (65,)) == (
        "--input 65 fits no image of 1x8x8; write channels x height x width, such as 3x32x32, or the length of a "
        "flattened square image, such as 784"
    )


def test_leaves_the_model_and_the_random_state_alone():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.eval()
    python, state = random.getstate(), torch.get_rng_state()
    named_data("digits", None, model, None)
    named_data("fake", None, model, None)
    assert not model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
    assert random.getstate() == python
    assert torch.equal(torch.get_rng_state(), state)


# ---- torchvision's -----------------------------------------------------------------------------------------------


def write_mnist(folder):
    """The files as torchvision unpacks them: idx, with 6 training and 2 test images."""
    folder.mkdir(parents=True)
    for part, count in (("train", 6), ("t10k", 2)):
        pixels = bytes(i % 251 for i in range(count * 784))
        (folder / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">iiii", 2051, count, 28, 28) + pixels)
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">ii", 2049, count) + bytes(range(count)))


@pytest.mark.parametrize(("name", "kind"), [("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")])
def test_reads_the_files_that_are_there(tmp_path, name, kind, capsys):
    write_mnist(tmp_path / kind / "raw")
    data = named_data(name, str(tmp_path), flat(784), None)
    assert data.description == f"{name}: 6 training and 2 test images of 1x28x28"
    assert (shape_of(data), data.train[3][1], data.classes) == ((1, 28, 28), 3, 10)
    assert capsys.readouterr().out == ""


def test_makes_images_smaller_only_when_nothing_else_fits(tmp_path):
    assert shape_of(named_data("fake", None, flat(784), None)) == (1, 28, 28)


def test_says_where_to_put_files_that_cannot_be_downloaded(tmp_path, monkeypatch, capsys):
    import torchvision

    def offline(self):
        print("Downloading")
        raise RuntimeError("Error downloading train-images:\nTried one mirror, got:\n<urlopen error>")

    monkeypatch.setattr(torchvision.datasets.MNIST, "download", offline)
    assert sentence("mnist", str(tmp_path), flat(784), None) == (
        f"cannot download MNIST to {tmp_path} (RuntimeError: Error downloading train-images: Tried one mirror, got: "
        "<urlopen error>); put the files there, or use --data digits"
    )
    assert capsys.readouterr().out == ""


def test_says_that_a_downloaded_file_is_damaged(tmp_path):
    write_mnist(tmp_path / "MNIST" / "raw")
    (tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte").write_bytes(b"")
    message = sentence("mnist", str(tmp_path), flat(784), None)
    assert message.startswith(f"cannot read MNIST in {tmp_path} (")
    assert message.endswith("); remove it there to download it again")


def test_makes_the_same_fake_images_every_time():
    model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    first, second = named_data("fake", None, model, None), named_data("fake", None, model, None)
    assert first.description == "fake: 512 training and 128 test images of 3x32x32"
    assert torch.equal(first.train[5][0], second.train[5][0])
    assert not torch.equal(first.train[0][0], first.test[0][0])


def test_says_that_torchvision_cannot_be_imported(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    message = sentence("mnist", None, flat(784), None)
    assert message.startswith("--data mnist needs torchvision, which cannot be imported (ModuleNotFoundError: ")
    assert message.endswith(f"install the torchvision made for torch {torch.__version__}, or use --data digits")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("minst", "there is no data set 'minst'; did you mean mnist? known are {} and any folder of images"),
        ("zzz", "there is no data set 'zzz'; known are {} and any folder of images"),
        ("no/such/folder", "--data no/such/folder is no folder; name a folder of images or one of {}"),
    ],
)
def test_names_the_data_sets_there_are(name, message):
    assert sentence(name, None, flat(64), None) == message.format("digits, mnist, fashion-mnist, cifar10, fake")


# ---- folders -----------------------------------------------------------------------------------------------------

CONV = nn.Sequential(nn.Conv2d(3, 2, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def write_images(folder, classes=("cat", "dog"), count=5, size=(12, 10)):
    for shade, label in enumerate(classes):
        (folder / label).mkdir(parents=True)
        for i in range(count):
            Image.new("RGB", size, (100 * shade, 10 * i, 50)).save(folder / label / f"{i}.png")


def test_splits_a_folder_of_images(tmp_path):
    write_images(tmp_path)
    data = named_data(str(tmp_path), None, CONV, None)
    assert data.description == f"{tmp_path}: 8 training and 2 test images of 3x10x12"
    assert [label for _, label in (data.test[i] for i in range(2))] == [0, 1]
    assert (data.classes, shape_of(data), data.supplied) == (2, (3, 10, 12), ())


def test_normalises_a_folder_by_its_training_images(tmp_path):
    write_images(tmp_path, count=10)
    data = named_data(str(tmp_path), None, CONV, None)
    images = torch.stack([data.train[i][0] for i in range(len(data.train))])
    assert images.mean((0, 2, 3)).abs().max() < 1e-4
    assert (images[:, :2].std((0, 2, 3)) - 1).abs().max() < 0.01
    assert images.isfinite().all()


@pytest.mark.parametrize("test_name", ["test", "val"])
def test_reads_train_and_test_folders(tmp_path, test_name):
    write_images(tmp_path / "train", count=3)
    write_images(tmp_path / test_name, count=2)
    data = named_data(str(tmp_path), None, CONV, None)
    assert data.description == f"{tmp_path}: 6 training and 4 test images of 3x10x12"


def test_brings_images_of_many_sizes_to_one(tmp_path):
    write_images(tmp_path)
    Image.new("RGB", (40, 30)).save(tmp_path / "cat" / "1b.png")
    data = named_data(str(tmp_path), None, CONV, None)
    assert data.description == f"{tmp_path}: 8 training and 3 test images, resized to 3x10x10"
    assert data.supplied == ("images resized to 10x10",)
    assert len(next(iter(DataLoader(data.train, 8)))[0]) == 8


def test_takes_photographs_at_224(tmp_path):
    write_images(tmp_path, count=2, size=(500, 400))
    assert shape_of(named_data(str(tmp_path), None, CONV, None)) == (3, 224, 224)


def test_names_an_image_that_cannot_be_read(tmp_path):
    write_images(tmp_path)
    broken = tmp_path / "dog" / "1.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n")
    message = sentence(str(tmp_path), None, CONV, None)
    assert message.startswith(f"{broken} is no image that can be read (")
    assert message.endswith("replace or remove it")


def test_says_how_a_folder_of_images_looks(tmp_path):
    message = sentence(str(tmp_path), None, CONV, None)
    assert message.startswith(f"{tmp_path} is no folder of images (FileNotFoundError: ")
    assert message.endswith(f"; put the images of each class into a folder of its own, such as {tmp_path}/cat/1.png")


def test_refuses_a_test_folder_with_other_classes(tmp_path):
    write_images(tmp_path / "train")
    write_images(tmp_path / "test", classes=("cat", "horse"))
    assert sentence(str(tmp_path), None, CONV, None) == (
        f"{tmp_path}/train and {tmp_path}/test hold different classes (cat, dog and cat, horse); give both the same "
        "folders"
    )


def test_says_that_one_image_is_not_enough(tmp_path):
    write_images(tmp_path, classes=("cat",), count=1)
    assert sentence(str(tmp_path), None, CONV, None) == (
        f"{tmp_path} holds one image only; training and testing need at least one each"
    )
