"""Architectures of timm, as their users make them: found, examined, left alone, and not blamed."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("timm")

import torch
from hub import alarms, examined
from timm_models import SMALL, build

from gradcheck_kit.cli import run

# timm warns of its own deprecated calls.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("name", SMALL)
def test_it_comes_through_a_quick_probe_and_is_left_alone(name):
    torch.manual_seed(0)
    report = examined(build(name), steps=2, quick=True, batch_size=4)
    assert alarms(report, "failed") == []
    assert alarms(report, "error") == []


WARNED: dict[str, list[str]] = {}


@pytest.mark.zoo_long
@pytest.mark.parametrize("name", SMALL)
def test_it_is_not_blamed_by_a_probe_that_is_long_enough_to_judge(name):
    torch.manual_seed(0)
    report = examined(build(name), steps=20, batch_size=8)
    assert alarms(report, "failed") == []
    assert alarms(report, "error") == []
    assert [o.rule.name for o in report.of("warned")] == WARNED.get(name, [])


PROGRAM = """
import timm
model = timm.create_model("{name}", pretrained=False, num_classes=10)
"""


@pytest.mark.parametrize(
    ("name", "options", "data"),
    [
        ("resnet10t", [], "images 3x64x64"),
        ("test_vit", [], "images 3x160x160"),  # its size is fixed
        ("mobilenetv3_small_050", ["--input", "3x96x96"], "images 3x96x96"),
    ],
)
def test_it_takes_the_size_that_is_given_or_stated_and_else_a_small_one(name, options, data, tmp_path, capsys):
    path = tmp_path / "model.py"
    path.write_text(PROGRAM.format(name=name))
    command = ["scan", str(path), "--quick", "--steps", "2", "--batch-size", "4", "--format", "json", *options]
    assert run(command) == 0
    assert json.loads(capsys.readouterr().out)["target"]["data"] == f"8 random samples in batches of 4: {data}"
