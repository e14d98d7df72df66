"""What other learning rates make of the same start and the same batches.

A run that does not learn under its own rate and learns under another has been given the wrong rate: no threshold is
as good as that comparison. It is made only when the training run went wrong.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from gradcheck_kit.experiments import NotApplicable, Probe
from gradcheck_kit.experiments.second_run import PATIENCE, losses_of_run
from gradcheck_kit.facts import LearningRateResponse, RateTrial, Training
from gradcheck_kit.target.workspace import workspace

STEPS = 30
# Median update/weight ratios to try; 1e-3 is the usual one (Karpathy, CS231n), the others are its neighbours.
GUARDED = {"log", "log_", "log2", "log10", "sqrt", "sqrt_"}
RATIOS = (1e-4, 1e-3, 1e-2)
CLEARLY = 0.8  # of the loss at the user's own rate: what other rates must come below to have done better


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

    def learned(trial: RateTrial) -> bool:
        return trial.learned(training.constant_loss)

    for factor in factors:
        last = patient if factor == 1.0 else steps
        trials.append(RateTrial(factor, _losses(probe, factor, last, learned)))
    guarded = None if training.finite else _guarded(probe, patient, learned)
    response = LearningRateResponse(tuple(trials), guarded)

    def decides(trial: RateTrial) -> bool:
        return learned(trial) and (trial.factor == 1.0 or trial.end < CLEARLY * response.own.end)

    if any(map(decides, trials)):
        return response
    # None has clearly learned yet: the most promising other rate gets as long as the user's own got, and that a second
    # chance with the batches in another order. A slow start is often bad luck.
    best = response.best
    if best.factor != 1.0:
        longer = RateTrial(best.factor, _losses(probe, best.factor, patient, decides))
        trials = [longer if trial is best else trial for trial in trials]
    if not any(map(learned, trials)):
        trials.append(RateTrial(1.0, _losses(probe, 1.0, patient, learned, order=1)))
    return LearningRateResponse(tuple(sorted(trials, key=lambda trial: trial.factor)), guarded)


class _Guard(TorchFunctionMode):
    """Keeps log and sqrt, whose value or slope at 0 is infinite, from what is smaller than the smallest number."""

    def __init__(self) -> None:
        super().__init__()
        self.mattered = False

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in GUARDED and args and isinstance(args[0], Tensor):
            x = args[0]
            if x.is_floating_point() and bool((x.detach() == 0).any()):
                self.mattered = True
                args = (x.clamp_min(torch.finfo(x.dtype).tiny), *args[1:])
        return func(*args, **(kwargs or {}))


def _guarded(probe: Probe, steps: int, enough: Callable[[RateTrial], bool]) -> RateTrial | None:
    """The run at the user's own rate with log and sqrt guarded; None where they never met a 0."""
    with _Guard() as guard:
        losses = _losses(probe, 1.0, steps, enough)
    return RateTrial(1.0, losses) if guard.mattered else None


def _round(factor: float) -> float:
    """To one significant digit: the rate is told to people."""
    return float(f"{factor:.0e}")


def _losses(
    probe: Probe, factor: float, steps: int, enough: Callable[[RateTrial], bool], *, order: int = 0
) -> tuple[float, ...]:
    """The losses of a trial; one that is longer than the probe ends when it is `enough`."""
    with workspace(probe.prepared, seed=probe.prepared.settings.seed) as work:
        work.scale_learning_rate(factor)
        return losses_of_run(
            probe,
            work,
            steps=steps,
            order=order,
            enough=lambda losses: enough(RateTrial(factor, losses)),
        )
