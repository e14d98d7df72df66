"""The command line on user files of every kind, run as a user runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

HEAD = """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
torch.manual_seed(0)
"""
DATA = """
centers = torch.randn(4, 20) * 2
y = torch.randint(0, 4, (512,))
train_loader = DataLoader(TensorDataset(centers[y] + torch.randn(512, 20), y), 32, shuffle=True)
"""
MODEL = "model = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 4))\n"
TAIL = "loss_fn = nn.CrossEntropyLoss()\noptimizer = torch.optim.Adam(model.parameters(), lr=3e-3)\n"
NET = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.calls = nn.Linear(20, 4), 0
    def forward(self, x):
        self.calls += 1
        {body}
        return self.layer(x)
model = Net()
"""


def run(*arguments, cwd):
    command = [sys.executable, "-m", "gradcheck_kit", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, stdin=subprocess.DEVNULL)


@pytest.fixture
def write(tmp_path):
    def make(text, name="model.py"):
        (tmp_path / name).write_text(text)
        return tmp_path

    return make


def refusal(done):
    """The one sentence that a command without a verdict prints."""
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stdout == ""
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("gradcheck-kit: ")]
    assert "Traceback" not in done.stderr
    return line.removeprefix("gradcheck-kit: error: ")


def test_a_healthy_model_exits_0_and_its_header_says_what_was_taken(write):
    done = run("scan", "model.py", cwd=write(HEAD + DATA + MODEL + TAIL))
    assert (done.returncode, done.stderr) == (0, "")
    assert "target  model.py:model   Sequential, 2 weight layers, 804 parameters" in done.stdout
    assert "data    train_loader: 512 samples in batches of 32" in done.stdout
    assert "probe   60 steps, Adam(lr=0.003), CrossEntropyLoss" in done.stdout
    assert "no findings" in done.stdout.splitlines()[-1]
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_what_is_missing_is_supplied_and_the_header_says_so(write):
    done = run("scan", "model.py", "--steps", "10", cwd=write(HEAD + MODEL))
    assert done.returncode == 0, done.stderr
    for note in ("no training data found", "no loss_fn found: CrossEntropyLoss", "no optimizer found: Adam at 0.001"):
        assert note in done.stdout


def test_two_json_reports_are_equal_apart_from_seconds(write):
    folder = write(HEAD + DATA + MODEL + TAIL)
    first, second = (json.loads(run("scan", "model.py", "--format", "json", cwd=folder).stdout) for _ in range(2))
    for report in (first, second):
        report["summary"].pop("seconds")
    assert first == second


def test_a_saved_trace_gives_the_same_verdict_without_torch(write):
    folder = write(
        HEAD
        + DATA
        + "model = nn.Sequential(*[m for _ in range(9) for m in (nn.Linear(20, 20), nn.Sigmoid())], nn.Linear(20, 4))\n"
        + TAIL
    )
    scanned = run("scan", "model.py", "--save", "run.trace", "--format", "json", cwd=folder)
    reported = run("report", "run.trace", "--format", "json", cwd=folder)
    assert (scanned.returncode, reported.returncode) == (1, 1)
    first, second = json.loads(scanned.stdout), json.loads(reported.stdout)
    assert first["outcomes"] == second["outcomes"]
    assert first["causes"] == second["causes"] == [{"code": "GK101", "rule": "vanishing-gradient"}]
    assert (
        run(
            "report", "run.trace", "--set", "vanishing-gradient.ratio=1e-30", "--select", "GK101", cwd=folder
        ).returncode
        == 0
    )


def test_exit_zero_turns_1_into_0_and_never_2(write):
    folder = write(
        HEAD
        + DATA
        + MODEL
        + "loss_fn = nn.CrossEntropyLoss()\noptimizer = torch.optim.SGD(model[2].parameters(), lr=0.1)\n"
    )
    assert run("scan", "model.py", cwd=folder).returncode == 1
    assert run("scan", "model.py", "--exit-zero", cwd=folder).returncode == 0
    assert run("scan", "nothing.py", "--exit-zero", cwd=folder).returncode == 2


def test_stdout_holds_only_the_report_when_the_users_code_prints(write):
    body = NET.format(body="print('from forward')")
    done = run("scan", "model.py", "--format", "json", cwd=write("print('from import')\n" + HEAD + DATA + body + TAIL))
    assert json.loads(done.stdout)["schema"] == 1
    assert "from import" in done.stderr


def test_only_what_is_selected_is_looked_at(write):
    done = run(
        "scan",
        "model.py",
        "--select",
        "GK201",
        "--save",
        "t",
        "--format",
        "json",
        cwd=write(HEAD + DATA + MODEL + TAIL),
    )
    report = json.loads(done.stdout)
    assert [o["code"] for o in report["outcomes"]] == ["GK201"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("def f(:\n", "model.py:1 is no valid Python"),
        ("import not_there_at_all\n", "model.py:1 imports 'not_there_at_all'"),
        ("x = 1 / 0\n", "model.py:1 raises ZeroDivisionError: division by zero"),
        ("x = 3\n", "model.py defines no model"),
        (
            HEAD + "class A(nn.Linear): pass\n" + NET.format(body="pass").replace("model = Net()", "")
            + NET.format(body="pass").replace("class Net", "class Other").replace("model = Net()", ""),
            "name one: gradcheck-kit scan model.py:",
        ),
        (HEAD + DATA + NET.format(body="raise ValueError('boom')") + TAIL, "raised ValueError: boom (model.py:17)"),
        (
            HEAD + DATA + NET.format(body="assert self.calls < 30, 'tired'") + TAIL,
            "training step 30 of 60 raised AssertionError: tired (model.py:",
        ),
        (
            HEAD + DATA + MODEL + "def loss_fn(output, target):\n    raise RuntimeError('no loss today')\n",
            "the loss raised RuntimeError: no loss today (model.py:",
        ),
        (HEAD + DATA + MODEL + "loss_fn = nn.CrossEntropyLoss(reduction='none')\n", "the loss has shape (32,), not"),
        (HEAD + MODEL + "train_loader = []\n" + TAIL, "train_loader yields no batch: it is empty"),
        (
            HEAD + MODEL + "train_loader = DataLoader(TensorDataset(torch.zeros(0, 20), torch.zeros(0)), 8)\n" + TAIL,
            "train_loader yields no batch: it is empty",
        ),
        (HEAD + DATA + MODEL.replace("20, 32", "21, 32") + TAIL, "shapes cannot be multiplied (32x20 and 21x32)"),
        (HEAD + DATA + MODEL + "model.requires_grad_(False)\n", "has no trainable parameter: nothing can learn"),
        (HEAD + DATA + "model = nn.Linear(20, 4, device='meta')\n", "is on the meta device and has no values"),
        (HEAD + "model = nn.LazyLinear(4)\n", "has lazy modules whose shapes are not known yet"),
    ],
    ids=[
        "syntax", "missing import", "raises", "no model", "several models", "forward", "late forward", "loss",
        "loss per sample", "empty list", "empty loader", "wrong input", "all frozen", "meta",
        "lazy",
    ],
)  # fmt: skip
def test_a_file_that_gives_no_verdict_gets_one_sentence(text, sentence, write):
    assert sentence in refusal(run("scan", "model.py", cwd=write(text)))


ORDINAL = """
def loss_fn(output, target):
    above = (target[:, None] > torch.arange(3)).float()
    return nn.functional.binary_cross_entropy_with_logits(output, above)
"""


def test_a_loss_of_ones_own_may_have_more_classes_than_the_model_has_outputs(write):
    text = HEAD + DATA + MODEL.replace("32, 4)", "32, 3)") + ORDINAL
    done = run("scan", "model.py", "--select", "GK404", "--steps", "2", cwd=write(text))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nothing.py"], "nothing.py does not exist"),
        (["a" * 300 + ".py"], "a... is no path: a name of 303 characters is too long"),
        (["model.py:nobody"], "nobody"),
        (["model.py", "--device", "cuda"], "--device cuda: no CUDA device is available here; use --device cpu"),
        (["model.py", "--device", "quantum"], "'quantum' is no device; use cpu, cuda"),
        (["model.py", "--select", "GK999"], "the selector 'GK999' matches no rule"),
        (["model.py", "--set", "vanishing-gradient.rato=1"], "has no option 'rato'; its options: ratio"),
        (["model.py", "-o", "no/folder/report.json"], "no/folder"),
        (["model.py", "--save", "no/folder/trace"], "no/folder"),
        (["model.py", "--steps", "0"], "0 is not in the range x>=1"),
        (["model.py", "--data", "digitz"], "did you mean digits"),
        (["torchvision:resnet19"], "did you mean torchvision:resnet18"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_option_that_means_nothing_gets_one_sentence(arguments, sentence, write):
    assert sentence in refusal(run("scan", *arguments, cwd=write(HEAD + DATA + MODEL + TAIL)))


def test_nan_in_the_data_is_a_finding_that_says_so(write):
    text = HEAD + DATA + "train_loader.dataset.tensors[0][7, 3] = float('nan')\n" + MODEL + TAIL
    done = run("scan", "model.py", "--format", "json", cwd=write(text))
    report = json.loads(done.stdout)
    assert done.returncode == 1
    assert report["causes"] == [{"code": "GK503", "rule": "non-finite-input"}]
    assert "the input batch" in next(o for o in report["outcomes"] if o["code"] == "GK106")["findings"][0]["message"]


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT to a child there")
def test_ctrl_c_in_the_middle_is_one_sentence_and_no_verdict(write):
    body = NET.format(body="import pathlib, time; pathlib.Path('running').touch(); time.sleep(0.2)")
    folder = write(HEAD + DATA + body + TAIL)
    process = subprocess.Popen(
        [sys.executable, "-m", "gradcheck_kit", "scan", "model.py"], cwd=folder, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, env=os.environ,
    )  # fmt: skip
    for _ in range(600):
        if (folder / "running").exists():
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    assert err.splitlines()[-1] == "gradcheck-kit: interrupted; nothing was judged"


def test_a_named_data_set_is_resized_to_what_the_model_takes(write):
    model = """
model = nn.Sequential(
    nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Conv2d(4, 8, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 49, 10)
)
"""
    done = run("scan", "model.py", "--data", "digits", "--steps", "12", cwd=write(HEAD + model))
    assert done.returncode == 0, done.stderr
    assert "digits: 1,437 training and 360 test images of 1x8x8, resized to 3x32x32" in done.stdout


def test_min_accuracy_is_a_limit_of_its_own(write):
    folder = write(HEAD + "model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))\n")
    common = ["scan", "model.py", "--data", "digits", "--lr", "0.01", "--steps", "40"]
    assert run(*common, "--min-accuracy", "0.5", cwd=folder).returncode == 0
    assert run(*common, "--min-accuracy", "0.999", cwd=folder).returncode == 1
