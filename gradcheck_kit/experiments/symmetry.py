"""Layers whose units start as copies of each other, or of another layer's, and whether training tells them apart.

Equal units that get equal gradients stay equal for ever. Zero-initialised heads, residual branches and adapters start
equal too, and part in the first steps: only training shows the difference.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gradcheck_kit.experiments import NotApplicable, Probe
from gradcheck_kit.facts import EqualLayers, EqualUnits, Symmetry
from gradcheck_kit.observe.names import named_modules
from gradcheck_kit.observe.products import Product, Products, bare_parameters, products_of
from gradcheck_kit.target.batches import endless
from gradcheck_kit.target.layers import takes_hooks
from gradcheck_kit.target.workspace import Workspace, workspace

STEPS = 5  # the deepest chain of healthy zeros, a head after a gate after a branch, parts in three
MOST_STEPS = 20  # where float16's loss scale has to be found first
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_GATES = {"LSTM": 4, "GRU": 3}


@dataclass(slots=True)
class _Units:
    """The weights of a layer's units, shape (units, weights), and their biases, shape (units, gates)."""

    layer: str
    module: nn.Module
    weights: Tensor
    biases: Tensor | None
    parameters: tuple[Tensor, ...]  # of the module; or the one that a module of the user's own multiplies with
    bare: bool = False

    @property
    def comparable(self) -> bool:
        """Whether there are two or more units, each of which sees the same inputs through two or more weights."""
        return min(self.weights.shape) >= 2

    @property
    def equal(self) -> bool:
        """Whether all units are."""
        rows = self.weights
        # The first two alone rule out nearly every layer.
        return torch.equal(rows[0], rows[1]) and bool((rows == rows[0]).all())


def look_at_symmetry(probe: Probe) -> Symmetry:
    """Compares units at the start; where a layer's are all equal, a few steps of training are made."""
    prepared = probe.prepared
    products = _products(probe)
    with torch.no_grad():
        layers = list(_layers(prepared.model, products))
        suspects = {units.layer for units in layers if units.comparable and units.equal}
        families = _copies([units for units in layers if units.layer not in suspects and units.weights.any()])
    comparable = sum(units.comparable for units in layers)
    if not comparable and not families:
        raise NotApplicable("the model has no trainable layer with a weight matrix and two or more units")
    if not suspects and not families:
        return Symmetry(comparable, 0, ())
    watched = suspects.union(*families)
    with workspace(prepared, seed=prepared.settings.seed) as work:
        if not work.optimizers:
            raise NotApplicable("nothing is optimized")
        start = {u.layer: u for u in _layers(work.model, products) if u.layer in watched}
        with torch.no_grad():
            for units in start.values():
                units.weights = units.weights.detach().clone()
                units.biases = None if units.biases is None else units.biases.detach().clone()
        try:
            still_zero, steps = _train(work, probe, start)
        except Exception:  # noqa: BLE001  # the training run that follows says what the user's code raises
            raise NotApplicable("the first steps of training raise") from None
        with torch.no_grad():
            moved = {
                u.layer: u.weights - start[u.layer].weights for u in _layers(work.model, products) if u.layer in start
            }
            spreads = {layer: _spread(moved[layer]) for layer in suspects}
            apart = [_spread(torch.stack([moved[layer] for layer in family])) for family in families]
        together = [layer for layer, spread in spreads.items() if spread is not None and not spread > 0.9]
        hidden = _hidden(work, probe, [start[layer] for layer in together]) if together else set()
    return Symmetry(
        comparable,
        steps,
        tuple(
            EqualUnits(
                layer=layer,
                layer_type=type(units.module).__name__,
                units=len(units.weights),
                weights=units.weights.shape[1],
                zero=not bool(units.weights.any()),
                biases_equal=units.biases is None or bool((units.biases == units.biases[0]).all()),
                hidden=layer in hidden,
                spread=spreads.get(layer),
                gradient_zero=layer in still_zero,
                bare=units.bare,
            )
            for layer, units in start.items()
            if layer in suspects
        ),
        tuple(
            EqualLayers(tuple(family), type(start[family[0]].module).__name__, spread)
            for family, spread in zip(families, apart, strict=True)
        ),
    )


def _copies(layers: list[_Units]) -> list[list[str]]:
    """The layers that hold the same weights, bit for bit, each in parameters of its own."""
    families: dict[tuple[object, ...], list[_Units]] = {}
    for units in layers:
        some = units.weights.flatten()[:8].tolist()  # what is not equal in these is told apart without reading more
        families.setdefault((tuple(units.weights.shape), *some), []).append(units)
    found = []
    for family in families.values():
        first, owners = family[0], {id(p) for p in family[0].parameters}
        equal = [first.layer]
        for other in family[1:]:
            tied = any(id(p) in owners for p in other.parameters)
            if not tied and torch.equal(first.weights, other.weights):
                equal.append(other.layer)
                owners |= {id(p) for p in other.parameters}
        if len(equal) > 1:
            found.append(equal)
    return found


def _products(probe: Probe) -> dict[str, Product]:
    """What modules of the user's own multiply with, by one forward pass; made only where there may be any."""
    prepared = probe.prepared
    if not any(p.ndim > 1 for _, _, p in bare_parameters(prepared.model)):
        return {}
    with workspace(prepared, seed=prepared.settings.seed) as work:
        batch = work.to_device(next(endless(prepared.train)))
        return products_of(work.model, lambda: work.task.forward(work.model, batch))


def _layers(model: nn.Module, products: dict[str, Product]) -> Iterator[_Units]:
    """Trainable layers, their weights as one row for each unit."""
    for units in (*_known_layers(model), *_bare_layers(model, products)):
        if units.weights.numel() >= 2 and units.weights.is_floating_point():
            yield units


def _bare_layers(model: nn.Module, products: dict[str, Product]) -> Iterator[_Units]:
    for name, module, parameter in bare_parameters(model):
        if name in products and parameter.requires_grad:
            weights = products[name].units_of(parameter)
            # Any vector beside it with a number for each unit may be its bias.
            vectors = [p for p in module.parameters(recurse=False) if p.numel() == max(p.shape, default=0)]
            biases = [p.flatten() for p in vectors if p.numel() == len(weights)]
            stacked = torch.stack(biases, 1) if biases else None
            yield _Units(products[name].layer, module, weights, stacked, (parameter,), bare=True)


def _known_layers(model: nn.Module) -> Iterator[_Units]:
    for name, module in named_modules(model):
        own = list(module.parameters())
        if nn.utils.parametrize.is_parametrized(module):
            continue  # reading such a weight may change it: spectral_norm takes a step of its power iteration
        if not own or not all(p.requires_grad for p in own) or any(map(nn.parameter.is_lazy, own)):
            continue
        if isinstance(module, nn.Linear):
            parts = [(module.weight, _column(module.bias))]
        elif isinstance(module, _CONVOLUTIONS) and module.groups == 1:
            parts = [(module.weight.flatten(1), _column(module.bias))]
        elif isinstance(module, _TRANSPOSED) and module.groups == 1:
            parts = [(module.weight.transpose(0, 1).flatten(1), _column(module.bias))]
        elif isinstance(module, nn.RNNBase) and not module.proj_size:
            yield from _recurrent(name, module)
            continue
        else:
            continue
        yield from (_Units(name, module, weights, biases, tuple(own)) for weights, biases in parts)


def _column(bias: Tensor | None) -> Tensor | None:
    return None if bias is None else bias[:, None]


def _recurrent(name: str, module: nn.RNNBase) -> Iterator[_Units]:
    """A unit of a recurrent layer has a row in each gate, for the input and for the state."""
    gates, size = _GATES.get(module.mode, 1), module.hidden_size
    suffixes = [p.removeprefix("weight_ih") for p, _ in module.named_parameters() if p.startswith("weight_ih")]
    for suffix in suffixes:
        parts = [getattr(module, f"{kind}{suffix}") for kind in ("weight_ih", "weight_hh")]
        weights = torch.cat([p.view(gates, size, -1).transpose(0, 1).flatten(1) for p in parts], 1)
        biases = [getattr(module, f"{kind}{suffix}").view(gates, size).T for kind in ("bias_ih", "bias_hh")] if (
            module.bias
        ) else None  # fmt: skip
        layer = f"{name} ({suffix.removeprefix('_')})"
        yield _Units(layer, module, weights, None if biases is None else sum(biases), tuple(module.parameters()))


def _train(work: Workspace, probe: Probe, start: dict[str, _Units]) -> tuple[set[str], int]:
    """A few steps; the layers whose gradient was exactly zero in each, and how many steps there were."""
    zero = set(start)
    batches = endless(probe.prepared.train)
    done = 0
    for _ in range(MOST_STEPS):
        batch = work.to_device(next(batches))
        work.clear_gradients()
        _, loss = work.step(batch)
        work.backward(loss)
        work.unscale()
        zero = {layer for layer in zero if _gradient_is_zero(start[layer])}
        work.update(batch)
        done += not work.skipped
        if done == STEPS:
            break
    return zero, done


def _gradient_is_zero(units: _Units) -> bool:
    gradients = [p.grad for p in units.parameters]
    return all(g is not None and not bool(g.any()) for g in gradients)


def _spread(moved: Tensor) -> float | None:
    """How far movements deviate from their mean over dimension 0, against their size, both root mean squares."""
    wide = moved.cpu().double()  # not every device has float64
    length = float(wide.square().mean())
    if not length > 0:
        return None if length == 0 else math.nan
    return math.sqrt(float((wide - wide.mean(0)).square().mean()) / length)


def _hidden(work: Workspace, probe: Probe, layers: list[_Units]) -> set[str]:
    """Which of these layers feed another call of a layer with weights, by autograd's graph."""
    outputs: dict[int | str, Tensor] = {}
    inputs: list[Tensor] = []

    def note(module: nn.Module, args: tuple[object, ...], output: object) -> None:
        given = args[0] if args else None
        if isinstance(given, Tensor) and given.requires_grad:
            inputs.append(given)
        made = output[0] if isinstance(output, tuple) else output
        if isinstance(made, Tensor) and made.requires_grad:
            outputs.setdefault(id(module), made)

    weighted = (nn.Linear, nn.RNNBase, *_CONVOLUTIONS, *_TRANSPOSED)
    handles = [
        m.register_forward_hook(note) for m in work.model.modules() if isinstance(m, weighted) and takes_hooks(m)
    ]
    products = Products(work.model)
    try:
        with products if products.expected else nullcontext():
            work.step(work.to_device(next(endless(probe.prepared.train))))
    finally:
        for handle in handles:
            handle.remove()
    inputs += products.given
    outputs |= {product.layer: product.returned for product in products.found.values()}
    made = {units.layer: outputs.get(units.layer if units.bare else id(units.module)) for units in layers}
    return {layer for layer, output in made.items() if output is not None and _feeds(output, inputs)}


def _feeds(output: Tensor, inputs: list[Tensor]) -> bool:
    try:
        return any(
            torch.autograd.grad(given.sum(), output, retain_graph=True, allow_unused=True)[0] is not None
            for given in inputs
        )
    except RuntimeError:  # a value that backward needs was changed in place
        return False
