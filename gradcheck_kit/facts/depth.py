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


@dataclass(frozen=True, slots=True)
class PositionSpread:
    """What a layer that keeps its input's shape (samples, positions, features) makes of the positions' differences.

    Spread is the RMS deviation of the positions of a sample from their mean, over the RMS of all: 0 is all the same.
    """

    layer: str
    layer_type: str
    before: float  # of what it is given, in its first call
    after: float  # of what it returns


@dataclass(frozen=True, slots=True)
class RankCollapse:
    """Layers of one type, one after the other, before training, and the run with a residual connection around each."""

    layers: tuple[PositionSpread, ...]  # in execution order
    positions: int
    residual_losses: tuple[float, ...]  # empty: not tried
    residual_after: float | None  # what the last layer's output then spreads, before the first update


@dataclass(frozen=True, slots=True)
class SampleCollapse:
    """What a model without targets makes of different samples, before and after training."""

    start: float  # largest spread of its outputs over the samples of a batch: RMS deviation from their mean / RMS
    end: float
    loss: float  # after training
    equal_loss: float  # ... with the outputs of all samples replaced by their mean

    @property
    def collapsed(self) -> bool:
        """Whether samples have come clearly closer to each other, and the loss of equal ones is no higher."""
        return self.end < 0.6 * self.start and self.equal_loss <= self.loss + 1e-6 * abs(self.loss)
