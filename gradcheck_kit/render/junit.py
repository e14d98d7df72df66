"""The report for Jenkins, GitLab and whatever else reads JUnit's XML: a test case for every rule."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from gradcheck_kit.render.wording import body, known, no_verdict, statement, title, visible
from gradcheck_kit.report import Outcome, Report

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element


def render_junit(report: Report) -> str:
    """One test suite in XML 1.0, after the schema of Jenkins' xUnit plugin (junit-10.xsd).

    Warnings pass, and say so in system-out, unless they count as failures (`--fail-on warning`).
    """
    from xml.etree.ElementTree import Element, SubElement, indent, tostring

    failed = report.failed
    suite = Element(
        "testsuite",
        name=f"gradcheck-kit {visible(report.trace.header.name)}",
        tests=str(len(report.outcomes)),
        failures=str(len(failed)),
        errors=str(len(report.of("error"))),
        skipped=str(len(report.of("skipped"))),
        time=f"{report.seconds:.3f}",
    )
    properties = SubElement(suite, "properties")
    for name, value in _properties(report):
        SubElement(properties, "property", name=name, value=visible(value))
    for outcome in report.outcomes:
        case = SubElement(suite, "testcase", name=title(outcome), classname=visible(report.trace.header.name))
        _fill(case, report, outcome, fails=outcome in failed)
    if reason := no_verdict(report):
        SubElement(suite, "system-err").text = reason
    indent(suite)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + tostring(suite, encoding="unicode") + "\n"


def _properties(report: Report) -> Iterator[tuple[str, str]]:
    header = report.trace.header
    yield "gradcheck-kit", header.tool_version
    yield "torch", header.torch_version
    yield "model", header.model
    yield "device", header.device
    yield "steps", str(header.steps)
    if header.seed is not None:
        yield "seed", str(header.seed)


def _fill(case: Element, report: Report, outcome: Outcome, *, fails: bool) -> None:
    from xml.etree.ElementTree import SubElement

    if outcome.status == "skipped":
        SubElement(case, "skipped", message=visible(outcome.reason))
    elif outcome.status == "error":
        SubElement(case, "error", message=visible(outcome.reason), type="crash").text = visible(outcome.reason)
    elif outcome.hit and fails:
        kind = "error" if outcome.status == "failed" else "warning"
        failure = SubElement(case, "failure", message=statement(outcome.new[0]), type=kind)
        failure.text = body(report, outcome)
    elif outcome.hit:
        SubElement(case, "system-out").text = "warning: " + body(report, outcome)
    elif said := known(outcome):
        SubElement(case, "system-out").text = said
