"""The loss that fits an output and a target, where nobody names one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F  # torch's own convention

from gradcheck_kit.errors import DataError
from gradcheck_kit.target.classes import class_dimension, within
from gradcheck_kit.target.outputs import auxiliary_outputs, prediction_of, same_shape


def infer_loss(prediction: Tensor | None, target: Any, args: tuple[Any, ...]) -> tuple[Callable[..., Tensor], str]:
    """The loss that fits an output and a target, and its name. Raises DataError when none does."""
    if prediction is None:
        raise DataError("the model returns no floating-point tensor, so no loss fits; name a loss_fn in the file")
    if target is None:
        if same_shape(prediction, args[0] if args else None):
            return F.mse_loss, "MSELoss against the input"
        raise DataError("the data has no targets and the model brings no loss; name a loss_fn in the file")
    if not isinstance(target, Tensor):
        raise DataError(f"the target is a {type(target).__name__}; name a loss_fn that takes it in the file")
    if not target.is_floating_point() and not target.is_complex():
        return _infer_class_loss(prediction, target)
    if prediction.shape == target.shape or prediction.numel() == target.numel():
        binary = bool(((target == 0) | (target == 1)).all()) and target.numel() > 1
        if binary:
            if within(prediction, 0, 1):
                return lambda out, y: F.binary_cross_entropy(out.reshape(y.shape), y), "BCELoss"
            return lambda out, y: F.binary_cross_entropy_with_logits(out.reshape(y.shape), y), "BCEWithLogitsLoss"
        return lambda out, y: F.mse_loss(out.reshape(y.shape), y), "MSELoss"
    raise DataError(
        f"no loss fits an output of shape {tuple(prediction.shape)} and a target of shape {tuple(target.shape)}; "
        "name a loss_fn in the file"
    )


def _infer_class_loss(prediction: Tensor, target: Tensor) -> tuple[Callable[..., Tensor], str]:
    dim = class_dimension(prediction, target)
    if dim is None and prediction.numel() == target.numel():  # one logit per sample
        if within(prediction, 0, 1):
            return lambda out, y: F.binary_cross_entropy(out.reshape(y.shape), y.to(out.dtype)), "BCELoss"
        return (
            lambda out, y: F.binary_cross_entropy_with_logits(out.reshape(y.shape), y.to(out.dtype)),
            "BCEWithLogitsLoss",
        )
    if dim is None:
        raise DataError(
            f"no loss fits an output of shape {tuple(prediction.shape)} and integer targets of shape "
            f"{tuple(target.shape)}; name a loss_fn in the file"
        )
    total = prediction.detach().exp().sum(dim) if _at_most(prediction, 0) else None
    if total is not None and bool(torch.isclose(total, torch.ones_like(total), atol=1e-3).all()):
        return lambda out, y: F.nll_loss(out.movedim(dim, 1), y.long()), "NLLLoss"
    total = prediction.detach().sum(dim) if within(prediction, 0, 1) else None
    if total is not None and bool(torch.isclose(total, torch.ones_like(total), atol=1e-3).all()):
        tiny = torch.finfo(prediction.dtype).tiny
        return lambda out, y: F.nll_loss(out.clamp_min(tiny).log().movedim(dim, 1), y.long()), "NLLLoss of the log"
    return lambda out, y: F.cross_entropy(out.movedim(dim, 1), y.long()), "CrossEntropyLoss"


def _at_most(tensor: Tensor, high: float) -> bool:
    return bool((tensor <= high).all())


def with_auxiliary(loss_fn: Callable[..., Tensor]) -> Callable[[Any, Any], Tensor]:
    """The loss of the prediction and 0.4 times that of each auxiliary one.

    0.4 is the weight that GoogLeNet and Inception-v3 were trained with (Szegedy et al. 2015: 0.3 to 0.4).
    """

    def loss(output: Any, target: Any) -> Tensor:
        total = loss_fn(prediction_of(output), target)
        for auxiliary in auxiliary_outputs(output):
            total = total + 0.4 * loss_fn(auxiliary, target)
        return total

    return loss
