"""How much of the gradient at the last output of a recurrent layer arrives at the first step of its input."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from gradcheck_kit.experiments import NotApplicable, Probe
from gradcheck_kit.facts import TimeGradient, TimeGradients
from gradcheck_kit.observe.names import named_modules
from gradcheck_kit.observe.statistics import measurable
from gradcheck_kit.target.batches import endless
from gradcheck_kit.target.layers import takes_hooks
from gradcheck_kit.target.workspace import workspace

SHORTEST = 8  # steps: over fewer nothing vanishes that the layer itself does not show


def look_through_time(probe: Probe) -> TimeGradients:
    """One forward pass; for each recurrent layer one backward pass from a random projection of its last output."""
    prepared = probe.prepared
    if not any(isinstance(m, nn.RNNBase) for m in prepared.model.modules()):
        raise NotApplicable("the model has no recurrent layer of torch's")
    with workspace(prepared, seed=prepared.settings.seed) as work:
        calls: dict[int, tuple[Any, Any]] = {}
        layers = {id(m): (n, m) for n, m in named_modules(work.model) if isinstance(m, nn.RNNBase) and takes_hooks(m)}

        def keep(module: nn.Module, args: Any, _output: Any) -> None:
            calls.setdefault(id(module), args)

        handles = [module.register_forward_hook(keep) for _, module in layers.values()]
        try:
            with torch.no_grad():
                work.task.forward(work.model, work.to_device(next(endless(prepared.train))))
        finally:
            for handle in handles:
                handle.remove()
        found = [
            gradient
            for key, args in calls.items()
            if (gradient := _through_time(*layers[key], args[0] if args else None)) is not None
        ]
    if not found:
        raise NotApplicable(f"no recurrent layer was given a sequence of {SHORTEST} steps or more, unpacked")
    return TimeGradients(tuple(found))


def _through_time(name: str, layer: nn.RNNBase, given: Any) -> TimeGradient | None:
    if not isinstance(given, Tensor) or given.ndim != 3 or not measurable(given):
        return None
    time = 1 if layer.batch_first else 0
    if given.shape[time] < SHORTEST:
        return None
    x = given.detach().clone().requires_grad_()
    with torch.enable_grad():
        output = layer(x)[0].select(time, -1)
        # of a bidirectional layer only the first half has come through time to here
        width = output.shape[-1] // (2 if layer.bidirectional else 1)
        (gradient,) = torch.autograd.grad((output[:, :width] * torch.randn_like(output[:, :width])).sum(), x)
    by_step = gradient.double().square().movedim(time, 0).flatten(1).mean(1).sqrt()
    if not float(by_step[-1]) > 0:
        return None
    return TimeGradient(name, type(layer).__name__, tuple((by_step / by_step[-1]).tolist()))
