"""Whether what a model makes of different samples has come together, where its loss asks for nothing else.

A loss that only draws two views of a sample together is at its best when all samples come out the same. What keeps
them apart is no term of the loss then but how the model is trained: a gradient that is stopped on one side.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from gradcheck_kit.experiments import NotApplicable, Probe
from gradcheck_kit.experiments.rank_collapse import spread
from gradcheck_kit.facts import SampleCollapse, Training
from gradcheck_kit.target.batches import batch_size_of, endless
from gradcheck_kit.target.layers import takes_hooks
from gradcheck_kit.target.workspace import Workspace, seed_everything

FEWEST = 4  # samples of a batch


def look_at_sample_collapse(probe: Probe) -> SampleCollapse:
    """The spread of outputs before and after training, and the loss of equal outputs. Raises NotApplicable elsewhere.

    Looked at where the run learns and the loss depends on nothing but what the model returns: the same outputs have the
    same loss beside another batch.
    """
    prepared, training = probe.prepared, probe.facts.get(Training)
    if prepared.synthetic:
        raise NotApplicable("the data is made up")
    if training is None or probe.trained is None or not takes_hooks(prepared.model):
        raise NotApplicable("the model was not trained, or takes no hooks")
    if training.harm or training.constant_loss is not None:
        raise NotApplicable("the run does not learn, or what a constant prediction reaches is known")
    with probe.workspace() as work:
        batch = _batch(work, probe, 0)
        if work.task.training_step is None and work.task.target(batch) is not None:
            raise NotApplicable("the loss compares outputs with targets")
        _, first = _step(work, batch)
    with probe.workspace(trained=True) as work:
        batch = _batch(work, probe, 0)
        loss, outputs = _step(work, batch)
        vectors = [leaf for leaf in pytree.tree_leaves(outputs) if isinstance(leaf, Tensor)]
        rows = batch_size_of(batch) or 0
        if not vectors or rows < FEWEST or not all(v.ndim == 2 and len(v) == rows for v in vectors):
            raise NotApplicable("the model returns other things than a vector for each sample")
        if _step(work, _batch(work, probe, 1), outputs)[0] != loss:
            raise NotApplicable("the loss compares outputs with the data, or with random numbers")
        equal, _ = _step(work, batch, pytree.tree_map(_mean, outputs))
    return SampleCollapse(_largest_spread(first), _largest_spread(outputs), loss, equal)


def _batch(work: Workspace, probe: Probe, index: int) -> Any:
    return work.to_device(next(itertools.islice(endless(probe.prepared.train), index, None)))


def _step(work: Workspace, batch: Any, returned: list[Any] | None = None) -> tuple[float, list[Any]]:
    """The loss of a batch and what the model returns at each of its calls; with `returned` in the place of that."""
    outputs: list[Any] = []

    def note(_module: nn.Module, _args: Any, output: Any) -> Any:
        outputs.append(output)
        return None if returned is None else returned[len(outputs) - 1]

    handle = work.model.register_forward_hook(note)
    seed_everything(0)
    try:
        with torch.no_grad():
            loss = float(work.step(batch)[1])
    except Exception as error:
        raise NotApplicable("the loss cannot be taken of other outputs") from error
    finally:
        handle.remove()
    return loss, outputs


def _largest_spread(outputs: list[Any]) -> float:
    return max(spread(leaf, 0) for leaf in pytree.tree_leaves(outputs) if isinstance(leaf, Tensor))


def _mean(vectors: Any) -> Any:
    return vectors.mean(0, keepdim=True).expand_as(vectors) if isinstance(vectors, Tensor) else vectors
