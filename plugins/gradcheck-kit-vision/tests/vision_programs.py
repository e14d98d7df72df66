"""Pictures, and a training program on them that is healthy, each fault being one change of its text."""

from __future__ import annotations

import numpy as np
from PIL import Image

KINDS = ("bar", "disc", "square")


def picture(kind, random, size=40):
    """A shape on a shaded ground, with a little noise, as an RGB image."""
    y, x = np.mgrid[0:size, 0:size] / size
    tilt = random.uniform(-60, 60, (2, 3))
    pixels = random.uniform(30, 220, 3) + x[..., None] * tilt[0] + y[..., None] * tilt[1]
    (cx, cy), r = random.uniform(0.3, 0.7, 2), random.uniform(0.15, 0.28)
    inside = {
        "bar": abs(x - cx) < r * 0.35,
        "disc": (x - cx) ** 2 + (y - cy) ** 2 < r * r,
        "square": (abs(x - cx) < r) & (abs(y - cy) < r),
    }[kind]
    pixels[inside] = random.uniform(0, 255, 3)
    return Image.fromarray((pixels + random.normal(0, 3, pixels.shape)).clip(0, 255).astype("uint8"))


def make_pictures(folder, train=24, test=6):
    """FOLDER/train/KIND/NUMBER.png and FOLDER/test, so many of each kind."""
    random = np.random.default_rng(0)
    for split, count in (("train", train), ("test", test)):
        for kind in KINDS:
            (folder / split / kind).mkdir(parents=True)
            for number in range(count):
                picture(kind, random).save(folder / split / kind / f"{number}.png")
    return folder


HEALTHY = """\
import torch
from torch import nn
from torch.utils.data import DataLoader, Subset
from torchvision import datasets, models, transforms

torch.manual_seed(0)
normalize = transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
train_transform = transforms.Compose(
    [transforms.RandomCrop(32), transforms.RandomHorizontalFlip(), transforms.ToTensor(), normalize]
)
test_transform = transforms.Compose([transforms.CenterCrop(32), transforms.ToTensor(), normalize])
train_set = datasets.ImageFolder({folder!r} + "/train", train_transform)
test_set = datasets.ImageFolder({folder!r} + "/test", test_transform)
train_loader = DataLoader(train_set, batch_size=16, shuffle=True)
test_loader = DataLoader(test_set, batch_size=9)
model = models.resnet18(num_classes=3)
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
"""


def program(folder, *changes):
    """The healthy program on the pictures of a folder, with each `(old, new)` in its text replaced."""
    text = HEALTHY.replace("{folder!r}", repr(str(folder)))
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return text
