"""What README says about CI runs as it stands there, and so does the pre-commit hook."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import yaml

ROOT = Path(__file__).parent.parent
HEALTHY = """
import torch
torch.manual_seed(0)
x = torch.randn(256, 8)
train_data = torch.utils.data.TensorDataset(x, (x[:, 0] > 0).long())
model = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.ReLU(), torch.nn.Linear(32, 2))
"""


def block(mark):
    """The YAML in README behind a comment."""
    (text,) = re.findall(
        rf"<!-- {re.escape(mark)} -->\n```yaml\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL
    )
    return yaml.safe_load(text)


def shell(command, **environment):
    """A command line of ours as bash runs it in CI."""
    bash = command.replace("gradcheck-kit ", f"{shlex.quote(sys.executable)} -m gradcheck_kit ")
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        ["bash", "-e", "-c", bash],
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        encoding="utf-8",
    )


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "examples" / "broken_sigmoid.py", "model.py")
    return tmp_path


def test_the_workflow_fails_at_the_scan_and_tells_every_reader(project):
    workflow = block(".github/workflows/model.yml")
    steps = workflow["jobs"]["gradcheck"]["steps"]
    _, scan, reports = [step["run"] for step in steps if "run" in step]
    Path("model.py").write_text('print("::error::loaded")\n' + Path("model.py").read_text())  # and stdout is ours

    first = shell(scan)
    assert first.returncode == 1, first.stderr
    *commands, last = first.stdout.splitlines()
    assert all(re.match("::(error|warning|notice) ", command) for command in commands)
    assert commands[0].startswith("::error file=model.py,line=19,title=GK101 vanishing-gradient::The gradient")
    assert last.endswith("GK101 vanishing-gradient")

    second = shell(reports, GITHUB_STEP_SUMMARY="summary.md")
    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")
    assert Path("summary.md").read_text("utf-8").startswith("## gradcheck-kit: failed\n")
    uploaded = next(step["with"]["sarif_file"] for step in steps if "upload-sarif" in step.get("uses", ""))
    run = json.loads(Path(uploaded).read_text("utf-8"))["runs"][0]
    assert [result["ruleId"] for result in run["results"]] == ["GK101", "GK205", "GK606"]

    third = shell("gradcheck-kit report trace.jsonl --format junit -o report.xml")
    assert (third.returncode, third.stdout) == (1, "")
    assert ET.parse("report.xml").getroot().get("failures") == "2"


def hook():
    (only,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text("utf-8"))
    return only


def test_the_hook_has_what_pre_commit_needs_and_chooses_files_of_models():
    assert {"id", "name", "entry", "language"} <= hook().keys()
    assert hook()["language"] == "python"
    files = re.compile(hook()["files"])
    assert [bool(files.search(path)) for path in ("model.py", "a/models.py", "a/model_test.py", "remodel.py")] == [
        True,
        True,
        False,
        False,
    ]


def test_the_configuration_that_readme_shows_is_of_this_hook():
    (repository,) = block(".pre-commit-config.yaml")
    (configured,) = repository["hooks"]
    assert configured["id"] == hook()["id"]
    assert re.search(configured["files"], "encoder/model.py")
    assert all(isinstance(argument, str) for argument in configured["args"])


@pytest.mark.parametrize(
    ("files", "status"), [(["good.py"], 0), (["good.py", "model.py"], 1), (["model.py", "empty.py", "good.py"], 2)]
)
def test_the_hook_scans_each_file_and_gives_the_worst_status(project, files, status):
    Path("good.py").write_text(HEALTHY)
    Path("empty.py").write_text("")
    arguments = " ".join(["--quick", "--steps", "60", "--select", "GK101,GK205", *files])
    result = shell(hook()["entry"].replace("python", shlex.quote(sys.executable), 1) + " " + arguments)
    assert result.returncode == status, result.stderr
    assert result.stdout.count("target  ") == sum(file != "empty.py" for file in files)
