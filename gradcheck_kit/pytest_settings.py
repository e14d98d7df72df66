"""What the pytest plugin scans with: settings of call, marker, command line and ini file put together, and the scan."""

from __future__ import annotations

import contextlib
import difflib
import inspect
import math
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest

from gradcheck_kit import plugins
from gradcheck_kit.errors import GradcheckKitError, UsageError
from gradcheck_kit.pytest_plugin import OPTIONS, WARNING
from gradcheck_kit.render.text import conclusion, first_sentence
from gradcheck_kit.report import Outcome, Report
from gradcheck_kit.rule import OptionValue, Rule, Severity
from gradcheck_kit.shared_traces import SharedTraces, sharing
from gradcheck_kit.target import ProbeSettings
from gradcheck_kit.target.source import find_source, package_root, split_spec

TRACES = pytest.StashKey[SharedTraces]()
OF_TARGETS = ("optimizer", "data", "data_dir", "input_shape", "classes")  # what a test of a model says itself
OBJECTS = ("model", "train_data", "test_data", "loss_fn", "optimizer", "training_step", "name")  # no marker has them


# ---- the settings ------------------------------------------------------------------------------------------------


def configured(config: pytest.Config) -> dict[str, Any]:
    """What command line and ini file set, in the words of `gradcheck_kit.scan`. Raises UsageError."""
    found: dict[str, Any] = {}
    for name, _, _ in OPTIONS:
        key = f"gradcheck_{name.replace('-', '_')}"
        given, shown = config.getoption(key), f"--gradcheck-{name}"
        if given is None:
            shown = key
            try:
                given = config.getini(key)
            except (ValueError, TypeError, pytest.UsageError) as error:
                raise UsageError(f"{key} in {config.inipath or 'the ini file'} does not fit: {error}") from error
        if given is not None:
            found[_IN_SCAN.get(name, name.replace("-", "_"))] = _READERS.get(name, _text)(given, shown)
    return found


def validate(config: pytest.Config) -> TargetScan:
    """What command line and ini file say of a TARGET. Raises pytest.UsageError, which ends the run with a sentence."""
    try:
        return TargetScan.of(configured(config))
    except GradcheckKitError as error:
        raise pytest.UsageError(f"gradcheck-kit: {error}") from None


def _whole(least: int, most: float = math.inf) -> Callable[[Any, str], int]:
    def read(given: Any, shown: str) -> int:
        if not re.fullmatch(r"\s*-?\d+\s*", str(given)) or not least <= int(given) <= most:
            limit = f"{least} to {most}" if math.isfinite(most) else f"{least} or more"
            raise UsageError(f"{shown} is {given!r}; use a whole number, {limit}")
        return int(given)

    return read


def _number(fits: Callable[[float], bool], limit: str) -> Callable[[Any, str], float]:
    def read(given: Any, shown: str) -> float:
        try:
            value = float(given)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and fits(value)):
            raise UsageError(f"{shown} is {given!r}; use a number {limit}")
        return value

    return read


def _one_of(*choices: str, pattern: str = "") -> Callable[[Any, str], str]:
    def read(given: Any, shown: str) -> str:
        if not re.fullmatch(pattern or "|".join(choices), str(given)):
            raise UsageError(f"{shown} is {given!r}; use {', '.join(choices[:-1])} or {choices[-1]}")
        return str(given)

    return read


def _text(given: Any, _: str) -> str:
    return str(given)


def selectors(given: str | Sequence[str], shown: str) -> tuple[str, ...]:
    """Codes and names, also from a text with commas."""
    texts = [given] if isinstance(given, str) else list(given)
    parts = tuple(part.strip() for text in texts for part in str(text).split(","))
    if not all(parts):
        raise UsageError(f"{shown}: a selector is empty; use codes or names such as GK1,vanishing-gradient")
    return parts


def _shapes(given: Sequence[str], shown: str) -> tuple[tuple[int, ...], ...]:
    sizes = [re.split(r"[x,]", text.strip().lower()) for text in given]
    if not all(re.fullmatch(r"0*[1-9][0-9]{0,8}", size.strip()) for shape in sizes for size in shape):
        raise UsageError(f"{shown} is {', '.join(given)}; write a shape without the batch, such as 3x224x224 or 20")
    return tuple(tuple(int(size) for size in shape) for shape in sizes)


def _rule_options(given: Sequence[str], _: str) -> dict[str, dict[str, OptionValue]]:
    return plugins.parse_options(given, plugins.all_rules())


_READERS: dict[str, Callable[[Any, str], Any]] = {
    "steps": _whole(1),
    "batch-size": _whole(1),
    "seed": _whole(0, 2**32 - 1),
    "classes": _whole(1),
    "device": _one_of("cpu", "cuda", "cuda:1", "mps", "auto", pattern=r"cpu|cuda(:\d+)?|mps|auto"),
    "lr": _number(lambda rate: rate > 0, "above 0"),
    "min-accuracy": _number(lambda share: 0 <= share <= 1, "from 0 to 1"),
    "amp": _one_of("bf16", "fp16"),
    "optimizer": _one_of("sgd", "adam", "adamw"),
    "fail-on": _one_of("error", "warning"),
    "quick": lambda given, _: bool(given),
    "select": selectors,
    "ignore": selectors,
    "set": _rule_options,
    "input": _shapes,
}
_IN_SCAN = {"set": "options", "input": "input_shape"}


def marked(item: pytest.Item, allowed: Sequence[str]) -> dict[str, Any]:
    """What the markers of a test set; of each key the closest marker's. Raises UsageError for one there is not."""
    found: dict[str, Any] = {}
    for marker in item.iter_markers("gradcheck"):
        if marker.args:
            raise UsageError(
                f"the marker gradcheck of {item.name} has {marker.args[0]!r} without a name; "
                'write it as gradcheck(select="GK1", steps=20)'
            )
        _known(marker.kwargs, allowed, f"the marker gradcheck of {item.name}")
        found = {**marker.kwargs, **found}
    return found


def _known(given: Mapping[str, Any], allowed: Sequence[str], whose: str) -> None:
    for name in given:
        if name not in allowed:
            near = difflib.get_close_matches(name, allowed, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(allowed)}"
            raise UsageError(f"{whose} has no {name!r}; {hint}")


@dataclass(frozen=True, slots=True)
class TargetScan:
    """How a TARGET is probed and judged."""

    probe: ProbeSettings
    rules: tuple[Rule, ...]
    options: Mapping[str, Mapping[str, OptionValue]]
    fail_on: Severity

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> TargetScan:
        """From settings in the words of `gradcheck_kit.scan`. Raises UsageError."""
        known = plugins.all_rules()
        options = {plugins.find_rule(known, n).name: dict(v) for n, v in (given.get("options") or {}).items()}
        if given.get("min_accuracy") is not None:
            options.setdefault("eval-accuracy", {})["min-accuracy"] = given["min_accuracy"]
        return cls(
            ProbeSettings(**{f.name: given[f.name] for f in fields(ProbeSettings) if f.name in given}),
            plugins.select(known, given.get("select"), given.get("ignore") or ()),
            options,
            given.get("fail_on", "error"),
        )


# ---- the scan ----------------------------------------------------------------------------------------------------


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
    _known(arguments, signature[2:], "gradcheck_scan")
    from_markers = marked(request.node, [name for name in signature if name not in OBJECTS])
    given = {**configured(config), **from_markers, **arguments}
    for name in ("select", "ignore"):
        if given.get(name) is not None:
            given[name] = selectors(given[name], name)
    if isinstance(model, str):
        objects = [name for name in OBJECTS[1:] if name in arguments] + ["train_data"] * (train_data is not None)
        if objects:
            raise UsageError(f"gradcheck_scan({model!r}) is given {objects[0]}; the TARGET brings its own")
        return scan_spec(config, model, TargetScan.of(given))
    mine = {k: v for k, v in given.items() if k not in OF_TARGETS or k in from_markers or k in arguments}
    with sharing(traces(config)):
        return scan(model, train_data, **mine)


def scan_spec(config: pytest.Config, spec: str, settings: TargetScan, rules: Sequence[Rule] | None = None) -> Report:
    """The report on a TARGET, of these rules or of all that the settings select."""
    scan_target = _scanners()[1]
    with sharing(traces(config)), _inside(config.invocation_params.dir), _forgetting(spec):
        return scan_target(
            spec,
            settings.probe,
            rules=settings.rules if rules is None else rules,
            options=settings.options,
            fail_on=settings.fail_on,
        )


def traces(config: pytest.Config) -> SharedTraces:
    return config.stash.setdefault(TRACES, SharedTraces())


def in_short(report: Report, outcome: Outcome) -> str:
    """A finding in a line."""
    cause = next((c for c in report.causes if outcome in report.explained_by(c)), None)
    explained = f" (explained by {cause.rule.code})" if cause else ""
    return f"{outcome.rule.code} {outcome.rule.name}: {first_sentence(outcome.findings[0].message)}{explained}"


def _scanners() -> tuple[Callable[..., Report], Callable[..., Report]]:
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
