"""What a prediction that ignores the input would reach, by the user's own loss: the line between learning and not."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

import torch
from torch import Tensor

from gradcheck_kit.target.classes import class_dimension
from gradcheck_kit.target.workspace import Workspace


@dataclass(frozen=True, slots=True)
class ConstantLoss:
    loss: float
    error: float  # standard error over batches
    prediction: str
    zero: float | None  # the loss of an all-zero output: ln C, ln 2, the mean square of the target


def constant_loss(
    work: Workspace, targets: list[tuple[Any, tuple[int, ...]]], batches: list[Any] | None = None
) -> ConstantLoss | None:
    """The lowest mean loss among constant predictions that are optimal for some usual loss; None where none fits.

    Class frequencies are optimal for cross-entropy, the mean for squared error, the median for absolute error, the
    mean's log-odds for binary cross-entropy with logits. The user's own loss decides which of them counts. A training
    step of the user's takes the `batches` that the targets are of.
    """
    task = work.task
    if task.loss_fn is None or not targets or not (task.of_step or task.loss_style in ("plain", "main")):
        return None
    against = batches if task.of_step and batches is not None else [target for target, _ in targets]
    zeros = _losses(work, [torch.zeros(shape, device=work.device) for _, shape in targets], against)
    best: ConstantLoss | None = None
    for name, constants in _candidates(targets):
        if losses := _losses(work, constants, against):
            error = stdev(losses) / math.sqrt(len(losses)) if len(losses) > 1 else 0.0
            found = ConstantLoss(fmean(losses), error, name, fmean(zeros) if zeros else None)
            best = found if best is None or found.loss < best.loss else best
    return best


def _losses(work: Workspace, predictions: list[Tensor], against: list[Any]) -> list[float]:
    """The user's loss of these predictions, batch by batch; empty where it does not take them or is not finite."""
    assert work.task.loss_fn is not None
    try:
        with torch.no_grad():
            losses = [float(work.task.loss_fn(p, other)) for p, other in zip(predictions, against, strict=True)]
    except Exception:  # noqa: BLE001  # whatever the user's loss has against this kind of prediction
        return []
    return losses if all(map(math.isfinite, losses)) else []


def _candidates(targets: list[tuple[Any, tuple[int, ...]]]) -> Iterator[tuple[str, list[Tensor]]]:
    first, shape = targets[0]
    if not first.is_floating_point() and not first.is_complex():
        yield from _class_frequencies(targets)
        if math.prod(shape) == first.numel():
            yield from _averages([(t.float(), s) for t, s in targets], "the base rate")
        return
    if math.prod(shape) == first.numel():
        yield from _averages(targets, "the target's mean")


def _class_frequencies(targets: list[tuple[Any, tuple[int, ...]]]) -> Iterator[tuple[str, list[Tensor]]]:
    first, shape = targets[0]
    if math.prod(shape) % max(1, first.numel()) or math.prod(shape) == first.numel():
        return
    classes = math.prod(shape) // first.numel()
    labels = torch.cat([t.reshape(-1) for t, _ in targets])
    labels = labels[(labels >= 0) & (labels < classes)]
    if not labels.numel():
        return
    counts = torch.bincount(labels.long(), minlength=classes).float()
    # A class that was not seen gets a small share: its loss must stay finite.
    logits = torch.log((counts + 1e-3) / (counts + 1e-3).sum())
    constants = []
    for target, prediction_shape in targets:
        example = torch.empty(prediction_shape, device="meta")
        dim = class_dimension(example, torch.empty(target.shape, device="meta"))
        dim = (1 if len(prediction_shape) > 1 and prediction_shape[1] == classes else -1) if dim is None else dim
        if prediction_shape[dim] != classes:
            return
        view = [1] * len(prediction_shape)
        view[dim] = classes
        constants.append(logits.view(view).expand(prediction_shape).contiguous())
    yield "the class frequencies", constants


def _averages(targets: list[tuple[Tensor, tuple[int, ...]]], name: str) -> Iterator[tuple[str, list[Tensor]]]:
    values = torch.cat([t.reshape(len(t), -1) for t, _ in targets]).float()
    mean = values.mean(0)
    kinds = {name: mean, "the target's median": values.median(0).values}
    if bool(((values >= 0) & (values <= 1)).all()):
        kinds["the base rate's log-odds"] = torch.logit(mean, eps=1e-6)
    for kind, constant in kinds.items():
        if all(math.prod(s) % constant.numel() == 0 and len(t) == s[0] for t, s in targets):
            yield kind, [constant.to(t.dtype).expand(len(t), -1).reshape(s) for t, s in targets]
