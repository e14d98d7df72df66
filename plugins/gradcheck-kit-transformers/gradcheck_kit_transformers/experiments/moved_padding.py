"""Changes what stands at some positions, compares what comes out at the others, and takes padding away."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from gradcheck_kit_transformers.experiments.calls import Call, outputs, rms
from gradcheck_kit_transformers.experiments.found_padding import Padding, looks_up


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
def moving(model: nn.Module, content: Tensor, where: Tensor | None) -> Iterator[None]:
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


def turned(output: Any, padding: Padding) -> dict[str, Tensor]:
    """The outputs by name, positions second: cross entropy takes (row, class, position)."""
    length = padding.where.shape[1]
    found = outputs(output)
    for name, tensor in found.items():
        places = [d for d, size in enumerate(tensor.shape) if d and size == length]
        found[name] = tensor.movedim(places[0], 1) if len(places) == 1 else tensor
    return found


def kind_of(tensor: Tensor, padding: Padding) -> str:
    """Either "positions", with one row per position, "rows" with one per sample, "" for what cannot be compared."""
    rows, length = padding.where.shape
    if tensor.ndim == 0 or tensor.shape[0] != rows or rows == length:
        return ""
    if tensor.ndim >= 2 and tensor.shape[1] == length:
        return "positions"
    return "" if length in tensor.shape[1:] else "rows"


def _kept(tensor: Tensor, padding: Padding) -> Tensor:
    """What is no padding's own output, shape (n, ...)."""
    return tensor[~padding.where] if kind_of(tensor, padding) == "positions" else tensor


def finite_rows(tensor: Tensor, padding: Padding) -> Tensor:
    """Whether a sample's output is finite, shape (row,): a row whose mask hides all of it may be NaN."""
    if kind_of(tensor, padding) == "positions":
        shape = padding.where.shape + (1,) * (tensor.ndim - 2)
        tensor = tensor.masked_fill(padding.where.reshape(shape), 0)
    return tensor.isfinite().reshape(len(tensor), -1).all(1)


def _scale(tensor: Tensor, padding: Padding) -> float:
    """The root mean square of what is compared."""
    kept = _kept(tensor, padding)
    return rms(kept[kept.isfinite()]) or 1.0


def change(before: Tensor, after: Tensor, padding: Padding) -> tuple[float, int]:
    """The largest change at what is no padding, over the root mean square, and how many samples have one."""
    if before.shape != after.shape:
        return float("inf"), before.shape[0]
    difference = (after - before).abs()
    if kind_of(before, padding) == "positions":
        shape = padding.where.shape + (1,) * (before.ndim - 2)
        difference = difference.masked_fill(padding.where.reshape(shape), 0)
    rows = finite_rows(before, padding)
    difference[~rows] = 0
    scale = _scale(before, padding)
    per_row = difference.reshape(len(before), -1).amax(1) / scale
    return float(per_row.max()), int((~(per_row <= 1e-9)).sum())


def loss_change(before: Tensor, after: Tensor, padding: Padding, batch: Any, call: Call) -> float | None:
    """None where no target lies beside each token, as of one for the whole row: a loss may then look at all positions.

    None also where padding comes first: its last place predicts the first word, which nobody minds.
    """
    named = [t for name, t in call.tensors().items() if "label" not in name and "target" not in name]
    targets = [
        leaf
        for leaf in pytree.tree_leaves((batch, call.named))
        if isinstance(leaf, Tensor) and leaf.shape == padding.where.shape and not any(leaf is t for t in named)
    ]
    a, b = float(before.detach()), float(after.detach())
    if padding.side != "right" or not targets or not a or abs(a) == float("inf"):
        return None
    return abs(b - a) / abs(a)


Step = Callable[[Tensor | None], Any]


def first_to_move(model: nn.Module, step: Step, padding: Padding, same: float) -> tuple[str, str]:
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


def without_padding(model: nn.Module, call: Call, padding: Padding, before: dict[str, Tensor]) -> float | None:
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
        if kind_of(whole, padding) == "positions":
            expected = expected[:, first:last]
        other = alone.get(name)
        if other is not None and other.shape != expected.shape and words in other.shape[2:]:
            other = other.movedim(other.shape.index(words, 2), 1)
        if other is None or other.shape != expected.shape:
            return None
        changes.append(float((other - expected).abs().max()) / _scale(whole, padding))
    return max(changes)
