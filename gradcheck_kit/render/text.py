"""The report for people: one block per cause, in the manner of pytest."""

from __future__ import annotations

import math
import textwrap
import traceback
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import click

from gradcheck_kit.facts import Training
from gradcheck_kit.report import Outcome, Report
from gradcheck_kit.rule import GROUPS, Bar, Finding

LEFT_OUT = "left out by --quick"  # the reason of experiments that take long
LETTERS = {"passed": ".", "failed": "F", "warned": "w", "skipped": "s", "error": "E"}
COLORS = {"passed": "green", "failed": "red", "warned": "yellow", "skipped": "cyan", "error": "magenta"}
MOST_FINDINGS = 5  # of one rule, without -v
MOST_BARS = 14


def render_text(
    report: Report, *, quiet: bool = False, verbose: bool = False, color: bool = False, width: int = 80
) -> str:
    """The report as lines of at most `width` characters, ASCII but for the user's own names.

    `quiet` keeps what decides the verdict, `verbose` adds reasons of skips, every block in full, and tracebacks.
    """
    page = _Page(report, quiet, verbose, color, max(width, 40))
    sections = [page.causes(), page.explained(), page.crashes()]
    if not quiet:
        sections = [page.header(), page.groups(), page.skips(), *sections]
    texts = ["\n".join(line.rstrip() for line in section) for section in sections]
    return "\n\n".join([*filter(None, texts), page.verdict()]) + "\n"


@dataclass(frozen=True, slots=True)
class _Page:
    report: Report
    quiet: bool
    verbose: bool
    color: bool
    width: int

    # -- above the findings --

    def header(self) -> Iterator[str]:
        h = self.report.trace.header
        threads = f"{h.threads} thread" + "s" * (h.threads != 1)
        versions = [f"gradcheck-kit {h.tool_version}", f"torch {h.torch_version}", f"{h.device}, {threads}"]
        yield from self.wrap(" | ".join([*versions, *([] if h.seed is None else [f"seed {h.seed}"])]))
        layers = f"{h.weight_layers} weight layer" + "s" * (h.weight_layers != 1)
        yield from self.wrap(f"{h.name}   {h.model}, {layers}, {h.parameters:,} parameters", "target  ")
        yield from self.wrap("; ".join(filter(None, (h.data, h.test_data))), "data    ")
        steps = f"{h.steps} step" + "s" * (h.steps != 1)
        training = self.report.trace.facts.get(Training)
        watched = training is not None and training.watched
        if training is not None and watched:
            steps += f", {len(training.recorded)} of them recorded"
        about = ", ".join(filter(None, (steps, h.optimizer, h.loss)))
        yield from self.wrap(about, "watched " if watched else "probe   ")
        for clause in h.supplied:
            yield from self.wrap(clause, "note    ")

    def groups(self) -> Iterator[str]:
        """A letter per rule, a line per group."""
        groups: dict[str, list[Outcome]] = {}
        for outcome in self.report.outcomes:
            groups.setdefault(outcome.rule.code[:-2], []).append(outcome)
        titles = {code: f"{code} {_title(outcomes[0])}" for code, outcomes in groups.items()}
        column = min(max(map(len, titles.values()), default=0), self.width // 2)
        for code, outcomes in sorted(groups.items(), key=lambda item: not item[0].startswith("GK")):
            room = self.width - column - 3
            for start in range(0, len(outcomes), room):
                letters = [self.paint(LETTERS[o.status], o.status) for o in outcomes[start : start + room]]
                title = "" if start else shorten(titles[code], column)
                yield f"{title:{column}}   {''.join(letters)}"

    def skips(self) -> Iterator[str]:
        if self.verbose:
            for outcome in self.report.of("skipped"):
                yield from self.wrap(f"{outcome.rule.code} {outcome.rule.name}: {outcome.reason}", "skipped  ")
        elif not self.quiet:
            left = [f"{o.rule.code} {o.rule.name}" for o in self.report.of("skipped") if o.reason == LEFT_OUT]
            if left:
                yield from self.wrap(f"left out {', '.join(left)}", "quick  ")

    # -- the findings --

    def shown(self, outcomes: Iterable[Outcome]) -> list[Outcome]:
        return [o for o in outcomes if not self.quiet or o in self.report.failed]

    def causes(self) -> Iterator[str]:
        blocks = list(self.report.causes)
        if self.verbose:
            blocks += [o for o in self.report.outcomes if o.hit and o not in blocks]
        for i, outcome in enumerate(self.shown(blocks)):
            yield from [""] * (i > 0)
            yield from self.block(outcome)

    def block(self, outcome: Outcome) -> Iterator[str]:
        yield self.rule_line(outcome)
        most = len(outcome.findings) if self.verbose else MOST_FINDINGS
        for i, finding in enumerate(outcome.findings[:most]):
            yield from [""] * (i > 0)
            yield from self.finding(finding)
        if len(outcome.findings) > most:
            yield from ["", f"... and {len(outcome.findings) - most} more; -v shows them all"]
        if explained := self.report.explained_by(outcome):
            yield from self.wrap(", ".join(f"{o.rule.code} {o.rule.name}" for o in explained), "explains ")
        yield f"more     gradcheck-kit explain {outcome.rule.code}"

    def rule_line(self, outcome: Outcome) -> str:
        kind = {"warned": " (warning)", "error": " (crashed)"}.get(outcome.status, "")
        title = shorten(f"{outcome.rule.code} {outcome.rule.name}{kind}", self.width - 10)
        return self.paint(f"---- {title} ".ljust(self.width, "-"), outcome.status, bold=True)

    def finding(self, finding: Finding) -> Iterator[str]:
        place = f"{finding.where}: " if finding.where and finding.where not in finding.message else ""
        yield from self.wrap(place + finding.message)
        if finding.profile:
            yield from ["", *bars(finding.profile, self.width)]
        if finding.fixes:
            yield ""
        for number, fix in enumerate(finding.fixes, 1):
            yield from self.wrap(fix, f"{'fix' if number == 1 else '':3}  {number}. ")

    def explained(self) -> Iterator[str]:
        """A line or two for each hit that is not its own cause."""
        causes = self.report.causes
        for outcome in self.shown(o for o in self.report.outcomes if o.hit and o not in causes and not self.verbose):
            cause = next((c for c in causes if outcome in self.report.explained_by(c)), causes[0])
            message = first_sentence(outcome.findings[0].message)
            text = f"{outcome.rule.code} {outcome.rule.name}  {message} (explained by {cause.rule.code})"
            yield from self.wrap(text, "also  ")

    def crashes(self) -> Iterator[str]:
        for i, outcome in enumerate(self.report.of("error")):
            yield from [""] * (i > 0)
            yield self.rule_line(outcome)
            yield from self.wrap(outcome.reason)
            if self.verbose and outcome.traceback is not None:
                for line in "".join(traceback.format_exception(outcome.traceback)).splitlines():
                    yield from self.wrap(line)
            yield from self.wrap(
                f"Report this to the authors of {outcome.rule.plugin}; or --ignore {outcome.rule.code}"
            )

    # -- the last line --

    def verdict(self) -> str:
        words = {"failed": "failed", "warned": "warned", "error": "crashed", "passed": "passed", "skipped": "skipped"}
        counts = {status: sum(o.status == status for o in self.report.outcomes) for status in words}
        parts = [f"{counts[s]} {word}" for s, word in words.items() if counts[s] or s == "passed"]
        counted = f"{', '.join(parts)} in {self.report.seconds:.1f} s"
        worst = next((s for s in ("error", "failed", "warned") if counts[s]), "passed")
        if self.report.exit_status == 2:
            worst = "error"
        return self.paint(self.fit(counted, self.conclusions()), worst)

    def conclusions(self) -> list[str]:
        """What to say beside the counts, the fullest form first."""
        if self.report.exit_status == 2:
            crashed = self.report.of("error")
            return [f"no verdict: {crashed[0].rule.code} crashed" if crashed else "no verdict: no rule ran"]
        worst = [o for o in self.report.causes if o.status == self.report.causes[0].status]
        if not worst:
            return ["no findings"]
        first, *others = (f"{o.rule.code} {o.rule.name}" for o in worst)
        if not others:
            return [f"cause: {first}", first, f"cause: {worst[0].rule.code}"]
        more = f"and {len(others)} more"
        return [
            f"causes: {first}, {', '.join(others)}",
            f"causes: {first} {more}",
            f"{first} {more}",
            f"causes: {worst[0].rule.code} {more}",
        ]

    def fit(self, counted: str, conclusions: Sequence[str]) -> str:
        lines = [counted + gap + conclusion for conclusion in conclusions for gap in ("    ", "  ")]
        fitting = [line for line in lines if len(line) <= self.width]
        return fitting[0] if fitting else shorten(conclusions[-1], self.width) + "\n" + shorten(counted, self.width)

    # -- lines --

    def paint(self, text: str, status: str, *, bold: bool = False) -> str:
        return click.style(text, fg=COLORS[status], bold=bold) if self.color else text

    def wrap(self, text: str, lead: str = "") -> list[str]:
        """The text in lines of the page's width behind `lead`; its own line breaks are kept."""
        room = self.width - len(lead)
        lines = [line for paragraph in text.splitlines() for line in wrapped(paragraph, room)]
        return [(lead if i == 0 else " " * len(lead)) + line for i, line in enumerate(lines)]


def _title(outcome: Outcome) -> str:
    """The group's name: a built-in topic, or for other people's rules their plugin."""
    code = outcome.rule.code
    # A pack's codes may begin as ours do: GKV1 is no group of ours.
    return GROUPS.get(code[2], outcome.rule.plugin) if code.startswith("GK") else outcome.rule.plugin


def bars(profile: Sequence[Bar], width: int = 80) -> Iterator[str]:
    """A bar chart over depth. Logarithmic, and it says so, when the values span more than three decades."""
    values = [bar.value for bar in profile if bar.value is not None and math.isfinite(bar.value) and bar.value > 0]
    top, bottom = max(values, default=1.0), min(values, default=1.0)
    logarithmic = top > 1e3 * bottom
    places = [shorten(bar.place or "(model)", width * 3 // 8) for bar in profile]
    kinds = [shorten(bar.kind, width // 5) for bar in profile]
    columns = max(map(len, places)), max(map(len, kinds))
    room = width - sum(columns) - 17
    decades = math.log10(top / bottom) + 1  # the smallest value still shows

    def length(value: float | None) -> int:
        if value is None or math.isnan(value) or value <= 0:
            return 0
        if math.isinf(value):
            return room
        share = (math.log10(value / bottom) + 1) / decades if logarithmic else value / top
        return round(share * room)

    ends = MOST_BARS // 2
    for i, bar in enumerate(profile):
        if ends <= i < len(profile) - ends + 1 and len(profile) > MOST_BARS:
            if i == ends:
                yield f"  {'...':>{columns[0]}}"
            continue
        value = "-" if bar.value is None else f"{bar.value:.1e}"
        yield f"  {places[i]:>{columns[0]}}  {kinds[i]:{columns[1]}}  {value:>8}  |{'#' * length(bar.value)}"
    if logarithmic:
        yield f"{'log scale':>{sum(columns) + 14}}"


def wrapped(text: str, width: int) -> list[str]:
    """Lines of at most `width`; a longer word, such as a deep module's name, loses its middle."""
    printable = "".join(c if c.isprintable() else "?" for c in text.expandtabs(4))
    indent = printable[: len(printable) - len(printable.lstrip())][: width // 2]
    words = " ".join(shorten(word, width - len(indent)) for word in printable.strip().split(" "))
    return textwrap.wrap(words, width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False) or [""]


def shorten(text: str, width: int) -> str:
    """The text, its middle replaced by "..." where it is longer than `width`."""
    if len(text) <= width:
        return text
    head = (width - 3) // 2
    return text[:head] + "..." + text[len(text) - (width - 3 - head) :]


def first_sentence(text: str) -> str:
    """Up to the first full stop or semicolon that ends a clause, or the first line's end."""
    line = text.strip().split("\n", 1)[0]
    ends = [i for mark in (". ", "; ") if (i := line.find(mark)) >= 0]
    return line[: min(ends)] if ends else line.rstrip(".")
