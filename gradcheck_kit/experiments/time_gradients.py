"""How much of the gradient at the last output of a recurrent layer arrives at the first step of its input.

Most new recurrent layers forget, and most tasks do not mind. Where the run does not learn it is made once more with
the layer reading its input backwards: if that one learns, what it has to remember was too far away.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from gradcheck_kit.experiments import NotApplicable, Probe
from gradcheck_kit.experiments.second_run import PATIENCE, losses_of_run
from gradcheck_kit.facts import RateTrial, TimeGradient, TimeGradients, Training
from gradcheck_kit.observe.names import named_modules
from gradcheck_kit.observe.statistics import measurable
from gradcheck_kit.target.batches import endless
from gradcheck_kit.target.layers import takes_hooks
from gradcheck_kit.target.workspace import Workspace, workspace

SHORTEST = 8  # steps: over fewer nothing vanishes that the layer itself does not show
FORGETS = 1e-4  # the ratio below which the run is made anew, if it does not learn


def look_through_time(probe: Probe) -> TimeGradients:
    """One forward pass; for each recurrent layer one backward pass from a random projection of its last output."""
    prepared, training = probe.prepared, probe.facts.get(Training)
    if not any(isinstance(m, nn.RNNBase) for m in prepared.model.modules()):
        raise NotApplicable("the model has no recurrent layer of torch's")
    with workspace(prepared, seed=prepared.settings.seed) as work:
        layers = _layers(work.model)
        inputs = _inputs(work, layers, work.to_device(next(endless(prepared.train))))
        measured = (_through_time(name, layers[name], given) for name, given in inputs.items())
        found = TimeGradients(tuple(gradient for gradient in measured if gradient is not None), ())
    if not found.layers:
        raise NotApplicable(f"no recurrent layer was given a sequence of {SHORTEST} steps or more, unpacked")
    if training is None or not training.harm or found.worst.ratio >= FORGETS or prepared.settings.quick:
        return found
    return TimeGradients(found.layers, _turned(probe, found.worst.layer, training.constant_loss))


def _layers(model: nn.Module) -> dict[str, nn.RNNBase]:
    return {name: m for name, m in named_modules(model) if isinstance(m, nn.RNNBase) and takes_hooks(m)}


def _inputs(work: Workspace, layers: dict[str, nn.RNNBase], batch: Any) -> dict[str, Any]:
    """What each layer is given in its first call, in execution order."""
    found: dict[str, Any] = {}

    def keeper(name: str) -> Callable[[nn.Module, Any], None]:
        def keep(_module: nn.Module, args: Any) -> None:
            found.setdefault(name, args[0] if args else None)

        return keep

    handles = [layer.register_forward_pre_hook(keeper(name)) for name, layer in layers.items()]
    try:
        with torch.no_grad():
            work.task.forward(work.model, batch)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _turned(probe: Probe, name: str, constant_loss: float | None) -> tuple[float, ...]:
    """The losses of the run in which the layer reads its input backwards, until it has learned."""
    prepared = probe.prepared
    with workspace(prepared, seed=prepared.settings.seed) as work:
        layer = _layers(work.model)[name]

        def turn(_module: nn.Module, args: Any) -> Any:
            if not args or not isinstance(args[0], Tensor) or args[0].ndim != 3:
                return None
            return (args[0].flip(1 if layer.batch_first else 0), *args[1:])

        handle = layer.register_forward_pre_hook(turn)
        try:
            return losses_of_run(
                probe,
                work,
                steps=PATIENCE * prepared.settings.steps,
                enough=lambda losses: RateTrial(1.0, losses).learned(constant_loss),
            )
        finally:
            handle.remove()


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
