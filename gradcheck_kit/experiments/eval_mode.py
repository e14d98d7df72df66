"""Which modules are in training mode after `model.eval()`, and which run in it all the same."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import nn

from gradcheck_kit.experiments import WHOLE_STEP, NotApplicable, Probe
from gradcheck_kit.facts import EvalMode, ModeHolder
from gradcheck_kit.observe.module_stack import ModuleStack
from gradcheck_kit.observe.names import named_modules
from gradcheck_kit.observe.unregistered import find_attribute
from gradcheck_kit.target.batches import endless
from gradcheck_kit.target.workspace import Workspace, workspace


def look_at_eval_mode(probe: Probe) -> EvalMode:
    """Call `model.eval()`, look at every module, run one batch and look again."""
    prepared = probe.prepared
    if prepared.task.training_step is not None:
        raise NotApplicable(f"{WHOLE_STEP}, so it says nothing about evaluation mode")
    with workspace(prepared, seed=prepared.settings.seed) as work:
        model = work.model
        model.eval()
        after_eval = {id(m) for m in model.modules() if m.training}
        running = _run(work, next(endless(prepared.train)))
        left = tuple(_holders(model, after_eval, running))
        differing = sum(map(differs, model.modules()))
        return EvalMode(differing, id(model) in after_eval, model.training, left)


def _run(work: Workspace, batch: object) -> list[tuple[nn.Module, nn.Module | None]]:
    """The modules that ran in training mode, each with the one that called it."""
    stack = _Modes(work.model)
    with stack.watch(), torch.no_grad():
        try:
            work.task.forward(work.model, work.to_device(batch))
        except Exception:  # noqa: BLE001  # what a model cannot do in evaluation mode, Evaluation tells
            return []
    return [(module, stack.callers.get(id(module))) for module in stack.finished if id(module) in stack.training]


class _Modes(ModuleStack):
    """Notes the mode of every module when its forward begins."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.training: dict[int, nn.Module] = {}  # the modules too: one made in forward would lend its id to the next

    def _enter(self, module: nn.Module, _args: object) -> None:
        super()._enter(module, _args)
        if module.training:
            self.training.setdefault(id(module), module)


def _holders(
    model: nn.Module, after_eval: set[int], running: list[tuple[nn.Module, nn.Module | None]]
) -> Iterator[ModeHolder]:
    names = {id(module): name for name, module in named_modules(model)}
    ran = {id(module) for module, _ in running}
    changed = _overriding(model)
    for name, module in named_modules(model):
        if differs(module) and (id(module) in after_eval or id(module) in ran):
            yield ModeHolder(
                name=name,
                type=type(module).__name__,
                registered=True,
                own_statistics=_own_statistics(module),
                overridden=any(name == owner or name.startswith(f"{owner}.") or not owner for owner in changed),
                by_forward=id(module) not in after_eval,
            )
    for module, caller in running:
        if id(module) not in names and differs(module):
            inside = names.get(id(caller), "") if caller is not None else ""
            yield ModeHolder(
                name=find_attribute(model, module) or f"a {type(module).__name__} made in {inside or 'model'}.forward",
                type=type(module).__name__,
                registered=False,
                own_statistics=_own_statistics(module),
                overridden=False,
                by_forward=False,
            )


def _overriding(model: nn.Module) -> list[str]:
    """The modules that change modes in a way of their own."""
    return [
        name
        for name, module in named_modules(model)
        if type(module).train is not nn.Module.train
        or type(module).eval is not nn.Module.eval
        or "train" in vars(module)
        or "eval" in vars(module)
    ]


def _own_statistics(module: nn.Module) -> bool:
    return isinstance(module, nn.modules.batchnorm._NormBase)  # noqa: SLF001  # the common base has no public name


def differs(module: nn.Module) -> bool:
    """Whether the module computes something else in training mode than in evaluation mode."""
    if isinstance(module, nn.modules.dropout._DropoutNd):  # noqa: SLF001  # likewise
        return bool(module.p > 0)
    if _own_statistics(module):
        return bool(module.track_running_stats) and module.running_mean is not None
    if isinstance(module, nn.RNNBase):
        return module.dropout > 0 and module.num_layers > 1
    if isinstance(module, nn.MultiheadAttention):
        return bool(module.dropout > 0)
    if isinstance(module, nn.RReLU):
        return True
    if type(module).__module__.startswith("torch.nn."):
        return False
    # `self.training` in a forward of the user's own.
    code = getattr(getattr(type(module), "forward", None), "__code__", None)  # a ScriptModule's class has none
    return code is not None and "training" in code.co_names
