"""How classes are read off a prediction and its target."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def class_dimension(prediction: Tensor, target: Tensor) -> int | None:
    """The dimension of `prediction` that holds the classes for integer targets: 1, -1, or None."""
    if prediction.ndim != target.ndim + 1:
        return None
    if prediction.shape[:1] + prediction.shape[2:] == target.shape and prediction.shape[1] > 1:
        return 1
    return -1 if prediction.shape[:-1] == target.shape and prediction.shape[-1] > 1 else None


def class_form(prediction: Tensor | None, target: Any, loss: str) -> str:
    """How classes are read off a prediction: "indices", "flat", "one-hot", "logits", "probabilities"; "" not at all.

    Decided once, on one batch, because it looks at values.
    """
    if prediction is None or not isinstance(target, Tensor) or prediction.is_complex() or target.is_complex():
        return ""
    binary_values = bool(((target == 0) | (target == 1)).all())
    same_size = prediction.numel() == target.numel()
    threshold = "probabilities" if within(prediction, 0, 1) and "Logits" not in loss else "logits"
    if target.is_floating_point():
        if prediction.shape == target.shape and target.ndim == 2 and target.shape[1] > 1 and "MSE" not in loss:
            return "one-hot" if binary_values and bool((target.sum(1) == 1).all()) else ""
        binary_loss = "BCE" in loss or "binary" in loss.lower() or "bce" in loss
        return threshold if binary_loss and binary_values and same_size else ""
    if class_dimension(prediction, target) is not None:
        return "indices"
    if prediction.ndim == 2 and prediction.shape[0] == target.numel() and prediction.shape[1] > 1:
        return "flat"  # the model flattened batch and time into one dimension
    return threshold if binary_values and same_size else ""


def predicted_classes(prediction: Tensor, target: Tensor, form: str) -> tuple[Tensor, Tensor]:
    """Predicted and true class indices, both of shape (n,). True ones below 0 (ignore_index=-100) do not count."""
    prediction = prediction.detach()
    if form == "one-hot":
        return prediction.argmax(1), target.argmax(1)
    if form in ("logits", "probabilities"):
        return (prediction.reshape(-1) > (0.5 if form == "probabilities" else 0.0)).long(), target.reshape(-1).long()
    if form == "flat":
        return prediction.argmax(1), target.reshape(-1)
    dim = class_dimension(prediction, target)
    return prediction.argmax(-1 if dim is None else dim).reshape(-1), target.reshape(-1)


def rewards_classes(loss: Tensor, prediction: Tensor, target: Tensor, form: str) -> bool:
    """Whether raising the true class's score lowers the loss, for nine samples in ten.

    Else the integers are no classes of this output, as in metric learning, where a 16-wide embedding meets labels below
    16. `loss` of shape () was made of `prediction`.
    """
    if not (loss.requires_grad and prediction.requires_grad):
        return True  # nothing can learn, and the probe will say why
    (slope,) = torch.autograd.grad(loss, prediction, retain_graph=True, materialize_grads=True, allow_unused=True)
    if form in ("logits", "probabilities"):
        good = slope.reshape(-1) * (target.reshape(-1) * 2 - 1) <= 0
    else:
        _, labels = predicted_classes(prediction, target, form)
        dim = 1 if form == "one-hot" else class_dimension(prediction, target) or 1
        scores = slope.movedim(dim, -1).reshape(-1, slope.shape[dim])
        kept = (labels >= 0) & (labels < scores.shape[1])
        if _picked_out(scores[kept], labels[kept]) and not _probabilities(prediction, dim):
            return False
        good = scores[kept].gather(1, labels[kept][:, None]) <= 0
    return bool(good.float().mean() >= 0.9)


def _picked_out(slopes: Tensor, labels: Tensor) -> bool:
    """Whether the loss depends on the one score of each sample that is named, and on no other: `q.gather(1, action)`.

    `slopes` are the loss's with respect to the scores, shape (n, c).
    """
    return not bool(slopes.scatter(1, labels[:, None], 0.0).any())


def _probabilities(prediction: Tensor, dim: int) -> bool:
    """Whether it holds probabilities over that dimension, or their logarithms: their sum is what ties scores."""
    values = prediction.detach().float()
    sums = (values.sum(dim), values.exp().sum(dim))
    return any(bool(((one - 1).abs() < 2e-2).all()) for one in sums)


def within(tensor: Tensor, low: float, high: float) -> bool:
    """Whether all values lie between the two, both included."""
    return bool(((tensor >= low) & (tensor <= high)).all())
