"""The trained model on batches that it was trained on, normalised as in training and as in evaluation."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import nn

from gradcheck_kit.experiments import NotApplicable, Probe
from gradcheck_kit.experiments.evaluation import load_trained
from gradcheck_kit.facts import ModeGap
from gradcheck_kit.observe.names import named_modules
from gradcheck_kit.target.batches import batch_size_of
from gradcheck_kit.target.workspace import Workspace, workspace

BATCHES = 8
AVERAGED = 32  # batches, which are small where it matters


def compare_modes(probe: Probe) -> ModeGap:
    """The loss of training batches, normalised by the batch, by running statistics, and by averages taken anew.

    Everything but the normalisation is in evaluation mode each time, so that Dropout makes no difference.
    """
    prepared = probe.prepared
    if prepared.task.training_step is not None:
        raise NotApplicable("the target brings a training step, which says nothing about evaluation mode")
    if prepared.synthetic:
        raise NotApplicable("the data is made up")
    if probe.trained is None:
        raise NotApplicable("the model was not trained first")
    kinds = nn.modules.batchnorm._NormBase  # noqa: SLF001  # the common base has no public name
    if not any(isinstance(module, kinds) for module in prepared.model.modules()):
        raise NotApplicable("no layer that is trained has running statistics")
    with workspace(prepared, seed=prepared.settings.seed) as work:
        norms = {
            name: module
            for name, module in named_modules(work.model)
            if isinstance(module, kinds) and module.training and module.running_mean is not None
        }
        if not norms:
            raise NotApplicable("no layer that is trained has running statistics")
        load_trained(work, probe)
        batches = [work.to_device(batch) for batch in itertools.islice(prepared.train, AVERAGED)]
        if len(batches) < BATCHES:
            raise NotApplicable(f"an epoch has fewer than {BATCHES} batches")
        work.model.eval()
        still = tuple(name for name, norm in norms.items() if norm.momentum == 0)
        try:
            by_running = _losses(work, batches[:BATCHES])
            for norm in norms.values():
                norm.train()
            by_batch = _losses(work, batches[:BATCHES])
            for norm in norms.values():
                norm.reset_running_stats()
                norm.momentum = None  # a plain average
            _losses(work, batches)
            work.model.eval()
            by_average = _losses(work, batches[:BATCHES])
        except Exception as error:  # a model may return its loss in training mode only
            raise NotApplicable("the loss cannot be computed in evaluation mode") from error
    first = next(iter(norms.values()))
    return ModeGap(
        tuple(norms), type(first).__name__, batch_size_of(batches[0]) or 1, by_batch, by_running, by_average, still
    )


def _losses(work: Workspace, batches: list[Any]) -> tuple[float, ...]:
    with torch.no_grad():
        return tuple(float(work.step(batch)[1]) for batch in batches)
