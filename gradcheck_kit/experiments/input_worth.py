"""Whether what was learned makes use of the input: the loss with the inputs of other samples, after training."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from gradcheck_kit.experiments import Probe
from gradcheck_kit.experiments.batch_mixing import is_float
from gradcheck_kit.experiments.second_run import losses_of_run
from gradcheck_kit.facts import InputUse, Training, mann_kendall
from gradcheck_kit.facts.statistics import windows
from gradcheck_kit.target.batches import endless
from gradcheck_kit.target.outputs import tensors
from gradcheck_kit.target.task import Task
from gradcheck_kit.target.workspace import Workspace, seed_everything, workspace

BATCHES = 8
PATIENCE = 5  # times the probe's steps


def with_worth(probe: Probe, used: InputUse) -> InputUse:
    """What the trained model's loss is with the inputs of other samples, where no constant prediction is known.

    Only of losses in which it matters which output belongs to which sample, as it does not between two distributions.
    One answer for all is what many models learn first: it must be all in several times as many steps, of which the
    last bring the loss no further down.
    """
    training = probe.facts.get(Training)
    if training is None or training.harm or training.constant_loss is not None or not training.long_enough:
        return used
    seed = probe.prepared.settings.seed
    with probe.workspace(trained=True) as work:
        found = _with_losses(probe, work, used)
    if not found.worthless or probe.prepared.settings.quick:
        return used if found.worthless else found
    with workspace(probe.prepared, seed=seed) as work:
        losses = losses_of_run(probe, work, steps=PATIENCE * probe.prepared.settings.steps)
        late = losses[len(losses) // 2 :]
        settled = all(map(math.isfinite, losses)) and not mann_kendall(windows(late, 64)) < -2.33
        return _with_losses(probe, work, used) if settled else used


def _with_losses(probe: Probe, work: Workspace, used: InputUse) -> InputUse:
    """The losses of some batches as they are, and with each sample's input in the place of the one before."""
    task, seed = work.task, probe.prepared.settings.seed
    batches = endless(probe.prepared.train)
    own: list[float] = []
    others: list[float] = []
    try:
        for index in range(BATCHES):
            batch = work.to_device(next(batches))
            given = tensors(task.inputs(batch))
            if not given or any(not t.ndim or len(t) < 4 for t in given):
                return used
            rolled = {id(t): t.roll(1, 0) for t in given}
            turned = pytree.tree_map(lambda leaf, rolled=rolled: rolled.get(id(leaf), leaf), batch)
            with torch.no_grad():
                outputs = []
                for one in (batch, turned):
                    seed_everything(seed + index)
                    outputs.append(task.forward(work.model, one))
                if not index and not _belongs(task, outputs[0], batch):
                    return used
                if not _alike(task.prediction(outputs[0]), task.prediction(outputs[1])):
                    # Where the loss is the same all the same, it compares samples with each other, in any order.
                    return used
                own.append(float(task.loss(outputs[0], batch)))
                others.append(float(task.loss(outputs[1], batch)))
    except Exception:  # noqa: BLE001  # a batch of one piece, or a loss that wants its gradient
        return used
    return replace(used, own_losses=tuple(own), others_losses=tuple(others))


def _alike(one: Tensor | None, other: Tensor | None) -> bool:
    """Whether two predictions differ by less than a tenth of their size."""
    if one is None or other is None or one.shape != other.shape:
        return False
    return float((one - other).abs().square().sum()) < 1e-2 * float(one.abs().square().sum())


def _belongs(task: Task, output: Any, batch: Any) -> bool:
    """Whether the loss tells which output belongs to which sample: noisy outputs and the same in another order."""
    noisy = pytree.tree_map(lambda t: t + torch.randn_like(t) if isinstance(t, Tensor) and is_float(t) else t, output)
    turned = pytree.tree_map(lambda t: t.roll(1, 0) if isinstance(t, Tensor) and t.ndim else t, noisy)
    here, there = float(task.loss(noisy, batch)), float(task.loss(turned, batch))
    return abs(here - there) > 1e-5 * abs(here)
