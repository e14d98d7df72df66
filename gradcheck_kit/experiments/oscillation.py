"""How far the loss swings, and what becomes of the run with less momentum, or with a smaller rate.

Losses of single batches differ, so that a swing alone says nothing. The calmer run takes the same batches from the
same start: what it does not swing, the optimizer has added.
"""

from __future__ import annotations

from typing import Any

from torch.optim import Optimizer

from gradcheck_kit.experiments import NotApplicable, Probe
from gradcheck_kit.experiments.second_run import losses_of_run
from gradcheck_kit.facts import Oscillation, Training, swing
from gradcheck_kit.target.workspace import workspace

USUAL_MOMENTUM = 0.9  # what people choose; a step in one direction counts tenfold
CALMER = 0.3  # of the learning rate, where the momentum is usual
SWINGS = 0.03  # of the loss at the start (AutoTrainer), from which a smaller rate is tried


def look_at_oscillation(probe: Probe) -> Oscillation:
    """The run's swing and momentum, and a calmer run where there is too much of either and the loss is not small."""
    prepared, training = probe.prepared, probe.facts.get(Training)
    if training is None:
        raise NotApplicable("the training run was not recorded")
    with workspace(prepared, seed=prepared.settings.seed) as work:
        name, momentum = _momentum(work.optimizers)
        found = Oscillation(swing(training.losses), momentum, name, None, None, (), None)
        heavy = momentum is not None and momentum > USUAL_MOMENTUM
        if prepared.settings.quick or training.competing or not (heavy or _swings(training)) or training.learned_well:
            return found
        if heavy:
            _lower_momentum(work.optimizers)
        else:
            work.scale_learning_rate(CALMER)
        losses = losses_of_run(probe, work)
    calm_momentum, calm_factor = (USUAL_MOMENTUM, None) if heavy else (None, CALMER)
    return Oscillation(found.swing, momentum, name, calm_momentum, calm_factor, losses, swing(losses))


def _swings(training: Training) -> bool:
    """Beside a rate that is wrong outright, which learning_rate_response looks for, a run can swing and learn."""
    if training.went_wrong:
        return False
    return swing(training.losses) >= SWINGS * max(abs(training.first_loss), abs(training.constant_loss or 0.0))


def _momentum(optimizers: list[Optimizer]) -> tuple[str, float | None]:
    found = [pair for o in optimizers for group in o.param_groups if (pair := _momentum_of(group))]
    return max(found, key=lambda pair: pair[1], default=("", None))


def _momentum_of(group: dict[str, Any]) -> tuple[str, float] | None:
    if group.get("momentum"):
        return "momentum", float(group["momentum"])
    betas = group.get("betas")
    return ("betas", float(betas[0])) if isinstance(betas, tuple | list) and betas else None


def _lower_momentum(optimizers: list[Optimizer]) -> None:
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            if group.get("momentum", 0) > USUAL_MOMENTUM:
                group["momentum"] = USUAL_MOMENTUM
            if "betas" in group and group["betas"][0] > USUAL_MOMENTUM:
                group["betas"] = (USUAL_MOMENTUM, *group["betas"][1:])
