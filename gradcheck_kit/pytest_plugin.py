"""The pytest plugin: the fixtures `gradcheck_scan` and `gradcheck_measure`, the marker `gradcheck`, `--gradcheck FILE`.

pytest imports this file at every start, wherever the package is installed: what costs time is imported where it is
used. Settings come from the call, the closest marker, the command line, the ini file, [tool.gradcheck-kit] of the
nearest pyproject.toml, in this order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from gradcheck_kit.report import Report

OPTIONS: tuple[tuple[str, str, str], ...] = (  # name, how its value is shown, help; ini keys are the same
    ("steps", "N", "length of the training run"),
    ("batch-size", "N", "samples per step"),
    ("seed", "N", "of everything random"),
    ("device", "DEVICE", "cpu, cuda, cuda:1, mps, auto"),
    ("lr", "F", "learning rate of the optimizer"),
    ("amp", "bf16|fp16", "train in mixed precision"),
    ("quick", "", "fewer samples and attempts: a first look"),
    ("select", "CODES", "only these rules: codes, their beginnings, or names; comma-separated, repeatable"),
    ("ignore", "CODES", "all but these; the longest match wins"),
    ("set", "RULE.OPTION=VALUE", "set an option of a rule; repeatable"),
    ("min-accuracy", "F", "the least accuracy on test data, 0 to 1"),
    ("fail-on", "error|warning", "the least severity that fails a test"),
    ("baseline", "FILE", "findings that are known: only new ones fail a test"),
    ("update-baseline", "", "make what is found known: write it to the baseline"),
    ("optimizer", "sgd|adam|adamw", "of a TARGET, in place of its own"),
    ("data", "NAME|DIR", "of a TARGET, in place of its own: digits, mnist, ..., or a folder of images"),
    ("data-dir", "DIR", "where the named data sets are"),
    ("input", "SHAPE", "shape of one input of a TARGET without data, such as 3x224x224; repeatable"),
    ("classes", "N", "of a TARGET without data: the number of classes to make targets for"),
)
TYPED_ONLY = ("update-baseline",)  # in a file it would let everything pass for ever
REPEATABLE = ("select", "ignore", "set", "input")
NUMBERS = {"steps": "int", "batch-size": "int", "seed": "int", "classes": "int", "lr": "float", "min-accuracy": "float"}
# User properties of a test, which xdist hands on and junit has, too; and what they are called in the summary.
CAUSE, WARNING, BASELINE = "gradcheck_cause", "gradcheck_warning", "gradcheck_baseline"
SUMMARY = {CAUSE: "cause", WARNING: "warning", BASELINE: "baseline"}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("gradcheck", "gradcheck-kit: whether a PyTorch model can learn")
    group.addoption(
        "--gradcheck",
        action="append",
        metavar="TARGET",
        help="check a model, one test per rule: model.py, model.py:name, package.module:name, torchvision:resnet18; "
        "repeatable; alone it runs no other tests",
    )
    parser.addini("gradcheck_files", "model files to check, as globs relative to the rootdir", "args")
    typed = pytest.version_tuple >= (8, 4)  # which knows numbers in ini files; both read their text
    for name, shown, about in OPTIONS:
        action = "append" if name in REPEATABLE else "store_true" if not shown else "store"
        metavar = {"metavar": shown} if shown else {}
        group.addoption(f"--gradcheck-{name}", action=action, default=None, help=about, **metavar)
        kind: Any = "args" if name in REPEATABLE else "string" if shown else "bool"
        if name not in TYPED_ONLY:
            parser.addini(_key(name), about, NUMBERS.get(name, kind) if typed else kind, default=None)


def _key(name: str) -> str:
    return f"gradcheck_{name.replace('-', '_')}"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "gradcheck(select, ignore, steps, ...): settings of the fixture gradcheck_scan, as its arguments"
    )
    if config.getoption("gradcheck") or config.getini("gradcheck_files"):
        from gradcheck_kit.pytest_targets import Collection

        config.pluginmanager.register(Collection.of(config), "gradcheck-kit-collection")
    elif any(config.getoption(_key(name)) is not None for name, _, _ in OPTIONS):
        from gradcheck_kit.pytest_settings import validate

        validate(config)


@pytest.fixture
def gradcheck_scan(request: pytest.FixtureRequest) -> Callable[..., Report]:
    """A function that scans a model, with the arguments of `gradcheck_kit.scan`, and returns the report.

    It fails the test with the report if the model does not pass, unless `check=False`. In place of a model it takes a
    TARGET such as "model.py:name", too.
    """
    from gradcheck_kit.pytest_scan import scan_in_test

    def scan(model: Any, train_data: Any = None, *, check: bool = True, **arguments: Any) -> Report:
        __tracebackhide__ = True
        return scan_in_test(request, model, train_data, check=check, arguments=arguments)

    return scan


@pytest.fixture
def gradcheck_measure() -> Callable[..., Any]:
    """For the tests of rule packs: a function of an experiment and a model that returns the experiment's fact.

    It takes the model's data, loss and optimizer as `gradcheck_kit.scan` does: see `gradcheck_kit.probe.measure`.
    """
    from gradcheck_kit.probe import measure

    return measure


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Causes and warnings, a line each, where there are any."""
    reports = (report for reports in terminalreporter.stats.values() for report in reports)
    told = [p for report in reports if getattr(report, "when", "") == "call" for p in report.user_properties]
    lines = [f"{kind:8}  {text}" for name, kind in SUMMARY.items() for key, text in told if key == name]
    if lines:
        terminalreporter.section("gradcheck-kit")
        for line in dict.fromkeys(lines):
            terminalreporter.write_line(line)
