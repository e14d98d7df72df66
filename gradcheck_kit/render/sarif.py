"""The report as SARIF 2.1.0, the format of code scanning."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from gradcheck_kit.render.wording import cause_of, no_verdict, numbered_fixes, statement, title, visible
from gradcheck_kit.report import Outcome, Report
from gradcheck_kit.rule import Finding, Rule
from gradcheck_kit.trace import encode

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"


def render_sarif(report: Report) -> str:
    """The report as one SARIF run, in ASCII. A finding without a known line has only a logical location."""
    header = report.trace.header
    run = {
        "tool": {
            "driver": {
                "name": "gradcheck-kit",
                "version": header.tool_version,
                "rules": [_rule(outcome.rule) for outcome in report.outcomes],
            }
        },
        "automationDetails": {"id": f"gradcheck-kit/{visible(header.name)}/"},
        "invocations": [
            {
                "executionSuccessful": not no_verdict(report),
                "toolExecutionNotifications": list(_notifications(report)),
            }
        ],
        "results": list(_results(report)),
    }
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2, allow_nan=False) + "\n"


def _rule(rule: Rule) -> dict[str, Any]:
    page = rule.page().strip()
    return {
        "id": rule.code,
        "name": rule.name,
        "shortDescription": {"text": re.split(r"(?<=[.;:])\s", rule.summary, maxsplit=1)[0]},
        "fullDescription": {"text": rule.summary},
        "help": {"text": page, "markdown": page},
        "defaultConfiguration": {"level": rule.severity},
        "properties": {"plugin": rule.plugin},
    }


def _notifications(report: Report) -> Iterator[dict[str, Any]]:
    for index, outcome in enumerate(report.outcomes):
        if outcome.status == "error":
            yield {
                "level": "error",
                "message": {"text": _text(visible(outcome.reason))},
                "associatedRule": {"id": outcome.rule.code, "index": index},
            }
    if no_verdict(report) and not report.of("error"):
        yield {"level": "error", "message": {"text": no_verdict(report)}}


def _results(report: Report) -> Iterator[dict[str, Any]]:
    seen: Counter[tuple[str, str]] = Counter()
    for index, outcome in enumerate(report.outcomes):
        for finding in outcome.findings:
            seen[outcome.rule.code, finding.where] += 1
            yield _result(report, outcome, index, finding, seen[outcome.rule.code, finding.where])


def _result(report: Report, outcome: Outcome, index: int, finding: Finding, occurrence: int) -> dict[str, Any]:
    cause = cause_of(report, outcome)
    explained = [] if cause is None else [f"Explained by {title(cause)}: mend that first."]
    lines = [statement(finding), *explained, *numbered_fixes(finding)]
    about: dict[str, Any] = {"evidence": encode(dict(finding.evidence)), "fixes": [visible(f) for f in finding.fixes]}
    # Neither lines nor measured values: the same fault of the same layer is the same result after an edit.
    identity = "\0".join([report.trace.header.name, outcome.rule.code, finding.where, str(occurrence)])
    return {
        "ruleId": outcome.rule.code,
        "ruleIndex": index,
        "level": finding.severity or outcome.rule.severity,
        "message": {"text": _text("\n".join(lines))},
        "locations": [_location(report, finding)],
        "partialFingerprints": {
            "gradcheckKitFinding/v1": hashlib.sha256(identity.encode("utf-8", "backslashreplace")).hexdigest()
        },
        "properties": about if cause is None else {**about, "explainedBy": cause.rule.code},
        **({"baselineState": "unchanged" if finding.known else "new"} if report.baseline is not None else {}),
        **(
            {"suppressions": [{"kind": "external", "justification": "The baseline knows it."}]} if finding.known else {}
        ),
    }


def _location(report: Report, finding: Finding) -> dict[str, Any]:
    place = visible(finding.where) or "model"
    location: dict[str, Any] = {"logicalLocations": [{"name": place.rpartition(".")[2], "fullyQualifiedName": place}]}
    at = report.trace.header.source_of(finding.where)
    whole = report.trace.header.source_of("model")
    if at is not None:
        location["physicalLocation"] = {"artifactLocation": {"uri": _uri(at.file)}, "region": {"startLine": at.line}}
    elif whole is not None:  # of the training rather than of one line: the file as a whole
        location["physicalLocation"] = {"artifactLocation": {"uri": _uri(whole.file)}}
    return location


def _uri(file: str) -> str:
    """A path as a URI: relative as it is; one from the root, or from a drive, with the scheme."""
    path = quote(file, errors="surrogatepass")
    if file.startswith("/"):
        return f"file://{path}"
    return f"file:///{path[0]}:{path[4:]}" if re.match("[A-Za-z]:/", file) else path


def _text(text: str) -> str:
    r"""Plain text of a SARIF message: what looks like one of its links, "[0](x)", is none."""
    return re.sub(r"\[(?=[^\[\]]*\]\()", r"\\[", text)
