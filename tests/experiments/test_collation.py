"""Whether a collate_fn only stacks and pads, as told by the batches that the same samples make in other company."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset, IterableDataset

from gradcheck_kit.experiments import NotApplicable
from gradcheck_kit.experiments.batch_mixing import mix_batches


class Texts(Dataset):
    """Words 1 to 29 in sentences of two to nine, and one of two classes."""

    def __init__(self, n=64):
        generator = torch.Generator().manual_seed(3)
        self.rows = [
            (torch.randint(1, 30, (int(torch.randint(2, 10, (), generator=generator)),), generator=generator), i % 2)
            for i in range(n)
        ]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return self.rows[i]


class Stream(IterableDataset):
    def __iter__(self):
        return iter(Texts())


class Classifier(nn.Module):
    """An encoder that takes dimension 0 for time, unless told otherwise."""

    def __init__(self, *, batch_first=False):
        super().__init__()
        self.embed, self.head = nn.Embedding(40, 8, padding_idx=0), nn.Linear(8, 2)
        self.encode = nn.TransformerEncoderLayer(8, 2, 8, batch_first=batch_first)

    def forward(self, x, *_others):
        return self.head(self.encode(self.embed(x)).mean(1))


def labels_of(rows):
    return torch.tensor([label for _, label in rows])


def padded(rows):
    return pad_sequence([x for x, _ in rows], batch_first=True), labels_of(rows)


def padded_in_front(rows):
    longest = max(len(x) for x, _ in rows)
    return torch.stack([F.pad(x, (longest - len(x), 0), value=31) for x, _ in rows]), labels_of(rows)


def with_lengths_and_mask(rows):
    x, y = padded(rows)
    return x, torch.tensor([len(x) for x, _ in rows]), x == 0, y


def longest_first(rows):
    return padded(sorted(rows, key=lambda row: len(row[0]), reverse=True))


def in_place(rows):
    longest = max(len(x) for x, _ in rows)
    rows[:] = [(F.pad(x, (0, longest - len(x))), y) for x, y in rows]
    return padded(rows)


def cut_to_one_length(rows):
    return torch.stack([F.pad(x, (0, 12 - len(x))) for x, _ in rows]), labels_of(rows)


@pytest.fixture
def mixing_of(probe_of):
    def run(collate, data=None, *, batch_first=False):
        loss_fn = nn.CrossEntropyLoss()
        loader = DataLoader(data or Texts(), 16, shuffle=data is None, collate_fn=collate)
        return mix_batches(probe_of(Classifier(batch_first=batch_first), train=loader, loss_fn=loss_fn))

    return run


@pytest.mark.parametrize(
    "collate", [padded, padded_in_front, with_lengths_and_mask, longest_first, in_place, cut_to_one_length]
)
def test_looks_at_batches_that_are_stacked_and_padded(mixing_of, collate):
    mixing = mixing_of(collate)
    assert mixing.shuffled
    assert mixing.influence > 0.01
    assert mixing_of(collate, batch_first=True).influence == 0.0


def test_looks_at_padded_streams(mixing_of):
    mixing = mixing_of(padded, Stream())
    assert mixing.influence > 0.01
    assert not mixing.shuffled


# ---- what binds samples ----


def with_the_next_one(rows):
    """Pairs within the batch."""
    x, y = padded(rows)
    return torch.cat([x, x.roll(1, 0)], 1), y


def with_who_shares_a_word(rows):
    """A graph over the batch."""
    x, y = padded(rows)
    return x, (x[:, None, :, None] == x[None, :, None, :]).any(-1).any(-1).float(), y


def with_a_graph_without_edges(rows):
    x, y = padded(rows)
    return x, torch.zeros(len(rows), len(rows)), y


def mixed(rows):
    x, y = padded(rows)
    return torch.maximum(x, x.flip(0)), y


def by_class(rows):
    """An episode, whose first half is of one class."""
    return padded(sorted(rows, key=lambda row: row[1]))


def filled_with_others(rows):
    """What follows a text is the batch's longest."""
    x, y = padded(rows)
    longest = max((x for x, _ in rows), key=len)
    return torch.where(x == 0, longest, x), y


@pytest.mark.parametrize(
    "collate",
    [with_the_next_one, with_who_shares_a_word, with_a_graph_without_edges, mixed, by_class, filled_with_others],
)
def test_leaves_out_batches_whose_samples_are_bound(mixing_of, collate):
    with pytest.raises(NotApplicable, match="a collate_fn of its own, which may mean to bind samples"):
        mixing_of(collate)


def mixed_at_random(rows):
    x, y = padded(rows)
    return torch.where(torch.rand(x.shape) < 0.2, 31, x), y


def test_leaves_out_a_collate_fn_that_draws_random_numbers(mixing_of):
    with pytest.raises(NotApplicable, match="which draws random numbers"):
        mixing_of(mixed_at_random)


def of_eight_or_more(rows):
    if len(rows) < 8:
        raise ValueError("an episode has eight samples")
    return padded(rows)


def test_leaves_out_a_collate_fn_that_wants_its_whole_batch(mixing_of):
    with pytest.raises(NotApplicable, match="cannot be tried on fewer samples"):
        mixing_of(of_eight_or_more)


def test_leaves_out_a_number_that_may_be_of_the_whole_batch(probe_of):
    def counted(rows):
        x, y = padded(rows)
        return x, len(rows), y

    loader = DataLoader(Texts(), 16, shuffle=True, collate_fn=counted)
    with pytest.raises(NotApplicable, match="cannot be tried"):
        mix_batches(probe_of(Classifier(), train=loader, loss_fn=nn.CrossEntropyLoss()))


def test_leaves_samples_and_random_state_as_they_were(probe_of):
    data, generator = Texts(), torch.Generator().manual_seed(1)
    loader = DataLoader(data, 16, shuffle=True, collate_fn=in_place, generator=generator)
    probe = probe_of(Classifier(), train=loader, loss_fn=nn.CrossEntropyLoss())
    before, states = [x.clone() for x, _ in data.rows], (torch.get_rng_state(), generator.get_state())
    mix_batches(probe)
    assert all(map(torch.equal, before, [x for x, _ in data.rows]))
    assert all(map(torch.equal, states, (torch.get_rng_state(), generator.get_state())))
