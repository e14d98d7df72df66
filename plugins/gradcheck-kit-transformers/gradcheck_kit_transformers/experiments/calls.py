"""How a model is called, and what it returns, by name: whatever the batch looked like."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from gradcheck_kit.experiments import NotApplicable

# Not what a model is there for: what it keeps for the next call, and its insides.
_INSIDE = ("past_key_values", "attentions", "hidden_states", "loss")
_MASK_PARAMETERS = ("key_padding_mask", "src_key_padding_mask")


@dataclass(slots=True)
class Lookup:
    """One look into an embedding's table."""

    weight: Tensor
    indices: Tensor
    padding: int  # the index that stands for padding, -1 for none


@dataclass(slots=True)
class Call:
    """One call of the model: its arguments, as given and by name, and what was looked up and masked inside."""

    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    named: dict[str, Any] = field(default_factory=dict)
    lookups: list[Lookup] = field(default_factory=list)
    masks: list[tuple[str, Tensor]] = field(default_factory=list)  # of torch's own attention modules

    def tensors(self) -> dict[str, Tensor]:
        return {name: value for name, value in self.named.items() if isinstance(value, Tensor)}


class _Lookups(TorchDispatchMode):
    def __init__(self, call: Call) -> None:
        super().__init__()
        self._call = call

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.embedding.default:
            self._call.lookups.append(Lookup(args[0], args[1].clone(), args[2] if len(args) > 2 else -1))
        return result


@contextmanager
def recorded(model: nn.Module) -> Iterator[Call]:
    """The first call of the model inside this context."""
    call, names = Call(), {id(module): name for name, module in model.named_modules()}

    def outermost(module: nn.Module, args: Any, kwargs: Any) -> None:
        if not call.named:
            call.args, call.kwargs, call.named = args, kwargs, _named(module, args, kwargs)

    def masked(module: nn.Module, args: Any, kwargs: Any) -> None:
        given = _named(module, args, kwargs)
        for name in _MASK_PARAMETERS:
            mask = given.get(name)
            if isinstance(mask, Tensor) and mask.ndim == 2 and not call.masks:
                call.masks.append((f"{name} of {names[id(module)]}", mask.clone()))

    kinds = (nn.MultiheadAttention, nn.TransformerEncoder, nn.TransformerEncoderLayer, nn.Transformer)
    handles = [model.register_forward_pre_hook(outermost, with_kwargs=True)]
    handles += [
        module.register_forward_pre_hook(masked, with_kwargs=True)
        for module in model.modules()
        if isinstance(module, kinds)
    ]
    try:
        with _Lookups(call):
            yield call
    finally:
        for handle in handles:
            handle.remove()


def _named(module: nn.Module, args: Any, kwargs: Any) -> dict[str, Any]:
    """Arguments by the names that forward gives them; of a dict, which is a batch, its items."""
    try:
        given = dict(inspect.signature(module.forward).bind_partial(*args, **kwargs).arguments)
    except (TypeError, ValueError):
        given = {f"argument {i + 1}": value for i, value in enumerate(args)} | kwargs
    named: dict[str, Any] = {}
    for name, value in given.items():
        if isinstance(value, Mapping):  # a batch as it is, or **kwargs
            named.update({str(key): item for key, item in value.items()})
        elif isinstance(value, tuple) and name in ("args", "inputs"):
            named.update({f"argument {i + 1}": item for i, item in enumerate(value)})
        else:
            named[name] = value
    return named


def outputs(output: Any, name: str = "output") -> dict[str, Tensor]:
    """The floating-point tensors of an output, by name, without a cache, losses and the insides of the model."""
    if isinstance(output, Tensor):
        return {name: output.detach()} if output.is_floating_point() else {}
    if isinstance(output, Mapping):
        parts = {str(key): value for key, value in output.items()}
    elif is_dataclass(output) and not isinstance(output, type):
        parts = {f.name: getattr(output, f.name) for f in fields(output)}
    elif isinstance(output, tuple) and hasattr(output, "_fields"):
        parts = dict(zip(output._fields, output, strict=True))
    elif isinstance(output, list | tuple):
        parts = {f"{name}[{i}]": value for i, value in enumerate(output)}
    else:
        return {}
    kept = {key: value for key, value in parts.items() if not key.endswith(_INSIDE)}
    return {key: tensor for part, value in kept.items() for key, tensor in outputs(value, part).items()}


def part_equal_weights(model: nn.Module) -> None:
    """Make trainable weights that are all equal unequal: a head or gate of zeros would hide all that is before it."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad and parameter.numel() and parameter.is_floating_point():
                flat = parameter.detach().reshape(-1)
                if bool((flat == flat[0]).all()):
                    parameter.add_(torch.randn_like(parameter) * 0.1)


def in_evaluation_mode(model: nn.Module) -> None:
    model.eval()
    for module in model.modules():
        module.training = False  # a train() of the user's own may have kept it


def evaluated(work: Any, batch: Any) -> tuple[Any, Tensor]:
    """Output and loss in evaluation mode; gradients stay on, as some losses take derivatives.

    Raises NotApplicable where a model returns its loss in training mode only.
    """
    try:
        output, loss = work.step(batch)
    except Exception as error:
        raise NotApplicable(f"in evaluation mode the model or its loss raises {type(error).__name__}") from error
    return output, loss


def rms(tensor: Tensor) -> float:
    return float(tensor.detach().double().square().mean().sqrt())
