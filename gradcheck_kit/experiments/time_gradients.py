"""How much of the gradient at the last step of a recurrent layer, or of a loop over a cell, arrives at the first.

Most new recurrent layers forget, and most tasks do not mind. Where the run does not learn it is made once more with
the layer reading its input backwards: if that one learns, what it has to remember was too far away. A loop that
detaches its state at every step is told apart: nothing arrives before the last step, though the one before matters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from gradcheck_kit.experiments import NotApplicable, Probe
from gradcheck_kit.experiments.second_run import PATIENCE, losses_of_run
from gradcheck_kit.facts import RateTrial, TimeGradient, TimeGradients, Training
from gradcheck_kit.observe.names import named_modules
from gradcheck_kit.observe.statistics import measurable
from gradcheck_kit.target.batches import endless
from gradcheck_kit.target.layers import takes_hooks
from gradcheck_kit.target.outputs import tensors
from gradcheck_kit.target.workspace import Workspace, seed_everything, workspace

SHORTEST = 8  # steps: over fewer nothing vanishes that the layer itself does not show
FORGETS = 1e-4  # the ratio below which the run is made anew, if it does not learn


def look_through_time(probe: Probe) -> TimeGradients:
    """For each recurrent layer one backward pass from its last output, for each cell in a loop one from the loss."""
    prepared, training = probe.prepared, probe.facts.get(Training)
    with workspace(prepared, seed=prepared.settings.seed) as work:
        batch = work.to_device(next(endless(prepared.train)))
        layers = _layers(work.model)
        inputs = _inputs(work, layers, batch) if layers else {}
        measured = [_through_time(name, layers[name], given) for name, given in inputs.items()]
        found = TimeGradients((*(g for g in measured if g is not None), *_through_loops(work, batch)), ())
    if not found.layers:
        if not layers:
            raise NotApplicable("the model has no recurrent layer of torch's, and no loop over a cell")
        raise NotApplicable(f"no recurrent layer was given a sequence of {SHORTEST} steps or more, unpacked")
    worst = found.worst
    if training is None or not training.harm or worst.cut or worst.ratio >= FORGETS or prepared.settings.quick:
        return found
    return TimeGradients(found.layers, _turned(probe, worst, training.constant_loss))


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


def _turned(probe: Probe, worst: TimeGradient, constant_loss: float | None) -> tuple[float, ...]:
    """The losses of the run in which the layer reads its input backwards, until it has learned.

    Where it is a cell in a loop, the whole model does: the dimension of its input that is as long as the loop.
    """
    prepared, length = probe.prepared, len(worst.gradient_rms)
    with workspace(prepared, seed=prepared.settings.seed) as work:
        reader = work.model if worst.cell else _layers(work.model)[worst.layer]
        turned = False

        def turn(_module: nn.Module, args: Any) -> Any:
            nonlocal turned
            if not args or not isinstance(args[0], Tensor):
                return None
            time = next((d for d in (1, 0, 2) if d < args[0].ndim and args[0].shape[d] == length), None)
            if isinstance(reader, nn.RNNBase):
                time = (1 if reader.batch_first else 0) if args[0].ndim == 3 else None
            if time is None:
                return None
            turned = True
            return (args[0].flip(time), *args[1:])

        handle = reader.register_forward_pre_hook(turn)
        try:
            losses = losses_of_run(
                probe,
                work,
                steps=PATIENCE * prepared.settings.steps,
                enough=lambda losses: not turned or RateTrial(1.0, losses).learned(constant_loss),
            )
        finally:
            handle.remove()
    return losses if turned else ()


# ---- loops over a cell ----


def _through_loops(work: Workspace, batch: Any) -> list[TimeGradient]:
    """Modules with weights that one pass calls so many times; of nested ones the outermost."""
    modules = {n: m for n, m in named_modules(work.model) if n and takes_hooks(m) and any(True for _ in m.parameters())}
    calls = dict.fromkeys(modules, 0)

    def count(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def counted(_module: nn.Module, _args: Any, _output: Any) -> None:
            calls[name] += 1

        return counted

    with _hooked({module: count(name) for name, module in modules.items()}):
        work.step(batch)
    loops = [name for name in modules if calls[name] >= SHORTEST]
    outermost = [n for n in loops if not any(n.startswith(f"{o}.") and calls[o] == calls[n] for o in loops)]
    found = (_through_loop(work, batch, name, modules[name]) for name in outermost)
    return [gradient for gradient in found if gradient is not None]


def _through_loop(work: Workspace, batch: Any, name: str, cell: nn.Module) -> TimeGradient | None:
    """The gradient of the loss at what the cell returns, by call; None where some call was not meant to have any."""
    arrived: list[float] = []  # by call
    meant = True

    def watch(_module: nn.Module, _args: Any, output: Any) -> None:
        nonlocal meant
        call = len(arrived)
        arrived.append(0.0)
        carrying = [tensor for tensor in tensors(output) if tensor.requires_grad and measurable(tensor)]
        meant = meant and bool(carrying)

        def arrives(gradient: Tensor) -> None:
            arrived[call] = max(arrived[call], float(gradient.detach().double().square().mean().sqrt()))

        for tensor in carrying:
            tensor.register_hook(arrives)

    with _hooked({cell: watch}):
        _, loss = work.step(batch)
    if not meant or not loss.requires_grad:
        return None
    work.backward(loss)  # calls that recomputation makes in it are none of the loop's: the hook is gone by then
    work.clear_gradients()
    if not arrived or not 0 < arrived[-1] < math.inf:
        return None
    cut = not any(arrived[:-1])
    if cut and not _matters(work, batch, cell, len(arrived) - 2):
        return None  # nobody uses the other calls
    return TimeGradient(name, type(cell).__name__, tuple(rms / arrived[-1] for rms in arrived), cell=True, cut=cut)


@contextmanager
def _hooked(hooks: Mapping[nn.Module, Callable[[nn.Module, Any, Any], Any]]) -> Iterator[None]:
    handles = [module.register_forward_hook(hook) for module, hook in hooks.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _matters(work: Workspace, batch: Any, cell: nn.Module, call: int) -> bool:
    """Whether the loss changes with what the cell returns at that call."""

    def loss_shifted_by(shift: float) -> float:
        seen = 0

        def hook(_module: nn.Module, _args: Any, output: Any) -> Any:
            nonlocal seen
            seen += 1
            if seen != call + 1:
                return None
            return pytree.tree_map_only(Tensor, lambda t: t + shift if t.is_floating_point() else t, output)

        seed_everything(0)
        with _hooked({cell: hook}):
            return float(work.step(batch)[1].detach())

    return loss_shifted_by(0.0) == loss_shifted_by(0.0) != loss_shifted_by(1.0)


# ---- recurrent layers of torch's ----


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
    return TimeGradient(
        name, type(layer).__name__, tuple((by_step / by_step[-1]).tolist()), padded=_padded(given.movedim(time, 0))
    )


def _padded(steps: Tensor) -> float:
    """How many of the last steps, shape (time, batch, features), are equal to the last one, on average."""
    same = (steps == steps[-1]).all(-1).flip(0).int().cummin(0).values.sum(0)
    return float(same.where(same > 1, 0).double().mean())
