"""Settings of a project: [tool.gradcheck-kit] in its pyproject.toml.

    path = find(Path("src"))                      # the nearest pyproject.toml upwards that has the table, or None
    rules = known_rules(path)                     # without the plugins that it disables
    settings = load(path, rules) if path else Settings()
    report = apply(report, settings)              # leaves out what it ignores, marks what its baseline knows

None is a setting that the file does not have. The command line reads it, and the pytest plugin; `gradcheck_kit.scan`
does not.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import math
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from gradcheck_kit import baseline as baselines
from gradcheck_kit import places, plugins
from gradcheck_kit.baseline import shown
from gradcheck_kit.errors import SettingsError, UsageError
from gradcheck_kit.report import Report
from gradcheck_kit.rule import Option, OptionValue, Rule, Severity

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

NAME = "pyproject.toml"
TABLE = "tool.gradcheck-kit"
DEVICE = r"cpu|cuda(:\d+)?|mps|auto"


@dataclass(frozen=True, slots=True)
class Settings:
    """What a project sets. Paths are absolute; `options` are by rule name, `per_module_ignores` by rule codes."""

    path: Path | None = None
    select: tuple[str, ...] | None = None
    ignore: tuple[str, ...] | None = None
    extend_select: tuple[str, ...] | None = None
    disable_plugins: tuple[str, ...] | None = None
    fail_on: Severity | None = None
    baseline: Path | None = None
    steps: int | None = None
    batch_size: int | None = None
    seed: int | None = None
    device: str | None = None
    amp: Literal["bf16", "fp16"] | None = None
    data_dir: Path | None = None
    options: Mapping[str, Mapping[str, OptionValue]] = field(default_factory=dict)
    per_module_ignores: tuple[tuple[str, tuple[str, ...]], ...] = ()


# ---- the keys ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Key:
    """One key of the table: what it takes, in words, and whether a value is that."""

    takes: str
    fits: Callable[[Any], bool]


def _whole(least: int, most: float = math.inf) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1


def _text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_text, value))


def _one_of(*words: str) -> _Key:
    return _Key(" or ".join(map(json.dumps, words)), lambda value: value in words)


_SELECTORS = _Key('a list of codes, their beginnings or names, such as ["GK1", "dead-units"]', _texts)
_KEYS: dict[str, _Key] = {
    "select": _SELECTORS,
    "ignore": _SELECTORS,
    "extend-select": _SELECTORS,
    "disable-plugins": _Key('a list of plugins, such as ["acme-pack"]', _texts),
    "fail-on": _one_of("error", "warning"),
    "baseline": _Key('a path, such as "gradcheck-baseline.json"', _text),
    "steps": _Key("a whole number of at least 1, such as 60", _whole(1)),
    "batch-size": _Key("a whole number of at least 1, such as 64", _whole(1)),
    "seed": _Key("a whole number from 0 to 4294967295", _whole(0, 2**32 - 1)),
    "device": _Key(
        '"cpu", "cuda", "cuda:1", "mps" or "auto"', lambda v: isinstance(v, str) and bool(re.fullmatch(DEVICE, v))
    ),
    "amp": _one_of("bf16", "fp16"),
    "data-dir": _Key('a path, such as "data"', _text),
    "min-accuracy": _Key("a number from 0 to 1, such as 0.8", _share),
    "rules": _Key("tables, such as [tool.gradcheck-kit.rules.dead-units]", lambda v: isinstance(v, dict)),
    "per-module-ignores": _Key('a table of lines such as "encoder.*" = ["GK104"]', lambda v: isinstance(v, dict)),
}
_PATHS = ("baseline", "data-dir")


# ---- the file ----------------------------------------------------------------------------------------------------


def find(folder: Path) -> Path | None:
    """The nearest pyproject.toml that has our table, from the folder upwards; one without it changes nothing.

    Raises SettingsError for one on the way that is no valid TOML.
    """
    folder = folder.resolve()
    return next((path for parent in (folder, *folder.parents) if _table(path := parent / NAME) is not None), None)


def known_rules(path: Path | None, disabled: Sequence[str] = ()) -> tuple[Rule, ...]:
    """Every rule, but those of plugins that are disabled: by `disabled`, or if it is empty by the file.

    Raises SettingsError where the file disables a plugin that there is not.
    """
    if disabled or path is None:
        return plugins.all_rules(disabled)
    listed = _checked(path, _table(path) or {}).get("disable-plugins", [])
    try:
        return plugins.all_rules(listed)
    except UsageError as error:
        raise _wrong(path, "disable-plugins", f": {error}") from error


def load(path: Path, rules: Sequence[Rule]) -> Settings:
    """The settings in a pyproject.toml. Raises SettingsError, naming file and key, for anything that it cannot mean.

    `rules` are those that its selectors and tables may name, as known_rules has them.
    """
    table = _checked(path, _table(path) or {})
    for key in ("select", "ignore", "extend-select"):
        _codes(path, key, table.get(key, []), rules)
    plain: dict[str, Any] = {
        key.replace("-", "_"): tuple(value) if isinstance(value, list) else value
        for key, value in table.items()
        if key not in (*_PATHS, "rules", "per-module-ignores", "min-accuracy")
    }
    for key in _PATHS:
        if key in table:
            plain[key.replace("-", "_")] = path.absolute().parent / Path(table[key]).expanduser()
    ignores = table.get("per-module-ignores", {})
    return Settings(
        path=path.absolute(),
        options=_options(path, table, rules),
        per_module_ignores=tuple(
            (pattern, _codes(path, f"per-module-ignores.{json.dumps(pattern)}", selectors, rules))
            for pattern, selectors in ignores.items()
        ),
        **plain,
    )


def _table(path: Path) -> dict[str, Any] | None:
    """The file's own table; None when there is none, or no file."""
    try:
        content = tomllib.loads(path.read_bytes().decode()) if path.is_file() else {}
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise SettingsError(f"{shown(path)} is no valid TOML: line {line} is not UTF-8; save it as UTF-8") from error
    except (ValueError, RecursionError) as error:  # not TOML, or a number or nesting beyond bounds
        raise SettingsError(f"{shown(path)} is no valid TOML: {error}; correct that line") from error
    except OSError as error:
        raise SettingsError(f"cannot read {shown(path)}: {error.strerror}") from error
    tool = content.get("tool", {})
    table = tool.get("gradcheck-kit") if isinstance(tool, dict) else None
    if isinstance(tool, dict) and (near := tool.keys() & {"gradcheck_kit", "gradcheckkit"}):
        raise SettingsError(f"{shown(path)}: the table tool.{min(near)} is called {TABLE}; rename it")
    if table is not None and not isinstance(table, dict):
        raise SettingsError(f"{shown(path)}: {TABLE} is {_shown(table)}; make it a table: [{TABLE}]")
    return table


def _checked(path: Path, table: dict[str, Any]) -> dict[str, Any]:
    """The table, with known keys and values of their types only."""
    for key, value in table.items():
        if key not in _KEYS:
            raise _wrong(path, key, " is no setting", _nearest(key, _KEYS))
        if not _KEYS[key].fits(value):
            raise _wrong(path, key, f" is {_shown(value)}; it takes {_KEYS[key].takes}")
    return table


def _codes(path: Path, key: str, selectors: Any, rules: Sequence[Rule]) -> tuple[str, ...]:
    """The codes of the rules that the selectors name."""
    if not _texts(selectors):
        raise _wrong(path, key, f" is {_shown(selectors)}; it takes {_SELECTORS.takes}")
    try:
        return tuple(rule.code for rule in plugins.select(rules, selectors))
    except UsageError as error:
        raise _wrong(path, key, f": {error}") from error


def _options(path: Path, table: dict[str, Any], rules: Sequence[Rule]) -> dict[str, dict[str, OptionValue]]:
    """Rule options, checked against the rules' signatures."""
    options: dict[str, dict[str, OptionValue]] = {}
    for key, rule, name, value in _set_options(path, table, rules):
        there = {option.name: option for option in rule.options}
        if name not in there:
            hint = _nearest(name, there) if there else "it has none"
            raise _wrong(path, key, f" is no option of {rule.code} {rule.name}", hint)
        own = options.setdefault(rule.name, {})
        if name in own:
            raise _wrong(path, key, f" sets {name} of {rule.code} {rule.name} a second time; leave one of them out")
        own[name] = _value(path, key, value, there[name])
    return options


def _set_options(path: Path, table: dict[str, Any], rules: Sequence[Rule]) -> Iterator[tuple[str, Rule, str, Any]]:
    """Key, rule, option and value of each that the file sets."""
    for name, values in table.get("rules", {}).items():
        key = f"rules.{name}"
        try:
            rule = plugins.find_rule(rules, name)
        except UsageError as error:
            raise _wrong(path, key, f": {error}") from error
        if not isinstance(values, dict):
            raise _wrong(path, key, f" is {_shown(values)}; make it a table of options: [{TABLE}.{key}]")
        for option, value in values.items():
            yield f"{key}.{option}", rule, option, value
    judge = next((rule for rule in rules if rule.name == "eval-accuracy"), None)
    if "min-accuracy" in table and judge is not None:
        yield "min-accuracy", judge, "min-accuracy", table["min-accuracy"]


def _value(path: Path, key: str, value: Any, option: Option) -> OptionValue:
    takes = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}[option.type]
    fits = isinstance(value, int | float if option.type is float else option.type)
    if isinstance(value, bool) and option.type is not bool:
        fits = False
    if not fits or (isinstance(value, float) and math.isnan(value)):  # nothing is ever within a limit that is NaN
        default = "" if option.default is None else f", by default {_shown(option.default)}"
        raise _wrong(path, key, f" is {_shown(value)}; it takes {takes}{default}")
    return float(value) if option.type is float else value


def _wrong(path: Path, key: str, what: str, hint: str = "") -> SettingsError:
    return SettingsError(f"{shown(path)}: {TABLE}.{key}{what}" + (f"; {hint}" if hint else ""))


def _nearest(name: str, there: Iterable[str]) -> str:
    there = list(there)
    near = difflib.get_close_matches(name.replace("_", "-").lower(), there, n=1)
    return f"did you mean {near[0]}?" if near else f"there are: {', '.join(there)}"


def _shown(value: Any) -> str:
    """A value as TOML has it, if need be shortened."""
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


# ---- what it does ------------------------------------------------------------------------------------------------


def folder_of(target: str) -> Path:
    """Where to look for settings: a file's folder, or for a module and a trace the current one."""
    for source in (target, target.rpartition(":")[0]):
        with contextlib.suppress(OSError, RuntimeError):  # too long for a path; the home of nobody
            if (path := Path(source).expanduser()).is_file():
                return path.resolve().parent
    return Path.cwd()


def selected(
    known: Sequence[Rule], settings: Settings, select: Sequence[str], ignore: Sequence[str], extended: Sequence[str]
) -> tuple[Rule, ...]:
    """The rules that the command line and the file leave.

    Selectors that are typed replace the file's: --select also its extend-select, and what it ignores by the same word.
    """
    typed = {_code(selector, known) for selector in (*select, *extended)}
    ignored = ignore or [selector for selector in settings.ignore or () if _code(selector, known) not in typed]
    if select:
        return plugins.select(known, select, ignored, extended)
    return plugins.select(known, settings.select, ignored, extended or settings.extend_select or ())


def _code(selector: str, known: Sequence[Rule]) -> str:
    """A selector in one spelling: a rule's name is its code."""
    return next((rule.code for rule in known if rule.name == selector), selector.upper())


def apply(report: Report, settings: Settings) -> Report:
    """The report without what the settings ignore, and with what their baseline knows marked. Raises BaselineError."""
    if settings.path is not None:
        report = replace(report, settings=shown(settings.path))
    report = places.ignore(report, settings.per_module_ignores)
    return report if settings.baseline is None else baselines.compare(report, baselines.load(settings.baseline))


def in_force(settings: Settings, defaults: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Name, origin and value of every setting. `defaults` are by the names of the fields of Settings."""
    file = "" if settings.path is None else shown(settings.path)
    for each in fields(Settings):
        key, value = each.name.replace("_", "-"), getattr(settings, each.name)
        if key not in _KEYS:
            continue
        if each.name == "per_module_ignores":
            for pattern, codes in value:
                yield f"{key}.{json.dumps(pattern)}", file, _plain(codes)
        elif value is None:
            yield key, "default", _plain(defaults.get(each.name))
        else:
            yield key, file, _plain(value)
    for rule, options in settings.options.items():
        for option, value in options.items():
            yield f"rules.{rule}.{option}", file, _plain(value)


def _plain(value: Any) -> str:
    if value is None:
        return "(not set)"
    if isinstance(value, tuple):
        return ", ".join(value) or "(none)"
    return shown(value) if isinstance(value, Path) else str(value).lower() if isinstance(value, bool) else str(value)
