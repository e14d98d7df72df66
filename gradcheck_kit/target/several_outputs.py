"""A loss for a model that returns more than one thing to learn from, such as feature maps or a pooled vector."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from gradcheck_kit.target.infer_loss import infer_loss
from gradcheck_kit.target.outputs import auxiliary_outputs, prediction_of, tensors

MOST = 16  # outputs that are looked at


def further_outputs(model: nn.Module, output: Any) -> list[int]:
    """Which tensors of an output, by their place, reach parameters that its main prediction does not reach.

    A loss of the prediction alone would leave these parameters without a gradient, through no fault of the model.
    """
    main = prediction_of(output)
    parameters = [p for p in model.parameters() if p.requires_grad]
    if main is None or isinstance(output, Tensor) or not main.requires_grad:
        return []
    missing = set(range(len(parameters)))
    for tensor in (main, *auxiliary_outputs(output)):
        missing -= _reached(tensor, parameters)
    others = {
        place: tensor
        for place, tensor in enumerate(tensors(output))
        if tensor is not main and tensor.requires_grad and tensor.is_floating_point() and tensor.ndim
    }
    reached = {place: _reached(others[place], parameters) for place in list(others)[:MOST]} if missing else {}
    chosen: list[int] = []
    while best := max(reached, key=lambda place: (len(reached[place] & missing), -place), default=None):
        if not reached[best] & missing:
            break
        chosen.append(best)
        missing -= reached.pop(best)
    return sorted(chosen)


def _reached(tensor: Tensor, parameters: Sequence[nn.Parameter]) -> set[int]:
    slopes = torch.autograd.grad(tensor.sum(), parameters, retain_graph=True, allow_unused=True)
    return {place for place, slope in enumerate(slopes) if slope is not None}


class SummedLoss:
    """The sum of the losses that fit the prediction and the tensors at `places` of the output, one target for each."""

    def __init__(self, output: Any, targets: Sequence[Tensor], places: Sequence[int]) -> None:
        self.places = tuple(places)
        found = [infer_loss(tensor, target, ()) for tensor, target in zip(self._outputs(output), targets, strict=True)]
        self.losses: tuple[Callable[..., Tensor], ...] = tuple(function for function, _ in found)
        self.__name__ = f"{' and '.join(dict.fromkeys(name for _, name in found))} over {len(found)} outputs"

    def __call__(self, output: Any, targets: Sequence[Tensor]) -> Tensor:
        parts = zip(self.losses, self._outputs(output), targets, strict=True)
        return torch.stack([loss(tensor, target) for loss, tensor, target in parts]).sum()

    def _outputs(self, output: Any) -> list[Any]:
        found = tensors(output)
        return [prediction_of(output), *(found[place] for place in self.places)]
