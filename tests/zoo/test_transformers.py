"""Architectures of transformers, as their users make them: found, examined, left alone, and not blamed."""

from __future__ import annotations

import json
import textwrap

import pytest

pytest.importorskip("transformers")

import torch
from click.testing import CliRunner
from hub import alarms, examined
from torch.utils.data import DataLoader
from transformers_models import TINY, build

from gradcheck_kit.cli import main

pytestmark = [
    # transformers warns of its own deprecated calls, and of training in half precision on a CPU.
    pytest.mark.filterwarnings("ignore"),
]


@pytest.mark.parametrize("name", TINY)
def test_it_comes_through_a_quick_probe_and_is_left_alone(name):
    torch.manual_seed(0)
    report = examined(build(name), steps=2, quick=True)
    assert alarms(report, "failed") == []
    assert alarms(report, "error") == []
