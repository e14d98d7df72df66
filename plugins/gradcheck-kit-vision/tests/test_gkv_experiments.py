"""What the experiments see of small models and real data sets of torchvision's."""

from __future__ import annotations

import gzip
import struct

import pytest
import torch
from gradcheck_kit_vision.experiments import EXPERIMENTS
from gradcheck_kit_vision.facts import BatchNormValues, ImageLayout, ImagePipeline, PretrainedInput
from torch import nn
from torch.utils.data import ConcatDataset, DataLoader, Dataset, IterableDataset, Subset, TensorDataset, random_split
from torchvision import datasets, models, tv_tensors
from torchvision import transforms as v1
from torchvision.transforms import v2
from torchvision.transforms._presets import ImageClassification

from gradcheck_kit.experiments import NotApplicable
from gradcheck_kit.probe import measure

BY_FACT = {experiment.fact: experiment for experiment in EXPERIMENTS}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def look(fact, model, train, test=None):
    others = [e for e in EXPERIMENTS if e.fact is not fact]
    return measure(BY_FACT[fact], model, train, test_data=test, loss_fn=nn.CrossEntropyLoss(), steps=2, others=others)


def network(channels=3, *middle):
    return nn.Sequential(
        nn.Conv2d(channels, 4, 3, padding=1), *middle, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10)
    )


def fake(transform, size=12, offset=0):
    return datasets.FakeData(size, (3, 20, 20), 10, transform, random_offset=offset)


def pipeline(train, test=None, model=None):
    loaders = (None if data is None else DataLoader(data, 4) for data in (train, test))
    return look(ImagePipeline, model or network(), *loaders)


V1 = [v1.ToTensor(), v1.Normalize(MEAN, STD)]
V2 = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]

# ---- transforms ----


@pytest.mark.parametrize("steps", [V1, V2], ids=["v1", "v2"])
def test_it_sees_a_normalize_and_what_enters_it(steps):
    kind = v1.Compose if steps is V1 else v2.Compose
    seen = pipeline(fake(kind(steps))).train
    (one,) = seen.normalizations
    assert one.mean == pytest.approx(MEAN) and one.std == pytest.approx(STD)
    assert (one.calls, one.again, one.minimum, one.maximum) == (12, False, 0.0, 1.0)
    assert one.channel_means == pytest.approx((0.5,) * 3, abs=0.05)
    assert (seen.source, seen.samples, seen.random, seen.changed) == ("FakeData", 12, (), None)
    assert seen.minimum < -2


def test_it_sees_the_preset_of_weights():
    (one,) = pipeline(fake(ImageClassification(crop_size=20, resize_size=20))).train.normalizations
    assert one.mean == pytest.approx(MEAN)
    assert one.maximum is None


def test_it_sees_a_second_normalize_on_the_same_sample():
    first, second = pipeline(fake(v1.Compose([*V1, v1.Normalize(MEAN, STD)]))).train.normalizations
    assert (first.again, second.again) == (False, True)
    assert second.minimum < -2


class Wrapped(Dataset):
    """A transform of one's own on a part, as people write it after random_split."""

    def __init__(self, part, transform):
        self.part, self.transform = part, transform

    def __len__(self):
        return len(self.part)

    def __getitem__(self, index):
        image, label = self.part[index]
        return self.transform(image), label


def test_it_sees_through_subsets_concatenations_and_wrappers():
    parts = ConcatDataset([Subset(fake(None), range(6)), fake(None, offset=12)])
    seen = pipeline(Wrapped(parts, v1.Compose(V1))).train
    assert len(seen.normalizations) == 1
    assert seen.source == "Wrapped of ConcatDataset of Subset of FakeData of FakeData"


@pytest.mark.parametrize(
    "transform",
    [
        v1.RandomHorizontalFlip(),
        v1.RandomCrop(20, padding=2),
        v1.ColorJitter(0.5),
        v1.RandAugment(),
        v1.RandomApply([v1.GaussianBlur(3)]),
        v2.RandomResizedCrop(20),
        v2.RandomErasing(p=0.5),
        v2.TrivialAugmentWide(),
    ],
    ids=lambda t: f"{type(t).__module__.split('.')[2]}.{type(t).__name__}",
)
def test_it_draws_augmented_test_images_again(transform):
    steps = [*V1, transform] if isinstance(transform, v2.RandomErasing) else [transform, *V1]
    seen = pipeline(fake(v1.Compose(V1)), fake(v1.Compose(steps), offset=12)).test
    assert type(transform).__name__ in seen.random
    assert seen.changed > 0


@pytest.mark.parametrize(
    "transform",
    [v1.Resize(20), v1.CenterCrop(16), v1.RandomHorizontalFlip(p=0.0), v1.RandomCrop(20), v1.RandomRotation(0)],
    ids=str,
)
def test_it_sees_that_nothing_changes(transform):
    assert not pipeline(fake(v1.Compose(V1)), fake(v1.Compose([transform, *V1]), offset=12)).test.changed


def test_it_sees_what_a_collate_function_mixes():
    mix = v2.MixUp(num_classes=10)

    def collate(samples):
        return mix(*torch.utils.data.default_collate(samples))

    loader = DataLoader(fake(v1.Compose(V1)), 4, collate_fn=collate)
    assert "MixUp" in look(ImagePipeline, network(), loader).train.random


def test_it_sees_that_a_split_shares_its_transform():
    one, other = random_split(fake(v1.Compose(V1)), [8, 4])
    assert pipeline(one, other).shared
    assert not pipeline(fake(v1.Compose(V1)), fake(v1.Compose(V1))).shared


def test_it_takes_training_data_for_no_test_data():
    data = fake(v1.Compose([v1.RandomHorizontalFlip(), *V1]))
    assert pipeline(data, data).test is None


class Stream(IterableDataset):
    def __iter__(self):
        return iter([(v1.Compose([v1.RandomHorizontalFlip(), *V1])(fake(None)[i][0]), i % 10) for i in range(12)])


def test_it_reads_streams_and_draws_nothing_again():
    seen = pipeline(Stream()).train
    assert (seen.random, seen.changed, seen.samples) == (("RandomHorizontalFlip",), None, 8)


def test_it_reads_mnist_from_its_files(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        pixels = bytes(i * 7 % 256 for i in range(12 * 28 * 28))
        for name, content in (
            (f"{part}-images-idx3-ubyte", struct.pack(">4i", 2051, 12, 28, 28) + pixels),
            (f"{part}-labels-idx1-ubyte", struct.pack(">2i", 2049, 12) + bytes(i % 10 for i in range(12))),
        ):
            (raw / name).write_bytes(content)
            (raw / f"{name}.gz").write_bytes(gzip.compress(content))
    transform = v1.Compose([v1.ToTensor(), v1.Normalize((0.1307,), (0.3081,))])
    train, test = (datasets.MNIST(tmp_path, train=flag, transform=transform) for flag in (True, False))
    seen = pipeline(train, test, network(1))
    assert seen.test.source == "MNIST"
    assert seen.test.normalizations[0].channel_stds == pytest.approx((0.29,), abs=0.01)


def test_it_leaves_the_loaders_and_random_numbers_as_they_were():
    generator = torch.Generator().manual_seed(3)
    data = fake(v1.Compose([v1.RandomHorizontalFlip(), *V1]))
    loader, model = DataLoader(data, 4, shuffle=True, generator=generator), network()
    before, drawn = generator.get_state(), torch.get_rng_state()
    look(ImagePipeline, model, loader, DataLoader(data, 4))
    assert torch.equal(generator.get_state(), before)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert nn.modules.module._global_forward_pre_hooks == {}


def test_it_does_not_apply_to_vectors():
    data = TensorDataset(torch.randn(8, 5), torch.randint(0, 2, (8,)))
    with pytest.raises(NotApplicable, match="the model takes no images"):
        look(ImagePipeline, nn.Linear(5, 2), DataLoader(data, 4))


# ---- layout ----


def photographs(count=32, size=16):
    """Smooth colours of 256 shades, (N, 3, H, W), 0 to 1."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 4, 4, generator=generator)
    fine = nn.functional.interpolate(coarse, size, mode="bicubic").clamp(0, 1)
    return (fine * 255).round() / 255


class First(nn.Module):
    """A convolution that is given what `read` makes of the images."""

    def __init__(self, channels, read=lambda x: x):
        super().__init__()
        self.network, self.read = network(channels), read

    def forward(self, x):
        return self.network(self.read(x))


def layout(images, channels=3, read=lambda x: x):
    data = TensorDataset(images, torch.arange(len(images)) % 10)
    return look(ImageLayout, First(channels, read), DataLoader(data, 8))


def test_it_tells_rows_from_channels():
    seen = layout(photographs().permute(0, 2, 3, 1), 16)
    assert (seen.layer, seen.shape, seen.colours_last) == ("network.0", (32, 16, 16, 3), True)
    assert seen.row_chance == seen.column_chance == 0.001


def test_it_finds_no_order_in_channels():
    images = photographs().permute(0, 2, 3, 1)[:, torch.randperm(16, generator=torch.Generator().manual_seed(1))]
    assert layout(images, 16).row_chance > 0.01


@pytest.mark.parametrize("scale", [lambda x: x, lambda x: x * 255, lambda x: (x - torch.rand(1, 3, 1, 1)) * 5])
def test_it_finds_pictures_smoother_as_they_are(scale):
    seen = layout(scale(photographs()))
    assert not seen.colours_last
    assert seen.smoother_if_reshaped == 0
    assert seen.roughness < seen.roughness_if_reshaped


def test_it_finds_reshaped_memory_smoother_as_it_was():
    seen = layout(photographs().permute(0, 2, 3, 1).reshape(-1, 3, 16, 16))
    assert seen.smoother_if_reshaped == 32
    assert seen.roughness_if_reshaped < 0.2 * seen.roughness


def test_it_leaves_out_pictures_of_one_colour():
    images = photographs()
    images[::4] = 0.5
    seen = layout(images.permute(0, 2, 3, 1).reshape(-1, 3, 16, 16))
    assert (seen.samples, seen.compared, seen.smoother_if_reshaped) == (32, 24, 24)


def test_it_sees_grey_pictures_that_were_reshaped():
    grey = photographs()[:, :1].expand(-1, 3, -1, -1)
    assert layout(grey.permute(0, 2, 3, 1).reshape(-1, 3, 16, 16)).smoother_if_reshaped == 32


def test_it_looks_at_what_enters_the_convolution():
    assert not layout(photographs().permute(0, 2, 3, 1), 3, lambda x: x.permute(0, 3, 1, 2)).colours_last


def test_it_finds_noise_as_rough_both_ways():
    seen = layout(torch.randn(32, 3, 16, 16))
    assert seen.roughness == pytest.approx(1, abs=0.1)
    assert seen.roughness_if_reshaped == pytest.approx(1, abs=0.1)


def test_it_does_not_apply_without_a_convolution():
    data = TensorDataset(photographs(8), torch.arange(8))
    with pytest.raises(NotApplicable, match="no Conv2d takes the input as it is"):
        look(ImageLayout, nn.Sequential(nn.Flatten(), nn.Linear(768, 10)), DataLoader(data, 4))


# ---- pretrained ----


def resnet(trained_on=None):
    """A ResNet whose BatchNorm remembers these images, if any."""
    torch.manual_seed(0)
    model = models.resnet18(num_classes=10)
    if trained_on is not None:
        model.bn1.momentum = None
        with torch.no_grad():
            model(trained_on)
        model.bn1.momentum = 0.1
    return model


def normalized(images, mean=MEAN, std=STD):
    return v1.functional.normalize(images, mean, std)


class Pictures(Dataset):
    """Photographs as float tensors, through a transform."""

    def __init__(self, transform=None):
        self.images, self.transform = photographs(32, 32), transform

    def __len__(self):
        return 32

    def __getitem__(self, index):
        image = self.images[index]
        return (self.transform(image) if self.transform else image), index % 10


def fit(model, transform=None):
    return look(PretrainedInput, model, DataLoader(Pictures(transform), 16))


def test_it_compares_images_with_what_the_weights_remember():
    seen = fit(resnet(normalized(photographs(32, 32))))
    assert (seen.family, seen.layer, seen.used_mean) == ("ResNet", "bn1", ())
    assert seen.expected_mean == MEAN and seen.expected_std == STD
    assert seen.distance > 0.3
    assert seen.expected_distance < 0.05
    assert seen.nearer > 55


def test_it_finds_the_normalization_of_ones_own_weights_closer():
    half = normalized(photographs(32, 32), (0.5,), (0.5,))
    seen = fit(resnet(half), v1.Normalize((0.5,), (0.5,)))
    assert (seen.used_mean, seen.expected) == ((0.5,), False)
    assert seen.distance < seen.expected_distance


def test_it_measures_nothing_where_the_weights_are_given_what_they_expect():
    seen = fit(resnet(normalized(photographs(32, 32))), v2.Normalize(MEAN, STD))
    assert (seen.expected, seen.distance) == (True, None)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (resnet(), "the model has no BatchNorm that has been trained before, so it may start from scratch"),
        (network(), "the model is none of torchvision's for which there are weights"),
    ],
    ids=["scratch", "own"],
)
def test_it_does_not_apply_without_pretrained_weights(model, reason):
    with pytest.raises(NotApplicable, match=reason):
        fit(model)


def test_it_does_not_apply_where_the_model_normalises():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.resnet = resnet(normalized(photographs(32, 32)))

        def forward(self, x):
            return self.resnet(normalized(x))

    with pytest.raises(NotApplicable, match="the model changes its images before its first convolution"):
        fit(Own())


def test_every_weight_of_torchvision_has_its_statistics():
    from gradcheck_kit_vision.experiments.pretrained import _expected

    assert set(_expected("torchvision.models.resnet")) == {(MEAN, STD)}
    assert ((0.5,) * 3, (0.5,) * 3) in set(_expected("torchvision.models.efficientnet"))


# ---- batch norm ----


def counted(batch, samples=32, model=None, **options):
    model = model or network(3, nn.BatchNorm2d(4))
    data = TensorDataset(photographs(samples), torch.arange(samples) % 10)
    return look(BatchNormValues, model, DataLoader(data, batch, **options))


def pooled():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 10))


def test_it_counts_the_values_of_each_norm():
    (norm,) = counted(8).layers
    assert (norm.name, norm.type, norm.values) == ("1", "BatchNorm2d", 8 * 16 * 16)
    assert counted(8, model=pooled()).layers[0].values == 8


def test_it_tries_a_last_batch_of_one():
    seen = counted(4, 17, pooled())
    assert (seen.last_batch, seen.dataset_size, seen.last_error_layer) == (1, 17, "2")
    assert seen.last_error.startswith("Expected more than 1 value per channel when training")


def test_it_finds_a_last_batch_of_one_good_enough_for_maps():
    seen = counted(4, 17)
    assert (seen.last_batch, seen.last_error) == (1, "")


def test_it_has_no_last_batch_of_one_when_it_is_dropped():
    assert counted(4, 17, pooled(), drop_last=True).last_batch == 4


def test_it_does_not_apply_to_frozen_norms():
    model = pooled()
    model[2].eval()
    with pytest.raises(NotApplicable, match="the model has no BatchNorm in training mode"):
        counted(4, model=model)


def test_it_sees_images_as_tv_tensors():
    class Typed(Pictures):
        def __getitem__(self, index):
            image, label = super().__getitem__(index)
            return v2.Normalize(MEAN, STD)(tv_tensors.Image(image)), label

    assert len(pipeline(Typed()).train.normalizations) == 1
