"""What is connected to what: one forward and backward pass with the eyes on modules, parameters and shapes."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from gradcheck_kit.experiments import Probe
from gradcheck_kit.facts import Broadcast, WiredModule, WiredParameter, Wiring
from gradcheck_kit.observe.broadcasts import BroadcastWatch
from gradcheck_kit.observe.module_stack import ModuleStack
from gradcheck_kit.observe.outputs import sites
from gradcheck_kit.observe.statistics import TINY, as_dense, norms, read
from gradcheck_kit.observe.unregistered import bare_tensors, unregistered_modules
from gradcheck_kit.target.batches import endless
from gradcheck_kit.target.layers import layer_of
from gradcheck_kit.target.outputs import tensors
from gradcheck_kit.target.workspace import Workspace, seed_everything, workspace

MOST_PERTURBED = 16  # layers without a gradient whose influence on the loss is tried


def look_at_wiring(probe: Probe) -> Wiring:
    """One pass over one batch: who ran, who got a gradient, who is optimized, what the loss compared."""
    prepared = probe.prepared
    with workspace(prepared, seed=prepared.settings.seed) as work:
        batch = work.to_device(next(endless(prepared.train)))
        stack = ModuleStack(work.model)
        owned = {id(p) for o in work.optimizers for g in o.param_groups for p in g["params"]}
        with bare_tensors(work.model, owned) as bare:
            watch = BroadcastWatch(lambda: bool(stack.running))
            watch.see(tensors(batch))
            # A training step of the user's own makes its loss within.
            with watch if work.task.training_step is not None else nullcontext(), stack.watch():
                output = work.task.forward(work.model, batch)
            watch.see(tensors(output))
            prediction, target = work.task.prediction(output), work.task.target(batch)
            if prediction is not None and isinstance(target, Tensor):
                watch.compare(prediction, target)
            with watch:
                loss = work.task.loss(output, batch)
            work.backward(loss)
        work.unscale()
        loss_fn = work.task.loss_fn
        return Wiring(
            parameters=tuple(
                _with_influence(work, batch, tuple(_parameters(work.model, owned)), prepared.settings.seed)
            ),
            modules=tuple(_modules(work.model, stack)),
            unregistered=(*unregistered_modules(work.model, stack, owned, beside=loss_fn), *bare),
            foreign_parameters=len(_owned_elsewhere(work)),
            optimizer_given=prepared.optimizer_given,
            prediction_shape=None if prediction is None else tuple(prediction.shape),
            target_shape=tuple(target.shape) if isinstance(target, Tensor) else None,
            broadcasts=tuple(Broadcast(b.operation, b.prediction, b.target, b.result, b.known) for b in watch.found),
            loss_parameters=tuple(_parameters(loss_fn, owned, inside=False)) if isinstance(loss_fn, nn.Module) else (),
        )


def _owned_elsewhere(work: Workspace) -> list[nn.Parameter]:
    """Parameters that an optimizer owns and that neither model nor loss registers."""
    loss_fn = work.task.loss_fn
    registered = {id(p) for p in work.model.parameters()}
    registered |= {id(p) for p in loss_fn.parameters()} if isinstance(loss_fn, nn.Module) else set()
    return [p for p in work.parameters() if id(p) not in registered]


def _parameters(model: nn.Module, owned: set[int], *, inside: bool = True) -> Iterable[WiredParameter]:
    """The parameters of a model, or only those that it registers itself."""
    modules = dict(model.named_modules())
    named = [(name, p) for name, p in model.named_parameters(recurse=inside) if p.numel()]
    present = [as_dense(p.grad) for _, p in named if p.grad is not None]
    # The second norm tells tiny from zero, where the squares of the first are below the smallest float.
    values = read([*norms(present), *norms(present, factor=TINY)])
    found = iter(zip(values[: len(present)], values[len(present) :], strict=True))
    for name, parameter in named:
        layer = layer_of(name)
        gradient = "none"
        if parameter.grad is not None:
            norm, magnified = next(found)
            gradient = "nonfinite" if not norm < float("inf") else "zero" if magnified == 0 else "nonzero"
        yield WiredParameter(
            name, layer, type(modules[layer]).__name__, tuple(parameter.shape), parameter.requires_grad,
            id(parameter) in owned, gradient,
        )  # fmt: skip


def _with_influence(
    work: Workspace, batch: Any, parameters: tuple[WiredParameter, ...], seed: int
) -> Iterable[WiredParameter]:
    """For trainable layers without a gradient: does the loss change when their values do?

    If it does, something cut the gradient; if it does not, nobody uses what they compute. Layers whose gradient is
    exactly zero are tried all together: of a pair of zeros neither matters alone.
    """
    absent, zero = (
        list(dict.fromkeys(p.layer for p in parameters if p.trainable and p.gradient == kind))
        for kind in ("none", "zero")
    )
    trials = [("none", [layer]) for layer in absent[:MOST_PERTURBED]] + ([("zero", zero)] if zero else [])
    if not trials:
        return parameters
    matters: dict[tuple[str, str], bool | None] = {}
    tensors = dict(work.model.named_parameters())
    with torch.no_grad():
        before = _loss_again(work, batch, seed)
        if _loss_again(work, batch, seed) != before:
            return parameters  # the model draws numbers of its own: a difference would prove nothing
        for gradient, layers in trials:
            own = [tensors[p.name] for p in parameters if p.layer in layers and p.gradient == gradient]
            kept = [t.clone() for t in own]
            for tensor in own:
                tensor.add_(torch.randn_like(tensor) * (1 + tensor.abs().mean()))
            changes = _loss_again(work, batch, seed) != before
            if not changes or len(layers) == 1:  # which of several it is that matters is not known
                matters.update({(layer, gradient): changes for layer in layers})
            for tensor, value in zip(own, kept, strict=True):
                tensor.copy_(value)
    return [replace(p, matters=matters.get((p.layer, p.gradient))) for p in parameters]


def _loss_again(work: Workspace, batch: Any, seed: int) -> float:
    """The loss of the batch with the same random numbers each time."""
    seed_everything(seed)
    _, loss = work.step(batch)
    return float(loss)


def _modules(model: nn.Module, stack: ModuleStack) -> Iterable[WiredModule]:
    finished = {id(module): place for place, module in enumerate(stack.finished)}
    for name, module in sites(model):
        yield WiredModule(
            name,
            type(module).__name__,
            stack.calls.get(id(module), 0),
            sum(p.numel() for p in module.parameters()),
            finished.get(id(module)),
        )
