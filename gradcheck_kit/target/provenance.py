"""Follows tensors through code of the user's: which tensors of a batch, and which outputs, something was made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

# The losses of torch's that compare two tensors, and the modules that people know them by.
KINDS = {
    "cross_entropy": "CrossEntropyLoss", "nll_loss": "NLLLoss", "binary_cross_entropy": "BCELoss",
    "binary_cross_entropy_with_logits": "BCEWithLogitsLoss", "mse_loss": "MSELoss", "l1_loss": "L1Loss",
    "smooth_l1_loss": "SmoothL1Loss", "huber_loss": "HuberLoss", "poisson_nll_loss": "PoissonNLLLoss",
    "gaussian_nll_loss": "GaussianNLLLoss", "kl_div": "KLDivLoss", "soft_margin_loss": "SoftMarginLoss",
    "multilabel_soft_margin_loss": "MultiLabelSoftMarginLoss", "multi_margin_loss": "MultiMarginLoss",
}  # fmt: skip
_DIFFERENCES = {"sub", "__sub__", "__rsub__", "rsub", "subtract"}
_KEEPS_SHAPE = {
    "float", "double", "half", "bfloat16", "to", "long", "int", "type", "type_as", "contiguous", "clone", "detach",
}  # fmt: skip
_KEEPS_VALUES = {
    "view", "reshape", "flatten", "squeeze", "unsqueeze", "view_as", "reshape_as", "permute", "transpose", "movedim",
    "ravel",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Comparison:
    """A prediction that is compared with values of the batch; `outputs` are what it was made of."""

    outputs: tuple[Tensor, ...]
    place: int
    part: tuple[Any, ...]
    kind: str  # of the loss of torch's; "" for a difference
    ignore_index: int = -100
    direct: bool = False  # the prediction is an output as the model returned it, but for its shape

    def is_of(self, output: Tensor) -> bool:
        return any(output is made_of for made_of in self.outputs)


@dataclass(frozen=True, slots=True)
class _Origin:
    places: frozenset[int] = frozenset()  # of tensors of the batch
    outputs: frozenset[int] = frozenset()
    value: int | None = None  # the tensor of the batch (from 0 on) or output (from -1 down) that it is, ...
    part: tuple[Any, ...] = ()  # ... as far as these indices cut them out, one after the other
    reshaped: bool = False


class Provenance(TorchFunctionMode):
    """While it is open, every function of torch's hands on the origins of what it is given. Modes are not nested."""

    def __init__(self, leaves: Sequence[Tensor]) -> None:
        super().__init__()
        self.asleep = False  # inside the model
        self.comparisons: list[Comparison] = []
        self._outputs: Sequence[Tensor] = ()
        self._origins = {id(leaf): _Origin(frozenset([i]), value=i) for i, leaf in reversed([*enumerate(leaves)])}
        self._alive: list[Any] = [*leaves]  # an id is one's own only as long as one lives

    def returned(self, outputs: Sequence[Tensor]) -> None:
        """The model returned these."""
        self._outputs = outputs
        self._alive.extend(outputs)
        self._origins.update(
            {id(output): _Origin(outputs=frozenset([i]), value=-1 - i) for i, output in enumerate(outputs)}
        )

    def places(self, tensor: Tensor) -> frozenset[int]:
        """The tensors of the batch that it was made of, beside the model."""
        return self._origins.get(id(tensor), _Origin()).places

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self.asleep:
            return func(*args, **kwargs)
        name = getattr(func, "__name__", "")
        given = [t for t in pytree.tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        origins = [self._origins[id(t)] for t in given if id(t) in self._origins]
        if name in KINDS or name in _DIFFERENCES:
            self._compare(name, args, kwargs)
        result = func(*args, **kwargs)
        if origins:
            origin = self._next(name, args, given, origins)
            for made in pytree.tree_leaves(result):
                if isinstance(made, Tensor) and not any(made is t for t in given):
                    self._alive.append(made)
                    self._origins[id(made)] = origin
        return result

    def _next(self, name: str, args: Any, given: list[Tensor], origins: list[_Origin]) -> _Origin:
        made = _Origin(
            frozenset().union(*(o.places for o in origins)), frozenset().union(*(o.outputs for o in origins))
        )
        first = self._origins.get(id(given[0]), made)
        if first.value is None:
            return made
        if name in _KEEPS_SHAPE:
            return replace(made, value=first.value, part=first.part, reshaped=first.reshaped)
        if len(given) == 1 and name in _KEEPS_VALUES:
            return replace(made, value=first.value, part=first.part, reshaped=True)
        if name == "__getitem__" and len(given) == 1 and not first.reshaped and _same_in_every_batch(args[1]):
            return replace(made, value=first.value, part=(*first.part, args[1]))
        return made

    def _compare(self, name: str, args: Any, kwargs: dict[str, Any]) -> None:
        operands = [*args[:2], *(kwargs[key] for key in ("input", "target", "other") if key in kwargs)]
        if len(operands) != 2 or not all(isinstance(t, Tensor) for t in operands):
            return
        known = [self._origins.get(id(t), _Origin()) for t in operands]
        for prediction, target in (known, known[::-1]):
            if prediction.outputs and target.value is not None and target.value >= 0:
                ignored = kwargs.get("ignore_index", args[4] if len(args) > 4 else -100)
                self.comparisons.append(
                    Comparison(
                        tuple(self._outputs[i] for i in sorted(prediction.outputs)), target.value, target.part,
                        KINDS.get(name, ""),
                        ignored if isinstance(ignored, int) and not isinstance(ignored, bool) else -100,
                        prediction.value is not None,
                    )
                )  # fmt: skip
                return


def _same_in_every_batch(index: Any) -> bool:
    """Whether an index cuts out the same of batches of other sizes: `[:, 1:]`, and not what has a length of its own."""
    items = index if isinstance(index, tuple) else (index,)
    return all(
        item is None or item is Ellipsis or (isinstance(item, int) and not isinstance(item, bool))
        or (isinstance(item, slice) and item.step is None and (item.stop is None or item.stop < 0))
        for item in items
    )  # fmt: skip
