"""The rule pack of CONTRIBUTING.md: written to disk as it is printed there, installed, run, and taken away again."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import venv
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
def installed(pack, tmp_path_factory):
    """A virtual environment that sees the packages of this one, with the pack installed in it."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    own = next(folder.glob("lib/python*/site-packages"))
    own.joinpath("packages_of_the_tests.pth").write_text(
        "\n".join(f"import site; site.addsitedir({sysconfig.get_path(p)!r})" for p in ("purelib", "platlib"))
    )
    # Without the index: all that it needs is here, and an installation must not change what these tests run on.
    options = ["--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check", "-q"]
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", *options, str(pack)]
    subprocess.run(command, check=True, capture_output=True)
    return python


def run(python, *arguments, cwd, status):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [str(python), "-m", *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout


def test_its_own_tests_pass(installed, pack):
    out = run(installed, "pytest", "-q", "-p", "no:cacheprovider", "tests", cwd=pack, status=0)
    assert "5 passed" in out


def test_it_is_listed_explained_and_applied(installed, pack):
    listed = run(installed, "gradcheck_kit", "plugins", cwd=pack, status=0)
    assert re.search(
        r"^acme-rules +0\.1\.0 +1 rule: ACME101; 1 remedy: for GK101; 1 format: acme$", listed, re.MULTILINE
    )
    assert "ACME101  overconfident-start" in run(installed, "gradcheck_kit", "rules", cwd=pack, status=0)
    assert run(installed, "gradcheck_kit", "explain", "ACME101", cwd=pack, status=0).startswith("# ACME101 overconf")

    scan = ("gradcheck_kit", "scan", "sure.py", "--steps", 3, "--select", "ACME,GK101")
    assert run(installed, *scan, "--format", "acme", cwd=pack, status=0) == "ACME101\n"
    report = json.loads(run(installed, *scan, "--format", "json", "--fail-on", "warning", cwd=pack, status=1))
    assert [c["code"] for c in report["causes"]] == ["ACME101"]
    calm = ("gradcheck_kit", "scan", "calm.py", "--steps", 3, "--select", "ACME")
    run(installed, *calm, "--fail-on", "warning", cwd=pack, status=0)


def test_it_leaves_no_trace_when_it_is_taken_away(pack):
    assert "ACME" not in run(sys.executable, "gradcheck_kit", "rules", cwd=pack.parent, status=0)
