"""Whether the loss grows with the batch, and whether the run learns with the loss divided by what it is summed over.

An average does not change when every sample is there twice; a sum doubles. Where it is possible the outputs are
repeated and not the forward pass: what the model draws at random is then the same each time.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from gradcheck_kit.experiments import NotApplicable, Probe
from gradcheck_kit.experiments.one_batch_fit import DROPOUTS, small_batch
from gradcheck_kit.experiments.second_run import losses_of_run
from gradcheck_kit.facts import BatchRepetition, RateTrial, Training
from gradcheck_kit.target.batches import batch_size_of, endless
from gradcheck_kit.target.closures import needs_closure
from gradcheck_kit.target.workspace import Workspace, workspace

NEAR_THE_END = 8  # operations from the loss backwards


def repeat_batch(probe: Probe) -> BatchRepetition:
    """The loss of some samples once, twice and three times; where that is a sum that hurts, the run divided by it."""
    prepared, training = probe.prepared, probe.facts.get(Training)
    with workspace(prepared, seed=prepared.settings.seed) as work:
        batch = work.to_device(next(endless(prepared.train)))
        size = batch_size_of(batch) or 1
        small = small_batch(batch)
        target = work.task.target(small)
        each = target.numel() // len(target) if isinstance(target, Tensor) and target.ndim else 1
        losses = _losses(work, small, size)
    found = BatchRepetition(size, losses, prepared.task.loss_name or "the loss", None, ())
    if training is None or prepared.settings.quick or not found.share > 0.5 or not training.went_wrong:
        return found
    if any(map(needs_closure, prepared.optimizers)):
        return found  # it takes its own steps with the loss as it is
    runs = {divisor: _divided(probe, divisor) for divisor in sorted({size * max(1, each), size}, reverse=True)}
    best = min(runs, key=lambda divisor: RateTrial(1.0, runs[divisor]).end * divisor)
    return BatchRepetition(size, losses, found.loss, best, runs[best])


def _divided(probe: Probe, divisor: int) -> tuple[float, ...]:
    """The losses of the training run again, each divided before it is backpropagated."""
    with workspace(probe.prepared, seed=probe.prepared.settings.seed) as work:
        return losses_of_run(probe, work, divisor=divisor)


def _losses(work: Workspace, batch: Any, usual_size: int) -> tuple[float, ...]:
    """The loss of the batch once, twice and three times, by repeated outputs or else by repeated samples."""
    size = batch_size_of(batch)
    if size is None or not _aligned(batch, size):
        raise NotApplicable("the parts of a batch are not one per sample, so it cannot be repeated")
    for module in work.model.modules():
        if isinstance(module, DROPOUTS):
            module.eval()
    try:
        output = work.task.forward(work.model, batch)
        if work.task.training_step is None and work.task.loss_fn is not None and _aligned(output, size):
            losses = [work.task.loss(_repeated(output, k), _repeated(batch, k)) for k in (1, 1, 2, 3)]
        else:
            losses = [work.step(_repeated(batch, k))[1] for k in (1, 1, 2, 3)]
    except Exception as error:
        raise NotApplicable("the loss does not take a batch that is repeated") from error
    once, same, *more = (float(loss.detach()) for loss in losses)
    if math.isfinite(once) and not abs(same - once) <= 1e-6 * abs(once):
        raise NotApplicable("the loss draws random numbers, so that two batches cannot be compared")
    if abs(more[0] - once) > 0.5 * abs(once) and _divides_already(losses[0], usual_size):
        raise NotApplicable("the loss divides by a fixed number of its own")
    return (once, *more)


def _divides_already(loss: Tensor, size: int) -> bool:
    """Whether the last operations scale by one over the usual batch size or less, as in `loss.sum() / BATCH_SIZE`.

    Such a sum doubles with the batch and is an average all the same.
    """
    nodes = {loss.grad_fn} if loss.grad_fn is not None else set()
    for _ in range(NEAR_THE_END):
        for node in nodes:
            if node.name() in ("DivBackward0", "MulBackward0"):
                number = getattr(node, "_saved_other", None)  # where autograd keeps it
                if isinstance(number, Tensor) and number.ndim == 0 and not number.requires_grad:
                    factor = abs(float(number))
                    factor = 1 / max(factor, 1e-30) if node.name() == "DivBackward0" else factor
                    if factor * size <= 1.001:
                        return True
        nodes = {following for node in nodes for following, _ in node.next_functions if following is not None}
    return False


def _aligned(tree: Any, size: int) -> bool:
    """Whether all there is are tensors with one row per sample."""
    leaves = pytree.tree_leaves(tree)
    return bool(leaves) and all(isinstance(t, Tensor) and t.ndim and len(t) == size for t in leaves)


def _repeated(tree: Any, times: int) -> Any:
    return pytree.tree_map(lambda t: torch.cat([t] * times), tree)
