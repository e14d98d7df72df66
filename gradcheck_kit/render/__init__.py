"""One small function per output format, each from a report to the text of a file."""

from __future__ import annotations

from collections.abc import Callable

from gradcheck_kit.render.github import render_github
from gradcheck_kit.render.json import render_json
from gradcheck_kit.render.junit import render_junit
from gradcheck_kit.render.markdown import render_markdown
from gradcheck_kit.render.sarif import render_sarif
from gradcheck_kit.render.text import render_text
from gradcheck_kit.report import Report

FORMATS: dict[str, Callable[[Report], str]] = {
    "text": render_text,
    "json": render_json,
    "junit": render_junit,
    "github": render_github,
    "sarif": render_sarif,
    "markdown": render_markdown,
}
