"""What enters the first layer with weights, and the same run on standardised input."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from gradcheck_kit.experiments import NotApplicable
from gradcheck_kit.experiments.input_scale import measure_input_scale
from gradcheck_kit.experiments.training import train
from gradcheck_kit.facts import Training


@pytest.fixture
def scale_of(probe_of):
    def measure(model, x, y=None, **settings):
        y = torch.arange(len(x)) % 2 if y is None else y
        probe = probe_of(model, train=DataLoader(TensorDataset(x, y), 16), loss_fn=nn.CrossEntropyLoss(), **settings)
        probe.facts = {Training: train(probe)}
        return measure_input_scale(probe)

    return measure


def separable(n=128):
    y = torch.arange(n) % 2
    return torch.randn(n, 4) + 3 * nn.functional.one_hot(y, 4), y


def test_measures_features_of_a_table(scale_of):
    x = torch.randn(64, 3) * torch.tensor([1.0, 50.0, 1.0]) + torch.tensor([0.0, 0.0, 2.0])
    found = scale_of(nn.Linear(3, 2), x)
    assert (found.layer, found.layer_type, found.axis, found.features) == ("", "Linear", "feature", 3)
    assert found.worst.index == 1
    assert found.worst.std == pytest.approx(float(x[:32, 1].std(correction=0)), rel=1e-5)
    assert found.odd


def test_measures_channels_of_images(scale_of):
    x = torch.rand(64, 3, 6, 6) * 255
    found = scale_of(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(64, 2)), x)
    assert (found.layer, found.axis, found.features, len(found.listed)) == ("0", "channel", 3, 3)
    assert found.minimum >= 0
    assert found.maximum <= 255


def test_takes_flattened_pixels_for_one_scale(scale_of):
    found = scale_of(nn.Sequential(nn.Flatten(), nn.Linear(36, 2)), torch.rand(64, 1, 6, 6) * 255)
    assert (found.axis, found.features) == ("", 1)


def test_sees_what_the_model_makes_of_its_input_first(scale_of):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 2)

        def forward(self, x):
            return self.layer((x - 128) / 64)

    assert not scale_of(Net(), torch.rand(64, 4) * 255).odd


@pytest.mark.parametrize("first", [nn.BatchNorm1d(4), nn.LayerNorm(4)], ids=["batch", "layer"])
def test_is_not_made_where_a_norm_comes_first(scale_of, first):
    with pytest.raises(NotApplicable, match="no layer with weights takes the input as it is"):
        scale_of(nn.Sequential(first, nn.Linear(4, 2)), torch.rand(64, 4) * 255)


class Table(nn.Module):
    """Numbers beside the embedding of a category."""

    def __init__(self, norm=None):
        super().__init__()
        self.norm = norm or nn.Identity()
        self.category, self.body = nn.Embedding(5, 3), nn.Linear(5, 2)

    def forward(self, x):
        return self.body(torch.cat([self.category(x[:, 0].long()), self.norm(x[:, 1:])], 1))


def table(n=128):
    y = torch.arange(n) % 2
    return torch.stack([torch.randint(0, 5, (n,)).float(), 3e4 + 9e3 * y + torch.randn(n), torch.randn(n)], 1), y


def test_measures_numbers_beside_embeddings_and_standardises_them_alone(scale_of):
    x, y = table()
    torch.manual_seed(0)
    found = scale_of(Table(), x, y, lr=0.05)
    assert (found.layer, found.features) == ("body", 5)
    assert [scale.index for scale in found.listed] == [3, 4]
    assert found.worst.index == 3
    assert found.standardized_losses[-1] < 0.5


def test_is_not_made_of_numbers_that_a_weight_has_a_part_in(scale_of):
    with pytest.raises(NotApplicable, match="takes the input as it is"):
        scale_of(Table(nn.BatchNorm1d(2)), *table())


def test_is_not_made_for_tokens(scale_of):
    model = nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(20, 2))
    with pytest.raises(NotApplicable, match="takes the input as it is"):
        scale_of(model, torch.randint(0, 9, (64, 5)))


def test_passes_over_features_of_zeros_and_ones(scale_of):
    found = scale_of(nn.Linear(50, 2), nn.functional.one_hot(torch.arange(64) % 50, 50).float())
    assert not found.odd


def test_runs_again_on_standardised_input_only_where_the_scale_is_odd(scale_of):
    x, y = separable()
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
    assert scale_of(model, x, y).standardized_losses == ()
    again = scale_of(model, x * 1e-4, y, steps=40).standardized_losses
    assert len(again) == 40
    assert again[-1] < 0.9 * again[0]


def test_does_not_run_again_with_quick(scale_of):
    x, y = separable()
    assert scale_of(nn.Linear(4, 2), x * 1e-4, y, quick=True).standardized_losses == ()


def test_leaves_the_model_as_it_was(scale_of):
    model = nn.Linear(4, 2)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    scale_of(model, torch.rand(64, 4) * 255)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not model._forward_pre_hooks


@pytest.mark.parametrize(
    ("change", "apart"),
    [
        (lambda x: 20 * x + 60, True),
        (lambda x: 0.31 * x + 0.13, True),
        (lambda x: 1.5 * x + 0.5, False),
        (lambda x: torch.cat([20 * x[:, :1], x[:, 1:]], 1), False),
        (lambda x: torch.cat([20 * x[:, :3], x[:, 3:]], 1), True),
    ],
    ids=["raw", "pixels", "augmented", "one feature", "all but one"],
)
def test_compares_test_data_with_training_data(probe_of, change, apart):
    torch.manual_seed(0)
    x, y = torch.randn(128, 4), torch.arange(128) % 2
    train_loader, test_loader = (DataLoader(TensorDataset(x, y), 16) for x in (x, change(torch.randn(128, 4))))
    probe = probe_of(nn.Linear(4, 2), train=train_loader, test=test_loader, loss_fn=nn.CrossEntropyLoss())
    found = measure_input_scale(probe).apart
    assert (found is not None) == apart
