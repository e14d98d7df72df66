"""What becomes of a signal over depth, before training, and the run again where something was done about it."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LayerOutput:
    """A layer with weights, and the root mean square of its first output before training."""

    name: str
    layer_type: str
    output_rms: float  # infinite or NaN where the output is


@dataclass(frozen=True, slots=True)
class ActivationGrowth:
    """How signals grow on the way through the untrained network, and the run in which layers normalise their input."""

    layers: tuple[LayerOutput, ...]  # in execution order
    largest: float  # root mean square of the largest output of any module
    largest_at: str
    norm_losses: tuple[float, ...]  # of the run in which every layer but the first normalises; empty: not tried
    norm_largest: float | None  # before the first update of that run

    @property
    def growth(self) -> float:
        """The largest output over that of the first layer; NaN where that is 0 or not finite."""
        first = self.layers[0].output_rms
        return self.largest / first if first > 0 and math.isfinite(first) else math.nan
