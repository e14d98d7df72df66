"""One small function per output format, each from a report to the text of a file."""

from __future__ import annotations

from collections.abc import Callable

from gradcheck_kit.render.json import render_json
from gradcheck_kit.render.text import render_text
from gradcheck_kit.report import Report

FORMATS: dict[str, Callable[[Report], str]] = {"text": render_text, "json": render_json}
