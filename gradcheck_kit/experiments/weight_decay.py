"""What weight decay does to the weights of the training run, and what becomes of the run without it.

Its share of an update alone is no fault: at the end of a training it balances the gradient. A run that learns without
it, and not with it, has too much of it; so has one that learns, whose weights it shrinks faster than gradients grow
them, if the loss falls much further without.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch

from gradcheck_kit.experiments import NotApplicable, Probe
from gradcheck_kit.experiments.second_run import PATIENCE, losses_of_run
from gradcheck_kit.facts import ParameterRecord, RateTrial, Training, WeightDecay, middle
from gradcheck_kit.target.workspace import workspace

SHRUNK = 0.5  # of their size, within a probe: a usual decay takes a thousandth
OUTWEIGHS = 1.0  # decay's part of the first update / the gradient's: Adam's steps are too short to halve weights
CLEARLY = 0.9  # of the loss with decay: what a run without it must come below
USUAL = {True: 0.1, False: 1e-3}  # the largest that people choose where it is decoupled, and where not


def look_at_weight_decay(probe: Probe) -> WeightDecay:
    """The decay's part of the first update, how far weights shrank, and, where either may do harm, a run without."""
    prepared, training = probe.prepared, probe.facts.get(Training)
    if not any(group.get("weight_decay") for o in prepared.optimizers for group in o.param_groups):
        raise NotApplicable("no optimizer decays weights")
    if training is None:
        raise NotApplicable("the training run was not recorded")
    with workspace(prepared, seed=prepared.settings.seed) as work:
        found = _measure(training, list(_decayed(work.optimizers, dict(work.model.named_parameters()))))
        shrunk = found.shrinkage is not None and found.shrinkage <= SHRUNK
        outweighs = found.share is not None and found.share >= OUTWEIGHS
        worth_it = (shrunk or outweighs) if training.harm else (shrunk and outweighs and found.unusual)
        if not worth_it or prepared.settings.quick:
            return found
        for optimizer in work.optimizers:
            for group in optimizer.param_groups:
                if "weight_decay" in group:
                    group["weight_decay"] = 0.0
        end, steps = training.last_loss, prepared.settings.steps

        def enough(losses: tuple[float, ...]) -> bool:
            free = RateTrial(1.0, losses)
            return free.learned(training.constant_loss) and 0 <= free.end < CLEARLY * end

        # Where the run with decay does not learn, that without gets as long as anything that is tried in its place.
        longer = PATIENCE * steps if training.harm else steps
        return replace(found, free_losses=losses_of_run(probe, work, steps=longer, enough=enough))


def _decayed(
    optimizers: list[torch.optim.Optimizer], named: dict[str, torch.nn.Parameter]
) -> Iterator[tuple[str, float, float, bool]]:
    """Each decayed parameter: its name, decay, learning rate, and whether the decay is decoupled."""
    names = {id(p): name for name, p in named.items()}
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            decoupled = bool(group.get("decoupled_weight_decay")) or isinstance(optimizer, torch.optim.AdamW)
            for parameter in group["params"]:
                if group.get("weight_decay") and id(parameter) in names:
                    rate = float(group.get("lr", 1.0))
                    yield names[id(parameter)], float(group["weight_decay"]), rate, decoupled


def _measure(training: Training, decayed: list[tuple[str, float, float, bool]]) -> WeightDecay:
    records = {p.name: p for p in training.parameters if p.is_weight}
    shares, shrinkage, fitting = [], [], []
    for name, decay, rate, decoupled in decayed:
        record = records.get(name)
        if record is None:
            continue
        if (share := _share(record, decay, rate, decoupled=decoupled)) is not None:
            shares.append(share)
            if share > 0:
                fitting.append(0.1 * decay / share)
        sizes = [w for w in record.weight_rms if w is not None]
        if len(sizes) > 1 and sizes[0] > 0:
            shrinkage.append(sizes[-1] / sizes[0])
    largest = max((decay for _, decay, _, _ in decayed), default=0.0)
    decoupled = any(decoupled for *_, decoupled in decayed)
    proposed = float(f"{min(middle(fitting) or largest / 10, USUAL[decoupled]):.0e}")
    return WeightDecay(largest, decoupled, tuple(shares), middle(shrinkage), proposed, ())


def _share(record: ParameterRecord, decay: float, rate: float, *, decoupled: bool) -> float | None:
    """Decay's part of the first recorded update over the gradient's part, as root mean squares."""
    weight, gradient, update = (series[0] for series in (record.weight_rms, record.gradient_rms, record.update_rms))
    if not weight:
        return None
    if decoupled:
        own = rate * decay * weight
        rest = (update**2 - own**2) ** 0.5 if update is not None and update > own else 0.0
        return own / rest if rest > 0 else None
    return decay * weight / gradient if gradient else None
