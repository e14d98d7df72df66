"""What becomes of the loss when every sample is there twice, and of the run when the loss is divided."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from gradcheck_kit.experiments import NotApplicable
from gradcheck_kit.experiments.batch_repetition import repeat_batch
from gradcheck_kit.experiments.training import train
from gradcheck_kit.facts import Training


@pytest.fixture
def share_of(probe_of, blobs):
    def measure(loss_fn, model=None, **settings):
        found = repeat_batch(probe_of(model or nn.Linear(4, 2), train=blobs(), loss_fn=loss_fn, **settings))
        return found.share

    return measure


SUM = nn.CrossEntropyLoss(reduction="sum")


@pytest.mark.parametrize(
    "loss_fn",
    [
        nn.CrossEntropyLoss(),
        lambda out, y: F.cross_entropy(out, y, reduction="sum") / len(y),
        lambda out, y: F.cross_entropy(out, y, reduction="sum") / (y >= 0).sum(),
    ],
)
def test_finds_no_growth_in_an_average(share_of, loss_fn):
    assert share_of(loss_fn) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("loss_fn", [SUM, lambda out, y: -out.log_softmax(1).gather(1, y[:, None]).sum()])
def test_finds_that_a_sum_doubles(share_of, loss_fn):
    assert share_of(loss_fn) == pytest.approx(1, abs=1e-6)


def test_counts_a_sum_over_pairs_as_none(share_of):
    assert share_of(lambda out, _: (out[:, None] - out[None]).square().sum()) == 0


def test_tells_the_share_of_a_sum_beside_a_penalty(share_of):
    model = nn.Linear(4, 2)
    assert 0.5 < share_of(lambda out, y: SUM(out, y) + 0.1 * sum(p.abs().sum() for p in model.parameters()), model) < 1


def test_is_not_misled_by_what_the_model_draws_or_normalises(share_of):
    class Noise(nn.Module):
        def forward(self, x):
            return x + torch.randn_like(x)

    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), Noise(), nn.Linear(8, 2))
    assert share_of(SUM, model) == pytest.approx(1, abs=1e-6)


def test_takes_the_model_s_own_loss_with_dropout_off(probe_of, blobs):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.drop, self.head = nn.Dropout(0.5), nn.Linear(4, 2)

        def forward(self, x, y):
            return F.cross_entropy(self.head(self.drop(x)), y, reduction="sum")

    assert repeat_batch(probe_of(Net(), train=blobs())).share == pytest.approx(1, abs=1e-5)


def test_takes_a_training_step(probe_of, blobs):
    def step(model, batch):
        return F.cross_entropy(model(batch[0]), batch[1], reduction="sum")

    assert repeat_batch(probe_of(nn.Linear(4, 2), train=blobs(), training_step=step)).share == pytest.approx(1)


def test_leaves_alone_what_divides_by_a_fixed_number(share_of):
    for loss_fn in (lambda out, y: SUM(out, y) / 16, lambda out, y: (1 / 16) * SUM(out, y)):
        with pytest.raises(NotApplicable, match="divides by a fixed number"):
            share_of(loss_fn)


def test_does_not_take_a_small_weight_for_such_a_number(share_of):
    assert share_of(lambda out, y: 0.5 * SUM(out, y)) == pytest.approx(1)


def test_is_not_made_for_a_loss_that_draws_random_numbers(share_of):
    with pytest.raises(NotApplicable, match="draws random numbers"):
        share_of(lambda out, y: SUM(out + torch.randn_like(out), y))


def test_is_not_made_for_a_batch_that_cannot_be_repeated(probe_of):
    batches = [(torch.randn(8, 4), torch.tensor(3.0))]
    with pytest.raises(NotApplicable, match="not one per sample"):
        repeat_batch(probe_of(nn.Linear(4, 1), train=batches, loss_fn=lambda out, _: out.square().mean()))


def images_apart():
    x = torch.randn(64, 1, 6, 6)
    return DataLoader(TensorDataset(x, x), 16)


def again(probe):
    probe.facts = {Training: train(probe)}
    return repeat_batch(probe)


@pytest.mark.parametrize(("quick", "lr"), [(False, 0.05), (True, 0.05), (False, 1e-4)])
def test_trains_again_where_the_sum_hurts(probe_of, quick, lr):
    model = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 3, padding=1))
    probe = probe_of(
        model, train=images_apart(), loss_fn=nn.MSELoss(reduction="sum"), steps=30, quick=quick,
        optimizer=torch.optim.SGD(model.parameters(), lr=lr),
    )  # fmt: skip
    found = again(probe)
    if quick or lr < 1e-3:
        assert (found.divisor, found.divided_losses) == (None, ())
    else:
        assert found.samples == 16
        assert found.divisor in (16, 16 * 36)
        assert len(found.divided_losses) == 30
        assert found.divided_losses[-1] < found.divided_losses[0]


def test_does_not_train_again_with_an_average(probe_of, blobs):
    model = nn.Linear(4, 2)
    probe = probe_of(
        model, train=blobs(), loss_fn=nn.CrossEntropyLoss(), optimizer=torch.optim.SGD(model.parameters(), lr=1e-9)
    )
    assert again(probe).divided_losses == ()
