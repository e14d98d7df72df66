"""Baselines: a file of findings that are known, so that only new ones fail.

    known = load(Path("gradcheck-baseline.json"))
    report = compare(report, known)

A finding is known by its rule, its place and its target, never by a number. One file serves many targets; their paths
are relative to its folder, so that it works from any other folder and on any other machine.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gradcheck_kit.errors import BaselineError
from gradcheck_kit.places import all_places
from gradcheck_kit.report import RAN, Comparison, Fingerprint, Report, with_findings
from gradcheck_kit.rule import Finding, Rule
from gradcheck_kit.trace import write_atomically

FORMAT = "gradcheck-kit baseline"
SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Baseline:
    """What is known of each target, and the file that says so."""

    path: Path
    targets: Mapping[str, tuple[Fingerprint, ...]] = field(default_factory=dict)


def compare(report: Report, baseline: Baseline) -> Report:
    """The report with what the baseline knows marked as known; it says which of its entries are stale.

    Stale is an entry whose rule ran and found nothing there. Of a finding about several places one is enough: which of
    them are found may differ by chance. Each entry is good for one finding.
    """
    stale: list[Fingerprint] = []
    outcomes = []
    left: dict[str, list[Fingerprint]] = {}
    for entry in baseline.targets.get(_target(report, baseline.path), ()):
        left.setdefault(entry.code, []).append(entry)
    for outcome in report.outcomes:
        entries = left.get(outcome.rule.code, [])
        findings = []
        for finding in outcome.findings:
            found = max(entries, key=lambda e: _shared(e, finding), default=None)
            if found is not None and _shared(found, finding):
                entries.remove(found)
                findings.append(replace(finding, known=True))
            else:
                findings.append(finding)
        outcomes.append(with_findings(outcome, tuple(findings)) if findings else outcome)
        stale += entries if outcome.status in RAN else []
    comparison = Comparison(shown(baseline.path), tuple(stale))
    return replace(report, outcomes=tuple(outcomes), baseline=comparison)


def _shared(entry: Fingerprint, finding: Finding) -> float:
    """How much of their places an entry and a finding have in common, 0 to 1."""
    places = set(all_places(finding))
    return len(places & set(entry.places)) / len(places | set(entry.places))


def updated(baseline: Baseline, report: Report) -> Baseline:
    """The baseline with what the report found. Other targets, and rules that did not run, keep what they have."""
    target = _target(report, baseline.path)
    ran = {o.rule.code for o in report.outcomes if o.status in RAN}
    kept = [entry for entry in baseline.targets.get(target, ()) if entry.code not in ran]
    found = [_fingerprint(o.rule, f) for o in report.outcomes for f in o.findings]
    return replace(baseline, targets={**baseline.targets, target: tuple(sorted([*kept, *found], key=_order))})


def _fingerprint(rule: Rule, finding: Finding) -> Fingerprint:
    return Fingerprint(rule.code, rule.name, tuple(sorted(all_places(finding))))


def _order(entry: Fingerprint) -> tuple[str, tuple[str, ...]]:
    return entry.code, entry.places


def _target(report: Report, path: Path) -> str:
    return target_key(report.trace.header.name, path.parent.resolve())


def target_key(name: str, folder: Path) -> str:
    """A target as a baseline in `folder` has it: "src/model.py:net", with the file's path relative to the folder.

    The file is looked for from the current folder upwards, then from the baseline's: a trace does not tell where it
    was made.
    """
    source, colon, model = name.rpartition(":")
    if not colon:
        source, model = name, ""
    if not source.endswith(".py"):
        return name  # package.module:name, torchvision:name, or the name of a class
    typed = Path(source).expanduser()
    here = Path.cwd()
    folders = (here, *here.parents, folder, *folder.parents)
    file = next((path for parent in folders if (path := parent / typed).is_file()), None)
    if file is None:
        return os.path.normpath(source).replace(os.sep, "/") + colon + model
    return relative(file.resolve(), folder.resolve()) + colon + model


def relative(path: Path, folder: Path) -> str:
    """The path from the folder, with slashes; as it is where there is no way from one to the other."""
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # another drive of Windows
        return path.as_posix()


def shown(path: Path) -> str:
    """The path as a person in the current folder would type it."""
    way = relative(path.absolute(), Path.cwd())
    return str(path) if way.startswith("../../../") else way


# ---- the file ----------------------------------------------------------------------------------------------------


def load(path: Path) -> Baseline:
    """Read a baseline. Raises BaselineError for a file that is missing, damaged, foreign, or newer than this one."""
    name = shown(path)
    if path.exists() and not path.is_file():  # a folder; a pipe, which is read once and may wait for ever
        raise BaselineError(f"the baseline {name} is no file; name a file that --write-baseline wrote")
    try:
        text = path.read_bytes().decode()
    except FileNotFoundError as error:
        raise BaselineError(f"there is no baseline {name}; write it with --write-baseline {name}") from error
    except OSError as error:
        raise BaselineError(f"cannot read the baseline {name}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BaselineError(f"{name} is {_FOREIGN}") from error
    try:
        content = json.loads(text, object_pairs_hook=_without_doubles)
    except (ValueError, RecursionError) as error:
        if FORMAT not in text:
            raise BaselineError(f"{name} is {_FOREIGN}") from error
        raise _damaged(name, str(error)) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise BaselineError(f"{name} is {_FOREIGN}")
    schema = content.get("schema")
    if not isinstance(schema, int):
        raise _damaged(name, "it has no schema")
    if schema > SCHEMA:
        raise BaselineError(
            f"{name} has baseline schema {schema}, this version reads up to {SCHEMA}; "
            "update gradcheck-kit: pip install -U gradcheck-kit"
        )
    try:
        targets = {target: tuple(map(_entry, entries)) for target, entries in content["targets"].items()}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise _damaged(name, f"{error} is missing" if isinstance(error, KeyError) else str(error)) from error
    return Baseline(path, targets)


_FOREIGN = "no baseline of gradcheck-kit; name a file that --write-baseline wrote, or a new one"


def _damaged(name: str, what: str) -> BaselineError:
    again = f"mend it, or delete it and write it again with --write-baseline {name}"
    return BaselineError(f"the baseline {name} is damaged: {what}; {again}")


def _without_doubles(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """A merge may leave a target twice; the last one would win unseen."""
    names = [name for name, _ in pairs]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"{twice!r} is there twice")
    return dict(pairs)


def _entry(value: Any) -> Fingerprint:
    code, rule, places = value["code"], value["rule"], value["places"]
    if not (isinstance(code, str) and isinstance(rule, str)):
        raise ValueError(f"{code!r} is no rule's code")  # noqa: TRY004  # as for any damage
    if not isinstance(places, list) or not places or not all(isinstance(place, str) for place in places):
        raise ValueError(f"the places of {code} are no list of texts")
    return Fingerprint(code, rule, tuple(places))


def save(baseline: Baseline) -> None:
    """Write the file as a whole or not at all: sorted, one finding a line. Raises BaselineError when it cannot be."""
    try:
        write_atomically(baseline.path, _text(baseline))
    except OSError as error:
        raise BaselineError(f"cannot write the baseline {shown(baseline.path)}: {error.strerror}") from error


def _text(baseline: Baseline) -> str:
    targets = [
        f"    {json.dumps(target, ensure_ascii=False)}: [\n"
        + ",\n".join(f"      {_json(entry)}" for entry in entries)
        + "\n    ]"
        for target, entries in sorted(baseline.targets.items())
        if entries
    ]
    listed = "{\n" + ",\n".join(targets) + "\n  }" if targets else "{}"
    return f'{{\n  "format": "{FORMAT}",\n  "schema": {SCHEMA},\n  "targets": {listed}\n}}\n'


def _json(entry: Fingerprint) -> str:
    return json.dumps({"code": entry.code, "rule": entry.rule, "places": list(entry.places)}, ensure_ascii=False)
