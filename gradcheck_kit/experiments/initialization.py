"""How large the first weights are against what usual initialisers draw, and what the run makes of such ones.

No size of weights hurts by itself: BatchNorm absorbs it, a residual branch may start at next to nothing. The same run
from weights that fit tells: where it learns and the user's does not, the initialisation is the cause.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from gradcheck_kit.experiments import NotApplicable, Probe
from gradcheck_kit.experiments.second_run import PATIENCE, losses_of_run
from gradcheck_kit.facts import Initialization, InitialWeight, RateTrial, Training, end_to_end
from gradcheck_kit.observe.names import named_modules
from gradcheck_kit.observe.products import CONVOLUTION, Product, products_of
from gradcheck_kit.observe.recorder import Recorder
from gradcheck_kit.target.batches import endless
from gradcheck_kit.target.workspace import Workspace, workspace

_LINEAR = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_RECURRENT = (nn.RNNBase, nn.RNNCellBase)
_RELU = {"relu", "relu6", "leaky_relu", "prelu", "rrelu", "elu", "celu", "gelu", "silu", "mish", "softplus",
         "hardswish", "clamp_min", "threshold"}  # fmt: skip
_BOUNDED = {"sigmoid", "tanh", "hardtanh", "hardsigmoid", "softsign"}
WIDEST = 8  # of a parameter that is multiplied with directly, at least: of smaller ones the size says little


@dataclass(slots=True)
class _Weight:
    """One weight and how it may be drawn anew."""

    name: str
    layer: str
    module: nn.Module
    parameter: nn.Parameter
    fan_in: int
    fan_out: int
    drawn: str  # "linear", "recurrent" or "own": a parameter of a module that torch does not know


def look_at_initialization(probe: Probe) -> Initialization:
    """Compare weights with usual sizes; where some are far off and the run suffers, make it from ones that fit."""
    prepared = probe.prepared
    training: Training | None = probe.facts.get(Training)
    if any(optimizer.state for optimizer in prepared.optimizers):
        raise NotApplicable("the optimizer has taken steps before: the weights are no initial ones")
    with workspace(prepared, seed=prepared.settings.seed) as work:
        weights = list(_weights(work.model, _factors(work, probe)))
        if not weights:
            raise NotApplicable("the model has no trainable layer whose weights were drawn at random")
        found = tuple(_look(weight, training) for weight in weights)
    ratio = training.gradient_ratio_at_start if training is not None else None
    made = Initialization(found, training.norm_layers if training is not None else 0, ratio, (), None)
    if training is None or prepared.settings.quick or not _suffers(training, made):
        return made
    proposed = {w.name: w.proposed for w in made.odd}
    with workspace(prepared, seed=prepared.settings.seed) as work:
        for weight in _weights(work.model, _factors(work, probe)):
            if weight.name in proposed:
                _draw(weight, proposed[weight.name])
        twin_ratio = _gradient_ratio(work, probe)
        # A run that does not learn got as many steps from its own weights: see learning_rate_response.
        losses = losses_of_run(
            probe,
            work,
            steps=(PATIENCE if training.harm else 1) * prepared.settings.steps,
            enough=lambda losses: RateTrial(1.0, losses).learned(training.constant_loss),
            well=training.constant_loss,
        )
        return replace(made, twin_losses=losses, twin_gradient_ratio=twin_ratio)


def _suffers(training: Training, made: Initialization) -> bool:
    """Whether other weights are worth a run: these are odd, and the run does not learn, or starts badly or unevenly."""
    if not made.odd:
        return False
    if training.harm:
        return True
    ratio = made.gradient_ratio
    if training.confidently_wrong and not training.competing:
        return True
    return ratio is not None and not 1e-3 <= ratio <= 1e3 and not training.competing and not training.learned_well


# ---- which weights -----------------------------------------------------------------------------------------------


def _factors(work: Workspace, probe: Probe) -> dict[str, Product]:
    """The matrices that modules of the user's own multiply with."""
    batch = work.to_device(next(endless(probe.prepared.train)))
    return products_of(work.model, lambda: work.task.forward(work.model, batch))


def _weights(model: nn.Module, products: dict[str, Product]) -> Iterator[_Weight]:
    """Trainable weights that something random was drawn for: no zeros, no constants, nothing tied or parametrized."""
    owners: dict[int, int] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            owners[id(parameter)] = owners.get(id(parameter), 0) + 1
    for layer, module in named_modules(model):
        if nn.utils.parametrize.is_parametrized(module):
            continue
        for own, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad or nn.parameter.is_lazy(parameter) or owners[id(parameter)] > 1:
                continue
            name = f"{layer}.{own}" if layer else own
            product = products.get(name)
            drawn = _drawn(module, own) or ("own" if product is not None and _is_layer(product) else "")
            if drawn and parameter.is_floating_point() and _is_random(parameter):
                fans = _fans(module, parameter) if drawn != "own" or product is None else _own_fans(product)
                yield _Weight(name, layer, module, parameter, *fans, drawn)


def _drawn(module: nn.Module, own: str) -> str:
    if isinstance(module, _LINEAR):
        return "linear" if own == "weight" else ""
    if isinstance(module, nn.MultiheadAttention):
        return "linear" if own == "in_proj_weight" else ""
    if isinstance(module, _RECURRENT):
        return "recurrent" if own.startswith("weight_") else ""
    return ""


def _is_layer(product: Product) -> bool:
    """What is multiplied with as it is; a scaled weight is drawn to its own scale."""
    sizes = product.units_of(product.parameter).shape
    return product.direct and min(sizes) >= 2 and max(sizes) >= WIDEST


def _is_random(parameter: Tensor) -> bool:
    """Zeros and constants are meant, or are a fault that has a rule of its own (symmetric-initialization)."""
    rows = parameter.detach().flatten(1) if parameter.ndim > 1 else parameter.detach()[None]
    return rows.numel() > 1 and bool((rows != rows[0, 0]).any()) and (len(rows) == 1 or bool((rows != rows[0]).any()))


def _own_fans(product: Product) -> tuple[int, int]:
    """Weights into a unit, and what goes out of an input; of a convolution both by all places of its kernel."""
    units, weights = product.units_of(product.parameter).shape
    places = math.prod(product.parameter.shape[2:]) if product.kind == CONVOLUTION else 1
    return weights, units * places


def _fans(module: nn.Module, parameter: Tensor) -> tuple[int, int]:
    if isinstance(module, _RECURRENT):
        return module.hidden_size, module.hidden_size  # torch draws all of its weights by that alone
    if parameter.ndim < 2:
        return parameter.numel(), parameter.numel()
    fan_in, fan_out = nn.init._calculate_fan_in_and_fan_out(parameter)  # noqa: SLF001  # has no public name
    if isinstance(module, nn.modules.conv._ConvNd):  # noqa: SLF001  # the common base has no public name
        fan_out = max(1, fan_out // module.groups)
    return fan_in, fan_out


# ---- what would fit ----------------------------------------------------------------------------------------------


def _look(weight: _Weight, training: Training | None) -> InitialWeight:
    fan_in, fan_out = weight.fan_in, weight.fan_out
    function = _following(weight.layer, training)
    xavier = math.sqrt(2 / (fan_in + fan_out))
    he = math.sqrt(2 / fan_in)
    if weight.drawn == "recurrent":
        proposed, call = 1 / math.sqrt(3 * fan_in), "reset_parameters()"
    elif function in _RELU:
        proposed, call = he, 'nn.init.kaiming_normal_(weight, nonlinearity="relu")'
    elif function == "tanh":
        proposed, call = xavier * 5 / 3, "nn.init.xavier_normal_(weight, gain=5/3)"
    elif function in _BOUNDED:
        proposed, call = xavier, "nn.init.xavier_normal_(weight)"
    else:
        proposed, call = 1 / math.sqrt(fan_in), 'nn.init.kaiming_normal_(weight, nonlinearity="linear")'
    if weight.drawn == "own":
        call = f"torch.randn{tuple(weight.parameter.shape)} * {proposed:.2g}"
    return InitialWeight(
        name=weight.name,
        layer=weight.layer,
        layer_type=type(weight.module).__name__,
        std=float(weight.parameter.detach().float().square().mean().sqrt()),
        # torch's own, Xavier's, and He's by what goes out, as in torchvision; up to Xavier's with the gain of tanh
        low=min(1 / math.sqrt(3 * fan_in), xavier, math.sqrt(2 / fan_out)),
        high=max(he, xavier * 5 / 3, math.sqrt(2 / fan_out)),
        proposed=proposed,
        initializer=call,
        function=function,
    )


def _following(layer: str, training: Training | None) -> str:
    """The activation function that comes after a layer and before the next one with weights; "" when there is none."""
    if training is None:
        return ""
    orders = {p.layer: p.order for p in training.parameters if len(p.shape) >= 2 and p.order is not None}
    if layer not in orders:
        return ""
    own = orders[layer]
    following = min((order for order in orders.values() if order > own), default=math.inf)
    return next((a.function for a in training.activations if own < a.order <= following), "")


def _draw(weight: _Weight, std: float) -> None:
    """Draw the weight anew; a random bias goes with it, one that was set to something stays."""
    own = weight.name.rpartition(".")[2]
    bias = getattr(weight.module, own.replace("weight", "bias"), None) if weight.drawn != "own" else None
    if not (isinstance(bias, Tensor) and bias.requires_grad and bool((bias != bias.flatten()[0]).any())):
        bias = None
    with torch.no_grad():
        if weight.drawn == "recurrent":
            bound = std * math.sqrt(3)
            weight.parameter.uniform_(-bound, bound)
        else:
            bound = 0.0
            weight.parameter.normal_(0.0, std)
        if bias is not None:
            bias.uniform_(-bound, bound)


def _gradient_ratio(work: Workspace, probe: Probe) -> float | None:
    """The gradient at the first outputs over that at the last, before any update, as `Training` has it."""
    recorder = Recorder(work.model)
    batch = work.to_device(next(endless(probe.prepared.train)))
    work.clear_gradients()
    with recorder.watching():
        _, loss = work.step(batch)
        work.backward(loss)
    recorder.read()
    recorder.keep(0, output_scale=work.loss_scale)
    work.clear_gradients()
    norms = [
        o.gradient_rms[0] * math.sqrt(math.prod(o.shape))
        for o in recorder.output_records()
        if o.gradient_rms[0] is not None and math.isfinite(o.gradient_rms[0])
    ]
    return end_to_end(norms)
