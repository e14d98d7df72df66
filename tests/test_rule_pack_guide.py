"""The rule pack of CONTRIBUTING.md: written to disk as it is printed there, installed, run, and taken away again."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

GUIDE = Path(__file__).parent.parent / "CONTRIBUTING.md"
SURE = """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(256, 20)
y = (x @ torch.randn(20, 10)).argmax(1)
train_loader = DataLoader(TensorDataset(x, y), batch_size=64, shuffle=True)
model = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 10))
loss_fn = nn.CrossEntropyLoss()
"""


def files():
    """The guide's files by name: `name`: some words, then the fenced block."""
    section = GUIDE.read_text("utf-8").partition("## Publish a rule pack")[2].partition("\n## What hooks")[0]
    found = dict(re.findall(r"^`([^`\n]+)`:(?:(?!```).)*?\n```\w+\n(.*?)^```", section, re.DOTALL | re.MULTILINE))
    assert sorted(found) == [
        "acme_rules/__init__.py", "acme_rules/measure.py", "acme_rules/pages/ACME101.md", "pyproject.toml",
        "tests/test_acme_rules.py",
    ]  # fmt: skip
    return found


@pytest.fixture(scope="module")
def pack(tmp_path_factory):
    folder = tmp_path_factory.mktemp("acme-rules")
    for name, text in files().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    (folder / "sure.py").write_text(SURE + "nn.init.normal_(model[2].weight, std=30)\n")
    (folder / "calm.py").write_text(SURE)
    return folder


@pytest.fixture(scope="module")
def installed(pack, environment_with):
    return environment_with(pack)


def test_its_own_tests_pass(installed, pack, run_in):
    done = run_in(installed, "pytest", "-q", "-p", "no:cacheprovider", "tests", cwd=pack)
    assert "5 passed" in done.stdout


def test_it_is_listed_explained_and_applied(installed, pack, run_in):
    def said(*arguments, status=0):
        return run_in(installed, "gradcheck_kit", *arguments, cwd=pack, status=status).stdout

    line = r"^acme-rules +0\.1\.0 +1 rule: ACME101; 1 remedy: for GK101; 1 format: acme$"
    assert re.search(line, said("plugins"), re.MULTILINE)
    assert "ACME101  overconfident-start" in said("rules")
    assert said("explain", "ACME101").startswith("# ACME101 overconfident-start\n")

    scan = ("scan", "sure.py", "--steps", 3, "--select", "ACME,GK101")
    assert said(*scan, "--format", "acme") == "ACME101\n"
    report = json.loads(said(*scan, "--format", "json", "--fail-on", "warning", status=1))
    assert [c["code"] for c in report["causes"]] == ["ACME101"]
    said("scan", "calm.py", "--steps", 3, "--select", "ACME", "--fail-on", "warning")


def test_it_leaves_no_trace_when_it_is_taken_away(pack, run_in):
    assert "ACME" not in run_in(sys.executable, "gradcheck_kit", "rules", cwd=pack.parent).stdout
