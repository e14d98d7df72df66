"""What a plugin can add. Implement with `gradcheck_kit.hookimpl`, under the entry-point group gradcheck_kit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

import pluggy

from gradcheck_kit.report import Report
from gradcheck_kit.rule import Remedy, Rule

if TYPE_CHECKING:
    from gradcheck_kit.experiments import Experiment

hookspec = pluggy.HookspecMarker("gradcheck_kit")


@hookspec
def gradcheck_rules() -> Iterable[Rule]:  # type: ignore[empty-body]
    """Return the rules that this plugin brings, made with `gradcheck_kit.rule`.

    Asked whenever the command starts, also for `--help` of nothing: import no torch on the way.
    """


@hookspec
def gradcheck_experiments() -> Iterable[Experiment]:  # type: ignore[empty-body]
    """Return the experiments that make the facts of this plugin's rules, `gradcheck_kit.experiments.Experiment`.

    Asked only before a probe, and only if one of the plugin's rules is selected: import torch here, not earlier.
    """


@hookspec
def gradcheck_remedies() -> Iterable[Remedy]:  # type: ignore[empty-body]
    """Return further fixes for the findings of rules, anybody's, made with `gradcheck_kit.remedy`."""


@hookspec
def gradcheck_formats() -> Mapping[str, Callable[[Report], str]]:  # type: ignore[empty-body]
    """Return output formats for `--format`: by name, a function from a report to the text of a file."""
