"""Somebody else's project: the package and a rule pack installed as wheels, and every door opened from there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

ROOT = Path(__file__).parent.parent
PACK = {
    "pyproject.toml": """
        [build-system]
        requires = ["hatchling"]
        build-backend = "hatchling.build"
        [project]
        name = "zeta-rules"
        version = "2.1"
        [project.entry-points.gradcheck_kit]
        zeta = "zeta_rules"
        """,
    "zeta_rules.py": """
        import gradcheck_kit as gk
        from gradcheck_kit.facts import Training

        @gk.rule("ZETA101", needs=(Training,), severity="warning")
        def too_few_layers(training: Training, *, least: int = 1):
            \"\"\"The model has fewer than `least` layers with weights.\"\"\"
            layers = len(training.weights_in_order())
            if not layers >= least:
                yield gk.Finding("model", f"It has {layers} layers; {least} are asked for.", {"layers": layers,
                                 "limit": least}, ("Add a layer.",))

        @gk.hookimpl
        def gradcheck_rules():
            return [too_few_layers]

        @gk.hookimpl
        def gradcheck_formats():
            return {"zeta": lambda report: f"{report.exit_status}"}
        """,
}
MODEL = """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
x = torch.randn(256, 16)
y = (x[:, 0] > 0).long()
train_loader = DataLoader(TensorDataset(x, y), batch_size=64, shuffle=True)
layers = [m for _ in range(9) for m in (nn.Linear(16, 16), ACTIVATION())]
model = nn.Sequential(*layers, nn.Linear(16, 2))
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
"""
PROJECT = {
    "pyproject.toml": """
        [tool.pytest.ini_options]
        testpaths = ["tests"]
        addopts = ["--strict-markers", "--strict-config", "-W", "error"]

        [tool.gradcheck-kit]
        select = ["GK1", "GK2", "ZETA"]
        steps = 30
        baseline = "known.json"

        [tool.gradcheck-kit.rules.too-few-layers]
        least = 3
        """,
    "models/sick.py": MODEL.replace("ACTIVATION", "nn.Sigmoid"),
    "models/well.py": MODEL.replace("ACTIVATION", "nn.ReLU").replace("range(9)", "range(2)"),
    "tests/test_models.py": """
        import pytest

        @pytest.mark.gradcheck(steps=20)
        def test_it_can_learn(gradcheck_scan):
            report = gradcheck_scan("models/well.py")
            assert report.trace.header.steps == 20

        def test_it_knows_what_is_broken(gradcheck_scan):
            report = gradcheck_scan("models/sick.py", check=False)
            assert "GK101" in [o.rule.code for o in report.outcomes if o.findings]
            assert "ZETA101" in [o.rule.code for o in report.outcomes]
        """,
}


def written(folder, files):
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = text.strip("\n").split("\n")
        indent = len(lines[0]) - len(lines[0].lstrip())
        path.write_text("\n".join(line[indent:] for line in lines) + "\n", "utf-8")
    return folder


@pytest.fixture(scope="module")
def python(environment_with, tmp_path_factory):
    source = tmp_path_factory.mktemp("source")  # a build leaves nothing in the checkout
    for name in ("gradcheck_kit", "pyproject.toml", "README.md", "LICENSE"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    return environment_with(source, written(tmp_path_factory.mktemp("pack"), PACK))


@pytest.fixture
def project(tmp_path):
    return written(tmp_path / "project", PROJECT)


@pytest.fixture
def run(python, project, run_in):
    return lambda *arguments, status: run_in(python, *arguments, cwd=project, status=status)


@pytest.fixture
def scan(run):
    """The command, in a project whose baseline knows of nothing yet."""

    def scan(*arguments, status):
        return run("gradcheck_kit", "scan", *arguments, status=status)

    assert "there is no baseline known.json; write it with" in scan("models/well.py", status=2).stderr
    scan("models/well.py", "--write-baseline", "known.json", status=0)
    return scan


def test_settings_pack_and_baseline_decide_what_the_command_says(scan, run, project):
    done = scan("models/sick.py", status=1)
    assert "settings pyproject.toml" in " ".join(done.stdout.split())
    assert "GK101 vanishing-gradient" in done.stdout
    assert "GK6" not in done.stdout.partition("----")[0]  # not selected in the settings
    assert "ZETA101" in scan("models/sick.py", "--set", "too-few-layers.least=99", status=1).stdout

    scan("models/sick.py", "--write-baseline", "known.json", status=0)
    assert "no new findings" in scan("models/sick.py", status=0).stdout
    scan("models/well.py", status=0)

    shown = run("gradcheck_kit", "settings", "models/sick.py", status=0).stdout
    assert "pyproject.toml" in shown
    assert "too-few-layers" in shown
    assert "zeta-rules" in run("gradcheck_kit", "plugins", status=0).stdout

    (project / "pyproject.toml").write_text("[tool.gradcheck-kit]\nstep = 3\n")
    assert "did you mean steps?" in scan("models/well.py", status=2).stderr


def test_every_format_is_written_with_the_right_exit_status(scan, run, project):
    scan("models/sick.py", "--save", "trace", "-o", "report.txt", status=1)
    readers = {
        "text": lambda text: "GK101 vanishing-gradient" in text,
        "json": lambda text: json.loads(text)["summary"]["failed"] >= 1,
        "junit": lambda text: int(ET.fromstring(text.encode()).get("failures")) >= 1,
        "sarif": lambda text: "models/sick.py" in text and json.loads(text)["version"] == "2.1.0",
        "github": lambda text: text.startswith("::error file=models/sick.py,line="),
        "markdown": lambda text: text.startswith("## gradcheck-kit: failed"),
        "zeta": lambda text: text == "1\n",
    }
    for name, reads in readers.items():
        done = run("gradcheck_kit", "report", "trace", "--format", name, status=1)
        assert reads(done.stdout), (name, done.stdout)
        run("gradcheck_kit", "report", "trace", "--format", name, "-o", f"report.{name}", status=1)
        assert reads((project / f"report.{name}").read_text()), name
        run("gradcheck_kit", "report", "trace", "--format", name, "--exit-zero", "-q", status=0)
    assert "there is no format 'xml'" in run("gradcheck_kit", "report", "trace", "--format", "xml", status=2).stderr


def test_the_test_suite_scans_by_fixture_marker_and_collection(run, scan):
    assert "2 passed" in run("pytest", "-q", status=0).stdout

    collected = run("pytest", "-q", "--collect-only", "--gradcheck", "models/sick.py", status=0).stdout
    assert "models/sick.py::gradcheck::GK101-vanishing-gradient" in collected
    assert "ZETA101" in collected
    done = run("pytest", "-q", "--gradcheck", "models/sick.py", "-k", "GK101 or GK106 or ZETA", "--junit-xml", "j.xml",
               status=1)  # fmt: skip
    assert "1 failed, 2 passed" in done.stdout
    assert "Traceback" not in done.stdout

    scan("models/sick.py", "--write-baseline", "known.json", status=0)
    again = run("pytest", "-q", "--gradcheck", "models/sick.py", "-k", "GK101 or GK106 or ZETA", status=0)
    assert "2 passed" in again.stdout and "1 xfailed" in again.stdout
    run("pytest", "-q", "--gradcheck", "models/none.py", status=4)
