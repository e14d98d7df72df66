"""Whether the positions of a sequence, or the nodes of a graph, still differ after all layers that mix them.

Attention and means over neighbours draw positions together, twice as fast with each layer; what is left is one vector
that all share (Dong, Cordonnier & Loukas 2021). Where they have come together, the run is made once more with a
residual connection around each of these layers. If that run learns more, collapse was it.
"""

from __future__ import annotations

from statistics import median
from typing import Any

from torch import Tensor, nn

from gradcheck_kit.experiments import NotApplicable, Probe
from gradcheck_kit.experiments.forward_pass import look_at_modules
from gradcheck_kit.experiments.second_run import PATIENCE, losses_of_run
from gradcheck_kit.facts import PositionSpread, RankCollapse, RateTrial, Training
from gradcheck_kit.observe.names import named_modules
from gradcheck_kit.observe.outputs import first_float
from gradcheck_kit.target.workspace import Workspace, workspace

COLLAPSED = 1e-2  # spread after the last layer, from which the run is made again
TOLD_APART = 1e-6  # spread of what a layer is given, below which it can draw nothing together


def look_at_rank_collapse(probe: Probe) -> RankCollapse:
    """The spread of positions over the layers that shrink it most; and where none is left, the run with residuals."""
    prepared, training = probe.prepared, probe.facts.get(Training)
    with workspace(prepared, seed=prepared.settings.seed) as work:
        work.model.eval()  # dropout makes equal positions differ
        seen, positions = _spreads(work, probe)
    layers = _outermost(_families(seen))
    if not layers:
        raise NotApplicable("the model has no two layers of a type that draw positions of a sequence together")
    found = RankCollapse(tuple(layers), positions, (), None)
    if training is None or layers[-1].after > COLLAPSED or prepared.settings.quick or training.learned_well:
        return found
    names = [layer.layer for layer in layers]
    with workspace(prepared, seed=prepared.settings.seed) as work:
        handles = _add_residuals(work.model, names)
        try:
            after = next((s.after for s in _spreads(work, probe)[0] if s.layer == names[-1]), None)
            losses = losses_of_run(
                probe,
                work,
                steps=(PATIENCE if training.harm else 1) * prepared.settings.steps,
                enough=lambda losses: RateTrial(1.0, losses).learned(training.constant_loss),
            )
        except Exception:  # noqa: BLE001  # a layer that writes into its input, whose gradient the sum needs
            return found
        finally:
            for handle in handles:
                handle.remove()
    return RankCollapse(found.layers, positions, losses, after)


def spread(value: Tensor, dim: int) -> float:
    """RMS deviation from the mean over a dimension, of positions or samples, over the RMS; 0.0 of zeros."""
    wide = value.detach().double()
    size = float(wide.square().mean())
    return (float((wide - wide.mean(dim, keepdim=True)).square().mean()) / size) ** 0.5 if size > 0 else 0.0


def _spreads(work: Workspace, probe: Probe) -> tuple[list[PositionSpread], int]:
    """Every module with parameters that keeps the shape of a sequence, in its first call; and how many positions."""
    found: dict[str, PositionSpread] = {}
    positions = 0

    def look(name: str, module: nn.Module, args: Any, output: Any) -> None:
        nonlocal positions
        given, made = first_float(args) if args else None, first_float(output)
        if name in found or given is None or made is None or given.shape != made.shape or given.is_complex():
            return
        if given.ndim == 3 and min(given.shape[1:]) > 1 and any(True for _ in module.parameters()):
            positions = max(positions, given.shape[1])
            found[name] = PositionSpread(name, type(module).__name__, spread(given, 1), spread(made, 1))

    look_at_modules(work, probe, look)
    return list(found.values()), positions


def _families(seen: list[PositionSpread]) -> list[list[PositionSpread]]:
    """Two layers of a type or more, that as a rule halve the differences that they are given."""
    by_type: dict[str, list[PositionSpread]] = {}
    for layer in seen:
        by_type.setdefault(layer.layer_type, []).append(layer)
    found = []
    for family in by_type.values():
        shares = [layer.after / layer.before for layer in family if layer.before > TOLD_APART]
        if len(family) > 1 and shares and median(shares) < 0.5:
            found.append(family)
    return found


def _outermost(families: list[list[PositionSpread]]) -> list[PositionSpread]:
    """The family whose layers hold the others, and not the attention inside of each."""
    return min(families, key=lambda family: (min(f.layer.count(".") for f in family), -len(family)), default=[])


def _add_residuals(model: nn.Module, names: list[str]) -> list[Any]:
    def add(_module: nn.Module, args: Any, output: Any) -> Any:
        if isinstance(output, Tensor):
            return output + args[0] if output.shape == args[0].shape else None
        if isinstance(output, tuple) and output and isinstance(output[0], Tensor) and output[0].shape == args[0].shape:
            return (output[0] + args[0], *output[1:])
        return None

    modules = dict(named_modules(model))
    return [modules[name].register_forward_hook(add) for name in names]
