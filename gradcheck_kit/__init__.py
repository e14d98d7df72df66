"""gradcheck-kit tells whether a PyTorch model can learn, why not, and how to fix it.

    import gradcheck_kit as gk

    report = gk.scan(model, train_loader, loss_fn=loss_fn, optimizer=optimizer)
    report.raise_for_failures()

Most names are resolved when they are first used: importing this package costs milliseconds, and no torch. pytest
imports it at every start, wherever it is installed. (PYTEST_DONT_REWRITE: and warns where it was imported before.)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from gradcheck_kit.errors import GradcheckKitError

# At once: resolved later, `rule` would be the module.
from gradcheck_kit.rule import Finding, Remedy, Rule, Skip, remedy, rule

if TYPE_CHECKING:
    from gradcheck_kit.observe.monitor import Monitor
    from gradcheck_kit.plugins import hookimpl
    from gradcheck_kit.probe import scan
    from gradcheck_kit.report import Outcome, Report
    from gradcheck_kit.target import Target
    from gradcheck_kit.target.datasets import load_digits
    from gradcheck_kit.trace import Trace

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

_RESOLVED_LATER = {
    "Outcome": "gradcheck_kit.report",
    "Report": "gradcheck_kit.report",
    "Target": "gradcheck_kit.target",
    "Trace": "gradcheck_kit.trace",
    "hookimpl": "gradcheck_kit.plugins",
    # these import torch
    "Monitor": "gradcheck_kit.observe.monitor",
    "load_digits": "gradcheck_kit.target.datasets",
    "scan": "gradcheck_kit.probe",
}


def __getattr__(name: str) -> Any:
    if name in _RESOLVED_LATER:
        return getattr(import_module(_RESOLVED_LATER[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
