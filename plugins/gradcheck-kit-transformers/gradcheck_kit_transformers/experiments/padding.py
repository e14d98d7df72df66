"""Changes what padding holds, and takes it away: outputs at everything else must not move."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from gradcheck_kit.experiments import NotApplicable, Probe
from gradcheck_kit_transformers.experiments.attention_watch import watching_attention, without_fast_path
from gradcheck_kit_transformers.experiments.calls import (
    Call,
    in_evaluation_mode,
    outputs,
    part_equal_weights,
    recorded,
    rms,
)
from gradcheck_kit_transformers.experiments.found_padding import Padding, find_padding, looks_up, may_be_padded
from gradcheck_kit_transformers.facts import PaddingUse

MOST_BATCHES = 8  # of training, and as many of test data, that are searched for padding
SAME = {"float64": 1e-9, "float32": 1e-4}  # relative: above rounding, where the first module that moves is looked for


def look_at_padding(probe: Probe) -> PaddingUse:
    """Change padding in float64; in float32 where the model runs in nothing else."""
    failed = ""
    for dtype in (torch.float64, torch.float32):
        with probe.workspace() as work, torch.no_grad(), without_fast_path():
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
        itertools.islice(probe.train_data, MOST_BATCHES), itertools.islice(probe.test_data or (), MOST_BATCHES)
    )
    for number, batch in enumerate(map(work.to_device, batches)):
        with recorded(work.model) as call, watching_attention(work.model, measure=False) as watch:
            work.step(batch)
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

    def step(where: Tensor | None) -> tuple[dict[str, Tensor], Tensor]:
        with _moving(work.model, padding.content, where):
            output, other = work.step(batch)
        return _turned(output, padding), other

    before = {name: t for name, t in _turned(run.output, padding).items() if _kind(t, padding)}
    if not before:
        raise NotApplicable("the model returns nothing that has one row per sample")
    again, _ = step(None)
    if any(not torch.equal(t, again[name]) for name, t in before.items() if bool(t.isfinite().all())):
        raise NotApplicable("two evaluations of one batch differ (see eval-nondeterministic)")
    if not all(bool((_finite_rows(t, padding) & padding.where.any(1)).any()) for t in before.values()):
        raise NotApplicable("the model's output is not finite (see non-finite)")
    words, _ = step(~padding.where)
    if not any(_change(t, words[name], padding)[0] > same for name, t in before.items()):
        raise NotApplicable("the output does not depend on what is padded (see input-ignored)")
    moved, other_loss = step(padding.where)
    changes = {name: _change(t, moved[name], padding) for name, t in before.items()}
    worst = max(changes, key=lambda name: changes[name][0])
    module = _first_to_move(work.model, step, padding, same) if changes[worst][0] > same else ("", "")
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
        per_position=_kind(before[worst], padding) == "positions",
        moved=changes[worst][0],
        moved_rows=changes[worst][1],
        module=module[0],
        module_type=module[1],
        loss_moved=_loss_change(run.loss, other_loss, padding, batch, call),
        shifted=_without_padding(work.model, call, padding, before),
    )


def _mask_parameter(model: nn.Module, call: Call) -> str:
    import inspect

    names = list(inspect.signature(model.forward).parameters)
    return next((n for n in names if n.endswith(("attention_mask", "padding_mask")) and call.named.get(n) is None), "")


# ---- changing ----------------------------------------------------------------------------------------------------


class _MovedLookups(TorchDispatchMode):
    """Changes what embeddings return for some positions: tokens stay, as models read lengths and masks off them."""

    def __init__(self, tokens: Tensor, where: Tensor) -> None:
        super().__init__()
        self._tokens, self._where = tokens, where

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.embedding.default:
            as_they_are = looks_up(args[1], self._tokens)
            if as_they_are is not None:
                where = self._where if as_they_are else self._where.T
                return _moved(result, where, float(args[0].float().square().mean().sqrt()) or 1.0)
        return result


def _moved(values: Tensor, where: Tensor, scale: float) -> Tensor:
    generator = torch.Generator().manual_seed(values.numel())
    noise = torch.randn(values.shape, generator=generator, dtype=torch.float64).to(values.device, values.dtype)
    return torch.where(where.reshape(*where.shape, *[1] * (values.ndim - 2)), values + scale * noise, values)


@contextmanager
def _moving(model: nn.Module, content: Tensor, where: Tensor | None) -> Iterator[None]:
    if where is None:
        yield
    elif not content.is_floating_point():
        with _MovedLookups(content, where):
            yield
    else:
        replacement = _moved(content, where, rms(content) or 1.0)

        def replaced(leaf: Any) -> Any:
            same = isinstance(leaf, Tensor) and leaf.shape == content.shape and torch.equal(leaf, content)
            return replacement if same else leaf

        def hook(_module: nn.Module, args: Any, kwargs: Any) -> Any:
            return pytree.tree_map(replaced, args), pytree.tree_map(replaced, kwargs)

        handle = model.register_forward_pre_hook(hook, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()


# ---- comparing ---------------------------------------------------------------------------------------------------


def _turned(output: Any, padding: Padding) -> dict[str, Tensor]:
    """The outputs by name, positions second: cross entropy takes (row, class, position)."""
    length = padding.where.shape[1]
    found = outputs(output)
    for name, tensor in found.items():
        places = [d for d, size in enumerate(tensor.shape) if d and size == length]
        found[name] = tensor.movedim(places[0], 1) if len(places) == 1 else tensor
    return found


def _kind(tensor: Tensor, padding: Padding) -> str:
    """Either "positions", with one row per position, "rows" with one per sample, "" for what cannot be compared."""
    rows, length = padding.where.shape
    if tensor.ndim == 0 or tensor.shape[0] != rows or rows == length:
        return ""
    if tensor.ndim >= 2 and tensor.shape[1] == length:
        return "positions"
    return "" if length in tensor.shape[1:] else "rows"


def _kept(tensor: Tensor, padding: Padding) -> Tensor:
    """What is no padding's own output, shape (n, ...)."""
    return tensor[~padding.where] if _kind(tensor, padding) == "positions" else tensor


def _finite_rows(tensor: Tensor, padding: Padding) -> Tensor:
    """Whether a sample's output is finite, shape (row,): a row whose mask hides all of it may be NaN."""
    if _kind(tensor, padding) == "positions":
        shape = padding.where.shape + (1,) * (tensor.ndim - 2)
        tensor = tensor.masked_fill(padding.where.reshape(shape), 0)
    return tensor.isfinite().reshape(len(tensor), -1).all(1)


def _scale(tensor: Tensor, padding: Padding) -> float:
    """The root mean square of what is compared."""
    kept = _kept(tensor, padding)
    return rms(kept[kept.isfinite()]) or 1.0


def _change(before: Tensor, after: Tensor, padding: Padding) -> tuple[float, int]:
    """The largest change at what is no padding, over the root mean square, and how many samples have one."""
    if before.shape != after.shape:
        return float("inf"), before.shape[0]
    difference = (after - before).abs()
    if _kind(before, padding) == "positions":
        shape = padding.where.shape + (1,) * (before.ndim - 2)
        difference = difference.masked_fill(padding.where.reshape(shape), 0)
    rows = _finite_rows(before, padding)
    difference[~rows] = 0
    scale = _scale(before, padding)
    per_row = difference.reshape(len(before), -1).amax(1) / scale
    return float(per_row.max()), int((~(per_row <= 1e-9)).sum())


def _loss_change(before: Tensor, after: Tensor, padding: Padding, batch: Any, call: Call) -> float | None:
    """None where no target lies beside each token, as of one for the whole row: a loss may then look at all positions.

    None also where padding comes first: its last place predicts the first word, which nobody minds.
    """
    named = [t for name, t in call.tensors().items() if "label" not in name and "target" not in name]
    targets = [
        leaf
        for leaf in pytree.tree_leaves((batch, call.named))
        if isinstance(leaf, Tensor) and leaf.shape == padding.where.shape and not any(leaf is t for t in named)
    ]
    a, b = float(before), float(after)
    if padding.side != "right" or not targets or not a or abs(a) == float("inf"):
        return None
    return abs(b - a) / abs(a)


Step = Callable[[Tensor | None], Any]


def _first_to_move(model: nn.Module, step: Step, padding: Padding, same: float) -> tuple[str, str]:
    """The first module, by the end of its call, whose output at words moves; its name and type."""

    def run(where: Tensor | None) -> list[tuple[str, str, float]]:
        found: list[tuple[str, str, float]] = []

        def hook_for(name: str) -> Any:
            def hook(module: nn.Module, _args: Any, output: Any) -> None:
                for tensor in outputs(output).values():
                    turned = tensor.transpose(0, 1) if tensor.shape[:2] == padding.where.shape[::-1] else tensor
                    if turned.shape[:2] == padding.where.shape:
                        values = turned[~padding.where].double().reshape(-1)
                        weights = torch.arange(1, len(values) + 1, device=values.device).remainder(97).double()
                        found.append((name, type(module).__name__, float((values * weights).sum() / rms(values))))
                        return

            return hook

        handles = [module.register_forward_hook(hook_for(name)) for name, module in model.named_modules() if name]
        try:
            step(where)
        finally:
            for handle in handles:
                handle.remove()
        return found

    nowhere = torch.zeros_like(padding.where)
    for (name, kind, plain), (_, _, moved) in zip(run(nowhere), run(padding.where), strict=False):
        if not abs(moved - plain) <= same * max(1.0, abs(plain)):
            return name, kind
    return "", ""


# ---- taking away -------------------------------------------------------------------------------------------------


def _without_padding(model: nn.Module, call: Call, padding: Padding, before: dict[str, Tensor]) -> float | None:
    """The largest relative change when a padded row is given alone and without its padding; None: it cannot be.

    Only of tokens: what reads sound or images may mean the length that it is given.
    """
    rows, length = padding.where.shape
    lengths = [t.shape[1] for n, t in call.tensors().items() if n.startswith("decoder") and t.ndim >= 2]
    if padding.content.is_floating_point() or padding.inverted or length in lengths:
        return None
    row = int(padding.where.sum(1).argmax())
    inside = (~padding.where[row]).nonzero()[:, 0]
    first, last = int(inside[0]), int(inside[-1]) + 1

    def cut(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor) or not leaf.ndim or leaf.shape[0] != rows:
            return leaf
        leaf = leaf[row : row + 1]
        return leaf[:, first:last] if leaf.ndim >= 2 and leaf.shape[1] == length else leaf

    try:
        alone = outputs(model(*pytree.tree_map(cut, call.args), **pytree.tree_map(cut, call.kwargs)))
        words = last - first
    except Exception:  # noqa: BLE001  # a model of one length, or of one batch size
        return None
    changes = []
    for name, whole in before.items():
        expected = whole[row : row + 1]
        if _kind(whole, padding) == "positions":
            expected = expected[:, first:last]
        other = alone.get(name)
        if other is not None and other.shape != expected.shape and words in other.shape[2:]:
            other = other.movedim(other.shape.index(words, 2), 1)
        if other is None or other.shape != expected.shape:
            return None
        changes.append(float((other - expected).abs().max()) / _scale(whole, padding))
    return max(changes)
