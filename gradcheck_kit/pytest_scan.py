"""The scans that the pytest plugin makes, for tests that call the fixture and for those of model files."""

from __future__ import annotations

import contextlib
import inspect
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gradcheck_kit import baseline as baselines
from gradcheck_kit import settings as project
from gradcheck_kit.errors import GradcheckKitError, UsageError
from gradcheck_kit.pytest_plugin import BASELINE, WARNING
from gradcheck_kit.pytest_settings import Scan, configured, marked, refuse_unknown
from gradcheck_kit.render.text import conclusion, counted, first_sentence
from gradcheck_kit.report import Fingerprint, Outcome, Report
from gradcheck_kit.rule import Rule, listed
from gradcheck_kit.shared_traces import SharedTraces, sharing
from gradcheck_kit.target.source import find_source, package_root, split_spec

TRACES = pytest.StashKey[SharedTraces]()
OF_TARGETS = ("optimizer", "data", "data_dir", "input_shape", "classes")  # what a test of a model says itself
OBJECTS = ("model", "train_data", "test_data", "loss_fn", "optimizer", "training_step", "name")  # no marker has them
OF_PROJECT = ("steps", "batch_size", "seed", "device", "amp")


# ---- the fixture -------------------------------------------------------------------------------------------------


def scan_in_test(
    request: pytest.FixtureRequest, model: Any, train_data: Any, *, check: bool, arguments: dict[str, Any]
) -> Report:
    """The report on a model or a TARGET. Fails the test where there is none, or where `check` and it is no pass."""
    __tracebackhide__ = True
    failure = ""
    try:
        report = _scan(request, model, train_data, arguments)
    except GradcheckKitError as error:
        failure = str(error)
    if failure:  # outside of the handler: pytest would show both exceptions
        pytest.fail(failure, pytrace=False)
    name = report.trace.header.name
    if check and not report.passed:
        pytest.fail(f"{name}: {conclusion(report)}\n\n{report}".rstrip(), pytrace=False)
    for outcome in report.of("warned") if check else ():
        request.node.user_properties.append((WARNING, f"{request.node.nodeid}: {in_short(report, outcome)}"))
    return report


def _scan(request: pytest.FixtureRequest, model: Any, train_data: Any, arguments: dict[str, Any]) -> Report:
    scan, config = _scanners()[0], request.config
    signature = list(inspect.signature(scan).parameters)
    refuse_unknown(arguments, signature[2:], "gradcheck_scan")
    from_markers = marked(request.node, [name for name in signature if name not in OBJECTS])
    given = {**configured(config), **from_markers, **arguments}
    if isinstance(model, str):
        objects = [name for name in OBJECTS[1:] if name in arguments] + ["train_data"] * (train_data is not None)
        if objects:
            raise UsageError(f"gradcheck_scan({model!r}) is given {objects[0]}; the TARGET brings its own")
        return scan_spec(config, model, scan_of(config, model, given), tell=request.node)
    settings = Scan.of(given, request.path.parent)
    mine = {k: v for k, v in given.items() if k in signature and (k not in OF_TARGETS or k in from_markers)}
    of_project = {k: v for k in OF_PROJECT if (v := getattr(settings.project, k)) is not None}
    judging = {
        "select": [rule.code for rule in settings.rules],
        "ignore": None,
        "options": settings.options,
        "fail_on": settings.fail_on,
    }
    with sharing(traces(config)):
        report = scan(model, train_data, **{**of_project, **mine, **arguments, **judging})
    # Two tests may have a model of the same class: in a baseline it goes by its test.
    return judged(report, settings, name=arguments.get("name") or request.node.nodeid, tell=request.node)


# ---- a TARGET ----------------------------------------------------------------------------------------------------


def scan_of(config: pytest.Config, spec: str, given: dict[str, Any] | None = None) -> Scan:
    """How a TARGET is scanned, with the settings of its own folder's pyproject.toml. Raises a GradcheckKitError."""
    with _inside(config.invocation_params.dir):
        return Scan.of(configured(config) if given is None else given, project.folder_of(spec))


def scan_spec(
    config: pytest.Config, spec: str, settings: Scan, rules: Sequence[Rule] | None = None, *, tell: pytest.Item
) -> Report:
    """The report on a TARGET, of these rules or of all that the settings select."""
    scan_target = _scanners()[1]
    with _inside(config.invocation_params.dir):
        with sharing(traces(config)), _forgetting(spec):
            report = scan_target(
                spec,
                settings.probe,
                rules=settings.rules if rules is None else rules,
                options=settings.options,
                fail_on=settings.fail_on,
            )
        return judged(report, settings, name=report.trace.header.name, tell=tell)


def judged(report: Report, settings: Scan, *, name: str, tell: pytest.Item) -> Report:
    """The report without what pyproject.toml ignores, and with what the baseline knows marked; `name` is its key there.

    The baseline is written first where that is asked for, and there is a verdict. `tell` is the test that says so.
    """
    report = project.apply(report, replace(settings.project, baseline=None))
    path = settings.baseline
    if path is None:
        return report
    header = report.trace.header
    named = replace(report, trace=replace(report.trace, header=replace(header, name=name)))
    known = baselines.Baseline(path) if settings.updates and not path.exists() else baselines.load(path)
    said = []
    if settings.updates and report.exit_status != 2:
        known = baselines.updated(known, named)
        baselines.save(known)
        number = sum(len(outcome.findings) for outcome in report.outcomes)
        said.append(f"wrote {counted(number, 'finding')} of {name} to {baselines.shown(path)}")
    compared = baselines.compare(named, known)
    if compared.baseline is not None:
        said += [f"{name}: {_stale(entry)} is no longer found" for entry in compared.baseline.stale]
    tell.user_properties += [(BASELINE, sentence) for sentence in said]
    return replace(compared, trace=report.trace)


def _stale(entry: Fingerprint) -> str:
    return f"{entry.code} {entry.rule} at {listed(place or 'the model' for place in entry.places)}"


def traces(config: pytest.Config) -> SharedTraces:
    return config.stash.setdefault(TRACES, SharedTraces())


def in_short(report: Report, outcome: Outcome) -> str:
    """A finding in a line."""
    cause = next((c for c in report.causes if outcome in report.explained_by(c)), None)
    explained = f" (explained by {cause.rule.code})" if cause else ""
    finding = (outcome.new or outcome.known)[0]
    return f"{outcome.rule.code} {outcome.rule.name}: {first_sentence(finding.message)}{explained}"


def _scanners() -> tuple[Callable[..., Report], Callable[..., Report]]:
    # As for the command line: threads of OpenMP that spin while they wait slow down every other worker of xdist.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what torch says while it is imported is nothing that a test can mend
        from gradcheck_kit.probe import scan, scan_target
    return scan, scan_target


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """A TARGET is relative to where pytest was started, wherever a test has gone."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@contextlib.contextmanager
def _forgetting(spec: str) -> Iterator[None]:
    """Import paths come back. Of a file in no package the modules beside it are forgotten: another's may be called so.

    Two folders with a model.py and a layers.py each would share the first one's layers otherwise.
    """
    paths, modules = list(sys.path), set(sys.modules)
    try:
        yield
    finally:
        sys.path[:] = paths
        path = None if spec.startswith("torchvision:") else find_source(split_spec(spec)[0]).path
        if path is not None and package_root(path) == path.parent:
            for name in set(sys.modules) - modules:
                file = getattr(sys.modules[name], "__file__", None)
                if file and Path(file).is_relative_to(path.parent) and "site-packages" not in Path(file).parts:
                    del sys.modules[name]
