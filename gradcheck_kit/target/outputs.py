"""What is in an output: its tensors, the prediction, a loss that the model brings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from gradcheck_kit.errors import ProbeError
from gradcheck_kit.target.fields import field_names, has_fields


def tensors(tree: Any, *, depth: int = 4) -> list[Tensor]:
    """All tensors in nested tuples, lists, dicts, named tuples and dataclass-like outputs, in order."""
    found: list[Tensor] = []
    for leaf in pytree.tree_leaves(tree):
        if isinstance(leaf, Tensor):
            found.append(leaf)
        elif isinstance(leaf, list | tuple):  # a subclass that pytree does not know, such as a PackedSequence
            found.extend(t for value in leaf for t in tensors(value))
        elif has_fields(leaf):
            if depth:  # an object may hold itself
                found.extend(t for name in field_names(leaf) for t in tensors(getattr(leaf, name), depth=depth - 1))
        elif isinstance(leaf, Mapping):  # a dict subclass that pytree does not know, such as a ModelOutput
            found.extend(t for value in leaf.values() for t in tensors(value))
    return found


def prediction_of(output: Any) -> Tensor | None:
    """The main floating-point tensor of an output: `.logits`, ["out"], the first of a tuple."""
    if isinstance(output, Tensor):
        return output
    for name in ("logits", "out", "prediction", "predictions", "pred", "output"):
        value = output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)
        if isinstance(value, Tensor):
            return value
    return next((t for t in tensors(output) if t.is_floating_point() or t.is_complex()), None)


def auxiliary_outputs(output: Any) -> list[Tensor]:
    """Further predictions of the main one's shape: GoogLeNet's and Inception's tuples, segmentation's "aux"."""
    main = prediction_of(output)
    if main is None or isinstance(output, Tensor):
        return []
    return [t for t in tensors(output) if t is not main and t.shape == main.shape and t.requires_grad]


def own_loss(output: Any, *, labelled: bool = False) -> Tensor:
    """The loss that a model (or a training step) returns: `out.loss`, a dict of losses, or the scalar itself.

    Of a tuple it is the first, or the only scalar when the model was given labels: `logits, loss = model(x, y)`.
    """
    if isinstance(output, Tensor):
        return scalar(output)
    if isinstance(getattr(output, "loss", None), Tensor):
        return scalar(output.loss)
    if isinstance(output, Mapping):
        if isinstance(output.get("loss"), Tensor):
            return scalar(output["loss"])
        parts = [value for value in output.values() if isinstance(value, Tensor) and value.numel() == 1]
        if parts and len(parts) == len(output):
            return scalar(torch.stack([part.reshape(()) for part in parts]).sum())
    if isinstance(output, list | tuple) and output and isinstance(output[0], Tensor) and output[0].numel() == 1:
        return scalar(output[0])
    if labelled and isinstance(output, list | tuple):
        scalars = [t for t in output if isinstance(t, Tensor) and t.ndim == 0 and t.is_floating_point()]
        if len(scalars) == 1:
            return scalar(scalars[0])
    raise ProbeError("no loss was found in the model's output; name one loss_fn in the file")


def brings_loss(output: Any, *, labelled: bool = False) -> bool:
    """Whether the output already holds a loss that gradients can be taken of."""
    try:
        return own_loss(output, labelled=labelled).requires_grad
    except ProbeError:
        return False


def scalar(loss: Any) -> Tensor:
    """The loss as a tensor of shape (). A loss per sample is averaged; anything else is refused."""
    if not isinstance(loss, Tensor):
        raise ProbeError(f"the loss is a {type(loss).__name__}, not a tensor; return a scalar tensor from loss_fn")
    if loss.is_complex():
        raise ProbeError("the loss is complex; return a real scalar tensor, such as loss.abs()")
    if loss.ndim and loss.numel() != 1:
        raise ProbeError(
            f"the loss has shape {tuple(loss.shape)}, not a single number; use reduction='mean' or return loss.mean()"
        )
    return loss.reshape(())


def same_shape(a: Any, b: Any) -> bool:
    """Whether both are tensors, of one shape."""
    return isinstance(a, Tensor) and isinstance(b, Tensor) and a.shape == b.shape
