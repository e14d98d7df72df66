"""Finds what plugins bring; the built-in rules and other people's come through the same pluggy hook."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

import pluggy

from gradcheck_kit.errors import PluginError, UsageError
from gradcheck_kit.render import FORMATS
from gradcheck_kit.report import Report
from gradcheck_kit.rule import CODE, OptionValue, Remedy, Rule

if TYPE_CHECKING:
    from gradcheck_kit.experiments import Experiment

GROUP = "gradcheck_kit"
BUILT_IN = "gradcheck-kit"
hookimpl = pluggy.HookimplMarker(GROUP)


Format = Callable[[Report], str]


@dataclass(frozen=True, slots=True)
class Plugin:
    """One installed plugin: the distribution it comes from, and what it brought."""

    name: str
    version: str
    rules: tuple[Rule, ...]
    remedies: tuple[Remedy, ...] = ()
    formats: Mapping[str, Format] = field(default_factory=dict)


def load_plugins(disabled: Iterable[str] = ()) -> tuple[Plugin, ...]:
    """Every installed plugin that is not disabled, the built-in one first.

    Raises PluginError, naming the distribution, for one that does not import, has a misspelt hook, or brings a rule
    that cannot run or whose code or name is taken; UsageError for a disabled name that no plugin has.
    """
    from gradcheck_kit import __version__, hookspecs, rules

    disabled, known = set(disabled), {BUILT_IN}
    manager = pluggy.PluginManager(GROUP)
    manager.add_hookspecs(hookspecs)
    versions = {BUILT_IN: __version__}
    manager.register(rules, BUILT_IN)
    for entry in sorted(entry_points(group=GROUP), key=lambda e: e.name):
        if entry.value == rules.__name__:  # ourselves; registered above, also where we are not installed
            continue
        distribution = entry.dist.name if entry.dist else entry.name
        name = f"{distribution}:{entry.name}" if distribution in versions else distribution
        known |= (names := {distribution, entry.name, name})
        if names & disabled:
            continue
        versions[name] = entry.dist.version if entry.dist else ""
        try:
            manager.register(entry.load(), name)
            manager.check_pending()
        except (Exception, SystemExit) as error:
            raise PluginError(
                f"plugin {distribution} does not load: {type(error).__name__}: {error}; "
                f"leave it out with --disable-plugin {distribution}",
                name,
            ) from error
    if unknown := disabled - known:
        raise UsageError(f"no plugin is called {min(unknown)}; there are: {', '.join(sorted(known))}")
    if BUILT_IN in disabled:
        manager.unregister(name=BUILT_IN)
    return _collect(manager, versions)


def _collect(manager: pluggy.PluginManager, versions: dict[str, str]) -> tuple[Plugin, ...]:
    """What every plugin brings, each rule with the remedies that are for it. Raises PluginError as `load_plugins`."""
    plugins = [
        _load(_Brought(manager, name, module), versions.get(name, ""))
        for name, module in manager.list_name_plugin()
        if module is not None
    ]
    taken: dict[str, str] = dict.fromkeys(FORMATS, BUILT_IN)
    for plugin in plugins:
        for key in (*(key for rule in plugin.rules for key in (rule.code, rule.name)), *plugin.formats):
            if key in taken:
                raise PluginError(f"plugin {plugin.name}: {key} is taken by {taken[key]}; choose another", plugin.name)
            taken[key] = plugin.name
    remedies: dict[str, list[Remedy]] = {}
    for plugin in plugins:
        for remedy in plugin.remedies:
            remedies.setdefault(remedy.code, []).append(remedy)
    return tuple(
        replace(plugin, rules=tuple(replace(r, remedies=tuple(remedies.get(r.code, ()))) for r in plugin.rules))
        for plugin in plugins
    )


def _load(brought: _Brought, version: str) -> Plugin:
    """One plugin, everything it brings checked but its experiments, for which torch would have to be imported."""
    name = brought.name
    rules = []
    for found in brought.items("gradcheck_rules"):
        if not isinstance(found, Rule):
            raise PluginError(f"plugin {name}: gradcheck_rules returned {found!r}, which is no Rule; use @rule", name)
        own = replace(found, plugin=name, experiments=brought.experiments)
        own.validate()
        rules.append(own)
    remedies = []
    for found in brought.items("gradcheck_remedies"):
        if not isinstance(found, Remedy):
            raise PluginError(
                f"plugin {name}: gradcheck_remedies returned {found!r}, which is no Remedy; use @remedy", name
            )
        if not re.fullmatch(CODE, found.code):
            raise PluginError(
                f"plugin {name}: a remedy is for {found.code!r}, which is no rule's code; use one such as GK101", name
            )
        remedies.append(replace(found, plugin=name))
    return Plugin(name, version, tuple(rules), tuple(remedies), brought.formats())


@dataclass(frozen=True, slots=True)
class _Brought:
    """What one plugin's own hooks return. One that raises, or returns something else than asked, is a PluginError."""

    manager: pluggy.PluginManager
    name: str
    module: object

    def items(self, hook: str) -> list[Any]:
        return [item for returned in self._returned(hook) for item in returned]

    def formats(self) -> dict[str, Format]:
        found: dict[str, Format] = {}
        for returned in self._returned("gradcheck_formats", Mapping):
            for name, render in returned.items():
                if not (isinstance(name, str) and re.fullmatch(r"[a-z][a-z0-9-]*", name)):
                    raise self._refused(f"calls a format {name!r}; use lower-case letters, digits and hyphens")
                if not callable(render):
                    raise self._refused(f"gives no function for the format {name}; give one from a report to a text")
                found[name] = render
        return found

    def experiments(self) -> tuple[Experiment, ...]:
        """Those of the plugin, checked; this is where it may import torch."""
        from gradcheck_kit.experiments import Experiment

        found = []
        for item in self.items("gradcheck_experiments"):
            if not isinstance(item, Experiment):
                raise self._refused(
                    f"returned {item!r} from gradcheck_experiments, which is no Experiment; "
                    "use gradcheck_kit.experiments.Experiment(fact, run)"
                )
            own = replace(item, plugin=self.name)
            own.validate()
            found.append(own)
        return tuple(found)

    def _returned(self, hook: str, kind: type = Iterable) -> list[Any]:
        found: list[Any] = []
        for caller in self.manager.get_hookcallers(self.module) or []:
            for implementation in caller.get_hookimpls():
                if caller.name != hook or implementation.plugin is not self.module:
                    continue
                try:
                    returned: Any = implementation.function()
                    if not issubclass(type(returned), kind):
                        raise TypeError(f"it returned {returned!r}, not {_returns[kind]}")
                    found.append(returned if kind is Mapping else list(returned))
                except Exception as error:
                    raise PluginError(
                        f"plugin {self.name}: {hook} failed: {type(error).__name__}: {error}", self.name
                    ) from error
        return found

    def _refused(self, reason: str) -> PluginError:
        return PluginError(f"plugin {self.name}: it {reason}", self.name)


_returns: dict[type, str] = {Iterable: "a list", Mapping: "a dict of names and functions"}


def all_rules(disabled: Iterable[str] = ()) -> tuple[Rule, ...]:
    """Every rule of every plugin, by code."""
    return tuple(sorted((r for p in load_plugins(disabled) for r in p.rules), key=lambda r: r.code))


def all_formats(disabled: Iterable[str] = ()) -> dict[str, Format]:
    """Every output format by name, the built-in ones first."""
    return {**FORMATS, **{name: render for p in load_plugins(disabled) for name, render in p.formats.items()}}


def find_rule(rules: Sequence[Rule], key: str) -> Rule:
    """The rule with that code or name. Raises UsageError with the nearest one."""
    for found in rules:
        if key.lower() in (found.code.lower(), found.name):
            return found
    raise UsageError(f"no rule is called {key!r}{_nearest(key, rules)}; `gradcheck-kit rules` lists them all")


def select(
    rules: Sequence[Rule],
    selected: Sequence[str] | None = None,
    ignored: Sequence[str] = (),
    extended: Sequence[str] = (),
) -> tuple[Rule, ...]:
    """The rules that the selectors leave: for each rule the longest matching selector decides, ignore over select.

    A selector is a code, the beginning of one, or a rule's name. Raises UsageError for one that matches no rule.
    """
    for selector in (*(selected or ()), *ignored, *extended):
        if not any(_match(selector, r) for r in rules):
            raise UsageError(
                f"the selector {selector!r} matches no rule{_nearest(selector, rules)}; "
                "`gradcheck-kit rules` lists them all"
            )
    chosen = ["", *extended] if selected is None else [*selected, *extended]
    return tuple(
        r
        for r in rules
        if max((_match(s, r) for s in chosen), default=0) > max((_match(s, r) for s in ignored), default=0)
    )


def _match(selector: str, rule: Rule) -> int:
    """How closely a selector fits: 0 not at all; a name fits as closely as a whole code."""
    if selector == rule.name:
        return len(rule.code) + 1
    return len(selector) + 1 if rule.code.startswith(selector.upper()) else 0


def _nearest(key: str, rules: Sequence[Rule]) -> str:
    names = [n for r in rules for n in (r.name, r.code)]
    near = difflib.get_close_matches(key, names, n=1) or difflib.get_close_matches(key.upper(), names, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def parse_options(settings: Sequence[str], rules: Sequence[Rule]) -> dict[str, dict[str, OptionValue]]:
    """Rule options from texts such as "vanishing-gradient.ratio=1e-4" or "GK101.ratio=1e-4", by rule name.

    Raises UsageError that names the nearest rule or the options there are.
    """
    options: dict[str, dict[str, OptionValue]] = {}
    for setting in settings:
        path, equals, text = setting.partition("=")
        key, dot, name = path.strip().partition(".")
        if not (equals and dot):
            raise UsageError(f"--set {setting!r} is not RULE.OPTION=VALUE; for example vanishing-gradient.ratio=1e-4")
        found = find_rule(rules, key)
        option = next((o for o in found.options if o.name == name.replace("_", "-")), None)
        if option is None:
            there = ", ".join(o.name for o in found.options) or "none"
            raise UsageError(f"rule {found.name} has no option {name!r}; its options: {there}")
        options.setdefault(found.name, {})[option.name] = _parse(text.strip(), option.type, setting)
    return options


def _parse(text: str, kind: type, setting: str) -> OptionValue:
    if kind is bool:
        if text.lower() not in ("true", "false"):
            raise UsageError(f"--set {setting!r}: expected true or false, found {text!r}")
        return text.lower() == "true"
    try:
        value: OptionValue = kind(text)
    except ValueError:
        value = math.nan
    if isinstance(value, float) and math.isnan(value):  # nothing is ever within a limit that is NaN
        raise UsageError(f"--set {setting!r}: expected {_kinds.get(kind, kind.__name__)}, found {text!r}")
    return value


_kinds: dict[type, str] = {int: "a whole number", float: "a number"}
