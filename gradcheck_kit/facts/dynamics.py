"""How the optimizer moves: swings of the loss and noise of the gradient, and calmer runs from the same start."""

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


@dataclass(frozen=True, slots=True)
class GradientNoise:
    """How noisy the gradient of a batch is in a run that does not learn, and the same samples in larger batches."""

    batch: int  # samples
    scale_at_start: float | None  # the batch at which noise is as large as signal; inf: no signal was seen
    scale_at_end: float | None  # with the weights that training left
    factor: int | None  # by which batches were made larger; None: not tried
    large_losses: tuple[float, ...]  # of as many steps with these
    same_losses: tuple[float, ...]  # of `factor` times as many steps with batches as they are: the same samples


@dataclass(frozen=True, slots=True)
class Schedule:
    """What a learning-rate scheduler of the user's does in its first steps, be they batches or epochs."""

    scheduler: str  # "LambdaLR", ...; "" where nothing holds it any more, so that nobody can step it
    rates: tuple[float, ...]  # the largest of any group, before the first step and after each
    # Of a warm-up whose first steps come nowhere near its end:
    warm_up: int = 0  # steps to the highest rate, as far as it was followed
    highest: float = 0.0  # rate on the way
    batches: int | None = None  # of an epoch of the training data

    @property
    def passes(self) -> float:
        """Over the training data, that a warm-up lasts if it is stepped with every batch."""
        return self.warm_up / self.batches if self.batches else 0.0
