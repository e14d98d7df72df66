"""The report for machines."""

from __future__ import annotations

from importlib import resources

from gradcheck_kit.report import Report


def render_json(report: Report) -> str:
    """The report as strict JSON, schema 1."""
    return report.to_json()


def json_schema() -> str:
    """The JSON Schema (draft 2020-12) of what `render_json` returns."""
    return (resources.files("gradcheck_kit.render") / "report.schema.json").read_text("utf-8")
