"""The training run once more, in a workspace where one thing was changed: what it learns then tells the cause."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from gradcheck_kit.experiments import Probe
from gradcheck_kit.target.batches import endless
from gradcheck_kit.target.workspace import Workspace, seed_everything

IN_A_ROW = 8  # losses
PATIENCE = 3  # times the probe's steps that a run gets before it is said not to learn: a rough start may end well


def losses_of_run(
    probe: Probe,
    work: Workspace,
    *,
    steps: int | None = None,
    order: int = 0,
    divisor: float = 1.0,
    enough: Callable[[tuple[float, ...]], bool] | None = None,
    look: Callable[[int], None] | None = None,
    well: float | None = None,
    change: Callable[[Any], Any] | None = None,
) -> tuple[float, ...]:
    """The losses of a run on the batches of the training run, as many steps unless given; `order` shuffles otherwise.

    It ends where a loss is not finite, after the usual length where the losses are `enough`, and wherever some in a row
    are below a tenth of `well`: at a rate made for other weights it may yet fall over. Each is divided by `divisor`
    before it is backpropagated, and told so. `look` is called before each step, and once at the end. The run is given
    what `change` makes of each batch on the device.
    """
    prepared = probe.prepared
    usual = prepared.settings.steps
    steps = usual if steps is None else steps
    losses: list[float] = []
    seed_everything(prepared.settings.seed + order)
    batches = endless(prepared.train)
    for step in range(steps):
        probe.tick(step, steps)
        if enough is not None and step >= usual and (step - usual) % 20 == 0 and enough(tuple(losses)):
            break
        if look is not None:
            look(step)
        batch = work.to_device(next(batches))
        batch = batch if change is None else change(batch)
        work.clear_gradients()
        loss = work.step(batch)[1] / divisor
        value = float(loss.detach())
        losses.append(math.nan if math.isnan(value) else value)
        if well is not None and well > 0 and len(losses) >= 2 * IN_A_ROW and max(losses[-IN_A_ROW:]) < 0.1 * well:
            break
        if not math.isfinite(value):
            break
        work.backward(loss)
        work.update(batch)
    if look is not None and len(losses) == steps:
        look(steps)
    return tuple(losses)
