"""What the user's learning-rate scheduler makes of the rate in its first steps: a copy of it is stepped, not it.

The probe itself steps no scheduler: whether a step is a batch or an epoch is written in a loop that it does not see.
"""

from __future__ import annotations

from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from gradcheck_kit.experiments import NotApplicable, Probe
from gradcheck_kit.facts import Schedule
from gradcheck_kit.target.schedulers import FAR, live_schedulers, rates_of, scheduled

STEPS = 60
NEAR = 0.1  # of the rate that a warm-up ends at: what its first steps come to, and it is followed no further


def look_at_schedule(probe: Probe) -> Schedule:
    """The largest rate of any group, before the first step of the schedulers and after each.

    Of a scheduler that nothing holds any more there is no later step.
    """
    optimizers = probe.prepared.optimizers
    if not scheduled(optimizers):
        raise NotApplicable("no scheduler has the learning rate in its hands")
    schedulers = live_schedulers(optimizers)
    if not schedulers:  # nobody can step it any more: what it made of the rate stays
        return Schedule("", (max(float(group["lr"]) for one in optimizers for group in one.param_groups),))
    if any(isinstance(scheduler, ReduceLROnPlateau) for scheduler in schedulers):
        raise NotApplicable("the scheduler follows a measured value")
    try:
        rates = [max(rate for groups in step for rate in groups) for step in rates_of(schedulers, STEPS)]
    except Exception as error:  # whatever a user's own scheduler raises
        raise NotApplicable("the scheduler cannot be copied and stepped") from error
    name = type(schedulers[0]).__name__
    if rates[0] > max(rates) or max(rates) > NEAR * max(map(_initial, optimizers)):
        return Schedule(name, tuple(rates))
    try:
        far = [max(rate for groups in step for rate in groups) for step in rates_of(schedulers, FAR)]
    except Exception:  # noqa: BLE001  # one that comes to its end, as OneCycleLR's does
        return Schedule(name, tuple(rates))
    return Schedule(name, tuple(rates), far.index(max(far)), max(far), _length(probe.prepared.train))


def _initial(optimizer: Optimizer) -> float:
    return max(float(group.get("initial_lr", group.get("lr", 0.0))) for group in optimizer.param_groups)


def _length(train: Any) -> int | None:
    try:
        return len(train)
    except TypeError:  # a stream
        return None
