"""Terms that are added to the loss and are constants to autograd, although they change with the parameters.

`torch.autograd.grad` without create_graph=True, `.item()`, `.detach()` or NumPy on the way make them so: the loss shows
what nothing trains. A constant that is one, as an epsilon or a weight, does not change with the parameters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from gradcheck_kit.experiments import NotApplicable, Probe
from gradcheck_kit.facts import LossTerm, LossTerms
from gradcheck_kit.observe.module_stack import ModuleStack, source_line
from gradcheck_kit.target.batches import endless
from gradcheck_kit.target.workspace import Workspace, seed_everything, workspace

ADDITIONS = {"add", "__add__", "__radd__", "add_", "__iadd__"}


@dataclass(slots=True)
class _Added:
    value: float
    source: str
    result: Tensor


class _Watch(TorchFunctionMode):
    """Keeps what is added, outside of the model, to a number that has a gradient and has none itself."""

    def __init__(self, stack: ModuleStack) -> None:
        super().__init__()
        self.stack = stack
        self.seen: list[_Added] = []
        self.differentiated = False  # by something, with no graph of that

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is torch.autograd.grad and not (kwargs or {}).get("create_graph"):
            self.differentiated = True
        if getattr(func, "__name__", "") in ADDITIONS and not self.stack.running and _trained(result):
            for term in args[:2]:
                if isinstance(term, float) or (isinstance(term, Tensor) and term.numel() == 1 and not _trained(term)):
                    self.seen.append(_Added(float(term), source_line(), result))
        return result


def _trained(number: Any) -> bool:
    """Whether it is a single number that gradients are taken of."""
    return isinstance(number, Tensor) and number.numel() == 1 and number.requires_grad


def look_at_loss_terms(probe: Probe) -> LossTerms:
    """One step; and where such terms are added, the same again, which must show the same, and one with other weights.

    Raises NotApplicable where the loss is no sum of such terms, or changes by itself.
    """
    prepared = probe.prepared
    with workspace(prepared, seed=prepared.settings.seed) as work:
        batch = work.to_device(next(endless(prepared.train)))
        first, differentiated, loss = _pass(work, batch, prepared.settings.seed)
        if not first:
            raise NotApplicable("the loss adds nothing that has no gradient")
        again, *_ = _pass(work, batch, prepared.settings.seed)
        with torch.no_grad():
            for parameter in work.parameters():
                if parameter.requires_grad and parameter.is_floating_point():
                    parameter.add_(0.1 * (parameter.abs().mean() + 0.01) * torch.randn_like(parameter))
        try:
            moved, *_ = _pass(work, batch, prepared.settings.seed)
        except Exception as error:  # with weights that the user never had
            raise NotApplicable("the loss cannot be taken with other weights") from error
        if not len(first) == len(again) == len(moved):
            raise NotApplicable("the loss takes another way in every step")
        return LossTerms(
            loss,
            tuple(
                LossTerm(one.source, one.value, differentiated)
                for one, same, other in zip(first, again, moved, strict=True)
                if one.value == same.value and one.value != other.value
            ),
        )


def _pass(work: Workspace, batch: Any, seed: int) -> tuple[list[_Added], bool, float]:
    seed_everything(seed)
    work.clear_gradients()
    stack = ModuleStack(work.model)
    watch = _Watch(stack)
    with stack.watch(), watch:
        _, loss = work.step(batch)
    if not watch.seen or not loss.requires_grad:
        return [], False, float(loss.detach())
    slopes = torch.autograd.grad(loss, [one.result for one in watch.seen], retain_graph=True, allow_unused=True)
    reached = [one for one, slope in zip(watch.seen, slopes, strict=True) if slope is not None and bool(slope != 0)]
    return reached, watch.differentiated, float(loss.detach())
