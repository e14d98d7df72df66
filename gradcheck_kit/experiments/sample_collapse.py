"""Whether what a model makes of different samples has come together, where its loss asks for nothing else.

A loss that only draws two views of a sample together is at its best when all samples come out the same. What keeps
them apart is no term of the loss then but how the model is trained: a gradient that is stopped on one side.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from gradcheck_kit.experiments import NotApplicable, Probe
from gradcheck_kit.facts import SampleCollapse, Training
from gradcheck_kit.target.batches import batch_size_of, endless
from gradcheck_kit.target.layers import takes_hooks
from gradcheck_kit.target.workspace import Workspace, seed_everything

FEWEST = 4  # samples of a batch


def look_at_sample_collapse(probe: Probe) -> SampleCollapse:
    """The spread of outputs before and after training, and the loss of equal outputs. Raises NotApplicable elsewhere.

    Looked at where there are no targets and the run learns.
    """
    prepared, training = probe.prepared, probe.facts.get(Training)
    if prepared.synthetic:
        raise NotApplicable("the data is made up")
    if prepared.task.training_step is None and prepared.task.target(next(endless(prepared.train))) is not None:
        raise NotApplicable("the loss compares outputs with targets")
    if training is None or probe.trained is None or not takes_hooks(prepared.model):
        raise NotApplicable("the model was not trained, or takes no hooks")
    if training.harm or training.constant_loss is not None:
        raise NotApplicable("the run does not learn, or what a constant prediction reaches is known")
    with probe.workspace() as work:
        start, _ = _look(work, probe)
    with probe.workspace(trained=True) as work:
        end, loss = _look(work, probe)
        _, constant = _look(work, probe, equal=True)
    return SampleCollapse(start, end, loss, constant)


def _look(work: Workspace, probe: Probe, *, equal: bool = False) -> tuple[float, float]:
    """The largest spread of the model's outputs over the samples of a batch, and the loss; of equal ones if asked."""
    batch = work.to_device(next(endless(probe.prepared.train)))
    rows = batch_size_of(batch)
    spreads: list[float] = []

    def is_embedding(value: Any) -> bool:
        return isinstance(value, Tensor) and value.is_floating_point() and value.ndim == 2 and len(value) == rows

    def note(_module: nn.Module, _args: Any, output: Any) -> Any:
        spreads.extend(_spread(leaf) for leaf in pytree.tree_leaves(output) if is_embedding(leaf))
        return pytree.tree_map(lambda leaf: _mean(leaf) if is_embedding(leaf) else leaf, output) if equal else None

    handle = work.model.register_forward_hook(note)
    seed_everything(probe.prepared.settings.seed)
    try:
        with torch.no_grad():
            loss = float(work.step(batch)[1])
    except Exception as error:
        raise NotApplicable("the loss cannot be taken of equal outputs") from error
    finally:
        handle.remove()
    if not spreads or rows is None or rows < FEWEST:
        raise NotApplicable("the model returns no vector for each sample")
    return max(spreads), loss


def _mean(vectors: Tensor) -> Tensor:
    return vectors.mean(0, keepdim=True).expand_as(vectors)


def _spread(vectors: Tensor) -> float:
    """RMS deviation from the mean over samples / RMS, of shape (samples, features); 0.0 of zeros."""
    wide = vectors.detach().double().cpu()
    size = float(wide.square().mean())
    return (float((wide - wide.mean(0)).square().mean()) / size) ** 0.5 if size > 0 else 0.0
