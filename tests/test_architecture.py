"""Imports go down a floor, and what needs no torch imports none."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from gradcheck_kit import testing

PACKAGE = Path(__file__).parent.parent / "gradcheck_kit"
ROOMS = [  # floor by floor; a room may import from its own floor and from those below
    {"errors", "facts", "trace"},
    {"rule", "report", "testing", "places", "baseline"},
    {"rules"},
    {"observe", "experiments", "target", "render", "hookspecs", "plugins", "settings"},
    {
        "shared_traces",
        "probe",
        "cli",
        "pre_commit",
        "pytest_plugin",
        "pytest_settings",
        "pytest_scan",
        "pytest_targets",
    },
]
FLOORS = {room: floor for floor, rooms in enumerate(ROOMS) for room in rooms}
SEAMS = {
    ("report", "render"),  # str(report) is the text report; nothing is imported before somebody prints one
    ("rules", "plugins"),  # the built-in rules register with the marker that everybody's do
}
STANDARD_LIBRARY_ONLY = 2  # up to this floor


def imported(source):
    """The modules that a source text imports, wherever in it; names of a package count as its modules."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            yield from (f"{module}.{alias.name}" for alias in node.names)


def breaches(room, source):
    """The imports of a room's source that its floor does not allow."""
    for name in imported(source):
        first, _, rest = name.partition(".")
        other = rest.partition(".")[0]
        if first == "gradcheck_kit" and other in FLOORS:
            if FLOORS[other] > FLOORS[room] and (room, other) not in SEAMS:
                yield name
        elif first == "":
            yield name  # relative: absolute names can be searched for
        elif FLOORS[room] <= STANDARD_LIBRARY_ONLY and first not in {*sys.stdlib_module_names, "gradcheck_kit"}:
            yield name


SOURCES = sorted(
    p for p in PACKAGE.rglob("*.py") if p.relative_to(PACKAGE).parts not in {("__init__.py",), ("__main__.py",)}
)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_it_imports_only_from_its_floor_and_below(path):
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    assert room in FLOORS, f"give {room} a floor"
    assert list(breaches(room, path.read_text("utf-8"))) == []


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("facts", "import gradcheck_kit.rule"),
        ("rules", "def f():\n    from gradcheck_kit import render"),
        ("rules", "from gradcheck_kit.experiments.training import train"),
        ("rule", "import torch"),
        ("testing", "def f():\n    import click.testing"),
        ("cli", "from . import plugins"),
    ],
)
def test_it_would_notice_an_import_that_goes_up(room, source):
    assert list(breaches(room, source)) != []


# ---- no torch ----

WITHOUT_TORCH = """
import sys
{first}
try:
    {code}
except SystemExit as error:
    assert error.code in (0, None), error.code
found = sorted(name for name in sys.modules if name.split(".")[0] in ("torch", "torchvision", "numpy"))
sys.exit(f"imported {{found}}" if found else 0)
"""


def run_without_torch(code, first=""):
    program = WITHOUT_TORCH.format(code=code, first=first)
    return subprocess.run([sys.executable, "-c", program], cwd=PACKAGE.parent, capture_output=True, text=True)


@pytest.fixture
def saved(tmp_path):
    testing.trace(testing.training()).save(tmp_path / "t.jsonl")
    return str(tmp_path / "t.jsonl")


@pytest.mark.parametrize(
    "command",
    [["--help"], ["rules"], ["explain", "GK101"], ["plugins"], ["schema"], ["settings"], ["report"], ["scan", "-h"]],
)
def test_it_imports_no_torch(command, saved):
    arguments = [*command, saved, "--exit-zero"] if command == ["report"] else command
    result = run_without_torch(f"main({arguments!r})", "from gradcheck_kit.cli import main")
    assert (result.returncode, result.stderr) == (0, "")


def test_it_imports_no_torch_for_what_the_package_names():
    names = "Finding, GradcheckKitError, Report, Rule, Skip, Trace, hookimpl, rule, testing"
    assert run_without_torch(f"from gradcheck_kit import {names}").returncode == 0


def test_it_would_notice_torch(tmp_path):
    (tmp_path / "torch.py").touch()
    result = run_without_torch(
        "from gradcheck_kit.cli import main; main(['rules'])", f"sys.path.insert(0, {str(tmp_path)!r}); import torch"
    )
    assert (result.returncode, result.stderr) == (1, "imported ['torch']\n")
