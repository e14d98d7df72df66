"""The settings of the pytest plugin: of call, marker, command line, ini file and pyproject.toml, in this order."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest

from gradcheck_kit import baseline as baselines
from gradcheck_kit import plugins
from gradcheck_kit import settings as project
from gradcheck_kit.errors import GradcheckKitError, UsageError
from gradcheck_kit.pytest_plugin import OPTIONS, TYPED_ONLY
from gradcheck_kit.rule import OptionValue, Rule, Severity
from gradcheck_kit.settings import Settings
from gradcheck_kit.target import ProbeSettings


def configured(config: pytest.Config) -> dict[str, Any]:
    """What command line and ini file set, in the words of `gradcheck_kit.scan`. Raises UsageError."""
    found: dict[str, Any] = {}
    for name, _, _ in OPTIONS:
        key = f"gradcheck_{name.replace('-', '_')}"
        given, shown = config.getoption(key), f"--gradcheck-{name}"
        if given is None and name not in TYPED_ONLY:
            shown = key
            try:
                given = config.getini(key)
            except (ValueError, TypeError, pytest.UsageError) as error:
                raise UsageError(f"{key} does not fit: {error}") from error
        if given is not None:
            found[_IN_SCAN.get(name, name.replace("-", "_"))] = _READERS.get(name, _text)(given, shown)
            if name == "baseline":  # as it was typed, or as it stands in the file
                folder = config.rootpath if shown == key else config.invocation_params.dir
                found[name] = folder / Path(found[name]).expanduser()
    return found


def validate(config: pytest.Config, targets: Sequence[str] = ()) -> None:
    """Raise pytest.UsageError, which ends the run with a sentence, if the settings mean nothing for these TARGETs."""
    try:
        given = configured(config)
        for folder in {project.folder_of(target) for target in targets} or {config.rootpath}:
            scan = Scan.of(given, folder)
            if scan.updates and config.getoption("numprocesses", None):
                raise UsageError("--gradcheck-update-baseline writes one file, but -n makes several writers; use -n 0")
            if scan.baseline is not None and scan.baseline.exists():
                baselines.load(scan.baseline)
            elif scan.baseline is not None and not scan.updates:
                name = baselines.shown(scan.baseline)
                raise UsageError(f"there is no baseline {name}; write it with --gradcheck-update-baseline")
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


def _flag(given: Any, _: str) -> bool:
    return bool(given)


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
    "quick": _flag,
    "update-baseline": _flag,
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
        refuse_unknown(marker.kwargs, allowed, f"the marker gradcheck of {item.name}")
        found = {**marker.kwargs, **found}
    return found


def refuse_unknown(given: Mapping[str, Any], allowed: Sequence[str], whose: str) -> None:
    """Raise UsageError for a name that is not allowed, with the nearest that is."""
    for name in given:
        if name not in allowed:
            near = difflib.get_close_matches(name, allowed, n=1)
            hint = f"did you mean {near[0]}?" if near else f"it has {', '.join(allowed)}"
            raise UsageError(f"{whose} has no {name!r}; {hint}")


@dataclass(frozen=True, slots=True)
class Scan:
    """How something is probed and judged."""

    probe: ProbeSettings
    rules: tuple[Rule, ...]
    options: Mapping[str, Mapping[str, OptionValue]]
    fail_on: Severity
    project: Settings  # of pyproject.toml; its baseline is below
    baseline: Path | None
    updates: bool  # the baseline

    @classmethod
    def of(cls, given: Mapping[str, Any], folder: Path) -> Scan:
        """From settings in the words of `gradcheck_kit.scan`, and those that pyproject.toml has for a folder.

        Raises UsageError or SettingsError.
        """
        path = project.find(folder)
        known = project.known_rules(path)
        file = Settings() if path is None else project.load(path, known)
        options = {name: dict(values) for name, values in file.options.items()}
        for name, values in (given.get("options") or {}).items():
            options.setdefault(plugins.find_rule(known, name).name, {}).update(values)
        if given.get("min_accuracy") is not None:
            options.setdefault("eval-accuracy", {})["min-accuracy"] = given["min_accuracy"]
        select, ignore = (selectors(given.get(name) or (), name) for name in ("select", "ignore"))
        baseline, updates = given.get("baseline") or file.baseline, bool(given.get("update_baseline"))
        if updates and baseline is None:
            raise UsageError(
                "--gradcheck-update-baseline needs a file; add --gradcheck-baseline gradcheck-baseline.json"
            )
        names = [field.name for field in fields(ProbeSettings)]
        set_here = {name: given[name] for name in names if given.get(name) is not None}
        set_there = {name: value for name in names if (value := getattr(file, name, None)) is not None}
        if "data_dir" in set_there:
            set_there["data_dir"] = str(set_there["data_dir"])
        probe = ProbeSettings(**{**set_there, **set_here})
        if probe.steps < 1:
            raise UsageError(f"steps is {probe.steps}; use at least 1")
        return cls(
            probe,
            project.selected(known, file, select, ignore, ()),
            options,
            given.get("fail_on") or file.fail_on or "error",
            file,
            baseline,
            updates,
        )
