"""What stands behind a stream whose batches are all equal."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

from gradcheck_kit.experiments.data_summary import summarize_data


def stream_of(items, **attributes):
    """A stream that yields what the function `items` makes of it."""

    class Stream(IterableDataset):
        def __iter__(self):
            return items(self)

    stream = Stream()
    vars(stream).update(attributes)
    return stream


def line(x):
    return x, (x.sum(1, keepdim=True) > 0).float()


X = line(torch.randn(320, 4, generator=torch.Generator().manual_seed(0)))


def seeded_for_each_batch(_self):
    for _ in range(6):
        yield line(torch.randn(32, 4, generator=torch.Generator().manual_seed(3)))


def the_first_slice(self):
    for _ in range(6):
        yield self.x[:32], self.y[:32]


def the_first_samples(self):
    for _ in range(6):
        yield from [self.samples[i] for i in range(32)]


def the_first_rows_as_copies(self):
    for _ in range(6):
        yield self.x[:32].clone(), self.y[:32].clone()


def all_of_it(self):
    for _ in range(6):
        yield self.x, self.y


def all_of_it_normalized(self):
    for _ in range(6):
        yield self.x / self.x.std(), self.y * 1


def all_samples_in_turn(self):
    for _ in range(6):
        yield from zip(self.x, self.y, strict=True)


def a_computed_grid(_self):
    for _ in range(6):
        yield line(torch.linspace(-1, 1, 128).reshape(32, 4))


def whole(n=320):
    return {"x": X[0][:n].clone(), "y": X[1][:n].clone()}


@pytest.fixture
def summary_of(probe_of):
    def run(items, attributes, batch_size=None):
        loader = DataLoader(stream_of(items, **attributes), batch_size=batch_size)
        return summarize_data(probe_of(nn.Linear(4, 1), train=loader, loss_fn=nn.BCEWithLogitsLoss()))

    return run


class Slices:
    """A loader of one's own making: whole batches, from where `next_slice` says."""

    def __init__(self, x, y, step):
        self.x, self.y, self.step = x, y, step

    def __len__(self):
        return 6

    def __iter__(self):
        at = 0
        for _ in range(6):
            yield self.x[at : at + 32], self.y[at : at + 32]
            at += self.step


def summary_of_loader(probe_of, loader):
    return summarize_data(probe_of(nn.Linear(4, 1), train=loader, loss_fn=nn.BCEWithLogitsLoss()))


def test_knows_what_a_loader_of_ones_own_holds_that_never_moves_on(probe_of):
    found = summary_of_loader(probe_of, Slices(*X, 0))
    assert (set(found.same_as), found.order, found.stream_holds) == ({0}, "batches", 320)


def test_does_not_ask_a_loader_of_ones_own_that_moves_on(probe_of):
    assert summary_of_loader(probe_of, Slices(*X, 32)).stream_holds is None


def test_knows_that_a_loader_of_ones_own_yields_all_it_has(probe_of):
    assert summary_of_loader(probe_of, Slices(X[0][:32], X[1][:32], 0)).stream_holds == 32


def test_asks_no_list_of_batches(probe_of):
    assert summary_of_loader(probe_of, [(X[0][:32], X[1][:32])] * 6).stream_holds is None


@pytest.mark.parametrize(
    ("items", "attributes", "batch_size"),
    [
        (the_first_slice, whole(), None),
        (the_first_rows_as_copies, whole(), None),
        (the_first_samples, {"samples": list(zip(*X, strict=True))}, 32),
    ],
)
def test_knows_that_more_is_held_than_comes(summary_of, items, attributes, batch_size):
    found = summary_of(items, attributes, batch_size)
    assert set(found.same_as) == {0}
    assert found.stream_holds == 320


def test_knows_what_the_code_of_a_stream_holds_outside_of_it(summary_of):
    x, y = X

    def items(_self):
        for _ in range(6):
            yield x[:32] * 1, y[:32] * 1

    assert summary_of(items, {}).stream_holds == 320


def test_tells_a_stream_that_draws_from_one_that_computes(summary_of):
    drawn, computed = summary_of(seeded_for_each_batch, {}), summary_of(a_computed_grid, {})
    assert (drawn.stream_holds, drawn.stream_draws) == (None, True)
    assert (computed.stream_holds, computed.stream_draws) == (None, False)


@pytest.mark.parametrize(
    ("items", "batch_size"), [(all_of_it, None), (all_of_it_normalized, None), (all_samples_in_turn, 32)]
)
def test_knows_that_one_batch_is_all_that_there_is(summary_of, items, batch_size):
    found = summary_of(items, whole(32), batch_size)
    assert set(found.same_as) == {0}
    assert found.stream_holds == 32


def test_does_not_look_behind_a_stream_that_goes_on(summary_of):
    def items(self):
        for i in range(6):
            yield self.x[i * 32 : i * 32 + 32], self.y[i * 32 : i * 32 + 32]

    found = summary_of(items, whole())
    assert (found.stream_holds, found.stream_draws) == (None, False)
