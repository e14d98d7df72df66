"""How noisy the gradient of one batch is, and, where the run does not learn, the same samples in larger batches.

Near an optimum all gradients are noise, so that noise alone is no fault. Two more runs decide, both over the same
samples at the same rate: one takes them in larger batches, the other, with as many more steps, in batches as they are.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace
from statistics import fmean
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from gradcheck_kit.experiments import NotApplicable, Probe
from gradcheck_kit.experiments.evaluation import load_trained
from gradcheck_kit.experiments.second_run import losses_of_run
from gradcheck_kit.facts import GradientNoise, LearningRateResponse, RateTrial, Training
from gradcheck_kit.target.batches import batch_size_of, endless
from gradcheck_kit.target.closures import needs_closure
from gradcheck_kit.target.keep import kept_generators
from gradcheck_kit.target.workspace import Prepared, Workspace, seed_everything, workspace

BATCHES = 16
LEAST, MOST = 8, 32  # times as large, that a batch is made
LARGEST = 128  # samples in it: of batches of more than 16 noise is hardly ever what stops a run


def look_at_gradient_noise(probe: Probe) -> GradientNoise:
    """The noise scale at both ends of a run that does not learn; where it is above the batch, two more runs."""
    prepared, training = probe.prepared, probe.facts.get(Training)
    if training is None:
        raise NotApplicable("the training run was not recorded")
    if not training.harm:
        raise NotApplicable("the run learns, so noise does it no harm")
    if prepared.settings.quick:
        raise NotApplicable("left out by --quick")
    with workspace(prepared, seed=prepared.settings.seed) as work:
        if any(map(needs_closure, work.optimizers)):
            raise NotApplicable("the optimizer evaluates a batch more than once")
        aligned = _aligned(next(endless(prepared.train)))
        start = _noise_scale(work, prepared)
        end = None
        if training.finite:
            load_trained(work, probe)
            end = _noise_scale(work, prepared)
    found = GradientNoise(training.samples_per_step, start, end, None, (), ())
    response = probe.facts.get(LearningRateResponse)
    late = response is not None and response.own.learned(training.constant_loss)
    largest = max((scale for scale in (start, end) if scale is not None), default=0.0)
    if late or not largest > found.batch:
        return found
    if LEAST * found.batch > LARGEST or not aligned:
        return found
    factor = max(
        LEAST, min(MOST, LARGEST // found.batch, 2 ** math.ceil(math.log2(min(largest, LARGEST) / found.batch)))
    )
    try:
        large = _losses(probe, _Joined(prepared.train, factor), prepared.settings.steps)
    except Exception:  # noqa: BLE001  # samples of different shapes, or a model that counts on the size of its batch
        return found
    if not RateTrial(1.0, large).learned(training.constant_loss):
        return GradientNoise(found.batch, start, end, factor, large, ())
    same = _losses(probe, prepared.train, factor * prepared.settings.steps)
    joined = tuple(fmean(same[i : i + factor]) for i in range(0, len(same), factor))
    return GradientNoise(found.batch, start, end, factor, large, joined)


def _losses(probe: Probe, batches: Any, steps: int) -> tuple[float, ...]:
    changed = replace(probe.prepared, train=batches)
    # the workspace looks for the generators of what it is given, and does not see through the joined data
    with kept_generators(probe.prepared.train), workspace(changed, seed=changed.settings.seed) as work:
        return losses_of_run(Probe(changed, probe.facts, probe.tick), work, steps=steps)


class _Joined:
    """The data in batches that are so many times as large. A last one that is incomplete is left out."""

    def __init__(self, data: Any, factor: int) -> None:
        self._data, self._factor = data, factor

    def __iter__(self) -> Iterator[Any]:
        batches = endless(self._data)
        while True:
            yield pytree.tree_map(lambda *parts: torch.cat(parts), *itertools.islice(batches, self._factor))


def _aligned(batch: Any) -> bool:
    """Whether all there is are tensors with one row per sample, which can be put together."""
    size, leaves = batch_size_of(batch), pytree.tree_leaves(batch)
    return bool(leaves) and all(isinstance(t, Tensor) and t.ndim and len(t) == size for t in leaves)


def _noise_scale(work: Workspace, prepared: Prepared) -> float | None:
    """The batch size at which the gradient's noise is as large as itself; infinite where no signal can be told.

    tr(covariance of one sample's gradient) / |mean gradient|^2, unbiased in both, over 16 batches: the simple noise
    scale of McCandlish et al. (2018), "An Empirical Model of Large-Batch Training".
    """
    seed_everything(prepared.settings.seed)
    total: list[Tensor] | None = None
    squares, sizes = [], []
    for batch in itertools.islice(endless(prepared.train), BATCHES):
        moved = work.to_device(batch)
        work.clear_gradients()
        _, loss = work.step(moved)
        work.backward(loss)  # multiplied by a GradScaler's factor, which the ratio does not see
        gradients = [p.grad.detach().double() for p in work.parameters() if p.grad is not None and not p.grad.is_sparse]
        if not gradients or (total is not None and len(total) != len(gradients)):
            return None  # which parameters take part differs from batch to batch
        squares.append(float(torch.stack([g.square().sum() for g in gradients]).sum()))
        total = gradients if total is None else [a.add_(b) for a, b in zip(total, gradients, strict=True)]
        sizes.append(batch_size_of(moved) or 1)
    work.clear_gradients()
    assert total is not None
    n = len(squares)
    mean_square = float(torch.stack([(g / n).square().sum() for g in total]).sum())
    noise = (fmean(squares) - mean_square) * n / (n - 1)
    signal = mean_square - noise / n
    if not math.isfinite(noise) or not math.isfinite(signal):
        return None
    return fmean(sizes) * noise / signal if signal > 0 else math.inf
