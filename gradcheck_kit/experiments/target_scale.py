"""How large the numbers are that a regression is to predict, and whether standardising them helps.

As with inputs no threshold says that a scale hurts. Where the run does not learn, or is above a constant prediction's
loss in the end, the same run on standardised targets tells.
"""

from __future__ import annotations

import itertools
import math
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from gradcheck_kit.experiments import NotApplicable, Probe
from gradcheck_kit.experiments.constant_loss import constant_loss
from gradcheck_kit.experiments.input_scale import standardizing_input
from gradcheck_kit.experiments.second_run import PATIENCE, losses_of_run
from gradcheck_kit.facts import InputScale, RateTrial, TargetScale, Training
from gradcheck_kit.target.keep import keep_random_state, kept_generators
from gradcheck_kit.target.outputs import tensors
from gradcheck_kit.target.workspace import seed_everything, workspace

BATCHES = 8
FEWEST = 3  # values that are equal, to be taken for a mark
FAR = 10.0  # standard deviations of all others, from their mean
MOST_COLUMNS = 64  # beyond which a target is an image or a sequence, whose numbers have one scale


def measure_target_scale(probe: Probe) -> TargetScale:
    """Mean and spread per column, and where they are odd and the run does not learn, the run again."""
    prepared, task = probe.prepared, probe.prepared.task
    training: Training | None = probe.facts.get(Training)
    if prepared.synthetic:
        raise NotApplicable("the data is made up")
    if task.loss_fn is None or task.loss_style == "reconstruction":
        raise NotApplicable("the loss does not compare one output with one target")
    if _several(probe):
        return _of_several(probe)
    if task.classes_from:
        raise NotApplicable("the targets are classes")
    with keep_random_state(), kept_generators(prepared.train):
        seed_everything(prepared.settings.seed)
        targets = [_target(task.target(batch)) for batch in itertools.islice(prepared.train, BATCHES)]
    columns = {t.shape[1] for t in targets}
    values = torch.cat([t if len(columns) == 1 and t.shape[1] <= MOST_COLUMNS else t.reshape(-1, 1) for t in targets])
    mean, std = values.mean(0), values.std(0, correction=0)
    low, high = float(values.min()), float(values.max())
    scales = [
        TargetScale(len(mean), i, float(m), float(s), low, high, (), None)
        for i, (m, s) in enumerate(zip(mean, std, strict=True))
    ]
    scale = max(scales, key=lambda one: (one.odd, math.hypot(one.mean, one.std)))
    scale = _marked(scale, values[:, scale.column])
    if training is None or not (training.harm or training.above_chance) or prepared.settings.quick or not scale.odd:
        return scale
    losses, constant = _run_standardized(probe, mean, std)
    entering = probe.facts.get(InputScale)
    if entering is not None and entering.odd and not RateTrial(1.0, losses or (math.inf,)).learned(constant):
        both, constant = _run_standardized(probe, mean, std, inputs=True)
        if RateTrial(1.0, both or (math.inf,)).learned(constant):  # neither alone, but the two together
            losses, scale = both, replace(scale, with_input_of=entering.layer)
    return replace(scale, standardized_losses=losses, standardized_constant_loss=constant)


def _several(probe: Probe) -> bool:
    """Whether the loss takes other things beside the output than one tensor: a dict of targets, rewards and flags."""
    prepared, task = probe.prepared, probe.prepared.task
    if not task.of_step and task.loss_style not in ("plain", "main"):
        return True
    with keep_random_state(), kept_generators(prepared.train):
        seed_everything(prepared.settings.seed)
        batch = next(iter(prepared.train))
        return not isinstance(task.target(batch), Tensor) or len(task.form.taken(batch)) > 1


Parts = dict[tuple[Any, ...], Tensor]


def _parts(probe: Probe, batch: Any) -> Parts:
    """The real numbers that the loss takes of a batch and the model is not given, by their place in the batch."""
    task = probe.prepared.task
    taken = {id(t) for t in task.form.taken(batch)} - {id(t) for t in tensors(task.form.given(batch))}
    leaves = pytree.tree_flatten_with_path(batch)[0]
    return {path: t for path, t in leaves if id(t) in taken and isinstance(t, Tensor) and t.is_floating_point()}


def _of_several(probe: Probe) -> TargetScale:
    """The part of the targets with the oddest scale, and the run with all odd parts standardised."""
    prepared, training = probe.prepared, probe.facts.get(Training)
    with keep_random_state(), kept_generators(prepared.train):
        seed_everything(prepared.settings.seed)
        found = [_parts(probe, batch) for batch in itertools.islice(prepared.train, BATCHES)]
    scales = {}
    for path in found[0]:
        values = torch.cat([parts[path].detach().double().cpu().reshape(-1) for parts in found if path in parts])
        if values.numel() and bool(torch.isfinite(values).all()):
            mean, std = float(values.mean()), float(values.std(correction=0))
            low, high = float(values.min()), float(values.max())
            scale = TargetScale(1, 0, mean, std, low, high, (), None, part=pytree.keystr(path))
            scales[path] = _marked(scale, values)
    if not scales:
        raise NotApplicable("the loss takes no real numbers beside the output that the model is not given")
    scale = max(scales.values(), key=lambda one: (one.odd, math.hypot(one.mean, one.std)))
    if training is None or not training.harm or prepared.settings.quick or not scale.odd:
        return scale
    odd = {path: one for path, one in scales.items() if one.odd}

    def standardized(batch: Any) -> Any:
        parts = {id(t): odd[path] for path, t in _parts(probe, batch).items() if path in odd}
        return pytree.tree_map(lambda t: (t - parts[id(t)].mean) / parts[id(t)].std if id(t) in parts else t, batch)

    with workspace(prepared, seed=prepared.settings.seed) as work:
        try:
            losses = losses_of_run(
                probe,
                work,
                steps=PATIENCE * prepared.settings.steps,
                enough=lambda losses: RateTrial(1.0, losses).learned(None),
                change=standardized,
            )
        except Exception:  # noqa: BLE001  # a loss of positive numbers does not take these
            return scale
    return replace(scale, standardized_losses=losses)


def _marked(scale: TargetScale, values: Tensor) -> TargetScale:
    """With the number that stands for a missing value: it comes again and again, far from all others, as -999 does."""
    for end in (values.min(), values.max()):
        marked = values == end
        others = values[~marked]
        if int(marked.sum()) < FEWEST or len(others) < len(values) / 2:
            continue
        if not abs(float(end - others.mean())) <= FAR * float(others.std(correction=0)):
            return replace(scale, marker=float(end), marked=float(marked.double().mean()))
    return scale


def _target(target: Any) -> Tensor:
    if not isinstance(target, Tensor) or not target.is_floating_point() or not target.numel():
        raise NotApplicable("the target is no tensor of numbers")
    rows = target.detach().double().cpu().reshape(len(target) if target.ndim else 1, -1)
    if not bool(torch.isfinite(rows).all()):
        raise NotApplicable("the targets hold NaN or infinity")
    return rows


def _run_standardized(
    probe: Probe, mean: Tensor, std: Tensor, *, inputs: bool = False
) -> tuple[tuple[float, ...], float | None]:
    """The losses of the training run again on standardised targets, and what a constant prediction reaches there.

    With `inputs`, what enters the first layer is standardised as well.
    """
    prepared = probe.prepared
    spread = torch.where(std == 0, 1.0, std)

    def standardized(target: Tensor) -> Tensor:
        flat = target.reshape(len(target) if target.ndim else 1, -1)
        return ((flat - mean.to(flat)) / spread.to(flat)).reshape(target.shape)

    with workspace(prepared, seed=prepared.settings.seed) as work:
        loss_fn = work.task.loss_fn
        assert loss_fn is not None
        seen: list[tuple[Tensor, tuple[int, ...]]] = []
        batches: list[Any] = []
        own = work.task

        def loss_of(output: Any, given: Any) -> Any:
            """The loss against standardised targets; a training step is given the batch that holds them."""
            target = own.target(given) if own.of_step else given
            scaled = standardized(target)
            given = pytree.tree_map(lambda leaf: scaled if leaf is target else leaf, given)
            if own.of_step and own.target(given) is not scaled:
                raise TypeError("the target is cut out of a larger tensor")
            if len(seen) < BATCHES and isinstance(output, Tensor):
                seen.append((scaled, tuple(output.shape)))
                batches.append(given)
            return loss_fn(output, given)

        work.task = replace(own, loss_fn=loss_of)
        try:
            with standardizing_input(work, probe) if inputs else nullcontext():
                losses = losses_of_run(probe, work)
        except Exception:  # noqa: BLE001  # a loss of positive numbers, as Poisson's, does not take these
            return (), None
        finally:
            work.task = own
        found = constant_loss(work, seen, batches)
    return losses, found.loss if found else None
