"""Model files as pytest collects them: a test for each rule. The first one that runs probes for all of its model."""

from __future__ import annotations

import os
import re
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from gradcheck_kit.errors import GradcheckKitError, TargetError, UsageError
from gradcheck_kit.pytest_plugin import CAUSE, WARNING
from gradcheck_kit.pytest_scan import in_short, scan_of, scan_spec
from gradcheck_kit.pytest_settings import Scan, validate
from gradcheck_kit.render.text import render_outcome
from gradcheck_kit.report import Outcome, Report
from gradcheck_kit.rule import Rule, listed
from gradcheck_kit.target.source import find_source, split_spec


@dataclass(slots=True, eq=False)  # pytest needs plugins that can be hashed
class Collection:
    """The part of the plugin that is registered where there are models to check."""

    specs: dict[str, Path | None]  # TARGETs as typed, and their files
    files: set[Path]  # of the ini file
    folder: Path  # where pytest was started
    seen: set[Path] = field(default_factory=set)  # files that are collected already

    @classmethod
    def of(cls, config: pytest.Config) -> Collection:
        """What the command line and the ini file ask for; imports no torch. Raises pytest.UsageError."""
        try:
            specs = {spec: _file(spec) for spec in dict.fromkeys(config.getoption("gradcheck") or ())}
            files = set(_matching(config))
        except GradcheckKitError as error:
            raise pytest.UsageError(f"gradcheck-kit: {error}") from None
        validate(config, [*specs, *map(str, files)])
        if specs and _runs_alone(config):
            config.args, config.args_source = [], pytest.Config.ArgsSource.ARGS
        return cls(specs, files, config.invocation_params.dir)

    def pytest_collect_file(self, file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
        wanted = file_path in self.files or file_path in self.specs.values()
        if not wanted or file_path in self.seen:
            return None
        self.seen.add(file_path)
        return GradcheckFile.of(self, parent, file_path)

    @pytest.hookimpl(wrapper=True)
    def pytest_pycollect_makemodule(self, module_path: Path) -> Generator[None, Any, Any]:
        """A model file that is named on the command line holds tests for pytest, too, if it has some."""
        module = yield
        if module_path in self.files | set(self.specs.values()) and not _has_tests(module_path, module.config):
            return _NoTests.from_parent(module.parent, path=module_path)
        return module

    @pytest.hookimpl(wrapper=True)
    def pytest_make_collect_report(self, collector: pytest.Collector) -> Generator[None, Any, Any]:
        report = yield
        if isinstance(collector, pytest.Session) and report.passed:
            report.result = [*report.result, *self.others(collector)]
        return report

    def others(self, session: pytest.Session) -> Iterator[pytest.Collector]:
        """The TARGETs that no argument leads to."""
        for spec, path in self.specs.items():
            if path is None:
                yield GradcheckTarget.of(self, session, spec, name=spec, nodeid=spec)
            elif path not in self.seen:
                self.seen.add(path)
                yield GradcheckFile.of(self, session, path)


def _file(spec: str) -> Path | None:
    """The file of a TARGET. Raises TargetError where it is missing."""
    return None if spec.startswith("torchvision:") else find_source(split_spec(spec)[0]).path


def _matching(config: pytest.Config) -> Iterator[Path]:
    for pattern in config.getini("gradcheck_files"):
        try:
            found = [path.resolve() for path in sorted(config.rootpath.glob(pattern)) if path.is_file()]
        except (ValueError, NotImplementedError):
            raise UsageError(f"gradcheck_files has {pattern!r}; use a glob relative to {config.rootpath}") from None
        if not found:
            raise TargetError(f"gradcheck_files has {pattern!r}, which matches no file below {config.rootpath}")
        if strange := [path.name for path in found if path.suffix != ".py"]:
            raise TargetError(f"gradcheck_files has {pattern!r}, which matches {strange[0]}; name Python files")
        yield from found


def _runs_alone(config: pytest.Config) -> bool:
    """Whether --gradcheck was typed without anything else to collect. In `addopts` it adds to the tests."""
    typed = any(re.fullmatch(r"--gradcheck(=.*)?", str(argument)) for argument in config.invocation_params.args)
    return typed and config.args_source is not pytest.Config.ArgsSource.ARGS


def _has_tests(path: Path, config: pytest.Config) -> bool:
    names = re.findall(r"^\s*(?:async\s+)?(?:def|class)\s+(\w+)(.*)", path.read_text("utf-8", "replace"), re.MULTILINE)
    patterns = [*config.getini("python_functions"), *config.getini("python_classes")]
    return any(
        "TestCase" in rest or any(name.startswith(p) or fnmatch(name, p) for p in patterns) for name, rest in names
    )


class _NoTests(pytest.File):
    """A model file without tests of pytest's: it need not be imported to see that."""

    def collect(self) -> Iterable[pytest.Item]:
        return ()


class GradcheckFile(pytest.File):
    """A file with one model, or several that are named."""

    collection: Collection

    @classmethod
    def of(cls, collection: Collection, parent: pytest.Collector, path: Path) -> GradcheckFile:
        node: GradcheckFile = cls.from_parent(parent, path=path)
        node.collection = collection
        return node

    def collect(self) -> Iterable[pytest.Collector]:
        specs = [spec for spec, path in self.collection.specs.items() if path == self.path]
        for spec in specs or [os.path.relpath(self.path, self.collection.folder)]:
            name = split_spec(spec)[1]
            yield GradcheckTarget.of(self.collection, self, spec, name=f"gradcheck:{name}" if name else "gradcheck")


class GradcheckTarget(pytest.Collector):
    """A model: a test for each selected rule, which share one probe."""

    collection: Collection
    spec: str
    report: Report | None = None
    stopped: tuple[str, str] | None = None  # by which test, and the first line of why

    @classmethod
    def of(cls, collection: Collection, parent: pytest.Collector, spec: str, **others: str) -> GradcheckTarget:
        node: GradcheckTarget = cls.from_parent(parent, **others)
        node.collection, node.spec = collection, spec
        return node

    @cached_property
    def settings(self) -> Scan:
        return scan_of(self.config, self.spec)

    def collect(self) -> Iterable[pytest.Item]:
        for rule in self.settings.rules:
            yield GradcheckItem.of(self, rule)

    def examine(self, item: GradcheckItem) -> Report:
        """The report on all tests of this model that are to run: deselected rules need not be probed for."""
        if self.report is None:
            if self.stopped is not None and self.stopped[0] != item.nodeid:
                raise _skipped(f"not probed: {self.stopped[1]} (see {self.stopped[0]})")
            rules = [i.rule for i in self.session.items if isinstance(i, GradcheckItem) and i.parent is self]
            try:
                self.report = scan_spec(self.config, self.spec, self.settings, rules, tell=item)
            except BaseException as error:
                self.stopped = (item.nodeid, (str(error) or type(error).__name__).splitlines()[0])
                raise
        return self.report


class GradcheckItem(pytest.Item):
    """What one rule says of a model."""

    rule: Rule
    parent: GradcheckTarget

    @classmethod
    def of(cls, parent: GradcheckTarget, rule: Rule) -> GradcheckItem:
        item: GradcheckItem = cls.from_parent(parent, name=f"{rule.code}-{rule.name}")
        item.rule = rule
        item.add_marker("gradcheck")
        if parent.config.getoption("loadgroup", False):  # a worker of xdist that has all tests of a group
            item.add_marker(pytest.mark.xdist_group(re.sub(r"[@\[\]]", "_", parent.spec)))
        return item

    def reportinfo(self) -> tuple[Path, int, str]:
        return self.path, 0, f"{self.rule.code} {self.rule.name} ({self.parent.spec})"

    def setup(self) -> None:
        sentence = _sentence(lambda: self.parent.examine(self))
        if sentence:
            pytest.fail(sentence, pytrace=False)

    def runtest(self) -> None:
        report = self.parent.examine(self)
        outcome = next(o for o in report.outcomes if o.rule.code == self.rule.code)
        if outcome.status == "skipped":
            raise _skipped(outcome.reason)
        if outcome.status == "passed":
            if outcome.silenced == "known":
                pytest.xfail(f"known: {in_short(report, outcome)}")
            return
        if outcome.status == "error":
            pytest.fail(_crash(outcome, verbose=self.config.get_verbosity() > 0), pytrace=False)
        if outcome in report.failed:
            if outcome in report.causes:
                self.user_properties.append((CAUSE, f"{self.parent.spec}: {_cause(report, outcome)}"))
            pytest.fail(_text(report, outcome), pytrace=False)
        self.user_properties.append((WARNING, f"{self.parent.spec}: {in_short(report, outcome)}"))


def _sentence(work: Callable[[], object]) -> str:
    """What there is to say if there is no report: "" otherwise."""
    try:
        work()
    except GradcheckKitError as error:
        return str(error)
    return ""


def _crash(outcome: Outcome, *, verbose: bool) -> str:
    rule, lines = outcome.rule, [f"{outcome.reason}\n"] if verbose else [outcome.reason]
    if verbose and outcome.traceback is not None:
        lines += ["".join(traceback.format_exception(outcome.traceback))]
    return "\n".join([*lines, f"Report this to the authors of {rule.plugin}; or --gradcheck-ignore {rule.code}"])


def _text(report: Report, outcome: Outcome) -> str:
    text = render_outcome(report, outcome)
    cause = next((c for c in report.causes if outcome in report.explained_by(c)), None)
    if cause is not None:
        text += f"\ncause    {cause.rule.code} {cause.rule.name} explains this: mend that first"
    return text


def _cause(report: Report, outcome: Outcome) -> str:
    explained = listed(f"{o.rule.code} {o.rule.name}" for o in report.explained_by(outcome))
    return f"{outcome.rule.code} {outcome.rule.name}" + (f", which explains {explained}" if explained else "")


def _skipped(reason: str) -> BaseException:
    skip = pytest.skip.Exception(reason)
    skip._use_item_location = True  # noqa: SLF001  # the place that -rs names: the model's file, and not this one
    return skip
