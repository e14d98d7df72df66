"""The places of findings: which of them the settings ignore, and what of them stays the same from run to run."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from fnmatch import fnmatchcase

from gradcheck_kit.report import Report, with_findings
from gradcheck_kit.rule import Finding


def all_places(finding: Finding) -> tuple[str, ...]:
    """Every place that the finding is about, as it stays from run to run; the one it names is among them."""
    places = finding.places if finding.where in finding.places else (finding.where, *finding.places)
    return tuple(dict.fromkeys(_without_line(place or "") for place in places))


def _without_line(place: str) -> str:
    """Of "relu in encoder (model.py:31)" all but the line, which every edit above it moves."""
    return re.sub(r" \([^()]*:\d+\)$", "", place)


def ignore(report: Report, ignores: Iterable[tuple[str, Iterable[str]]]) -> Report:
    """The report without the findings in ignored modules: pairs of a module's path, with * and ?, and of rule codes.

    A finding that is about several places is left out where all of them are in ignored modules.
    """
    patterns = [(pattern, frozenset(codes)) for pattern, codes in ignores]

    def ignored(code: str, finding: Finding) -> bool:
        own = [pattern for pattern, codes in patterns if code in codes]
        return all(any(_matches(place, pattern) for pattern in own) for place in all_places(finding))

    outcomes = []
    for outcome in report.outcomes:
        out = [ignored(outcome.rule.code, f) for f in outcome.findings]
        kept = tuple(f for f, gone in zip(outcome.findings, out, strict=True) if not gone)
        dropped = tuple(f for f, gone in zip(outcome.findings, out, strict=True) if gone)
        outcomes.append(replace(with_findings(outcome, kept), ignored=dropped) if dropped else outcome)
    return replace(report, outcomes=tuple(outcomes))


def _matches(place: str, pattern: str) -> bool:
    called = re.fullmatch(r"\S+ in (\S+)", place)  # a function, by the module in whose forward it is called
    names = (place, called[1]) if called else (place,)
    return any(name == pattern or fnmatchcase(name, pattern) for name in names)  # equal: "blocks[0]" is no set
