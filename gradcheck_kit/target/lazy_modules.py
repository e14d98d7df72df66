"""Lazy modules: their shapes are settled by a first batch, in the probe's own copy and never in the user's model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from gradcheck_kit.target import Target
from gradcheck_kit.target.batches import move
from gradcheck_kit.target.forms import Form, find_form
from gradcheck_kit.target.task import Task
from gradcheck_kit.target.workspace import copied


def is_lazy(model: nn.Module) -> bool:
    """Whether a parameter or buffer still waits for its shape."""
    return any(nn.parameter.is_lazy(t) for t in (*model.parameters(), *model.buffers()))


def materialized(target: Target, batch: Any, optimizers: Iterable[torch.optim.Optimizer]) -> Target | None:
    """The target around copies of model, loss and optimizers whose shapes the batch has settled; None if none did."""
    given = list(optimizers)
    for form in _forms(target, batch):
        model, loss_fn, twins = copied(target.model, target.loss_fn, given, _copied_buffers(target.model))
        task = Task(form, loss_fn, training_step=target.training_step)
        device = next((t.device for t in model.parameters()), torch.device("cpu"))
        try:
            with torch.no_grad() if target.training_step is None else torch.enable_grad(), _evaluating(model):
                task.forward(model, move(batch, device))
        except Exception:  # noqa: BLE001, S112  # another form may fit; if none does, the model is refused as lazy
            continue
        if not is_lazy(model):
            return replace(target, model=model, loss_fn=loss_fn, optimizer=twins or None)
    return None


def _copied_buffers(model: nn.Module) -> dict[int, Any]:
    """A memo for deepcopy that holds the uninitialized buffers, which it cannot copy by itself."""
    lazy = [buffer for buffer in model.buffers() if isinstance(buffer, nn.UninitializedBuffer)]
    make: Any = nn.UninitializedBuffer  # torch's type stubs know it without arguments
    return {id(b): make(device=b.device, dtype=b.dtype) for b in lazy}


def _forms(target: Target, batch: Any) -> list[Form]:
    if target.training_step is not None:
        return [Form("positional")]
    return list(find_form(target.model, batch, has_loss=target.loss_fn is not None))


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, so that no running average sees the batch twice; every module's own mode comes back."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
