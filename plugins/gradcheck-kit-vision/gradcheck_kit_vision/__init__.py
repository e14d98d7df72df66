"""A rule pack for gradcheck-kit: what goes wrong between image files and a convolutional network."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from gradcheck_kit import Rule, hookimpl
from gradcheck_kit_vision.rules import RULES

if TYPE_CHECKING:
    from gradcheck_kit.experiments import Experiment


@hookimpl
def gradcheck_rules() -> Iterable[Rule]:
    """Return the rules."""
    return RULES


@hookimpl
def gradcheck_experiments() -> Iterable[Experiment]:
    """Return the experiments; they import torch, which listing the rules does not."""
    from gradcheck_kit_vision.experiments import EXPERIMENTS

    return EXPERIMENTS
