"""Gradient clipping of the user's own loop, which the probe does as well."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gradcheck_kit.target import ProbeSettings, Target
from gradcheck_kit.target.clipping import Clipping, find_clipping
from gradcheck_kit.target.prepare import prepare
from gradcheck_kit.target.workspace import workspace

LOOP = """
import torch
CLIP = 0.25

def train(model, loader, optimizer):
    for batch in loader:
        {}
        optimizer.step()
"""


def found(tmp_path, line):
    file = tmp_path / "program.py"
    file.write_text(LOOP.format(line))
    return find_clipping(file)


@pytest.mark.parametrize(
    ("line", "clipping"),
    [
        ("torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)", Clipping(False, 0.5, 7)),
        ("torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=CLIP)", Clipping(False, 0.25, 7)),
        ("torch.nn.utils.clip_grad_value_(model.parameters(), 1)", Clipping(True, 1.0, 7)),
        ("torch.nn.utils.clip_grad_norm_(model.parameters(), options.clip)", None),
        ("torch.nn.utils.clip_grad_norm_(a, 1.0); torch.nn.utils.clip_grad_norm_(b, 2.0)", None),
        ("CLIP = 1.0; torch.nn.utils.clip_grad_norm_(a, CLIP)", None),
        ("loss.backward()", None),
    ],
    ids=["norm", "named", "value", "unknown number", "two numbers", "changed", "none"],
)
def test_reads_the_limit_off_the_text(tmp_path, line, clipping):
    assert found(tmp_path, line) == clipping


def test_no_file_and_no_python_are_none(tmp_path):
    assert find_clipping(None) is None
    (tmp_path / "program.py").write_text("def (")
    assert find_clipping(tmp_path / "program.py") is None


@pytest.mark.parametrize("by_value", [False, True])
def test_the_probe_clips_before_each_step_and_says_so(tmp_path, by_value):
    file = tmp_path / "program.py"
    file.write_text(LOOP.format(f"clip_grad_{'value' if by_value else 'norm'}_(model.parameters(), 1e-3)"))
    torch.manual_seed(0)
    model = nn.Linear(4, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    data = [(100 * torch.randn(8, 4), torch.randint(2, (8,)))]
    prepared = prepare(Target(model, data, None, nn.CrossEntropyLoss(), optimizer, file=file), ProbeSettings())
    assert any(note.startswith("gradients are clipped") and "0.001, as in line 7" in note for note in prepared.supplied)
    with workspace(prepared) as work:
        before = work.model.weight.detach().clone()
        work.backward(work.step(data[0])[1])
        work.update(data[0])
        change = work.model.weight.detach() - before
    assert 0 < (change.abs().max() if by_value else change.norm()) <= 1e-3 * 1.001
