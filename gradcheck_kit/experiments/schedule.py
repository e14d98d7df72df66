"""What the user's learning-rate scheduler makes of the rate in its first steps: a copy of it is stepped, not it.

The probe itself steps no scheduler: whether a step is a batch or an epoch is written in a loop that it does not see.
"""

from __future__ import annotations

import copy
import gc
import warnings
from collections.abc import Sequence

import torch
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from gradcheck_kit.experiments import NotApplicable, Probe
from gradcheck_kit.facts import Schedule

STEPS = 60


def look_at_schedule(probe: Probe) -> Schedule:
    """The largest rate of any group, before the first step of the schedulers and after each.

    Of a scheduler that nothing holds any more there is no later step.
    """
    optimizers = probe.prepared.optimizers
    if not any("initial_lr" in group for optimizer in optimizers for group in optimizer.param_groups):
        raise NotApplicable("no scheduler has the learning rate in its hands")
    schedulers = _schedulers(optimizers)
    if not schedulers:  # nobody can step it any more: what it made of the rate stays
        return Schedule("", (max(float(group["lr"]) for one in optimizers for group in one.param_groups),))
    if any(isinstance(scheduler, ReduceLROnPlateau) for scheduler in schedulers):
        raise NotApplicable("the scheduler follows a measured value")
    try:
        return Schedule(type(schedulers[0]).__name__, _rates(schedulers))
    except Exception as error:  # whatever a user's own scheduler raises
        raise NotApplicable("the scheduler cannot be copied and stepped") from error


def _schedulers(optimizers: Sequence[Optimizer]) -> list[LRScheduler]:
    """Those that hold one of the optimizers, wherever the user keeps them; of nested ones the outermost."""
    found = [
        thing
        for thing in gc.get_objects()
        if issubclass(type(thing), LRScheduler) and any(thing.optimizer is one for one in optimizers)
    ]
    inner = {id(one) for scheduler in found for one in getattr(scheduler, "_schedulers", ())}
    return [scheduler for scheduler in found if id(scheduler) not in inner]


def _rates(schedulers: Sequence[LRScheduler]) -> tuple[float, ...]:
    stand_ins = {id(s.optimizer): _stand_in(s.optimizer) for s in schedulers}
    copies = copy.deepcopy(list(schedulers), dict(stand_ins))

    def rate() -> float:
        return max(float(group["lr"]) for optimizer in stand_ins.values() for group in optimizer.param_groups)

    rates = [rate()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # no optimizer steps in between
        for _ in range(STEPS):
            for scheduler in copies:
                scheduler.step()
            rates.append(rate())
    return tuple(rates)


def _stand_in(optimizer: Optimizer) -> Optimizer:
    """An optimizer of nothing, with groups that hold the same numbers."""
    groups = [{**group, "params": [torch.zeros(())]} for group in optimizer.param_groups]
    stand_in = SGD(groups, lr=0.0)
    for own, group in zip(stand_in.param_groups, optimizer.param_groups, strict=True):
        own.update({key: copy.copy(value) for key, value in group.items() if key != "params"})
    return stand_in
