"""Whether all samples are one and the same, but for how far they are padded."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from gradcheck_kit.experiments.data_summary import summarize_data


class Bag(nn.Module):
    """The mean over a sentence of what its words are looked up as; other inputs go unused."""

    def __init__(self, rows=30):
        super().__init__()
        self.words, self.head = nn.Embedding(rows, 4), nn.Linear(4, 2)

    def forward(self, x, *_others):
        return self.head(self.words(x).mean(1))


def sentences(words, *, n=128, in_front=False):
    """Up to nine words, padded with 0."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(2, 10, (n,), generator=generator)
    own = torch.arange(9) < lengths[:, None]
    x = torch.where(own.flip(1) if in_front else own, words, 0)
    return x, lengths


@pytest.fixture
def constant_of(probe_of):
    def run(*tensors, model=None, batch=16, shuffle=True, loss_fn=None):
        data = TensorDataset(*tensors, torch.arange(len(tensors[0])) % 2)
        loader = DataLoader(data, batch, shuffle=shuffle)
        return summarize_data(probe_of(model or Bag(), train=loader, loss_fn=loss_fn or nn.CrossEntropyLoss())).constant

    return run


@pytest.mark.parametrize("in_front", [False, True])
def test_finds_texts_of_one_word(constant_of, in_front):
    x, _ = sentences(7, in_front=in_front)
    found = constant_of(x)
    assert (found.tensor, found.value, found.padding) == ("input", 7, 0)
    assert (found.elements, found.samples, found.width) == (int((x == 7).sum()), 128, 9)
    assert (found.embedding, found.rows) == ("words", 30)


def test_finds_them_beside_lengths_masks_and_positions(constant_of):
    x, lengths = sentences(7)
    found = constant_of(x, lengths, x == 0, (x > 0).float(), torch.arange(9).expand(128, 9), torch.zeros_like(x))
    assert (found.tensor, found.value, found.embedding) == ("input 0", 7, "words")


def test_finds_them_in_a_data_set_that_is_read_in_its_order(constant_of):
    assert constant_of(sentences(7, n=1280)[0], shuffle=False).value == 7


def test_finds_them_where_the_model_sorts_its_samples(constant_of):
    class Sorted(Bag):
        def forward(self, x, *_others):
            return super().forward(x[(x > 0).sum(1).argsort()])

    assert constant_of(sentences(7)[0], model=Sorted()).embedding == "words"


def test_finds_texts_that_fill_their_batches(constant_of):
    found = constant_of(torch.full((128, 9), 7))
    assert (found.value, found.padding, found.elements) == (7, None, 128 * 9)


def flat(width):
    return nn.Sequential(nn.Flatten(), nn.Linear(width, 2))


@pytest.mark.parametrize("value", [0.0, -0.42])
def test_finds_pictures_of_one_number(constant_of, value):
    found = constant_of(torch.full((64, 1, 4, 4), value), model=flat(16))
    assert (found.value, found.width, found.embedding) == (pytest.approx(value), 16, "")


# ---- samples that differ ----


def some(n=128):
    return sentences(torch.randint(1, 30, (n, 9), generator=torch.Generator().manual_seed(2)), n=n)[0]


def one_word_in_two_languages():
    x = sentences(7)[0]
    x[70:] = torch.where(x[70:] == 7, 8, x[70:])
    return x


def of_two_words():
    return torch.where(torch.rand(128, 9, generator=torch.Generator().manual_seed(3)) < 0.5, 1, 2)


@pytest.mark.parametrize("x", [some(), one_word_in_two_languages(), of_two_words()])
def test_is_silent_on_texts_that_differ(constant_of, x):
    assert constant_of(x) is None


def test_is_silent_where_another_input_differs(constant_of):
    x, _ = sentences(7)
    assert constant_of(x, torch.randn(128, 3, generator=torch.Generator().manual_seed(1))) is None
    assert constant_of(x, torch.randint(0, 9, (128,), generator=torch.Generator().manual_seed(1))) is None


def test_is_silent_on_a_data_set_whose_first_samples_are_alike(constant_of):
    x = sentences(7, n=1280)[0]
    x[1000:] = some(280)
    assert constant_of(x, shuffle=False) is None


def test_is_silent_where_numbers_are_counted_by_ones(constant_of):
    ones = sentences(1)[0].float()
    assert constant_of(ones, model=flat(9)) is None


def test_is_silent_on_fewer_than_eight_samples(constant_of):
    assert constant_of(torch.full((6, 9), 7)) is None


def test_is_silent_on_pictures_of_which_one_differs(constant_of):
    x = torch.zeros(64, 1, 4, 4)
    x[60, 0, 1, 1] = 1.0
    assert constant_of(x, model=flat(16)) is None
