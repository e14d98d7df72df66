"""What a first step loses in float16 or bfloat16 weights, counted element by element, and the run in float32.

A gradient below the smallest number of float16 is zero; it was there if it comes back when the loss is multiplied
first. An update below half a unit in the last place of its weight leaves the weight as it was. Many runs learn all the
same: the precision is to blame where the run does not learn, and the same one in float32 does.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from gradcheck_kit.experiments import NotApplicable, Probe
from gradcheck_kit.experiments.batch_mixing import in_precision
from gradcheck_kit.experiments.second_run import PATIENCE, losses_of_run
from gradcheck_kit.facts import LowPrecision, RateTrial, Training
from gradcheck_kit.observe.names import named_parameters
from gradcheck_kit.target.batches import endless
from gradcheck_kit.target.closures import needs_closure
from gradcheck_kit.target.keep import kept_generators
from gradcheck_kit.target.layers import layer_of
from gradcheck_kit.target.workspace import Workspace, seed_everything, workspace

LOW = (torch.float16, torch.bfloat16)
LARGEST = 2.0**16  # factor of the loss, torch.amp.GradScaler's first one
ROOM = 2.0**14  # for the scaled loss below the largest float16, which is 65504
UNDERFLOW, LOST = 0.1, 0.5  # from which on the run is made in float32, if it does not learn


def look_at_precision_loss(probe: Probe) -> LowPrecision:
    """One step of the user's, one backward pass of the same loss multiplied, and, where they lose much, the run anew.

    Raises NotApplicable without weights of low precision.
    """
    prepared, training = probe.prepared, probe.facts.get(Training)
    if not any(p.requires_grad and p.dtype in LOW for p in prepared.model.parameters()):
        raise NotApplicable("every trained weight has the precision of float32 or better")
    with workspace(prepared, seed=prepared.settings.seed) as work:
        low = {n: p for n, p in named_parameters(work.model) if p.requires_grad and p.dtype in LOW}
        batch = work.to_device(next(endless(prepared.train)))
        scale, plain, scaled = _gradients(work, batch, low, prepared.settings.seed)
        underflow, underflow_layer, vanished = _underflow(plain, scaled, scale)
        lost, lost_layer = _lost_updates(work, batch, low, prepared.settings.seed)
        kind = str(next(iter(low.values())).dtype).removeprefix("torch.")
        layers = tuple(dict.fromkeys(layer_of(name) or name for name in low))
    found = LowPrecision(kind, layers, scale, underflow, underflow_layer, vanished, lost, lost_layer, ())
    much = (underflow or 0.0) > UNDERFLOW or (lost or 0.0) > LOST
    if training is None or not training.harm or not much or prepared.settings.quick:
        return found
    return replace(found, float32_losses=_float32_losses(probe, training.constant_loss))


class _Float32(TorchFunctionMode):
    """Whatever a forward brings to low precision becomes float32."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in ("half", "bfloat16"):
            return args[0].float()
        args = tuple(torch.float32 if _is_low(a) else a for a in args)
        kwargs = {name: torch.float32 if _is_low(a) else a for name, a in (kwargs or {}).items()}
        return func(*args, **kwargs)


def _is_low(argument: Any) -> bool:
    return isinstance(argument, torch.dtype) and argument in LOW


def _float32_losses(probe: Probe, constant_loss: float | None) -> tuple[float, ...]:
    """The losses of the run with weights and data in float32, until it has learned; () where it is made for less."""
    prepared = probe.prepared
    wide = replace(prepared, train=_Wide(prepared.train))
    # the workspace looks for the generators of what it is given, and does not see through the data in float32
    with kept_generators(prepared.train), workspace(wide, seed=prepared.settings.seed) as work, _Float32():
        work.model.float()
        if isinstance(work.task.loss_fn, nn.Module):
            work.task.loss_fn.float()
        try:
            return losses_of_run(
                replace(probe, prepared=wide),
                work,
                steps=PATIENCE * prepared.settings.steps,
                enough=lambda losses: RateTrial(1.0, losses).learned(constant_loss),
            )
        except Exception:  # noqa: BLE001  # an operation of the user's that takes low precision only
            return ()


class _Wide:
    """The data with its numbers in float32."""

    def __init__(self, data: Any) -> None:
        self._data = data

    def __iter__(self) -> Any:
        return (in_precision(batch, torch.float32) for batch in self._data)


def _gradients(
    work: Workspace, batch: object, low: dict[str, nn.Parameter], seed: int
) -> tuple[float, dict[str, Tensor], dict[str, Tensor]]:
    """The gradients of the loss as it is, and of the loss multiplied by the returned power of two."""
    found = []
    scale = 1.0
    for factor in (None, LARGEST):
        work.clear_gradients()
        seed_everything(seed)
        _, loss = work.step(batch)
        value = abs(float(loss.detach()))
        if factor is not None and 0 < value < math.inf:
            scale = min(factor, 2.0 ** math.floor(math.log2(max(1.0, ROOM / value))))
        if loss.requires_grad:
            (loss * scale if factor is not None else loss).backward()
        found.append({name: p.grad.detach().clone() for name, p in low.items() if p.grad is not None})
    work.clear_gradients()
    return scale, found[0], found[1]


def _underflow(
    plain: dict[str, Tensor], scaled: dict[str, Tensor], scale: float
) -> tuple[float | None, str, tuple[str, ...]]:
    """Of elements whose multiplied gradient is a normal number, the share whose plain one is zero.

    And the layer where it is largest, and the parameters of whose plain gradient nothing is left.
    """
    lost = total = 0
    worst = (-1.0, "")
    vanished = []
    for name, gradient in plain.items():
        if name not in scaled or gradient.layout is not torch.strided:
            continue
        tiny = torch.finfo(gradient.dtype).tiny
        there = scaled[name].isfinite() & (scaled[name].abs() >= tiny)
        count = int(there.sum())
        gone = int((there & (gradient == 0)).sum())
        lost, total = lost + gone, total + count
        if count:
            worst = max(worst, (gone / count, layer_of(name) or name))
        if count and not gradient.any():
            vanished.append(name)
    return (lost / total if total and scale > 1 else None), worst[1], tuple(vanished if scale > 1 else ())


def _lost_updates(work: Workspace, batch: object, low: dict[str, nn.Parameter], seed: int) -> tuple[float | None, str]:
    if any(map(needs_closure, work.optimizers)) or not work.optimizers:
        return None, ""
    owned = {id(p) for o in work.optimizers for g in o.param_groups if g.get("lr") for p in g["params"]}
    seed_everything(seed)
    _, loss = work.step(batch)
    work.backward(loss)
    before = {name: p.detach().clone() for name, p in low.items()}
    gradients = {name: p.grad for name, p in low.items() if p.grad is not None and id(p) in owned}
    # of a sparse gradient, as of an embedding, the elements that are not there would not move in any precision
    moving = {name: gradient != 0 for name, gradient in gradients.items() if gradient.layout is torch.strided}
    work.update(batch)
    still = total = 0
    worst = (-1.0, "")
    for name, mask in moving.items():
        count = int(mask.sum())
        same = int((mask & (low[name].detach() == before[name])).sum())
        still, total = still + same, total + count
        if count:
            worst = max(worst, (same / count, layer_of(name) or name))
    return (still / total if total else None), worst[1]
