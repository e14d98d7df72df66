"""The trained model on batches that it was trained on, normalised as in training and as in evaluation."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor, nn

from gradcheck_kit.experiments import WHOLE_STEP, NotApplicable, Probe
from gradcheck_kit.experiments.evaluation import load_trained
from gradcheck_kit.facts import ModeGap
from gradcheck_kit.facts.evaluation import SLOW
from gradcheck_kit.observe.names import named_modules
from gradcheck_kit.target.batches import batch_size_of
from gradcheck_kit.target.workspace import Prepared, Workspace, workspace

BATCHES = 8
AVERAGED = 32  # batches, which are small where it matters
ROUNDS = 8  # over them, for layers whose momentum is not known: one of 0.01 is within 8 % then


def compare_modes(probe: Probe) -> ModeGap:
    """The loss of training batches, normalised by the batch, by running statistics, and by averages taken anew.

    The layers are torch's; where there are none, those of the user's own that hold buffers. Everything but the
    normalisation is in evaluation mode each time, so that Dropout makes no difference.
    """
    prepared = probe.prepared
    if prepared.task.training_step is not None:
        raise NotApplicable(f"{WHOLE_STEP}, so it says nothing about evaluation mode")
    if prepared.synthetic:
        raise NotApplicable("the data is made up")
    if probe.trained is None:
        raise NotApplicable("the model was not trained first")
    with workspace(prepared, seed=prepared.settings.seed) as work:
        norms = _norms(work.model)
        own = not norms
        norms = norms or _own_norms(work.model)
        if not norms:
            raise NotApplicable("no layer that is trained has running statistics")
        load_trained(work, probe)
        batches = [work.to_device(batch) for batch in itertools.islice(prepared.train, AVERAGED)]
        if len(batches) < BATCHES:
            raise NotApplicable(f"an epoch has fewer than {BATCHES} batches")
        work.model.eval()
        slowest = ((), None) if own else _slowest(norms)
        try:
            by_running = _losses(work, batches[:BATCHES])
            before = {name: _statistics(norm) for name, norm in norms.items()}
            for norm in norms.values():
                norm.train()
            by_batch = _losses(work, batches[:BATCHES])
            still = tuple(
                name
                for name, norm in norms.items()
                if (all(map(torch.equal, before[name], _statistics(norm))) if own else norm.momentum == 0)
            )
            worse = all(b < r for b, r in zip(by_batch, by_running, strict=True))
            # Most buffers that people keep are no statistics, and make no difference.
            by_average = _averaged_anew(work, norms, batches, own=own) if worse or not own else by_running
        except Exception as error:  # a model may return its loss in training mode only
            raise NotApplicable("the loss cannot be computed in evaluation mode") from error
    first = next(iter(norms.values()))
    slow, momentum = slowest
    return ModeGap(
        tuple(norms), type(first).__name__, batch_size_of(batches[0]) or 1, by_batch, by_running, by_average, still,
        own, slow, momentum, _epoch(prepared),
    )  # fmt: skip


def _slowest(norms: dict[str, nn.Module]) -> tuple[tuple[str, ...], float | None]:
    """The layers whose running statistics move least with every batch, and by which share; none where that is usual."""
    momenta = {name: m for name, norm in norms.items() if isinstance(m := getattr(norm, "momentum", None), float)}
    least = min((m for m in momenta.values() if m > 0), default=SLOW)
    return (tuple(name for name, m in momenta.items() if m == least), least) if least < SLOW else ((), None)


def _epoch(prepared: Prepared) -> int | None:
    """The batches of an epoch; None where that is not known, or it is of data that stands in for the user's."""
    if prepared.settings.data is not None:
        return None
    try:
        return len(prepared.train)  # type: ignore[arg-type]  # a stream has none
    except TypeError:
        return None


def _norms(model: nn.Module) -> dict[str, nn.Module]:
    """Layers of torch's that normalise by the batch in training mode and by running statistics in evaluation mode."""
    kinds = nn.modules.batchnorm._NormBase  # noqa: SLF001  # the common base has no public name
    named = named_modules(model)
    return {n: m for n, m in named if isinstance(m, kinds) and m.training and m.running_mean is not None}


def _own_norms(model: nn.Module) -> dict[str, nn.Module]:
    """Layers of the user's own making that may do likewise: they keep numbers that are no parameters."""
    return {
        name: module
        for name, module in named_modules(model)
        if name and module.training and not type(module).__module__.startswith("torch.")
        and not any(True for _ in module.children()) and _statistics(module)
    }  # fmt: skip


def _statistics(module: nn.Module) -> list[Tensor]:
    return [buffer.clone() for buffer in module.buffers(recurse=False) if buffer.is_floating_point()]


def _averaged_anew(work: Workspace, norms: dict[str, nn.Module], batches: list[Any], *, own: bool) -> tuple[float, ...]:
    """The losses of the first batches by statistics of many; those of the user's own layers follow as they do."""
    for norm in norms.values():
        if isinstance(norm, nn.modules.batchnorm._NormBase):  # noqa: SLF001  # as above
            norm.reset_running_stats()
            norm.momentum = None  # a plain average
    for _ in range(ROUNDS if own else 1):
        _losses(work, batches)
    work.model.eval()
    return _losses(work, batches[:BATCHES])


def _losses(work: Workspace, batches: list[Any]) -> tuple[float, ...]:
    with torch.no_grad():
        return tuple(float(work.step(batch)[1]) for batch in batches)
