"""What several formats say in the same words, as plain text of any length."""

from __future__ import annotations

from collections.abc import Iterator

from gradcheck_kit.render.text import bars
from gradcheck_kit.report import Outcome, Report
from gradcheck_kit.rule import Finding


def title(outcome: Outcome) -> str:
    return f"{outcome.rule.code} {outcome.rule.name}"


def statement(finding: Finding) -> str:
    """The message, behind the place that it does not name itself."""
    place = f"{finding.where}: " if finding.where and finding.where not in finding.message else ""
    return visible(place + finding.message)


def numbered_fixes(finding: Finding) -> Iterator[str]:
    for number, fix in enumerate(finding.fixes, 1):
        yield f"{'fix' if number == 1 else '   '}  {number}. {visible(fix)}"


def cause_of(report: Report, outcome: Outcome) -> Outcome | None:
    """The cause that explains a hit; None for what is a cause itself."""
    causes = report.causes
    return next((c for c in causes if outcome not in causes and outcome in report.explained_by(c)), None)


def relations(report: Report, outcome: Outcome) -> Iterator[str]:
    """How the hit hangs together with others: a line or none."""
    cause = cause_of(report, outcome)
    if cause is not None:
        yield f"explained by {title(cause)}"
    elif explained := report.explained_by(outcome):
        yield f"explains {', '.join(map(title, explained))}"


def body(report: Report, outcome: Outcome) -> str:
    """Everything that is known about a hit: findings with their profiles, fixes, relations."""
    parts = []
    for finding in outcome.new:
        lines = [statement(finding)]
        if finding.profile:
            lines += ["", *(visible(line) for line in bars(finding.profile))]
        fixes = list(numbered_fixes(finding))
        parts.append("\n".join([*lines, *([""] if fixes else []), *fixes]))
    closing = [*relations(report, outcome), f"more: gradcheck-kit explain {outcome.rule.code}"]
    return "\n\n".join([*parts, "\n".join(closing)])


def known(outcome: Outcome) -> str:
    """What a rule that is no hit has found, and why it counts for nothing; "" where it found nothing."""
    found = outcome.findings or outcome.ignored
    return "; ".join(f"{outcome.silenced}: {statement(f)}" for f in found) if outcome.silenced else ""


def no_verdict(report: Report) -> str:
    """Why there is none; "" where there is one."""
    if report.exit_status != 2:
        return ""
    crashed = ", ".join(o.rule.code for o in report.of("error"))
    return f"no verdict: {crashed} crashed" if crashed else "no verdict: no rule ran"


def visible(text: str) -> str:
    r"""The text with what no file may hold, and what would steer a terminal, written out: "\x1b[31m"."""
    plain = text.replace("\r\n", "\n").replace("\r", "\n")
    return "".join(c if c.isprintable() or c in "\n\t" else _written_out(c) for c in plain)


def _written_out(character: str) -> str:
    return " " if character.isspace() and ord(character) > 0x7F else ascii(character)[1:-1]
