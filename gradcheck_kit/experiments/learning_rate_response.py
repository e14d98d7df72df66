"""What other learning rates make of the same start and the same batches.

A run that does not learn under its own rate and learns under another has been given the wrong rate: no threshold is
as good as that comparison. It is made only when the training run went wrong.
"""

from __future__ import annotations

import math

from gradcheck_kit.experiments import NotApplicable, Probe
from gradcheck_kit.experiments.second_run import PATIENCE, losses_of_run
from gradcheck_kit.facts import LearningRateResponse, RateTrial, Training
from gradcheck_kit.target.workspace import workspace

STEPS = 30
# Median update/weight ratios to try; 1e-3 is the usual one (Karpathy, CS231n), the others are its neighbours.
RATIOS = (1e-4, 1e-3, 1e-2)


def respond_to_learning_rates(probe: Probe) -> LearningRateResponse:
    """Short trials at rates that bring the first update to usual sizes, and a long one at the user's own."""
    training = probe.facts.get(Training)
    if training is None:
        raise NotApplicable("the training run was not recorded")
    if not training.went_wrong:
        raise NotApplicable("the training run went well, so no other learning rate was tried")
    if probe.prepared.settings.quick:
        raise NotApplicable("left out by --quick")
    own = training.first_update_ratio
    if own is None or not math.isfinite(own) or own <= 0:
        raise NotApplicable("no weight changed in the first step, so there is nothing to scale")
    factors = sorted({1.0, *(_round(ratio / own) for ratio in RATIOS)})
    steps = min(STEPS, probe.prepared.settings.steps)
    patient = PATIENCE * probe.prepared.settings.steps
    trials = []
    for factor in factors:
        last = patient if factor == 1.0 else steps
        trials.append(RateTrial(factor, _losses(probe, factor, last, training.constant_loss)))
    if any(trial.learned(training.constant_loss) for trial in trials):
        return LearningRateResponse(tuple(trials))
    # None has learned yet: the most promising other rate gets as long as the user's own got, and that a second chance
    # with the batches in another order. A slow start is often bad luck.
    best = LearningRateResponse(tuple(trials)).best
    if best.factor != 1.0:
        longer = RateTrial(best.factor, _losses(probe, best.factor, patient, training.constant_loss))
        trials = [longer if trial is best else trial for trial in trials]
    if not any(trial.learned(training.constant_loss) for trial in trials):
        trials.append(RateTrial(1.0, _losses(probe, 1.0, patient, training.constant_loss, order=1)))
    return LearningRateResponse(tuple(sorted(trials, key=lambda trial: trial.factor)))


def _round(factor: float) -> float:
    """To one significant digit: the rate is told to people."""
    return float(f"{factor:.0e}")


def _losses(
    probe: Probe, factor: float, steps: int, constant_loss: float | None, *, order: int = 0
) -> tuple[float, ...]:
    """The losses of a trial; a long one ends when it has learned."""
    with workspace(probe.prepared, seed=probe.prepared.settings.seed) as work:
        work.scale_learning_rate(factor)
        return losses_of_run(
            probe,
            work,
            steps=steps,
            order=order,
            enough=lambda losses: RateTrial(factor, losses).learned(constant_loss),
        )
