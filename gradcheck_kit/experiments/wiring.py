"""What is connected to what: one forward and backward pass with the eyes on modules, parameters and shapes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from gradcheck_kit.experiments import Probe
from gradcheck_kit.facts import Broadcast, UnregisteredModule, WiredModule, WiredParameter, Wiring
from gradcheck_kit.observe.functions import BroadcastWatch, ModuleStack
from gradcheck_kit.observe.outputs import sites
from gradcheck_kit.observe.statistics import as_dense, norms, read
from gradcheck_kit.target.batches import endless
from gradcheck_kit.target.workspace import Workspace, workspace


def look_at_wiring(probe: Probe) -> Wiring:
    """One pass over one batch: who ran, who got a gradient, who is optimized, what the loss compared."""
    prepared = probe.prepared
    with workspace(prepared, seed=prepared.settings.seed) as work:
        batch = work.to_device(next(endless(prepared.train)))
        stack = ModuleStack(work.model)
        with stack.watch():
            output = work.task.forward(work.model, batch)
        prediction, target = work.task.prediction(output), work.task.target(batch)
        broadcasts: tuple[Broadcast, ...] = ()
        if prediction is not None and isinstance(target, Tensor):
            with BroadcastWatch(prediction, target) as watch:
                loss = work.task.loss(output, batch)
            broadcasts = tuple(Broadcast(b.operation, b.prediction, b.target, b.result) for b in watch.found)
        else:
            loss = work.task.loss(output, batch)
        work.backward(loss)
        owned = {id(p) for o in work.optimizers for g in o.param_groups for p in g["params"]}
        return Wiring(
            parameters=tuple(_parameters(work.model, owned)),
            modules=tuple(_modules(work.model, stack)),
            unregistered=tuple(_unregistered(work, stack, owned)),
            foreign_parameters=len(_owned_elsewhere(work)),
            optimizer_given=prepared.optimizer_given,
            prediction_shape=None if prediction is None else tuple(prediction.shape),
            target_shape=tuple(target.shape) if isinstance(target, Tensor) else None,
            broadcasts=broadcasts,
        )


def _owned_elsewhere(work: Workspace) -> list[nn.Parameter]:
    """Parameters that an optimizer owns and that neither model nor loss registers."""
    loss_fn = work.task.loss_fn
    registered = {id(p) for p in work.model.parameters()}
    registered |= {id(p) for p in loss_fn.parameters()} if isinstance(loss_fn, nn.Module) else set()
    return [p for p in work.parameters() if id(p) not in registered]


def _parameters(model: nn.Module, owned: set[int]) -> Iterable[WiredParameter]:
    modules = dict(model.named_modules())
    named = [(name, p) for name, p in model.named_parameters() if p.numel()]
    present = [as_dense(p.grad) for _, p in named if p.grad is not None]
    largest = iter(read(norms(present, float("inf"))))
    for name, parameter in named:
        layer = name.rpartition(".")[0]
        gradient = "none"
        if parameter.grad is not None:
            value = next(largest)
            gradient = "zero" if value == 0 else "nonzero" if value < float("inf") else "nonfinite"
        yield WiredParameter(
            name, layer, type(modules[layer]).__name__, tuple(parameter.shape), parameter.requires_grad,
            id(parameter) in owned, gradient,
        )  # fmt: skip


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


def _unregistered(work: Workspace, stack: ModuleStack, owned: set[int]) -> Iterable[UnregisteredModule]:
    registered = {id(p) for p in work.model.parameters()}
    known = {id(m) for m in work.model.modules()}
    if isinstance(work.task.loss_fn, nn.Module):
        registered |= {id(p) for p in work.task.loss_fn.parameters()}
        known |= {id(m) for m in work.task.loss_fn.modules()}
    for module in stack.finished:
        parameters = [p for p in module.parameters() if id(p) not in registered]
        if id(module) in known or not parameters:
            continue
        caller = stack.callers.get(id(module))
        if caller is not None and id(caller) not in known and id(caller) in {id(m) for m in stack.finished}:
            continue  # its parent is unregistered too and says it
        yield UnregisteredModule(
            _find_attribute(work.model, module) or _made_in(stack, caller),
            type(module).__name__,
            len(parameters),
            any(p.requires_grad for p in parameters),
            all(id(p) in owned for p in parameters if p.requires_grad),
        )


def _made_in(stack: ModuleStack, caller: nn.Module | None) -> str:
    name = stack.names.get(id(caller), "") if caller is not None else ""
    return f"{name or 'the model'}.forward"


def _find_attribute(model: nn.Module, wanted: nn.Module) -> str:
    """Where an unregistered module is kept: "blocks.hidden[0]"; "" when no attribute holds it."""
    for name, module in model.named_modules():
        for attribute, value in module.__dict__.items():
            if attribute.startswith("_") and attribute in nn.Module().__dict__:
                continue
            place = _search(value, wanted, 3)
            if place is not None:
                return f"{name}.{attribute}{place}" if name else f"{attribute}{place}"
    return ""


def _search(value: Any, wanted: nn.Module, depth: int) -> str | None:
    if value is wanted:
        return ""
    if depth == 0:
        return None
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, Mapping):
        items = value.items()
    elif isinstance(value, list | tuple):
        items = enumerate(value)
    elif callable(value) and hasattr(value, "__self__"):
        items = [("__self__", value.__self__)]
    for key, item in items:
        place = _search(item, wanted, depth - 1)
        if place is not None:
            return f".{key}{place}" if key == "__self__" else f"[{key!r}]{place}"
    return None
