"""Plain files: the healthy ones are silent, and every broken one is there with its causes."""

from __future__ import annotations

import pytest
import torch
from plain_files import (
    BLIND_BROKEN,
    BLIND_FILES,
    BLIND_HEALTHY,
    FILES,
    GRID_BROKEN,
    GRID_FILES,
    GRID_HEALTHY,
    PLAIN_BROKEN,
    PLAIN_HEALTHY,
)

import gradcheck_kit as gk
from gradcheck_kit import plugins

HEALTHY = PLAIN_HEALTHY | {f"grid: {name}": make for name, make in GRID_HEALTHY.items()}


@pytest.mark.parametrize("name", HEALTHY)
def test_is_silent_on_a_healthy_file(name):
    torch.manual_seed(0)
    report = gk.scan(HEALTHY[name](), seed=0)
    assert [o.rule.name for o in report.outcomes if o.status not in ("passed", "skipped")] == []


def test_every_file_is_healthy_or_has_causes_that_are_rules():
    assert set(FILES) == {*PLAIN_HEALTHY, *PLAIN_BROKEN}
    assert set(GRID_FILES) == {*GRID_HEALTHY, *GRID_BROKEN}
    assert set(BLIND_FILES) == {*BLIND_HEALTHY, *BLIND_BROKEN}
    rules = {rule.name for rule in plugins.all_rules()}
    assert {cause for _, causes in (PLAIN_BROKEN | GRID_BROKEN | BLIND_BROKEN).values() for cause in causes} <= rules
