"""Architectures of timm, as their users make them: found, examined, left alone, and not blamed."""

from __future__ import annotations

import pytest

pytest.importorskip("timm")

import torch
from hub import alarms, examined
from timm_models import SMALL, build

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # timm warns of its own deprecated calls
]


@pytest.mark.parametrize("name", SMALL)
def test_it_comes_through_a_quick_probe_and_is_left_alone(name):
    torch.manual_seed(0)
    report = examined(build(name), steps=2, quick=True, batch_size=4)
    assert alarms(report, "failed") == []
    assert alarms(report, "error") == []
