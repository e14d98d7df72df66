"""Rules: pure functions of facts, and what they say."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_type_hints

from gradcheck_kit.errors import PluginError

Severity = Literal["error", "warning"]
OptionValue = bool | int | float | str | None

CODE = r"[A-Z]{2,5}\d{3}"
GROUPS = {
    "1": "gradient flow",
    "2": "optimisation",
    "3": "initialisation",
    "4": "model and loss",
    "5": "data",
    "6": "evaluation",
    "7": "numerics",
    "8": "distributed",
}


class Skip(Exception):  # noqa: N818  # it is no error: it is how a rule says that it did not look
    """Raised by a rule that has nothing to look at, with the reason as a clause: "the model has no activation"."""


@dataclass(frozen=True, slots=True)
class Bar:
    """One line of a depth profile."""

    place: str
    kind: str
    value: float | None


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing wrong in one place.

    `message` gives the measured value and the limit; `fixes` are imperatives that name the user's own layers.
    `severity` overrides the rule's own: a symptom without harm is a warning.
    `places` are all the places it is about where `where` is one of several, the worst or the first: which one that is
    may differ from seed to seed. Baselines and per-module ignores look at all of them.
    `known` is set by a baseline and never by a rule: it was there before.
    """

    where: str
    message: str
    evidence: Mapping[str, Any]
    fixes: tuple[str, ...]
    severity: Severity | None = None
    profile: tuple[Bar, ...] = ()
    places: tuple[str, ...] = ()
    known: bool = False


def listed(names: Iterable[str], most: int = 9) -> str:
    """Names for a sentence: "0, 2, 4 and 6"; long lists lose their middle."""
    names = list(dict.fromkeys(names))
    if len(names) > most:
        return ", ".join(names[: most - 3]) + f", ... (+{len(names) - most + 1}), " + ", ".join(names[-2:])
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


Check = Callable[..., Iterator[Finding]]
Write = Callable[[Finding, Any], str | None]


@dataclass(frozen=True, slots=True)
class Remedy:
    """One more fix for what a rule finds, the rule being anybody's: `write(finding, trace)` is its text, or None."""

    code: str
    write: Write
    plugin: str = "gradcheck-kit"

    def text(self, finding: Finding, trace: Any) -> str | None:
        """The fix; where `write` fails, a sentence that says so and whose it is: the finding stands without it."""
        try:
            text = self.write(finding, trace)
        except Exception as error:  # noqa: BLE001  # whatever a remedy does wrong, the finding is still reported
            return f"(A remedy of {self.plugin} for {self.code} failed: {type(error).__name__}: {error}.)"
        return None if text is None else str(text)


@dataclass(frozen=True, slots=True)
class Option:
    name: str  # with hyphens, as it is typed
    type: type
    default: OptionValue
    optional: bool  # None is allowed


@dataclass(frozen=True, slots=True)
class Rule:
    """A check with its code and name.

    `needs` are the facts it is called with, in order; `uses` are facts it takes as None where they are absent.
    `explains` names the codes whose findings are symptoms of this one, `explained_by` those that this one is a symptom
    of: a plugin says there which rules of others come first.
    """

    code: str
    name: str
    check: Check
    needs: tuple[type, ...]
    uses: tuple[type, ...] = ()
    explains: tuple[str, ...] = ()
    explained_by: tuple[str, ...] = ()
    severity: Severity = "error"
    plugin: str = "gradcheck-kit"
    remedies: tuple[Remedy, ...] = ()  # of any plugin
    experiments: Callable[[], Iterable[Any]] = field(default=tuple, compare=False, repr=False)  # of its own plugin

    @property
    def summary(self) -> str:
        return inspect.cleandoc(self.check.__doc__ or "").split("\n\n", maxsplit=1)[0].replace("\n", " ")

    @property
    def options(self) -> tuple[Option, ...]:
        hints = get_type_hints(self.check)
        found = []
        for parameter in inspect.signature(self.check).parameters.values():
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
                types = getattr(hints[parameter.name], "__args__", (hints[parameter.name],))
                plain = next(t for t in types if t is not type(None))
                found.append(
                    Option(parameter.name.replace("_", "-"), plain, parameter.default, optional=type(None) in types)
                )
        return tuple(found)

    def page(self) -> str:
        """The rule's page: pages/CODE.md beside the file that defines the rule, or its docstring.

        Third parties lay their pages out in the same way.
        """
        path = Path(inspect.getfile(self.check)).parent / "pages" / f"{self.code}.md"
        return path.read_text("utf-8") if path.is_file() else inspect.cleandoc(self.check.__doc__ or self.name)

    def validate(self) -> None:
        """Raise PluginError, naming the plugin, if this is not a rule that can run."""

        def refuse(reason: str) -> None:
            raise PluginError(f"plugin {self.plugin}: rule {self.name} ({self.code}) {reason}", self.plugin)

        if not re.fullmatch(CODE, self.code):
            refuse("has a malformed code; use two to five capital letters and three digits, such as GK101")
        if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", self.name):
            refuse("has a malformed name; use lower-case words joined by hyphens")
        if not (self.check.__doc__ or "").strip():
            refuse("has no docstring; its first sentence is what `rules` prints")
        parameters = inspect.signature(self.check).parameters.values()
        positional = [p for p in parameters if p.kind is not inspect.Parameter.KEYWORD_ONLY]
        if len(positional) != len(self.needs) + len(self.uses):
            refuse(
                f"takes {len(positional)} positional parameters but names {len(self.needs) + len(self.uses)} facts "
                "in needs and uses; one parameter per fact"
            )
        for parameter in parameters:
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY and not isinstance(
                parameter.default, bool | int | float | str | None
            ):
                refuse(f"has the option {parameter.name} whose default is not a plain value; use a number or a text")
        try:
            strange = [option.name for option in self.options if option.type not in (bool, int, float, str)]
        except (NameError, KeyError, AttributeError, TypeError, StopIteration) as error:
            strange = [str(error)]
        if strange:
            refuse(f"has an option without a plain type: {strange[0]}; annotate it bool, int, float or str")


def remedy(code: str) -> Callable[[Write], Remedy]:
    """Make a Remedy of a function of a finding and the trace, for the rule with that code."""
    return lambda write: Remedy(code, write)


def rule(
    code: str,
    *,
    needs: Iterable[type],
    uses: Iterable[type] = (),
    explains: Iterable[str] = (),
    explained_by: Iterable[str] = (),
    severity: Severity = "error",
) -> Callable[[Check], Rule]:
    """Make a Rule of a function; its name is the rule's, with hyphens; its keyword-only parameters are options."""

    def make(check: Check) -> Rule:
        name = check.__name__.replace("_", "-")
        return Rule(
            code, name, check, tuple(needs), tuple(uses), tuple(explains), tuple(explained_by), severity=severity
        )

    return make
