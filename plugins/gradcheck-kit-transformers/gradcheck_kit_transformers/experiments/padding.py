"""Changes what padding holds, and takes it away: outputs at everything else must not move."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from gradcheck_kit.experiments import NotApplicable, Probe
from gradcheck_kit_transformers.experiments.attention_watch import watching_attention, without_fast_path
from gradcheck_kit_transformers.experiments.calls import (
    Call,
    evaluated,
    in_evaluation_mode,
    part_equal_weights,
    recorded,
)
from gradcheck_kit_transformers.experiments.found_padding import Padding, find_padding, may_be_padded
from gradcheck_kit_transformers.experiments.moved_padding import (
    change,
    finite_rows,
    first_to_move,
    kind_of,
    loss_change,
    moving,
    turned,
    without_padding,
)
from gradcheck_kit_transformers.facts import PaddingUse

MOST_BATCHES = 8  # of training, and as many of test data, that are searched for padding
SAME = {"float64": 1e-9, "float32": 1e-4}  # relative: above rounding, where the first module that moves is looked for


def look_at_padding(probe: Probe) -> PaddingUse:
    """Change padding in float64; in float32 where the model runs in nothing else."""
    failed = ""
    for dtype in (torch.float64, torch.float32):
        with probe.workspace() as work, without_fast_path():
            in_evaluation_mode(work.model)
            batch = _padded_batch(probe, work)
            try:
                work.model.to(dtype)
                part_equal_weights(work.model)
                batch = pytree.tree_map(
                    lambda t, to=dtype: t.to(to) if isinstance(t, Tensor) and t.is_floating_point() else t, batch
                )
                return _measure(work, batch, str(dtype).removeprefix("torch."))
            except NotApplicable as reason:
                if "not finite" not in str(reason) or dtype is torch.float32:
                    raise
            except Exception as error:  # noqa: BLE001  # a model that is not made for float64 is tried as it is
                failed = f"{type(error).__name__}: {error}"
    raise NotApplicable(f"the model could not be run again on a padded batch ({failed})")


def _padded_batch(probe: Probe, work: Any) -> Any:
    """The first batch with padding. Raises NotApplicable where there is none, or nothing that could mix positions."""
    batches = itertools.chain(
        itertools.islice(probe.train_data, MOST_BATCHES),
        itertools.islice(() if probe.test_data is None else probe.test_data, MOST_BATCHES),
    )
    for number, batch in enumerate(map(work.to_device, batches)):
        with recorded(work.model) as call, watching_attention(work.model, measure=False) as watch:
            evaluated(work, batch)
        if not watch.seen:
            raise NotApplicable("the model has no attention")
        if not may_be_padded(call):
            raise NotApplicable("the model is given neither tokens nor a mask that could tell padding")
        if any(find_padding(work.model, call)):
            return batch
        probe.tick(number, MOST_BATCHES)
    raise NotApplicable("no row of the data is padded, as far as masks and padding tokens tell")


def _measure(work: Any, batch: Any, precision: str) -> PaddingUse:
    """Of several padded inputs, as of an encoder and a decoder, the one whose padding does most."""
    with recorded(work.model) as call:
        plain, loss = work.step(batch)
    run = _Run(work, batch, precision, call, plain, loss)
    found: list[PaddingUse] = []
    reason = NotApplicable("no row of the data is padded, as far as masks and padding tokens tell")
    for padding in find_padding(work.model, call):
        try:
            found.append(_change_padding(run, padding))
        except NotApplicable as error:  # noqa: PERF203  # another input may tell; else the reason is told
            reason = error
    if not found:
        raise reason
    return max(found, key=lambda use: (not use.moved <= SAME[precision], use.loss_moved or 0.0, use.shifted or 0.0))


@dataclass(frozen=True, slots=True)
class _Run:
    """The model on a padded batch, as it is."""

    work: Any
    batch: Any
    precision: str
    call: Call
    output: Any
    loss: Tensor


def _change_padding(run: _Run, padding: Padding) -> PaddingUse:
    work, batch, precision, call = run.work, run.batch, run.precision, run.call
    same = SAME[precision]
    if padding.where.shape[0] == padding.where.shape[1]:
        raise NotApplicable("the batch is as large as its rows are long: which dimension is which is not known")

    def step(where: Tensor | None) -> tuple[dict[str, Tensor], Tensor]:
        with moving(work.model, padding.content, where):
            output, other = work.step(batch)
        return turned(output, padding), other

    before = {name: t for name, t in turned(run.output, padding).items() if kind_of(t, padding)}
    if not before:
        raise NotApplicable("the model returns nothing that has one row per sample")
    again, _ = step(None)
    if any(not torch.equal(t, again[name]) for name, t in before.items() if bool(t.isfinite().all())):
        raise NotApplicable("two evaluations of one batch differ (see eval-nondeterministic)")
    if not all(bool((finite_rows(t, padding) & padding.where.any(1)).any()) for t in before.values()):
        raise NotApplicable("the model's output is not finite (see non-finite)")
    words, _ = step(~padding.where)
    if not any(change(t, words[name], padding)[0] > same for name, t in before.items()):
        raise NotApplicable("the output does not depend on what is padded (see input-ignored)")
    moved, other_loss = step(padding.where)
    changes = {name: change(t, moved[name], padding) for name, t in before.items()}
    worst = max(changes, key=lambda name: changes[name][0])
    module = first_to_move(work.model, step, padding, same) if changes[worst][0] > same else ("", "")
    return PaddingUse(
        content=padding.name,
        source=padding.source,
        side=padding.side,
        rows=len(padding.where),
        padded_rows=int(padding.where.any(1).sum()),
        length=padding.where.shape[1],
        mask=padding.mask,
        mask_inverted=padding.inverted,
        takes_mask="" if padding.mask else _mask_parameter(work.model, call),
        precision=precision,
        output=worst,
        per_position=kind_of(before[worst], padding) == "positions",
        moved=changes[worst][0],
        moved_rows=changes[worst][1],
        module=module[0],
        module_type=module[1],
        loss_moved=loss_change(run.loss, other_loss, padding, batch, call),
        shifted=without_padding(work.model, call, padding, before),
    )


def _mask_parameter(model: nn.Module, call: Call) -> str:
    import inspect

    names = list(inspect.signature(model.forward).parameters)
    return next((n for n in names if n.endswith(("attention_mask", "padding_mask")) and call.named.get(n) is None), "")
