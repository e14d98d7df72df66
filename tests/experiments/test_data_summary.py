"""What the training data holds."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, TensorDataset, WeightedRandomSampler, get_worker_info

from gradcheck_kit.errors import ProbeError
from gradcheck_kit.experiments.data_summary import summarize_data


def test_measures_inputs_and_counts_labels(probe_of, blobs):
    summary = summarize_data(probe_of(nn.Linear(4, 2), train=blobs(n=64)))
    x = torch.cat([batch for batch, _ in blobs(n=64)])
    (inputs,) = summary.inputs
    assert (inputs.shape, inputs.dtype, inputs.non_finite) == ((16, 4), "float32", 0)
    assert inputs.mean == pytest.approx(float(x.mean()), rel=1e-4)
    assert inputs.std == pytest.approx(float(x.std()), rel=1e-4)
    assert sum(count for _, count in summary.labels) == 64


def test_counts_what_is_not_finite_apart_from_the_rest(probe_of):
    x = torch.tensor([[1.0, float("nan")], [3.0, float("inf")]])
    (inputs,) = summarize_data(probe_of(nn.Linear(2, 2), train=[(x, torch.tensor([0, 1]))])).inputs
    assert (inputs.non_finite, inputs.minimum, inputs.maximum, inputs.mean) == (2, 1.0, 3.0, 2.0)


def test_says_when_the_data_is_made_up(probe_of):
    assert summarize_data(probe_of(nn.Linear(4, 2))).synthetic


# ---- bad values ----


def test_says_where_values_are_not_finite(probe_of):
    x = torch.randn(20, 4)
    x[7, 2], x[9, 2] = float("nan"), float("nan")
    batches = [(rows, torch.zeros(5, dtype=torch.long)) for rows in x.split(5)]
    (bad,) = summarize_data(probe_of(nn.Linear(4, 2), train=batches)).bad_values
    assert (bad.tensor, bad.is_target, bad.value) == ("input", False, "nan")
    assert (bad.elements, bad.samples, bad.batches) == (2, 2, 1)
    assert (bad.first_batch, bad.first_sample) == (1, 2)
    assert (bad.axis, bad.features) == ("feature", ((2, 2),))


def test_counts_channels_of_images(probe_of):
    x = torch.randn(4, 3, 5, 5)
    x[0, 1, 2] = float("inf")
    model = nn.Sequential(nn.Flatten(), nn.Linear(75, 2))
    (bad,) = summarize_data(probe_of(model, train=[(x, torch.zeros(4, dtype=torch.long))])).bad_values
    assert (bad.axis, bad.features, bad.value) == ("channel", ((1, 5),), "inf")


def test_names_the_inputs_of_a_batch_by_their_keys(probe_of):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 2)

        def forward(self, left, right):
            return self.layer(left + right)

    batch = {"left": torch.randn(8, 4), "right": torch.randn(8, 4), "labels": torch.arange(8) % 2}
    found = summarize_data(probe_of(Net(), train=[batch], loss_fn=nn.CrossEntropyLoss()))
    assert [summary.name for summary in found.inputs] == ["input left", "input right"]


# ---- repetitions ----


def test_tells_equal_batches_also_when_a_buffer_is_filled_again(probe_of):
    class Buffered:
        def __iter__(self):
            generator, buffer = torch.Generator().manual_seed(0), torch.empty(8, 4)
            for step in range(4):
                if step != 2:
                    buffer.normal_(generator=generator)
                yield buffer, torch.zeros(8, dtype=torch.long)

    found = summarize_data(probe_of(nn.Linear(4, 2), train=Buffered()))
    assert found.same_as == (0, 1, 1, 3)
    assert found.distinct == (8, 8, 8, 8)
    assert found.same_chance < 1e-6


def test_knows_that_few_different_samples_collide(probe_of):
    corners = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    batches = [(corners, torch.tensor([0, 1, 1, 0])) for _ in range(3)]
    assert summarize_data(probe_of(nn.Linear(2, 2), train=batches)).same_chance > 1e-3


class Numbers(IterableDataset):
    def __init__(self, split):
        self.split = split

    def __iter__(self):
        info, rows = get_worker_info(), torch.arange(64.0).reshape(16, 4)
        start, step = (info.id, info.num_workers) if info and self.split else (0, 1)
        yield from ((row, 0) for row in rows[start::step])


@pytest.mark.parametrize("split", [True, False])
def test_tells_whether_the_workers_of_a_stream_repeat_each_other(probe_of, split):
    loader = DataLoader(Numbers(split), 4, num_workers=2)
    assert summarize_data(probe_of(nn.Linear(4, 2), train=loader)).workers_repeat is not split
    assert get_worker_info() is None


def test_does_not_judge_workers_that_there_are_not(probe_of, blobs):
    assert summarize_data(probe_of(nn.Linear(4, 2), train=DataLoader(Numbers(split=False), 4))).workers_repeat is None
    assert summarize_data(probe_of(nn.Linear(4, 2), train=blobs())).workers_repeat is None


# ---- order ----


def data_set(labels):
    return TensorDataset(torch.randn(len(labels), 4), labels)


def test_knows_by_whom_batches_are_chosen(probe_of):
    data = data_set(torch.arange(64) % 2)
    weights = WeightedRandomSampler([1.0] * 64, 64)
    loaders = {
        "sequential": DataLoader(data, 8),
        "shuffled": DataLoader(data, 8, shuffle=True),
        "weighted": DataLoader(data, 8, sampler=weights),
        "own": DataLoader(data, batch_sampler=[[0, 1, 2, 3], [4, 5, 6, 7]]),
        "batches": list(DataLoader(data, 8)),
        "stream": iter(DataLoader(data, 8)),
    }
    found = {name: summarize_data(probe_of(nn.Linear(4, 2), train=train)).order for name, train in loaders.items()}
    assert found == {name: name for name in loaders}


def test_looks_all_over_a_data_set_whose_first_batches_are_of_one_class(probe_of):
    found = summarize_data(probe_of(nn.Linear(4, 2), train=DataLoader(data_set(torch.arange(640) // 320), 8)))
    assert found.labels == ((0, 96),)
    assert found.spread_labels == ((0, 16), (1, 16))
    within, whole = found.same_class_shares()
    assert (within, whole) == (1.0, pytest.approx(0.48, abs=0.01))


def test_has_no_label_per_sample_where_there_is_one_per_token(probe_of):
    x = torch.randint(0, 9, (8, 5))
    model = nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 9))
    found = summarize_data(
        probe_of(model, train=[(x, x)], loss_fn=lambda o, t: nn.functional.cross_entropy(o.flatten(0, 1), t.flatten()))
    )
    assert found.label_batches == ()
    assert found.labels


def test_says_which_batch_cannot_be_read(probe_of):
    class Broken(torch.utils.data.Dataset):
        def __len__(self):
            return 32

        def __getitem__(self, index):
            if index == 20:
                raise OSError("truncated file")
            return torch.zeros(4), 0

    with pytest.raises(ProbeError, match=r"reading batch 3 raised OSError: truncated file"):
        summarize_data(probe_of(nn.Linear(4, 2), train=DataLoader(Broken(), 8)))


@pytest.mark.parametrize(
    ("x", "distinct"),
    [(torch.randn(64, 8), 16), (torch.randint(0, 9, (64, 8)).float(), None), (torch.randn(64, 4), None)],
    ids=["real numbers", "counts", "few numbers"],
)
def test_counts_samples_that_differ_where_chance_makes_none_equal(probe_of, x, distinct):
    train = DataLoader(TensorDataset(x[torch.arange(64) % 16], torch.arange(64) % 16 % 2), 8, shuffle=True)
    assert summarize_data(probe_of(nn.Linear(x.shape[1], 2), train=train)).distinct_samples == distinct
