"""What the loss is given: which function made it, what range that has, and whether it is normalised already.

Which function made a tensor is read off autograd's graph, so it is a fact of the program and not of its numbers. What
numbers must show (that they sum to one) is looked at again on other batches and with other weights.
"""

from __future__ import annotations

import linecache
import math
import sys
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from gradcheck_kit.experiments import NotApplicable, Probe
from gradcheck_kit.facts import LossInput, LossInputs
from gradcheck_kit.observe.module_stack import ModuleStack
from gradcheck_kit.target.batches import endless
from gradcheck_kit.target.outputs import tensors
from gradcheck_kit.target.workspace import Workspace, workspace

_TORCH = str(Path(torch.__file__).parent)
_OURS = str(Path(__file__).parent.parent)
PASSES = 3  # where the first one shows something: other batches, other weights
MOST = 1 << 20  # values of one tensor that are looked at: a language model's logits are many
RANGES = {
    "softmax": (0.0, 1.0), "sigmoid": (0.0, 1.0), "hardsigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0),
    "relu": (0.0, math.inf), "softplus": (0.0, math.inf), "log_softmax": (-math.inf, 0.0),
    "cosine": (-1.0, 1.0),
}  # fmt: skip
_PRODUCTS = {"linear", "matmul", "__matmul__", "mm", "bmm"}
# Judged wherever they are called, since a model may bring its own loss; the others only of what a model returned.
_LOSSES = {"cross_entropy", "nll_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits", "kl_div",
           "ctc_loss"}  # fmt: skip
_DIFFERENCES = {"sub", "__sub__", "__rsub__", "rsub"}
_COMPARING = {"mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", *_DIFFERENCES}
_NORMALIZING = {"softmax", "log_softmax", "sigmoid", "logsigmoid"}
# Nodes of autograd's graph that change neither a value nor which values belong together.
_VIEWS = {
    "View", "UnsafeView", "ReshapeAlias", "Squeeze", "Unsqueeze", "Transpose", "Permute", "Alias", "Clone", "ToCopy",
    "T", "Select", "Slice", "Expand", "Movedim", "Unfold", "Index",
}  # fmt: skip
_KEEPS_VALUES = {
    "float", "double", "half", "bfloat16", "to", "type", "type_as", "view", "reshape", "flatten", "squeeze",
    "unsqueeze", "view_as", "reshape_as", "contiguous", "clone", "detach", "__getitem__", "permute", "transpose",
    "movedim", "T",
}  # fmt: skip


@dataclass(slots=True)
class _Seen:
    """One operation of one pass, as it was called."""

    operation: str
    source: str
    prediction: Tensor
    target: Tensor | None
    dim: int | None  # over which predictions are normalised, or are to be
    weighted: bool
    result: Tensor


class _LossWatch(TorchFunctionMode):
    """Sees the operations that judge predictions, and where the activations were called that made them."""

    def __init__(self, stack: ModuleStack, wanted: Any, *, whole_step: bool) -> None:
        super().__init__()
        self.stack = stack
        # In a training step of the user's, a difference may be a part of the model: x - mask compares nothing.
        self._beside_the_model = {*_NORMALIZING, *_COMPARING} - (_DIFFERENCES if whole_step else set())
        self.seen: list[_Seen] = []
        self.places: dict[Any, str] = {}  # of activations, by node
        self.cosines: set[Any] = set()  # nodes of products of vectors of length 1
        self._wanted = tensors(wanted)  # what predictions may be compared with, in whatever shape

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        result = func(*args, **kwargs)
        if not isinstance(result, Tensor):
            return result
        with torch._C.DisableTorchFunction():  # noqa: SLF001
            if name.rstrip("_") in RANGES and result.grad_fn is not None:
                self.places[result.grad_fn] = self._place(name.rstrip("_"))
            if result.grad_fn is not None and (name == "cosine_similarity" or _multiplies_units(name, args, kwargs)):
                self.cosines.add(result.grad_fn)
                self.places[result.grad_fn] = self._place("cosine")
            if name in _KEEPS_VALUES and args and any(args[0] is t for t in self._wanted):
                self._wanted.append(result)
            if name in _LOSSES or (not self.stack.running and name in self._beside_the_model):
                self._look(name, args, kwargs, result)
        return result

    def _place(self, name: str) -> str:
        leaf = self.stack.leaf()
        if leaf is not None and type(leaf).__module__.startswith("torch.nn.modules.activation"):
            return self.stack.name()
        line = _users_line()
        return f"{name} in {self.stack.name() or 'forward'}" + (f" ({line})" if line else "")

    def _look(self, name: str, args: Any, kwargs: Any, result: Tensor) -> None:
        operands = [*args[:2], *(kwargs[key] for key in ("input", "target", "other") if key in kwargs)]
        operands = [operand for operand in operands if isinstance(operand, Tensor)]
        if not operands or not result.requires_grad:
            return
        prediction, target = operands[0], operands[1] if len(operands) > 1 else None
        if name in _COMPARING:
            if target is None:
                return
            if any(prediction is t for t in self._wanted):
                prediction, target = target, prediction
            known = any(target is t for t in self._wanted)
            if prediction.shape != target.shape and not (known and name in _DIFFERENCES and _each(prediction, target)):
                return
            if not known and not _to_be_reached(name, prediction, target):
                return  # two things that the model computed: nobody says that either is to reach the other
        if prediction.requires_grad and prediction.is_floating_point() and prediction.numel():
            weighted = any(isinstance(weight, Tensor) for weight in (*args[2:], kwargs.get("weight")))
            dim = _class_dimension(name, prediction, args, kwargs)
            self.seen.append(_Seen(name, _users_line(), prediction, target, dim, weighted, result))


def _each(prediction: Tensor, target: Tensor) -> bool:
    """Whether several predictions are compared with each target, as the means of a mixture are."""
    if prediction.ndim != target.ndim:
        return False
    return all(given in (wanted, 1) for wanted, given in zip(prediction.shape, target.shape, strict=True))


def _to_be_reached(name: str, prediction: Tensor, target: Tensor) -> bool:
    """Whether a loss of torch's compares with what no gradient goes to: noise that was added, or a part of the target.

    By a subtraction alone nobody says so.
    """
    return name not in _DIFFERENCES and prediction.requires_grad and not target.requires_grad


def _multiplies_units(name: str, args: Any, kwargs: dict[str, Any]) -> bool:
    """Whether it is a product of vectors that all have length 1: cosines."""
    if name not in _PRODUCTS or len(args) < 2 or len(args) > 2 or kwargs.get("bias") is not None:
        return False
    left, right = args
    if not isinstance(left, Tensor) or not isinstance(right, Tensor) or left.ndim < 2 or right.ndim < 2:
        return False
    return _units(left) and _units(right if name == "linear" else right.mT)


def _units(rows: Tensor) -> bool:
    rows = rows.detach().reshape(-1, rows.shape[-1])
    if not rows.is_floating_point() or rows.shape[1] < 2 or not len(rows):
        return False
    tolerance = 2e-2 if rows.dtype in (torch.float16, torch.bfloat16) else 1e-4
    # one first: of most products that is enough to see
    return all(_near(torch.linalg.vector_norm(some, dim=1), 1.0, tolerance) for some in (rows[:1], rows))


def _users_line() -> str:
    """Where the user's code called torch: "model.py:31"; "" where the probe did, calling a loss that is a module."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001  # inspect.stack() reads every file on the way
    while frame is not None and frame.f_code.co_filename == __file__:
        frame = frame.f_back
    while frame is not None and not frame.f_code.co_filename.startswith(_OURS):
        name = frame.f_code.co_filename
        if not name.startswith(_TORCH) and linecache.getline(name, frame.f_lineno):
            return f"{Path(name).name}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


def _judged(seen: _Seen, wanted: Tensor | None, slope: Tensor, watch: _LossWatch) -> LossInput:
    """What the operation was given, where `slope` is the loss's with respect to its result: where 0, it is masked."""
    activation, node = made_by(seen.prediction, watch.cosines)
    values, dim = _some(seen.prediction, seen.dim), seen.dim
    tolerance = 2e-2 if seen.prediction.dtype in (torch.float16, torch.bfloat16) else 1e-4
    own = _own_classes(activation, node)
    if wanted is not None and (wanted.is_floating_point() or seen.operation in _COMPARING):
        wanted = wanted.detach()[slope != 0] if slope.shape == wanted.shape and slope.ndim else wanted.detach()
        wanted = _some(wanted, None) if wanted.numel() else None
    else:
        wanted = None
    return LossInput(
        operation=seen.operation,
        source=seen.source,
        shape=tuple(seen.prediction.shape),
        activation=activation,
        activation_at=watch.places.get(node, activation),
        classes=own if own is not None else None if dim is None else seen.prediction.shape[dim],
        normalized=dim is not None and float(values.min()) >= -tolerance and _near(values.sum(dim), 1.0, tolerance),
        log_normalized=dim is not None and _near(values.logsumexp(dim), 0.0, tolerance),
        minimum=float(values.min()),
        maximum=float(values.max()),
        target_minimum=None if wanted is None else float(wanted.min()),
        target_maximum=None if wanted is None else float(wanted.max()),
        unreachable=_unreachable(RANGES.get(activation), wanted) if seen.operation in _COMPARING else None,
        weighted=seen.weighted,
        target_sum=_largest_sum(seen, slope),
    )


def _largest_sum(seen: _Seen, slope: Tensor) -> float | None:
    """The most that targets add up to over the classes; None where some are masked, or they are no such targets."""
    target = seen.target
    if not seen.operation.startswith("binary_cross_entropy") or target is None or seen.dim is None:
        return None
    if target.shape != seen.prediction.shape or (slope.shape == target.shape and bool((slope == 0).any())):
        return None
    return float(_some(target, seen.dim).sum(seen.dim).max())


def _some(tensor: Tensor, dim: int | None) -> Tensor:
    """The values, in float64 and on the CPU; of a large tensor the first samples, whole along `dim`."""
    tensor = tensor.detach()
    if tensor.numel() > MOST and (dim is None or tensor.ndim < 2):
        tensor = tensor if dim is not None else tensor.flatten()[:MOST]
    elif tensor.numel() > MOST and dim != 0:
        tensor = tensor[: max(1, MOST * len(tensor) // tensor.numel())]
    return tensor.cpu().double()


def made_by(tensor: Tensor, cosines: Collection[Any] = ()) -> tuple[str, Any]:
    """The activation function whose values a tensor holds, in whatever shape, and its node in autograd's graph.

    Of the nodes that are known to compute cosines the name is "cosine".
    """
    node: Any = tensor.grad_fn
    while node is not None:
        if node in cosines:
            return "cosine", node
        kind = node.name().removesuffix("0").rstrip("0123456789").removesuffix("Backward")
        function = {
            "LogSoftmax": "log_softmax", "Softmax": "softmax", "Sigmoid": "sigmoid", "Hardsigmoid": "hardsigmoid",
            "Tanh": "tanh", "Relu": "relu", "Softplus": "softplus",
        }.get(kind)  # fmt: skip
        if function is not None:
            return function, node
        if kind not in _VIEWS or not node.next_functions:
            return "", None
        node = node.next_functions[0][0]
    return "", None


def _own_classes(activation: str, node: Any) -> int | None:
    """The size of the dimension that a softmax normalised over."""
    if activation not in ("softmax", "log_softmax"):
        return None
    dim = int(node._saved_dim)  # noqa: SLF001  # how autograd shows what it saved
    shape = node._saved_result.shape  # noqa: SLF001
    return int(shape[dim - 2**64 if dim >= 2**63 else dim]) if shape else None


def _class_dimension(name: str, prediction: Tensor, args: Any, kwargs: dict[str, Any]) -> int | None:
    if name in _COMPARING or not prediction.ndim:
        return None
    if name in ("softmax", "log_softmax"):
        dim = args[1] if len(args) > 1 else kwargs.get("dim")
        return dim if isinstance(dim, int) else prediction.ndim - 1
    if name in ("cross_entropy", "nll_loss"):
        return 1 if prediction.ndim > 1 else 0
    return prediction.ndim - 1


def _near(values: Tensor, wanted: float, tolerance: float) -> bool:
    return bool(((values - wanted).abs() <= tolerance).all())


def _unreachable(span: tuple[float, float] | None, target: Tensor | None) -> float | None:
    """The share of the target's variance that no prediction within the span can explain."""
    if span is None or target is None or target.numel() < 2:
        return None
    variance = float((target - target.mean()).square().mean())
    if not variance > 0:
        return None
    return float((target - target.clamp(*span)).square().mean()) / variance


def look_at_loss_inputs(probe: Probe) -> LossInputs:
    """One step with the eyes on the loss; where that shows something, again on other batches and with other weights."""
    prepared = probe.prepared
    if prepared.loss_supplied:
        raise NotApplicable("no loss was given, so there is none that the output was made for")
    with workspace(prepared, seed=prepared.settings.seed) as work:
        batches = endless(prepared.train)
        found, passes = _pass(work, next(batches), made_up=prepared.synthetic), 1
        while passes < PASSES and any(map(_worth_another_look, found)):
            _change_weights(work)
            again = _pass(work, next(batches), made_up=prepared.synthetic)
            if [one.operation for one in again] != [one.operation for one in found]:
                raise NotApplicable("the loss takes another way in every step")
            found = [_of_both(a, b) for a, b in zip(found, again, strict=True)]
            passes += 1
    return LossInputs(passes, tuple(found))


def _pass(work: Workspace, batch: Any, *, made_up: bool) -> list[LossInput]:
    """What was seen in one step; targets that were made up tell nothing."""
    moved = work.to_device(batch)
    target = work.task.target(moved)
    stack = ModuleStack(work.model)
    whole_step = work.task.training_step is not None or (work.task.of_step and not isinstance(target, Tensor))
    watch = _LossWatch(stack, moved if target is None else target, whole_step=whole_step)
    try:
        with stack.watch(), watch:
            _, loss = work.step(moved)
        if not loss.requires_grad or not watch.seen:
            return []
        slopes = torch.autograd.grad(loss, [seen.result for seen in watch.seen], retain_graph=True, allow_unused=True)
        return [
            _judged(seen, None if made_up else seen.target, slope, watch)
            for seen, slope in zip(watch.seen, slopes, strict=True)
            if slope is not None  # else the loss does not depend on it
        ]
    except Exception:  # noqa: BLE001  # weights that the user never had, or tensors of a kind of their own
        raise NotApplicable("the operations of the loss cannot be watched") from None


def _worth_another_look(one: LossInput) -> bool:
    return bool(one.activation) or one.normalized or one.operation in ("nll_loss", "ctc_loss")


def _change_weights(work: Workspace) -> None:
    """Other weights of about the same size, of the loss too: what still holds then is no matter of its numbers."""
    with torch.no_grad():
        for parameter in work.parameters():
            if parameter.is_floating_point() and parameter.numel():
                parameter.add_(torch.randn_like(parameter) * (0.01 + parameter.abs().mean()))


def _of_both(a: LossInput, b: LossInput) -> LossInput:
    """What holds of both passes; where one of two numbers speaks for the model, that one."""
    return replace(
        a,
        activation=a.activation if a.activation == b.activation else "",
        normalized=a.normalized and b.normalized,
        log_normalized=a.log_normalized and b.log_normalized,
        minimum=_least(a.minimum, b.minimum),
        maximum=_most(a.maximum, b.maximum),
        target_minimum=_most(a.target_minimum, b.target_minimum),
        target_maximum=_least(a.target_maximum, b.target_maximum),
        unreachable=_least(a.unreachable, b.unreachable),
        target_sum=_least(a.target_sum, b.target_sum),
    )


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _least(*values: float | None) -> float | None:
    return min(_known(values), default=None)


def _most(*values: float | None) -> float | None:
    return max(_known(values), default=None)
