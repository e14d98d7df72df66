"""The report for a comment on a pull request, or for $GITHUB_STEP_SUMMARY."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from gradcheck_kit.render.text import MOST_FINDINGS, bars, first_sentence, verdict_line
from gradcheck_kit.render.wording import cause_of, known, title, visible
from gradcheck_kit.report import Outcome, Report
from gradcheck_kit.rule import Finding

HEADINGS = {0: "passed", 1: "failed", 2: "no verdict"}


def render_markdown(report: Report) -> str:
    """The report as GitHub's Markdown: the verdict, a section for each cause, and the rest folded."""
    header = report.trace.header
    counted, _, conclusion = verdict_line(report).partition("    ")
    about = [code(header.name), escaped(header.model), f"{header.parameters:,} parameters", f"{header.steps} steps"]
    blocks = [
        f"## gradcheck-kit: {HEADINGS[report.exit_status]}",
        ", ".join(about),
        f"{counted}. {conclusion[:1].upper()}{conclusion[1:]}.",
    ]
    for outcome in report.of("error"):
        blocks += [f"### {escaped(title(outcome))} (crashed)", escaped(outcome.reason)]
    for outcome in report.causes:
        blocks += _section(report, outcome)
    explained = [o for o in report.outcomes if o.hit and o not in report.causes]
    if explained:
        these = "this" if len(report.causes) == 1 else "these"
        blocks += _folded(f"{len(explained)} explained by {these}", _explained(report, explained))
    blocks += _folded(f"All {len(report.outcomes)} rules", _table(report.outcomes))
    return "\n\n".join(blocks) + "\n"


def _section(report: Report, outcome: Outcome) -> Iterator[str]:
    yield f"### {escaped(title(outcome))}" + (" (warning)" if outcome.status == "warned" else "")
    for finding in outcome.new[:MOST_FINDINGS]:
        yield _statement(report, finding)
        if finding.profile:
            yield fenced(bars(finding.profile))
        if finding.fixes:
            yield "\n".join(f"{number}. {escaped(fix)}" for number, fix in enumerate(finding.fixes, 1))
    if len(outcome.new) > MOST_FINDINGS:
        yield f"... and {len(outcome.new) - MOST_FINDINGS} more"
    explained = ", ".join(title(o) for o in report.explained_by(outcome))
    yield (f"Explains {explained}. " if explained else "") + f"More: `gradcheck-kit explain {outcome.rule.code}`"


def _statement(report: Report, finding: Finding) -> str:
    at = report.trace.header.source_of(finding.where)
    place = finding.where if finding.where and finding.where not in finding.message else ""
    lead = [code(part) for part in (place, f"{at.file}:{at.line}" if at is not None else "") if part]
    return (", ".join(lead) + ": " if lead else "") + escaped(finding.message)


def _explained(report: Report, outcomes: Iterable[Outcome]) -> str:
    lines = []
    for outcome in outcomes:
        cause = cause_of(report, outcome)
        why = f" (explained by {title(cause)})" if cause is not None else ""
        lines.append(f"- {escaped(title(outcome))}: {escaped(first_sentence(outcome.new[0].message))}{why}")
    return "\n".join(lines)


def _table(outcomes: Iterable[Outcome]) -> str:
    rows = ["| rule | status | why |", "|---|---|---|"]
    for outcome in outcomes:
        why = first_sentence(outcome.new[0].message) if outcome.hit else known(outcome) or outcome.reason
        rows.append(f"| {escaped(title(outcome))} | {outcome.status} | {escaped(why)} |")
    return "\n".join(rows)


def _folded(summary: str, content: str) -> list[str]:
    return [f"<details><summary>{summary}</summary>", content, "</details>"]


# ---- other people's text -----------------------------------------------------------------------------------------


def escaped(text: str) -> str:
    """The text as it is, whatever it contains: no markup, no HTML, no mention, one line that breaks where it broke."""
    lines = []
    for line in visible(text).replace("\t", "    ").strip().split("\n"):
        words = re.sub(r"([\\`*_{}\[\]<>#|~&$])", r"\\\1", line.strip())
        words = re.sub(r"^(\d+)([.)])(?=\s|$)", r"\1\\\2", re.sub(r"^([-+=:])", r"\\\1", words))
        indent = "&nbsp;" * (len(line) - len(line.lstrip()))
        lines.append(indent + words.replace("@", "@&#8203;"))
    return "<br>".join(lines)


def code(text: str) -> str:
    """The text as a code span, in which nothing else is markup. It may not stand in a table: | would end the cell."""
    plain = re.sub(r"\s", " ", visible(text))
    ticks = "`" * (1 + max(map(len, re.findall("`+", plain)), default=0))
    space = " " if plain.startswith(("`", " ")) or plain.endswith(("`", " ")) else ""
    return f"{ticks}{space}{plain}{space}{ticks}"


def fenced(lines: Iterable[str]) -> str:
    """The lines as a block of code, behind a fence that is longer than any in them."""
    text = "\n".join(re.sub(r"\s", " ", visible(line)) for line in lines)
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}text\n{text}\n{fence}"
