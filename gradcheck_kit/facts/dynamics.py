"""How the optimizer moves: swings of the loss, and the training run again with less momentum or a smaller rate."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Oscillation:
    """How far the loss swings, and the same run under less momentum or, where that is usual, a smaller rate."""

    swing: float  # of the training run's losses: see `swing`; infinite where they are
    momentum: float | None  # the largest of any optimizer, or Adam's first beta; None: none has any
    momentum_name: str  # how it is set: "momentum" or "betas"
    calm_momentum: float | None  # of the second run, where momentum was lowered
    calm_factor: float | None  # of the learning rate in the second run, where that was
    calm_losses: tuple[float, ...]  # empty: not tried
    calm_swing: float | None
