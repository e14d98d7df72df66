"""Labels that the loss refuses, told from everything else that a loss may raise."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from gradcheck_kit.errors import LabelError
from gradcheck_kit.target.blame import located, shape_of
from gradcheck_kit.target.outputs import prediction_of
from gradcheck_kit.target.task import Task


def check_classes(task: Task, output: Any, batch: Any) -> None:
    """Raise LabelError for class indices that do not exist.

    Found here, because on a GPU the failed assertion would poison the process. A loss of the user's decides for itself
    what its labels mean: an ordinal one has an output fewer than classes.
    """
    target, prediction = task.form.target_of(batch), prediction_of(output)
    if not isinstance(target, Tensor) or target.is_floating_point() or prediction is None or target.numel() == 0:
        return
    classes = None
    if prediction.ndim == target.ndim + 1 and prediction.shape[:1] == target.shape[:1]:
        if prediction.shape[2:] == target.shape[1:]:
            classes = prediction.shape[1]
        elif prediction.shape[1:-1] == target.shape[1:]:
            classes = prediction.shape[-1]
    largest, smallest = int(target.max()), int(target.min())
    if classes is not None and classes > 1 and largest >= classes and largest != 255:
        if _step_takes(task, output, batch) if task.of_step else task.loss_fn and _takes(task.loss_fn, output, target):
            return
        raise LabelError(
            f"labels run from {smallest} to {largest}, but the model's output of shape {tuple(prediction.shape)} "
            f"has {classes} classes (0 to {classes - 1})",
            f"Mend the labels or give the last layer {largest + 1} outputs.",
        )


def _takes(loss_fn: Callable[..., Any], output: Any, target: Tensor) -> bool:
    """Whether the loss takes these labels, tried on the CPU, where a label too many is no more than an exception."""
    if isinstance(loss_fn, nn.Module) and target.device.type != "cpu":
        loss_fn = copy.deepcopy(loss_fn).cpu()
    for given in (output, prediction_of(output)):
        moved = pytree.tree_map_only(Tensor, lambda t: t.detach().cpu(), given)
        # Whatever a loss raises at labels that it does not know: then it does not take them.
        with contextlib.suppress(Exception):
            loss = loss_fn(moved, target.cpu())
            if isinstance(loss, Tensor) and bool(loss.isfinite().all()):
                return True
    return False


def _step_takes(task: Task, output: Any, batch: Any) -> bool:
    """Whether the step of the user's takes these labels; on another device than the CPU it was run with them."""
    target = task.form.target_of(batch)
    with contextlib.suppress(Exception):
        return target.device.type != "cpu" or bool(task.loss(output, batch).isfinite().all())
    return False


def why_refused(task: Task, output: Any, batch: Any, error: Exception) -> LabelError | None:
    """Whether it is the labels that a loss raised this for, by trying others of which only one thing is different.

    None where none of them is taken, or where labels cannot be told from the rest; looked at on the CPU only.
    """
    if task.training_step is not None or task.loss_fn is None:
        return None
    target = task.form.target_of(batch)
    if not isinstance(target, Tensor) or target.device.type != "cpu" or not target.numel():
        return None
    for other, what, fix in _others(target, prediction_of(output)):
        changed = pytree.tree_map(lambda leaf, other=other: other if leaf is target else leaf, batch)
        with contextlib.suppress(Exception):
            if bool(task.loss(output, changed).isfinite().all()):
                return LabelError(f"the loss takes labels {what}: {located(error)}", fix)
    return None


def _others(target: Tensor, prediction: Tensor | None) -> Iterator[tuple[Tensor, str, str]]:
    """Labels that differ from the given ones in type, shape or value; how, in words; and what to do."""
    kind = str(target.dtype).removeprefix("torch.")
    if target.is_floating_point():
        if bool((target == target.round()).all()):
            yield target.long(), f"of int64 and not of {kind}", "Give it y.long(): class indices are integers."
    elif prediction is not None:
        wanted = str(prediction.dtype).removeprefix("torch.")
        yield target.to(prediction.dtype), f"of {wanted} and not of {kind}", "Give it y.float()."
        yield target.long(), f"of int64 and not of {kind}", "Give it y.long(): class indices are integers."
    for dim in range(1, target.ndim):
        if target.shape[dim] == 1:
            shape = shape_of(target.squeeze(dim))
            yield target.squeeze(dim), f"of shape {shape} and not {shape_of(target)}", f"Give it y.squeeze({dim})."
    wide = target.unsqueeze(1)
    yield wide, f"of shape {shape_of(wide)} and not {shape_of(target)}", "Give it y.unsqueeze(1)."
    low, high = float(target.min()), float(target.max())
    zeros = f"of 0 and not these, which run from {low:g} to {high:g}"
    yield torch.zeros_like(target), zeros, _in_range(target, low, high)


def _in_range(target: Tensor, low: float, high: float) -> str:
    if not target.is_floating_point():
        if low < 0:
            return f"Make class indices start at 0, or give the loss ignore_index={low:g} if those are to be left out."
        return "Make class indices go from 0 to one less than the model's outputs."
    if low >= 0 and high == 255:
        return "Divide them by 255."
    return "Bring them into the range that the loss takes, which for binary cross-entropy is 0 to 1."
