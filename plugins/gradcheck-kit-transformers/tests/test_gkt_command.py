"""The real command on real files: it names the fault, is silent about the healthy twin, and knows the pack's rules."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("transformers")

from gradcheck_kit_transformers import gradcheck_rules
from programs import PROGRAMS

from gradcheck_kit.cli import run
from gradcheck_kit.plugins import load_plugins

pytestmark = pytest.mark.filterwarnings("ignore")  # transformers warns of its own deprecated calls

NAME = "gradcheck-kit-transformers"
CODES = [rule.code for rule in gradcheck_rules()]


@pytest.fixture
def scan(tmp_path, capsys):
    """The command's exit status and its JSON report on a program."""

    def scan(program, *options):
        path = tmp_path / "model.py"
        path.write_text(program)
        status = run(["scan", str(path), "--format", "json", *options])
        return status, json.loads(capsys.readouterr().out)

    return scan


def outcome(report, code):
    return next(o for o in report["outcomes"] if o["code"] == code)


@pytest.mark.parametrize("name", PROGRAMS)
def test_it_names_the_fault(name, scan):
    program, code, severity, _, said = PROGRAMS[name]
    status, report = scan(program, "--select", "GKT")
    found = outcome(report, code)
    assert found["status"] == {"error": "failed", "warning": "warned"}[severity], found
    assert status == (severity == "error")
    assert said in json.dumps(found["findings"])
    assert code in [o["code"] for o in report["causes"]] or code == "GKT107"


@pytest.mark.parametrize("program", sorted({healthy for *_, healthy, _ in PROGRAMS.values()}))
def test_it_is_silent_about_the_healthy_twin(program, scan):
    status, report = scan(program, "--select", "GKT")
    assert status == 0
    assert [o for o in report["outcomes"] if o["status"] not in ("passed", "skipped")] == []


def test_it_puts_the_learning_rate_before_the_attention(scan):
    _, report = scan(PROGRAMS["heads that collapse"][0])
    assert [cause["code"] for cause in report["causes"]] == ["GK203"]


def test_it_adds_the_scale_of_a_tied_head_to_a_loss_that_starts_too_high(scan):
    program = """
import torch
from torch import nn

class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.norm, self.head = nn.Embedding(50, 64), nn.LayerNorm(64), nn.Linear(64, 50, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x):
        return self.head(self.norm(self.embed(x))).transpose(1, 2)

torch.manual_seed(0)
model, loss_fn = Model(), nn.CrossEntropyLoss()
x = torch.randint(0, 50, (8, 16, 13))
train_loader = [(tokens[:, :-1], tokens[:, 1:]) for tokens in x]
"""
    _, report = scan(program, "--select", "GKT104,GK301")
    (finding,) = outcome(report, "GK301")["findings"]
    assert finding["fixes"][-1]["text"] == (
        "head.weight is embed.weight too, whose values have a root mean square of 1: initialise it for a head, "
        "nn.init.normal_(embed.weight, std=0.12)."
    )


def test_it_judges_a_saved_trace_again(scan, tmp_path, capsys):
    trace = str(tmp_path / "trace")
    program, code, *_ = PROGRAMS["BERT without its mask"]
    _, before = scan(program, "--select", "GKT", "--save", trace)
    assert run(["report", trace, "--select", "GKT", "--format", "json"]) == 1
    after = json.loads(capsys.readouterr().out)
    assert outcome(after, code) == outcome(before, code)


@pytest.mark.parametrize("code", CODES)
def test_it_explains_every_rule(code, capsys):
    assert run(["explain", code]) == 0
    page = capsys.readouterr().out
    assert code in page
    for part in ("What it measures", "Why it matters", "How to fix it", "When it stays silent", "References"):
        assert part in page


def test_it_lists_its_rules_while_it_is_installed(capsys):
    assert run(["rules"]) == 0
    listed = capsys.readouterr().out
    assert all(code in listed for code in CODES)
    assert run(["plugins"]) == 0
    assert NAME in capsys.readouterr().out


def test_it_leaves_no_trace_when_it_is_left_out(tmp_path, capsys):
    path = tmp_path / "model.py"
    path.write_text(PROGRAMS["BERT without its mask"][0])
    without = ["--disable-plugin", NAME]
    run(["scan", str(path), "--format", "json", "--steps", "2", *without])
    assert "GKT" not in capsys.readouterr().out
    run(["rules", *without])
    assert "GKT" not in capsys.readouterr().out
    assert [plugin.name for plugin in load_plugins([NAME]) if plugin.name == NAME] == []


ROOT = Path(__file__).parent.parent


def test_its_readme_shows_what_the_command_prints(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    readme = (ROOT / "README.md").read_text()
    assert run(["scan", "examples/bert_without_its_mask.py"]) == 1
    printed = capsys.readouterr().out
    for start, end in (("target ", "probe "), ("---- GKT101", "more ")):
        block = printed[printed.index(start) : printed.index(end)]
        assert block in readme


PROOF = (
    "import sys, gradcheck_kit_transformers as pack; list(pack.gradcheck_rules()); {}; print('torch' in sys.modules)"
)


@pytest.mark.parametrize(("also", "imported"), [("0", "False"), ("pack.gradcheck_experiments()", "True")])
def test_it_imports_torch_for_its_experiments_only(also, imported):
    done = subprocess.run([sys.executable, "-c", PROOF.format(also)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == imported
