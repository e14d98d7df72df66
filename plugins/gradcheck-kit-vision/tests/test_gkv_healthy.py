"""The whole pack is silent on torchvision's models with proper pipelines, and on other programs without a fault."""

from __future__ import annotations

import pytest
import torch
from bases import BASES
from kept_out_bases import KEPT_OUT_BASES
from torch import nn
from torch.utils.data import ConcatDataset, DataLoader, TensorDataset, random_split
from torchvision import datasets, models
from torchvision import transforms as v1
from torchvision.transforms import v2
from torchvision.transforms._presets import ImageClassification

import gradcheck_kit as gk

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def findings(model, train=None, test=None, **options):
    report = gk.scan(model, train, test_data=test, steps=2, select=["GKV"], **options)
    assert [o for o in report.outcomes if o.status == "error"] == []
    return {o.rule.code: o.findings[0].message for o in report.outcomes if o.findings}


def old(size, *augmentation):
    return v1.Compose([v1.Resize(size + 4), *augmentation, v1.CenterCrop(size), v1.ToTensor(), v1.Normalize(MEAN, STD)])


def new(size, *augmentation):
    return v2.Compose(
        [
            v2.ToImage(),
            v2.Resize(size + 4),
            *augmentation,
            v2.CenterCrop(size),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )


MODELS = {
    "resnet18": lambda: models.resnet18(num_classes=4),
    "mobilenet_v3_small": lambda: models.mobilenet_v3_small(num_classes=4),
    "efficientnet_b0": lambda: models.efficientnet_b0(num_classes=4),
    "convnext_tiny": lambda: models.convnext_tiny(num_classes=4),
    "vit_b_16": lambda: models.VisionTransformer(32, 16, 2, 2, 32, 64, num_classes=4),
}


@pytest.mark.parametrize("make", [old, new], ids=["v1", "v2"])
@pytest.mark.parametrize("name", MODELS)
def test_it_is_silent_on_models_of_torchvision(name, make):
    torch.manual_seed(0)
    augmentation = (v1 if make is old else v2).RandomHorizontalFlip()
    train = datasets.FakeData(24, (3, 40, 40), 4, make(32, augmentation))
    test = datasets.FakeData(12, (3, 40, 40), 4, make(32), random_offset=24)
    assert findings(MODELS[name](), DataLoader(train, 8, shuffle=True), DataLoader(test, 6)) == {}


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 3),
    )


def undone():
    back = v1.Normalize([-m / s for m, s in zip(MEAN, STD, strict=True)], [1 / s for s in STD])
    return v1.Compose([old(32), back, v1.Normalize(MEAN, STD)])


PIPELINES = {
    "ToTensor alone": lambda: v1.Compose([v1.Resize((32, 32)), v1.ToTensor()]),
    "bytes with statistics of bytes": lambda: v1.Compose(
        [v1.PILToTensor(), v1.ConvertImageDtype(torch.float32), v1.Lambda(lambda x: x * 255),
         v1.Normalize((123.7, 116.3, 103.5), (58.4, 57.1, 57.4))]
    ),
    "dark": lambda: v1.Compose([v1.ToTensor(), v1.Lambda(lambda x: x / 10), v1.Normalize((0.5,), (0.5,))]),
    "grey in three channels": lambda: v1.Compose([v1.Grayscale(3), v1.ToTensor(), v1.Normalize(MEAN, STD)]),
    "undone and done again": undone,
    "random with p of 0": lambda: v1.Compose([v1.RandomHorizontalFlip(p=0.0), v1.RandomCrop(40), old(32)]),
}  # fmt: skip


@pytest.mark.parametrize("name", PIPELINES)
def test_it_is_silent_on_unusual_pipelines(name, pictures):
    train, test = (datasets.ImageFolder(pictures / part, PIPELINES[name]()) for part in ("train", "test"))
    assert findings(network(), DataLoader(train, 16, shuffle=True), DataLoader(test, 9)) == {}


def test_it_is_silent_on_the_preset_of_weights_for_testing(pictures):
    train = datasets.ImageFolder(pictures / "train", old(32, v1.RandomHorizontalFlip()))
    test = datasets.ImageFolder(pictures / "test", ImageClassification(crop_size=32, resize_size=36))
    assert findings(network(), DataLoader(train, 16, shuffle=True), DataLoader(test, 9)) == {}


def test_it_is_silent_on_a_split_without_augmentation(pictures):
    train, test = random_split(datasets.ImageFolder(pictures / "train", old(32)), [60, 12])
    assert findings(network(), DataLoader(train, 16, shuffle=True), DataLoader(test, 6)) == {}


def test_it_is_silent_on_sources_that_are_put_together(pictures):
    train = ConcatDataset([datasets.ImageFolder(pictures / "train", make(32)) for make in (old, new)])
    test = datasets.ImageFolder(pictures / "test", old(32))
    assert findings(network(), DataLoader(train, 16, shuffle=True), DataLoader(test, 6)) == {}


def test_it_is_silent_on_segmentation_in_batches_of_four():
    torch.manual_seed(0)
    model = models.segmentation.lraspp_mobilenet_v3_large(num_classes=3, weights_backbone=None)
    data = DataLoader(TensorDataset(torch.rand(8, 3, 32, 32), torch.randint(0, 3, (8, 32, 32))), 4)
    assert findings(model, data) == {}


def test_it_is_silent_on_made_up_data():
    assert findings(MODELS["resnet18"]()) == {}


IMAGE_PROGRAMS = [
    BASES[name] for name in ("cnn", "plain_cnn_with_functional_relu", "segmentation", "squeeze_and_excitation")
] + [
    KEPT_OUT_BASES[name]
    for name in (
        "batchnorm_cnn_with_augmentation",
        "groupnorm_resnet",
        "convnext_with_layer_scale",
        "vision_transformer_with_a_class_token",
        "mixup_cnn",
        "convolutional_autoencoder_with_a_sigmoid",
        "unet_with_a_dice_loss",
        "film_conditioned_on_a_question",
    )
]


@pytest.mark.parametrize("base", IMAGE_PROGRAMS, ids=lambda base: base.__name__)
def test_it_is_silent_on_programs_without_a_fault(base):
    torch.manual_seed(0)
    assert findings(base()) == {}
