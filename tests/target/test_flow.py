"""Optical flow that comes without data, and losses over successive predictions."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import gradcheck_kit as gk
from gradcheck_kit.target.flow import looks_like_flow, made_up_flow, refinements, sequence_loss


class Flow(nn.Module):
    """Refines the displacement between two images a few times."""

    def __init__(self, rounds=3):
        super().__init__()
        self.encode = nn.Conv2d(3, 8, 3, padding=1)
        self.refine = nn.Sequential(nn.Conv2d(18, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 2, 3, padding=1))
        self.rounds = rounds

    def forward(self, image1, image2):
        a, b = F.relu(self.encode(image1)), F.relu(self.encode(image2))
        flow, flows = torch.zeros_like(image1[:, :2]), []
        for _ in range(self.rounds):
            flow = flow.detach() + self.refine(torch.cat([a, b, flow], 1))
            flows.append(flow)
        return flows


def test_a_pair_of_images_and_two_numbers_per_pixel_are_flow():
    images = torch.zeros(4, 3, 16, 16)
    assert looks_like_flow(torch.zeros(4, 2, 16, 16), [images, images])
    assert not looks_like_flow(torch.zeros(4, 2, 16, 16), [images])
    assert not looks_like_flow(torch.zeros(4, 3, 16, 16), [images, images])
    assert not looks_like_flow(torch.zeros(4, 2, 8, 8), [images, images])
    assert not looks_like_flow(torch.zeros(4, 2, 16, 16), [images, torch.zeros(4, 2)])


def test_made_up_flow_is_smooth_and_some_pixels_large():
    flow = made_up_flow((8, 2, 128, 96), torch.Generator().manual_seed(0))
    assert flow.shape == (8, 2, 128, 96)
    assert 2 < flow.std() < 5
    assert flow.diff(dim=-1).abs().max() < 1.5


def test_a_model_that_returns_its_refinements_learns_from_all_of_them():
    model = Flow()
    report = gk.scan(model, steps=10, batch_size=4, input_shape=((3, 32, 32), (3, 32, 32)))
    assert report.passed
    assert "L1Loss of 3 successive predictions, each weighing 0.8 of the next" in " ".join(str(report).split())
    assert "GK103" not in [o.rule.code for o in report.outcomes if o.findings]


def test_the_last_prediction_weighs_one():
    target = torch.zeros(1, 2, 4, 4)
    predictions = [torch.full_like(target, value) for value in (1.0, 10.0, 100.0)]
    assert sequence_loss(predictions, target) == pytest.approx(0.64 + 8 + 100)


def test_only_a_list_of_equal_predictions_of_numbers_are_refinements():
    target = torch.zeros(1, 2, 4, 4)
    assert len(refinements([target, target], target)) == 2
    assert refinements((target, target), target) == []  # a mean and a variance come as a tuple
    assert refinements([target], target) == []
    assert refinements([target, target[:, :1]], target) == []
    assert refinements([target, target], torch.zeros(1, 4, 4, dtype=torch.long)) == []


def test_two_classes_that_are_asked_for_are_no_flow():
    class Change(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(6, 2, 3, padding=1)

        def forward(self, image1, image2):
            return self.conv(torch.cat([image1, image2], 1))

    assert "CrossEntropyLoss" in str(gk.scan(Change(), steps=2, batch_size=4, quick=True, classes=2))
    assert "MSELoss" in str(gk.scan(Change(), steps=2, batch_size=4, quick=True))


def test_large_samples_come_in_small_batches():
    class Large(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.image_size = nn.Conv2d(3, 4, 3, 8), 256

        def forward(self, x):
            assert x.shape[-1] == 256
            return self.conv(x).mean((2, 3))

    assert gk.scan(Large(), steps=2, quick=True).trace.header.batch_size == 4
    assert gk.scan(Large(), steps=2, quick=True, batch_size=3).trace.header.batch_size == 3
    assert gk.scan(nn.Conv2d(3, 4, 3), steps=2, quick=True).trace.header.batch_size == 32
