"""How signals grow from layer to layer before training, and the run in which each layer normalises what it is given.

Large activations alone are no fault: a normalisation takes them away, and a residual stream grows slowly. Where the run
does not learn it is made again with a root mean square norm, without parameters, before every layer but the first. If
that run learns, growth was it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from gradcheck_kit.experiments import NotApplicable, Probe
from gradcheck_kit.experiments.forward_pass import look_at_modules
from gradcheck_kit.experiments.second_run import PATIENCE, losses_of_run
from gradcheck_kit.facts import ActivationGrowth, LayerOutput, RateTrial, Training
from gradcheck_kit.observe.names import named_modules
from gradcheck_kit.observe.outputs import first_float
from gradcheck_kit.target.layers import takes_hooks
from gradcheck_kit.target.workspace import Workspace, workspace

LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
GROWS = 100.0  # over depth, from which the run is made again, if it does not learn


def look_at_activation_growth(probe: Probe) -> ActivationGrowth:
    """One forward pass; and where signals grow a hundredfold and the run suffers, the run with normalised inputs."""
    prepared, training = probe.prepared, probe.facts.get(Training)
    if any(optimizer.state for optimizer in prepared.optimizers):
        raise NotApplicable("the optimizer has taken steps before: the weights are no initial ones")
    with workspace(prepared, seed=prepared.settings.seed) as work:
        layers, largest, at = _outputs(work, probe)
    if not layers:
        raise NotApplicable("the model has no Linear or convolution layer that can be looked at")
    found = ActivationGrowth(layers, largest, at, (), None)
    if training is None or found.growth <= GROWS or prepared.settings.quick or not _suffers(training):
        return found
    with workspace(prepared, seed=prepared.settings.seed) as work, _normalising(work.model, layers[0].name):
        after = _outputs(work, probe)[1]
        losses = losses_of_run(
            probe,
            work,
            steps=PATIENCE * prepared.settings.steps,
            enough=lambda losses: RateTrial(1.0, losses).learned(training.constant_loss),
        )
    return ActivationGrowth(layers, largest, at, losses, after)


def _suffers(training: Training) -> bool:
    """A run may come down from a huge first loss, step by step, and be nowhere near a constant prediction's yet."""
    if training.harm:
        return True
    return training.constant_loss is not None and training.last_loss > 2 * abs(training.constant_loss)


def _outputs(work: Workspace, probe: Probe) -> tuple[tuple[LayerOutput, ...], float, str]:
    """The first output of every layer with weights, and the largest of any module, on the first batch."""
    layers: dict[str, LayerOutput] = {}
    largest: tuple[float, str] = (0.0, "")

    def look(name: str, module: nn.Module, _args: Any, output: Any) -> None:
        nonlocal largest
        value = first_float(output)
        if value is None or value.is_complex() or not value.numel():
            return
        rms = float(value.detach().double().square().mean().sqrt())
        if isinstance(module, LAYERS):
            layers.setdefault(name, LayerOutput(name, type(module).__name__, rms))
        if not rms <= largest[0] and not math.isnan(largest[0]):
            largest = (rms, name)

    look_at_modules(work, probe, look)
    return tuple(layers.values()), *largest


@contextmanager
def _normalising(model: nn.Module, first: str) -> Iterator[None]:
    """Every layer but the first divides what it is given by its root mean square, sample by sample."""

    def normalise(module: nn.Module, args: Any) -> Any:
        if not args or not isinstance(args[0], Tensor) or not args[0].is_floating_point():
            return None
        value = args[0]
        # of an image or a signal all channels and places of a sample, of anything else the features
        dims = tuple(range(1, value.ndim)) if not isinstance(module, nn.Linear) else (-1,)
        scale = value.double().square().mean(dims, keepdim=True).add(1e-12).rsqrt()
        return ((value * scale).to(value.dtype), *args[1:])

    chosen = [m for n, m in named_modules(model) if n != first and isinstance(m, LAYERS) and takes_hooks(m)]
    handles = [module.register_forward_pre_hook(normalise) for module in chosen]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
