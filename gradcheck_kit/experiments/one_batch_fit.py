"""Whether one small batch can be learned by heart: what cannot do that cannot learn anything (Karpathy 2019)."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from gradcheck_kit.errors import ProbeError
from gradcheck_kit.experiments import NotApplicable, Probe
from gradcheck_kit.experiments.constant_loss import constant_loss
from gradcheck_kit.facts import FitAttempt, OneBatchFit
from gradcheck_kit.observe.names import named_modules
from gradcheck_kit.target.batches import batch_size_of, endless
from gradcheck_kit.target.blame import located
from gradcheck_kit.target.workspace import Prepared, Workspace, describe_optimizers, seed_everything, workspace

SAMPLES = 16
STEPS = 200  # Karpathy's recipe and TheDeepChecker fit a batch in a few hundred steps
FINER = 4  # times the step at which the slope is measured, and once more so much smaller
DRAWS = 3  # of what a model draws at random, at which the slope of a loss that was not learned is looked at
HEAVY = 0.8  # the share of values from which on dropout is tried for what it costs; 0.1 to 0.5 is usual
DROPOUTS = (nn.modules.dropout._DropoutNd,)  # noqa: SLF001  # the common base has no public name


def fit_one_batch(probe: Probe) -> OneBatchFit:
    """Train on one batch of at most 16 samples with dropout off: as configured and, if that fails, with Adam."""
    prepared = probe.prepared
    if prepared.settings.quick:
        raise NotApplicable("left out by --quick")
    # A probe of fewer steps than usual asks for a short answer here too.
    steps = min(STEPS, math.ceil(prepared.settings.steps * STEPS / 60))
    attempts: list[FitAttempt] = []
    constant: float | None = None
    samples = 0
    for optimizer in (None, "adam"):
        with workspace(prepared, seed=prepared.settings.seed, optimizer=optimizer) as work:
            if attempts and describe_optimizers(work.optimizers) == attempts[0].optimizer and not owned_apart(prepared):
                break  # the user's is that already
            batch = _few_samples(work, prepared)
            samples = batch_size_of(batch) or 1
            for module in work.model.modules():
                if isinstance(module, DROPOUTS):
                    module.eval()
            attempt, found = _attempt(work, batch, steps, probe)
        constant = found if found is not None else constant
        attempts.append(attempt)
        if attempt.fitted(constant):
            break
    fit = OneBatchFit(samples, steps, tuple(attempts), constant)
    return _with_dropout(fit, probe) if attempts[-1].fitted(constant) else fit


def _with_dropout(fit: OneBatchFit, probe: Probe) -> OneBatchFit:
    """The same with dropout on, where some layer drops nearly everything: keep_prob elsewhere is 1 - p here."""
    prepared = probe.prepared
    optimizer = None if len(fit.attempts) == 1 else "adam"
    with workspace(prepared, seed=prepared.settings.seed, optimizer=optimizer) as work:
        named = [(m.p, name) for name, m in named_modules(work.model) if isinstance(m, DROPOUTS) and m.training]
        share, name = max(named, default=(0.0, ""))
        if share <= HEAVY:
            return fit
        batch = _few_samples(work, prepared)
        attempt, _ = _attempt(work, batch, fit.planned_steps, probe, noise=True)
    return replace(fit, dropout=name or "the model", dropout_share=share, with_dropout=attempt)


def owned_apart(prepared: Prepared) -> bool:
    """Whether the user's optimizer leaves out something trainable."""
    owned = {id(p) for o in prepared.optimizers for g in o.param_groups for p in g["params"]}
    return bool(owned) and any(p.requires_grad and id(p) not in owned for p in prepared.model.parameters())


def _few_samples(work: Workspace, prepared: Prepared) -> Any:
    """The first samples of a batch, or all of it where they cannot do without the others, as the nodes of a graph."""
    batch = work.to_device(next(endless(prepared.train)))
    few = small_batch(batch)
    if few is batch:
        return batch
    random_state = torch.get_rng_state()
    try:
        work.step(few)
    except Exception:  # noqa: BLE001  # whatever a model raises whose batches are of one piece
        return batch
    finally:
        torch.set_rng_state(random_state)
    return few


def small_batch(batch: Any) -> Any:
    """The first samples of a batch; unchanged when its parts are not aligned."""
    size = batch_size_of(batch)
    leaves = pytree.tree_leaves(batch)
    aligned = all(isinstance(t, Tensor) and t.ndim and len(t) == size for t in leaves)
    if size is None or size <= SAMPLES or not aligned:
        return batch
    return pytree.tree_map(lambda t: t[:SAMPLES], batch)


def _attempt(
    work: Workspace, batch: Any, steps: int, probe: Probe, *, noise: bool = False
) -> tuple[FitAttempt, float | None]:
    losses: list[float] = []
    accuracy: float | None = None
    constant: float | None = None
    name = describe_optimizers(work.optimizers)
    try:
        for step in range(steps):
            probe.tick(step, steps)
            work.clear_gradients()
            # The same noise at every step: what a model draws in forward belongs to the batch that is to be fitted.
            if not noise:
                seed_everything(probe.prepared.settings.seed)
            output, loss = work.step(batch)
            if step == 0:
                constant = _constant(work, output, batch)
            losses.append(float(loss.detach()))
            accuracy = _accuracy(work, output, batch)
            if not math.isfinite(losses[-1]):
                losses[-1] = math.nan if math.isnan(losses[-1]) else losses[-1]
                break
            if step >= 2 and FitAttempt(name, tuple(losses[-3:]), accuracy).fitted(max(losses[0], constant or 0.0)):
                break
            work.backward(loss)
            work.update(batch)
    except Exception as error:
        raise ProbeError(f"{probe.prepared.name}: training on one batch raised {located(error)}") from error
    attempt = FitAttempt(name, tuple(losses), accuracy)
    if not attempt.fitted(constant) and math.isfinite(losses[-1]):
        attempt = replace(attempt, slope=_slope(work, batch, probe.prepared.settings.seed))
    return attempt, constant


def _slope(work: Workspace, batch: Any, seed: int) -> float | None:
    """The slope of the loss along its gradient, and along the gradient's signs, over what the gradient says it is.

    Where autograd's gradient is that of the loss it is 1, whatever the loss; the farthest from 1 of a few is returned.
    None where no step is small enough and still seen in float32.
    """
    if any(p.dtype in (torch.float16, torch.bfloat16) for p in work.parameters()):
        return None  # a step that they can tell is no small one
    found: list[float] = []
    for draw in range(DRAWS):
        for signs in (False, True):
            try:
                slope = _slope_along(work, batch, seed + draw, signs=signs)
            except Exception:  # noqa: BLE001  # whatever a model raises here, nothing is known then
                slope = None
            if slope is not None:
                found.append(slope)
    return max(found, key=lambda slope: abs(slope - 1), default=None)


def _slope_along(work: Workspace, batch: Any, seed: int, *, signs: bool) -> float | None:
    def loss() -> Tensor:
        seed_everything(seed)
        return work.step(batch)[1]

    work.clear_gradients()
    here = loss()
    work.backward(here)
    work.unscale()
    gradients = [(p, p.grad) for p in work.parameters() if p.grad is not None and p.grad.layout is torch.strided]
    moved = [(p, (g.sign() if signs else g).detach().clone(), g.detach()) for p, g in gradients]
    wanted = sum(float((direction * g).double().sum()) for _, direction, g in moved)
    length = math.sqrt(sum(float(direction.double().square().sum()) for _, direction, _ in moved))
    size = math.sqrt(sum(float(p.detach().double().square().sum()) for p, _, _ in moved))
    value = abs(float(here.detach()))
    if not (0 < wanted < math.inf and length > 0 and value > 0):
        return None
    step = min(1e-3 * value / wanted, 1e-3 * size / length)
    if step * wanted < FINER * 1e-5 * value:  # a change that small is rounded away
        return None

    def move(by: float) -> None:
        with torch.no_grad():
            for parameter, direction, _ in moved:
                parameter.add_(direction, alpha=by)

    def slope(step: float) -> tuple[float, float]:
        move(step)
        above = float(loss().detach())
        move(-2 * step)
        below = float(loss().detach())
        move(step)
        return (above - start) / (step * wanted), (start - below) / (step * wanted)

    start = float(here.detach())
    slopes = (*slope(step), *slope(step / FINER))
    # A loss that bends within the step, as behind saturated gates, or has an edge there, as where inputs of a max-pool
    # are equal, has no one slope.
    middle = math.fsum(slopes) / len(slopes)
    return middle if max(slopes) - min(slopes) <= 0.1 * max(1.0, abs(middle)) else None


def _constant(work: Workspace, output: Any, batch: Any) -> float | None:
    target, prediction = work.task.target(batch), work.task.prediction(output)
    if not isinstance(target, Tensor) or prediction is None or not isinstance(output, Tensor):
        return None
    found = constant_loss(work, [(target, tuple(prediction.shape))], [batch])
    return found.loss if found else None


def _accuracy(work: Workspace, output: Any, batch: Any) -> float | None:
    with torch.no_grad():
        classes = work.task.classes(output, batch)
        if classes is None:
            return None
        predicted, labels = classes
        counted = labels >= 0
        return float((predicted == labels)[counted].float().mean()) if bool(counted.any()) else None
