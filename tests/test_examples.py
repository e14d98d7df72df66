"""Each example runs as its first lines say, and gets the verdict that it is there for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def scan(example, *options):
    command = [sys.executable, "-m", "gradcheck_kit", "scan", f"examples/{example}.py", "--format", "json", *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "2"})
    assert done.returncode in (0, 1), done.stderr
    return done.returncode, json.loads(done.stdout)


def hits(report):
    return [o["rule"] for o in report["outcomes"] if o["status"] not in ("passed", "skipped")]


def test_broken_sigmoid_is_told_that_its_gradient_vanishes_and_what_to_replace():
    status, report = scan("broken_sigmoid")
    assert status == 1
    assert report["causes"][0] == {"code": "GK101", "rule": "vanishing-gradient"}
    (finding,) = report["outcomes"][0]["findings"]
    assert "Replace Sigmoid by ReLU in 2, 4, 6, 8, 10, 12, 14, 16 and 18" in finding["fixes"][0]["text"]
    assert len(finding["profile"]) == 10


def test_healthy_cnn_is_silent_and_accurate():
    status, report = scan("healthy_cnn", "--min-accuracy", "0.8")
    assert (status, hits(report)) == (0, [])


def test_resnet18_is_silent():
    status, report = scan("resnet18", "--steps", "20")
    assert (status, hits(report)) == (0, [])


def test_own_target_is_silent():
    status, report = scan("own_target")
    assert (status, hits(report)) == (0, [])
    assert report["target"]["loss"] == "training_step"


def test_own_loop_is_trained_as_it_is_and_told_what_is_wrong_with_it():
    done = subprocess.run(
        [sys.executable, "examples/own_loop.py"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.count("mean loss") == 3
    assert "watched 69 steps, 21 of them recorded, SGD(lr=0.1, momentum=0.9)" in done.stdout
    assert "---- GK101 vanishing-gradient --" in done.stdout


@pytest.mark.parametrize("epochs", [2])
def test_the_lesson_shows_the_gradient_vanish_and_what_helps(epochs):
    command = [sys.executable, "examples/lesson.py", "--epochs", str(epochs)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    rows = {line.split()[0]: line.split() for line in done.stdout.splitlines() if line.endswith("%")}
    ratio = {kind: float(row[4]) for kind, row in rows.items()}
    accuracy = {kind: float(row[5].rstrip("%")) for kind, row in rows.items()}
    assert ratio["sigmoid"] < 1e-6
    assert all(ratio[kind] > 1e-2 for kind in ("ReLU", "BatchNorm", "residual"))
    assert accuracy["residual"] > 80 > 2 * accuracy["sigmoid"]
    assert done.stdout.count("mean loss") == 4 * epochs
