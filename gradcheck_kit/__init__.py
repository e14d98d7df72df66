"""gradcheck-kit tells whether a PyTorch model can learn, why not, and how to fix it.

    import gradcheck_kit as gk

    report = gk.scan(model, train_loader, loss_fn=loss_fn, optimizer=optimizer)
    report.raise_for_failures()

Names that need torch are resolved when they are first used: importing this package costs milliseconds.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gradcheck_kit.errors import GradcheckKitError
from gradcheck_kit.plugins import hookimpl
from gradcheck_kit.report import Outcome, Report
from gradcheck_kit.rule import Finding, Remedy, Rule, Skip, remedy, rule
from gradcheck_kit.trace import Trace

if TYPE_CHECKING:
    from gradcheck_kit.observe.monitor import Monitor
    from gradcheck_kit.probe import scan
    from gradcheck_kit.target import Target
    from gradcheck_kit.target.datasets import load_digits

__version__ = "0.1.0"

__all__ = [
    "Finding",
    "GradcheckKitError",
    "Monitor",
    "Outcome",
    "Remedy",
    "Report",
    "Rule",
    "Skip",
    "Target",
    "Trace",
    "hookimpl",
    "load_digits",
    "remedy",
    "rule",
    "scan",
]

_NEEDS_TORCH = {
    "Monitor": "gradcheck_kit.observe.monitor",
    "scan": "gradcheck_kit.probe",
    "Target": "gradcheck_kit.target",
    "load_digits": "gradcheck_kit.target.datasets",
}


def __getattr__(name: str) -> Any:
    if name in _NEEDS_TORCH:
        return getattr(import_module(_NEEDS_TORCH[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
