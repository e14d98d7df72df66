"""Training batches, normalised as in training and as in evaluation."""

from __future__ import annotations

from dataclasses import replace
from statistics import fmean

import pytest
import torch
from torch import nn

from gradcheck_kit.experiments import NotApplicable
from gradcheck_kit.experiments.mode_gap import compare_modes
from gradcheck_kit.experiments.training import train


def normed(norm=None):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 16), norm or nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 2))


def compared(probe):
    train(probe)
    return compare_modes(probe)


def test_agrees_for_large_shuffled_batches(probe_of, blobs):
    found = compared(probe_of(normed(), train=blobs(n=512, batch=64), lr=0.01, steps=40))
    assert (found.layers, found.layer_type, found.samples, len(found.by_batch)) == (("1",), "BatchNorm1d", 64, 8)
    assert fmean(found.by_average) == pytest.approx(fmean(found.by_batch), rel=0.2)


def test_averages_statistics_anew_where_the_running_ones_are_young(probe_of, blobs):
    found = compared(probe_of(normed(nn.BatchNorm1d(16, momentum=1e-4)), train=blobs(n=512, batch=64), lr=0.05))
    assert fmean(found.by_running) > fmean(found.by_average)


@pytest.mark.parametrize(("momentum", "slow"), [(0.001, ("1",)), (0.1, ()), (0.01, ())])
def test_knows_a_momentum_far_below_the_usual(probe_of, blobs, momentum, slow):
    found = compared(probe_of(normed(nn.BatchNorm1d(16, momentum=momentum)), train=blobs(n=512, batch=64), lr=0.01))
    assert (found.slow, found.momentum, found.epoch) == (slow, momentum if slow else None, 8)


def test_knows_no_epoch_of_data_that_stands_in_for_the_users(probe_of, blobs):
    probe = probe_of(normed(nn.BatchNorm1d(16, momentum=0.001)), train=blobs(n=512, batch=64), lr=0.01)
    settings = replace(probe.prepared.settings, data="digits")
    found = compared(replace(probe, prepared=replace(probe.prepared, settings=settings)))
    assert (found.momentum, found.epoch) == (0.001, None)


def test_sees_what_batches_of_two_cost(probe_of, blobs):
    found = compared(probe_of(normed(), train=blobs(n=256, batch=2), lr=0.01, steps=60))
    assert fmean(found.by_average) != pytest.approx(fmean(found.by_batch), rel=0.2)


class OwnNorm(nn.Module):
    """Batch normalisation by hand, that moves its statistics by a share of the newest batch."""

    def __init__(self, width, share):
        super().__init__()
        self.share = share
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("variance", torch.ones(width))

    def forward(self, x):
        mean, variance = self.mean, self.variance
        if self.training:
            mean, variance = x.mean(0), x.var(0, unbiased=False)
            if self.share:
                self.mean.lerp_(mean.detach(), self.share)
                self.variance.lerp_(variance.detach(), self.share)
        return (x - mean) / (variance + 1e-5).sqrt()


def test_sees_a_norm_of_the_users_own_that_never_moves_its_statistics(probe_of, blobs):
    data = [(5 + 3 * x, y) for x, y in blobs(n=512, batch=64)]
    found = compared(probe_of(normed(OwnNorm(16, 0)), train=data, lr=0.01, steps=40))
    assert (found.layers, found.layer_type, found.still, found.own) == (("1",), "OwnNorm", ("1",), True)
    assert fmean(found.by_running) > 2 * fmean(found.by_batch)


@pytest.mark.parametrize("share", [0.01, 0.1])
def test_lets_a_norm_of_the_users_own_catch_up(probe_of, blobs, share):
    data = [(5 + 3 * x, y) for x, y in blobs(n=512, batch=64)]
    found = compared(probe_of(normed(OwnNorm(16, share)), train=data, lr=0.01, steps=40))
    assert (found.still, found.own) == ((), True)
    assert fmean(found.by_average) < 1.3 * fmean(found.by_batch)


def test_makes_no_more_passes_for_buffers_that_are_no_statistics(probe_of, blobs):
    class Positions(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("table", torch.randn(16))

        def forward(self, x):
            return x + self.table

    found = compared(probe_of(normed(Positions()), train=blobs(n=512, batch=64), lr=0.01, steps=40))
    assert found.by_average == found.by_running == found.by_batch


def test_is_not_made_without_a_layer_that_has_running_statistics(probe_of, blobs):
    for model in (nn.Linear(4, 2), normed(nn.BatchNorm1d(16, track_running_stats=False)), normed(nn.LayerNorm(16))):
        with pytest.raises(NotApplicable, match="running statistics"):
            compared(probe_of(model, train=blobs()))


def test_is_not_made_for_short_epochs(probe_of, blobs):
    with pytest.raises(NotApplicable, match="fewer than 8 batches"):
        compared(probe_of(normed(), train=blobs(n=64, batch=16)))


def test_leaves_the_users_statistics_as_they_were(probe_of, blobs):
    model = normed()
    compared(probe_of(model, train=blobs(n=256, batch=16)))
    assert int(model[1].num_batches_tracked) == 0
    assert model[1].momentum == 0.1
