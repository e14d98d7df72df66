"""What the training data holds."""

from __future__ import annotations

import pytest
import torch
from torch import nn

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
