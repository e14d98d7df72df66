"""What the rules said about one trace, and which findings are the cause of the others."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from gradcheck_kit.rule import Finding, OptionValue, Rule, Severity, Skip
from gradcheck_kit.trace import Header, Trace, encode

Status = Literal["passed", "failed", "warned", "skipped", "error"]
RAN: tuple[Status, ...] = ("passed", "failed", "warned")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one rule said. `reason` is why it was skipped, or how it crashed.

    Findings that a baseline knows are among `findings`, marked so; `ignored` are those that the settings left out. The
    status is that of the other findings: a rule that found nothing but such has passed.
    """

    rule: Rule
    status: Status
    findings: tuple[Finding, ...] = ()
    reason: str = ""
    traceback: BaseException | None = field(default=None, compare=False, repr=False)
    ignored: tuple[Finding, ...] = ()

    @property
    def hit(self) -> bool:
        return self.status in ("failed", "warned")

    @property
    def new(self) -> tuple[Finding, ...]:
        """The findings that no baseline knows: all of them, where there is none."""
        return tuple(f for f in self.findings if not f.known)

    @property
    def known(self) -> tuple[Finding, ...]:
        return tuple(f for f in self.findings if f.known)

    @property
    def silenced(self) -> Literal["", "known", "ignored"]:
        """Why a rule that found something is no hit; "" when it is one, or found nothing."""
        if self.hit or self.status not in RAN:
            return ""
        return "known" if self.findings else "ignored" if self.ignored else ""


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """What stays of a finding from run to run: its rule and where it is, and no measured value."""

    code: str
    rule: str
    places: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The baseline that marked what is known. `stale` are its entries that nothing was found for any more."""

    path: str
    stale: tuple[Fingerprint, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """All outcomes, in catalogue order. `str(report)` is the text that the command line prints."""

    trace: Trace
    outcomes: tuple[Outcome, ...]
    seconds: float
    fail_on: Severity = "error"
    settings: str = ""  # the file whose settings were in force
    baseline: Comparison | None = None

    def of(self, status: Status) -> tuple[Outcome, ...]:
        return tuple(o for o in self.outcomes if o.status == status)

    @property
    def passed(self) -> bool:
        """Whether the model got a verdict and nothing is at or above `fail_on`."""
        return self.exit_status == 0

    @property
    def failed(self) -> tuple[Outcome, ...]:
        """The outcomes at or above `fail_on`."""
        return tuple(o for o in self.outcomes if o.status == "failed" or (o.hit and self.fail_on == "warning"))

    @property
    def exit_status(self) -> int:
        """0: nothing failed. 1: a finding at or above `fail_on`. 2: no verdict: a rule crashed, or none ran."""
        if self.of("error") or not any(o.status in RAN for o in self.outcomes):
            return 2
        return 1 if self.failed else 0

    @property
    def causes(self) -> tuple[Outcome, ...]:
        """The failed or warned rules that no other one explains, most likely root cause first."""
        return causes(self.outcomes)

    def explained_by(self, outcome: Outcome) -> tuple[Outcome, ...]:
        """The hits that this one explains."""
        below = _reach(outcome.rule.code, self.outcomes) - {outcome.rule.code}
        return tuple(o for o in self.outcomes if o.hit and o.rule.code in below)

    def silenced_causes(self, outcome: Outcome) -> tuple[Outcome, ...]:
        """What explains this one and is no headline, for its findings are known or ignored."""
        return tuple(o for o in self.outcomes if o.silenced and outcome.rule.code in _reach(o.rule.code, self.outcomes))

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values, schema 1."""
        summary: dict[str, Any] = {status: len(self.of(status)) for status in get_args(Status)}
        for name, count in self.set_aside.items():
            summary |= {name: count} if count else {}
        header = self.trace.header
        target = encode(header)
        del target["sources"]  # each finding has its own
        return {
            "schema": 1,
            "tool": {"name": "gradcheck-kit", "version": header.tool_version},
            "target": target,
            "summary": {**summary, "seconds": round(self.seconds, 2)},
            **({"settings": self.settings} if self.settings else {}),
            **({"baseline": encode(self.baseline)} if self.baseline else {}),
            "causes": [{"code": o.rule.code, "rule": o.rule.name} for o in self.causes],
            "outcomes": [_outcome(o, header, self.silenced_causes(o) if o.hit else ()) for o in self.outcomes],
        }

    @property
    def set_aside(self) -> dict[str, int]:
        """How many findings a baseline knows, and how many the settings left out."""
        return {
            "known": sum(len(o.known) for o in self.outcomes),
            "ignored": sum(len(o.ignored) for o in self.outcomes),
        }

    def to_json(self, indent: int | None = 2) -> str:
        """The report as strict JSON in ASCII: NaN and infinities are the strings "nan", "inf" and "-inf"."""
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False)

    def raise_for_failures(self) -> None:
        """Raise AssertionError, reading like the text report, unless the verdict is a pass."""
        if not self.passed:
            raise AssertionError("\n" + str(self))

    def __str__(self) -> str:
        from gradcheck_kit.render.text import render_text

        return render_text(self)


def _outcome(outcome: Outcome, header: Header, silenced: Sequence[Outcome]) -> dict[str, Any]:
    explained = [{"code": o.rule.code, "rule": o.rule.name, "findings": o.silenced} for o in silenced]
    return {
        "code": outcome.rule.code,
        "rule": outcome.rule.name,
        "status": outcome.status,
        "severity": outcome.rule.severity,
        "reason": outcome.reason,
        "findings": [_finding(f, outcome.rule, header) for f in outcome.findings],
        **({"ignored": [_finding(f, outcome.rule, header) for f in outcome.ignored]} if outcome.ignored else {}),
        **({"explained_by": explained} if explained else {}),
    }


def _finding(finding: Finding, rule: Rule, header: Header) -> dict[str, Any]:
    return {
        "where": finding.where,
        "message": finding.message,
        "severity": finding.severity or rule.severity,
        "evidence": encode(dict(finding.evidence)),
        "fixes": [{"text": text} for text in finding.fixes],
        **({"profile": encode(finding.profile)} if finding.profile else {}),
        **({"known": True} if finding.known else {}),
        **({"location": {"file": at.file, "line": at.line}} if (at := header.source_of(finding.where)) else {}),
    }


def check(
    trace: Trace,
    rules: Iterable[Rule],
    *,
    options: Mapping[str, Mapping[str, OptionValue]] | None = None,
    fail_on: Severity = "error",
    seconds: float = 0.0,
) -> Report:
    """Apply the rules to a trace. `options` maps a rule's name to its options. A crashing rule crashes alone."""
    ordered = sorted(rules, key=lambda r: r.code)
    return Report(trace, tuple(_judge(r, trace, (options or {}).get(r.name, {})) for r in ordered), seconds, fail_on)


def _judge(rule: Rule, trace: Trace, options: Mapping[str, OptionValue]) -> Outcome:
    for need in (*rule.needs, *rule.uses):
        if need.__name__ in trace.crashed:
            return Outcome(rule, "error", reason=trace.crashed[need.__name__])
    for need in rule.needs:
        if need not in trace.facts:
            return Outcome(rule, "skipped", reason=trace.absent.get(need.__name__, f"{need.__name__} was not recorded"))
    facts = [trace.facts[need] for need in rule.needs] + [trace.facts.get(use) for use in rule.uses]
    try:
        findings = tuple(rule.check(*facts, **{name.replace("-", "_"): value for name, value in options.items()}))
        findings = tuple(_with_remedies(finding, rule, trace) for finding in findings)
        for finding in findings:
            encode(dict(finding.evidence))  # what no report could hold is the rule's mistake, and its alone
    except Skip as skip:
        return Outcome(rule, "skipped", reason=str(skip))
    except Exception as error:  # noqa: BLE001  # whatever a rule does wrong, the other rules still report
        reason = f"rule {rule.name} of {rule.plugin} crashed: {type(error).__name__}: {error}"
        return Outcome(rule, "error", reason=reason, traceback=error)
    return Outcome(rule, _status(rule, findings), findings)


def _status(rule: Rule, findings: Iterable[Finding]) -> Status:
    severities = {f.severity or rule.severity for f in findings if not f.known}
    return "failed" if "error" in severities else "warned" if severities else "passed"


def with_findings(outcome: Outcome, findings: tuple[Finding, ...]) -> Outcome:
    """The outcome with these findings in place of its own, and the status that they make."""
    return replace(outcome, findings=findings, status=_status(outcome.rule, findings))


def _with_remedies(finding: Finding, rule: Rule, trace: Trace) -> Finding:
    texts = tuple(text for remedy in rule.remedies if (text := remedy.text(finding, trace)))
    return replace(finding, fixes=(*finding.fixes, *texts)) if texts else finding


def _reach(code: str, outcomes: Sequence[Outcome]) -> set[str]:
    """The codes that `code` explains, directly or through other rules, whether or not those were hit."""
    edges = {o.rule.code: list(o.rule.explains) for o in outcomes}
    for outcome in outcomes:
        for cause in outcome.rule.explained_by:
            edges.setdefault(cause, []).append(outcome.rule.code)
    reached: set[str] = set()
    waiting = list(edges.get(code, ()))
    while waiting:
        following = waiting.pop()
        if following not in reached:
            reached.add(following)
            waiting.extend(edges.get(following, ()))
    return reached


def causes(outcomes: Sequence[Outcome]) -> tuple[Outcome, ...]:
    """The failed or warned rules that no other failed or warned rule explains.

    Of rules that explain each other neither explains the other away: something is always the cause. Failures come
    before warnings; then the one that explains most of what is wrong; then catalogue order.
    """
    hits = [o for o in outcomes if o.hit]
    below = {o.rule.code: _reach(o.rule.code, outcomes) for o in hits}

    def explains(other: Outcome, outcome: Outcome) -> bool:
        return outcome.rule.code in below[other.rule.code] and other.rule.code not in below[outcome.rule.code]

    roots = [o for o in hits if not any(explains(other, o) for other in hits)]

    def rank(outcome: Outcome) -> tuple[bool, int, str]:
        explained = sum(o.rule.code in below[outcome.rule.code] for o in hits)
        return (outcome.status != "failed", -explained, outcome.rule.code)

    return tuple(sorted(roots, key=rank))
