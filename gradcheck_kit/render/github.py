"""The report as workflow commands: GitHub Actions shows them at the lines of a pull request."""

from __future__ import annotations

from collections.abc import Iterator

from gradcheck_kit.render.text import verdict_line
from gradcheck_kit.render.wording import no_verdict, numbered_fixes, relations, statement, title, visible
from gradcheck_kit.report import Report
from gradcheck_kit.rule import Finding, Rule
from gradcheck_kit.trace import SourceLine


def render_github(report: Report) -> str:
    """One command a line and the verdict: causes first, as GitHub shows ten of a kind; what they explain as notices."""
    return "\n".join([*_commands(report), verdict_line(report)]) + "\n"


def _commands(report: Report) -> Iterator[str]:
    causes = report.causes
    for outcome in report.of("error"):
        yield _command("error", title(outcome), outcome.reason)
    if no_verdict(report) and not report.of("error"):
        yield _command("error", "gradcheck-kit", no_verdict(report))
    for outcome in (*causes, *(o for o in report.outcomes if o.hit and o not in causes)):
        for finding in outcome.new:
            lines = [statement(finding), *numbered_fixes(finding), *relations(report, outcome)]
            kind = _kind(outcome.rule, finding) if outcome in causes else "notice"
            at = report.trace.header.source_of(finding.where)
            yield _command(kind, title(outcome), "\n".join(lines), at)


def _kind(rule: Rule, finding: Finding) -> str:
    return finding.severity or rule.severity


def _command(kind: str, heading: str, message: str, at: SourceLine | None = None) -> str:
    place = "" if at is None else f"file={_property(at.file)},line={at.line},"
    return f"::{kind} {place}title={_property(heading)}::{_escaped(visible(message))}"


def _escaped(text: str) -> str:
    """As the runner's toolkit escapes a message: it reads one line."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _escaped(visible(text)).replace(":", "%3A").replace(",", "%2C")
