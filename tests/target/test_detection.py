"""Detectors that come without data: which scenes are made up for them, and what becomes of their own resizing."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import gradcheck_kit as gk
from gradcheck_kit.target.batches import batch_size_of
from gradcheck_kit.target.detection import find_scenes, stated_classes
from gradcheck_kit.target.resizing import describe_limit, limit_resizing


class Detector(nn.Module):
    """One box and one class per image, from a list of images of any size; losses in training mode."""

    def __init__(self, classes=5, asks=(), side=None):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 8, 3, 2), nn.ReLU())
        self.cls_score, self.bbox_pred = nn.Linear(8, classes), nn.Linear(8, 4 * classes)
        self.asks = asks
        if side is not None:
            self.min_size, self.max_size = side, 2 * side
        self.sides = []

    def features(self, images):
        if hasattr(self, "min_size"):
            scales = [max(1.0, self.min_size / min(image.shape[1:])) for image in images]
            images = [F.interpolate(i[None], scale_factor=s)[0] for i, s in zip(images, scales, strict=True)]
        self.sides = [min(image.shape[1:]) for image in images]
        return torch.stack([self.body(image[None]).mean((0, 2, 3)) for image in images])

    def forward(self, images, targets=None):
        assert isinstance(images, list)
        features = self.features(images)
        scores, boxes = self.cls_score(features), self.bbox_pred(features)[:, :4]
        if not self.training:
            return [
                {"boxes": b[None], "labels": s.argmax()[None], "scores": s.max()[None]}
                for s, b in zip(scores, boxes, strict=True)
            ]
        if targets is None:
            raise ValueError("targets are needed in training mode")
        for target in targets:
            for key in self.asks:
                assert target[key].shape[0] == len(target["boxes"])
        wanted = torch.stack([target["boxes"][0] for target in targets]) / images[0].shape[-1]
        labels = torch.stack([target["labels"][0] for target in targets])
        return {"loss_box": F.smooth_l1_loss(boxes, wanted), "loss_class": F.cross_entropy(scores, labels)}


class Stacked(Detector):
    """One that takes images stacked, and complains in words."""

    def forward(self, images, targets):
        if not torch.is_tensor(images):
            raise TypeError("a tensor is wanted")
        if "keypoints" not in targets[0]:
            raise ValueError("every target should have keypoints")
        outputs = super().forward(list(images), targets)
        if not self.training:
            return [{**output, "keypoints": torch.zeros(1, 4, 3)} for output in outputs]
        assert targets[0]["keypoints"].shape[2] == 3
        return outputs


def scenes_of(model, **given):
    scenes = find_scenes(model, **given)
    assert scenes is not None
    images, targets = scenes.make(4, torch.device("cpu"), torch.Generator().manual_seed(0))
    return scenes, images, targets


def test_boxes_lie_in_their_image_and_labels_are_classes_that_are_not_the_background():
    _, images, targets = scenes_of(Detector(classes=5))
    assert isinstance(images, list) and len(images) == len(targets) == 4
    height, width = images[0].shape[1:]
    boxes, labels = (torch.cat([t[key] for t in targets]) for key in ("boxes", "labels"))
    assert (boxes[:, :2] >= 0).all() and (boxes[:, 2:] <= torch.tensor([width, height])).all()
    assert (boxes[:, 2:] - boxes[:, :2] >= 8).all()
    assert set(labels.tolist()) == {1, 2, 3, 4}
    assert torch.cat([image.flatten() for image in images]).min() >= 0


def test_the_targets_hold_what_the_model_looks_up():
    scenes, images, targets = scenes_of(Detector(asks=("masks", "area")))
    assert scenes.keys == ("boxes", "labels", "masks", "area")
    assert targets[0]["masks"].shape == (3, *images[0].shape[1:])
    x1, y1, x2, y2 = (int(v) for v in targets[0]["boxes"][0])
    inside = targets[0]["masks"][0, y1 : y2 + 1, x1 : x2 + 1].sum()
    assert 0 < inside == targets[0]["masks"][0].sum() < (x2 - x1 + 2) * (y2 - y1 + 2)


def test_the_targets_hold_what_the_model_complains_of_and_as_many_keypoints_as_it_detects():
    scenes, images, targets = scenes_of(Stacked())
    assert scenes.stacked and images.shape == (4, 3, 128, 128)
    assert scenes.keys == ("boxes", "labels", "keypoints")
    assert targets[0]["keypoints"].shape == (3, 4, 3)


def test_a_given_size_and_number_of_classes_settle_the_scenes():
    scenes, images, _ = scenes_of(Detector(classes=9), shape=(3, 64, 96), classes=3)
    assert images[0].shape == (3, 64, 96) and scenes.labels == (1, 3)


def test_a_detector_without_a_background_has_the_label_zero():
    scenes, _, targets = scenes_of(Detector(classes=1))
    assert scenes.labels == (0, 1) and not targets[0]["labels"].any()


def test_the_number_of_classes_is_read_from_the_box_head_or_from_what_a_module_states():
    assert stated_classes(Detector(classes=7)) == 7
    model = nn.Sequential(nn.Conv2d(3, 8, 3))
    assert stated_classes(model) == 2
    model[0].num_classes = 11
    assert stated_classes(model) == 11


def test_a_stated_number_of_classes_that_is_another_ones_gives_way():
    model = Detector(classes=3)
    model.body.num_classes = 1000  # of the classifier that the backbone once was
    scenes, _, _ = scenes_of(model)
    assert scenes.labels[0] == 1 and scenes.labels[1] <= 3


class LossInside(nn.Module):
    """A classifier whose second argument is called as a detector's."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Linear(8, 4)

    def forward(self, x, targets=None):
        return self.head(self.conv(x).mean((2, 3)))


class Language(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(12, 8), nn.Linear(8, 12)

    def forward(self, idx, targets=None):
        return self.head(self.embed(idx))


@pytest.mark.parametrize("model", [LossInside(), Language(), nn.Conv2d(3, 8, 3), torch.jit.script(nn.Linear(2, 2))])
def test_what_is_no_detector_gets_no_scenes(model):
    assert find_scenes(model) is None


def test_a_classifier_with_an_argument_called_targets_is_probed_as_ever():
    report = gk.scan(LossInside(), steps=2, batch_size=4, quick=True)
    assert "CrossEntropyLoss" in str(report)


@pytest.mark.parametrize("model", [Detector(), Detector(asks=("masks",)), Stacked()])
def test_a_detector_is_probed_with_its_own_loss_and_without_an_alarm(model):
    report = gk.scan(model, steps=10)
    assert report.passed
    assert "the model's own loss" in str(report)
    assert "4 random samples in batches of 2: images 3x128x128 with 3 objects each" in " ".join(str(report).split())
    assert report.trace.header.batch_size == 2


def test_a_detector_whose_boxes_get_no_gradient_is_told_so():
    class Cut(Detector):
        def forward(self, images, targets=None):
            output = super().forward(images, targets)
            if self.training:
                output["loss_box"] = output["loss_box"].detach()
            return output

    report = gk.scan(Cut(), steps=10)
    found = [f for o in report.outcomes if o.rule.code == "GK103" for f in o.findings]
    assert "bbox_pred" in found[0].where


def test_the_probe_does_not_enlarge_made_up_images_and_says_so():
    seen = []

    class Watched(Detector):
        def features(self, images):
            found = super().features(images)
            seen.extend(self.sides)
            return found

    model = Watched(side=800)
    report = gk.scan(model, steps=2, quick=True)
    assert set(seen) == {128}
    assert (model.min_size, model.max_size) == (800, 1600)
    assert "min_size is 128 in the probe, not 800" in " ".join(str(report).split())


def test_the_users_own_images_are_enlarged_as_the_model_does_it():
    def scene():
        boxes = torch.tensor([[4.0, 4.0, 20.0, 20.0]])
        return torch.rand(3, 32, 32), {"boxes": boxes, "labels": torch.tensor([1])}

    seen = []

    class Watched(Detector):
        def features(self, images):
            found = super().features(images)
            seen.extend(self.sides)
            return found

    class Scenes(torch.utils.data.Dataset):
        def __len__(self):
            return 6

        def __getitem__(self, index):
            return scene()

    def collate(samples):
        images, targets = zip(*samples, strict=True)
        return list(images), list(targets)

    loader = torch.utils.data.DataLoader(Scenes(), 3, collate_fn=collate)
    report = gk.scan(Watched(side=64), loader, test_data=loader, steps=2, quick=True)
    assert set(seen) == {64}
    assert report.trace.header.batch_size == 3
    assert "the model's own loss" in str(report)


def test_resizing_keeps_the_kind_of_the_setting_and_leaves_a_fixed_size_alone():
    several, fixed = nn.Identity(), nn.Identity()
    several.min_size, several.max_size = (640, 96), 1333
    fixed.min_size, fixed.max_size, fixed.fixed_size = 300, 300, (300, 300)
    model = nn.Sequential(several, fixed)
    assert describe_limit(model, 64).startswith("0.min_size is 64 in the probe, not 96")
    limit_resizing(model, 128)
    assert (several.min_size, several.max_size) == ((128, 96), 1333)
    assert fixed.min_size == 300
    assert describe_limit(nn.Sequential(fixed), 64) == ""


def test_a_batch_of_images_and_dicts_holds_one_sample_per_dict():
    images, targets = [torch.zeros(3, 8, 8)] * 2, [{"boxes": torch.zeros(5, 4)}] * 2
    assert batch_size_of((images, targets)) == 2
    assert batch_size_of([torch.zeros(7, 3), torch.zeros(7)]) == 7
    assert batch_size_of({"x": torch.zeros(6, 3)}) == 6
