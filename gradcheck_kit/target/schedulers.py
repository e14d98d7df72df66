"""The user's learning-rate schedulers: who is there, and what they make of the rate. Copies are stepped, never they."""

from __future__ import annotations

import copy
import gc
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import torch
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

FAR = 5000  # steps, by which a warm-up has come to its end: Noam's usual one is 4000


def scheduled(optimizers: Sequence[Optimizer]) -> bool:
    """Whether a scheduler has left its mark on a group."""
    return any("initial_lr" in group for optimizer in optimizers for group in optimizer.param_groups)


def live_schedulers(optimizers: Sequence[Optimizer]) -> list[LRScheduler]:
    """Those that hold one of the optimizers, wherever the user keeps them; of nested ones the outermost."""
    found = [
        thing
        for thing in gc.get_objects()
        if issubclass(type(thing), LRScheduler) and any(thing.optimizer is one for one in optimizers)
    ]
    inner = {id(one) for scheduler in found for one in getattr(scheduler, "_schedulers", ())}
    return [scheduler for scheduler in found if id(scheduler) not in inner]


def rates_of(schedulers: Sequence[LRScheduler], steps: int) -> Iterator[list[list[float]]]:
    """The rate of each group of each scheduler's optimizer, before the first step and after each."""
    stand_ins = {id(s.optimizer): _stand_in(s.optimizer) for s in schedulers}
    copies = copy.deepcopy(list(schedulers), dict(stand_ins))

    def rates() -> list[list[float]]:
        return [[float(group["lr"]) for group in stand_ins[id(s.optimizer)].param_groups] for s in schedulers]

    yield rates()
    for _ in range(steps):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # no optimizer steps in between
            for scheduler in copies:
                scheduler.step()
        yield rates()


def _stand_in(optimizer: Optimizer) -> Optimizer:
    """An optimizer of nothing, with groups that hold the same numbers."""
    groups = [{**group, "params": [torch.zeros(())]} for group in optimizer.param_groups]
    stand_in = SGD(groups, lr=0.0)
    for own, group in zip(stand_in.param_groups, optimizer.param_groups, strict=True):
        own.update({key: copy.copy(value) for key, value in group.items() if key != "params"})
    return stand_in


def rates_to_train_at(optimizers: Sequence[Optimizer]) -> tuple[tuple[float, ...], ...]:
    """The rate of each group of each optimizer that a probe, which steps no scheduler, should train at.

    A warm-up that has not run yet holds the rate down: then it is the most that its schedule comes to. That need not be
    the optimizer's own, which the schedule of "Attention is all you need" multiplies by far less than 1. An optimizer
    whose step has hooks steps its scheduler itself.
    """
    rates = [[float(group.get("lr", 0.0)) for group in optimizer.param_groups] for optimizer in optimizers]
    for place, optimizer in enumerate(optimizers):
        held = [g for g in optimizer.param_groups if float(g.get("lr", 0.0)) < float(g.get("initial_lr", 0.0))]
        if not held or optimizer.state or has_step_hooks(optimizer):
            continue
        own = [float(group.get("initial_lr", group.get("lr", 0.0))) for group in optimizer.param_groups]
        schedulers = [s for s in live_schedulers([optimizer]) if not isinstance(s, ReduceLROnPlateau)]
        rates[place] = _most(schedulers, own) if schedulers else own
    return tuple(map(tuple, rates))


def _most(schedulers: Sequence[LRScheduler], own: list[float]) -> list[float]:
    """The highest rate that each group comes to; its own where the schedule never leaves 0, or cannot be followed."""
    most = [0.0] * len(own)
    with suppress(Exception):  # one that has come to its end, as OneCycleLR's does, or whatever a user's own raises
        for rates in rates_of(schedulers[:1], FAR):
            most = [max(pair) for pair in zip(most, rates[0], strict=True)]
    return [rate or start for rate, start in zip(most, own, strict=True)]


def has_step_hooks(optimizer: Optimizer) -> bool:
    """Whether something of the user's runs around each step: it may clip gradients, or step a scheduler."""
    names = ("_optimizer_step_pre_hooks", "_optimizer_step_post_hooks")
    return any(getattr(optimizer, name, None) for name in names)


@contextmanager
def keep_schedulers(optimizers: Sequence[Optimizer]) -> Iterator[None]:
    """Put the schedulers back that hooks of the optimizers step."""
    hooked = [optimizer for optimizer in optimizers if has_step_hooks(optimizer)]
    kept = [(s, dict(vars(s))) for s in live_schedulers(hooked)] if scheduled(hooked) else []
    try:
        yield
    finally:
        for scheduler, was in kept:
            vars(scheduler).clear()
            vars(scheduler).update(was)
