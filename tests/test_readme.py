"""What README says is what there is."""

from __future__ import annotations

import re
from pathlib import Path

from cases import table

README = Path(__file__).parent.parent / "README.md"


def test_the_table_of_hard_cases_is_that_of_the_tests():
    assert table() in README.read_text("utf-8"), "put in the output of: python tests/hard_cases/cases.py"


def test_every_file_that_it_names_is_there():
    text = README.read_text("utf-8")
    named = {*re.findall(r"\]\((?!http)([^)#]+)\)", text), *re.findall(r"\b(?:tests|examples)/[\w./]+", text)}
    assert [name for name in sorted(named) if not (README.parent / name).exists()] == []
