"""The verdicts: healthy programs are silent, broken ones are named, and their cause comes first."""

from __future__ import annotations

import pytest
import torch
from bases import BASES
from broken import BROKEN

import gradcheck_kit as gk


def scan(make, seed):
    torch.manual_seed(seed)
    return gk.scan(make(), seed=seed)


@pytest.mark.parametrize("name", BASES)
def test_is_silent_on_a_healthy_program(name):
    report = scan(BASES[name], seed=0)
    assert [o.rule.name for o in report.outcomes if o.status not in ("passed", "skipped")] == []


@pytest.mark.parametrize("name", BROKEN)
def test_names_the_cause_of_a_broken_program_first(name):
    make, right = BROKEN[name]
    report = scan(make, seed=0)
    assert not report.of("error")
    assert [o.rule.name for o in report.causes][:1] in [[cause] for cause in right]
