"""The report for machines."""

from __future__ import annotations

from gradcheck_kit.report import Report


def render_json(report: Report) -> str:
    """The report as strict JSON, schema 1."""
    return report.to_json()
