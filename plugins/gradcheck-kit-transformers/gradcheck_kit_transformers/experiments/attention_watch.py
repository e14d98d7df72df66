"""Sees every attention of a forward pass, fused or written out, at the level of torch's operators.

Written out, attention is a softmax of a batched product whose result is multiplied with values. A softmax over classes,
over experts or over the scores of a pooling is none: what it normalises comes from a linear layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._python_dispatch import TorchDispatchMode

HIDDEN = -5e3  # logits below are masked: masks add -1e4, the least number of the type, or -inf
MOST_SAMPLES = 8  # whose logits are looked at: they are recomputed where a fused kernel keeps them to itself


@dataclass(frozen=True, slots=True)
class Seen:
    """One attention of one forward pass, by head."""

    module: str
    module_type: str
    call: int
    keys: float
    entropy: tuple[float, ...]
    logit: tuple[float, ...]


class Names:
    """Which module of the model is running, innermost last; hooks are global, nothing is hung on the model."""

    def __init__(self, model: nn.Module) -> None:
        self._names = {id(module): name for name, module in model.named_modules()}
        self._running: list[nn.Module] = []

    @contextmanager
    def watch(self) -> Iterator[None]:
        handles = [
            register_module_forward_pre_hook(lambda module, _: self._running.append(module)),
            register_module_forward_hook(lambda *_: self._leave(), always_call=True),
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _leave(self) -> None:
        if self._running:
            self._running.pop()

    def innermost(self) -> tuple[str, nn.Module | None]:
        """The name and the innermost running module that the model knows by name."""
        found = next((m for m in reversed(self._running) if id(m) in self._names), None)
        return ("", None) if found is None else (self._names[id(found)], found)


class _Marks:
    """Remembers something about storages while they live: views share theirs, and no tensor is kept alive."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[StorageWeakRef, Any]] = {}

    def set(self, tensor: Tensor, what: Any) -> None:
        reference = StorageWeakRef(tensor.untyped_storage())
        self._known[reference.cdata] = (reference, what)

    def get(self, value: Any) -> Any:
        if not self._known or not isinstance(value, Tensor):
            return None
        known = self._known.get(StorageWeakRef(value.untyped_storage()).cdata)
        return None if known is None or known[0].expired() else known[1]


class AttentionWatch(TorchDispatchMode):
    """Collects `seen`, in execution order. Without `measure` it only counts, and computes nothing."""

    def __init__(self, names: Names, *, measure: bool = True) -> None:
        super().__init__()
        self.seen: list[Seen] = []
        self._names, self._measuring = names, measure
        self._scores, self._weights = _Marks(), _Marks()
        self._calls: dict[str, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func._schema.name.removeprefix("aten::")  # noqa: SLF001  # the operator's only name without overload
        if name.startswith("_scaled_dot_product") and "backward" not in name:
            given = dict(zip((a.name for a in func._schema.arguments), args, strict=False)) | (kwargs or {})  # noqa: SLF001
            self._fused(given)
        elif name in ("bmm", "baddbmm"):
            self._product(args[-2:], result)
        elif name in ("_softmax", "_safe_softmax"):
            self._softmax(args, result)
        elif args and isinstance(result, Tensor):
            for marks in (self._scores, self._weights):
                for value in args:
                    if (mark := marks.get(value)) is not None and result.numel() >= value.numel():
                        marks.set(result, mark)
        elif name == "native_dropout" and (mark := self._weights.get(args[0])) is not None:
            self._weights.set(result[0], mark)
        return result

    def _fused(self, given: dict[str, Any]) -> None:
        if not self._measuring:
            self._add(None)
            return
        query, key = (given[name][:MOST_SAMPLES].float() for name in ("query", "key"))
        if key.shape[-3] != query.shape[-3]:  # grouped queries share a key
            key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
        scale = given.get("scale")
        logits = query @ key.mT * (query.shape[-1] ** -0.5 if scale is None else scale)
        mask = given.get("attn_mask", given.get("attn_bias"))
        if mask is not None:
            mask = mask[:MOST_SAMPLES] if mask.ndim == logits.ndim else mask
            logits = logits.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else logits + mask
        if given.get("is_causal"):
            logits = logits.masked_fill(torch.ones_like(logits, dtype=torch.bool).triu(1), -torch.inf)
        self._add(logits)

    def _product(self, factors: Any, result: Tensor) -> None:
        for factor in factors:
            pending = self._weights.get(factor)
            if pending is not None and not pending["confirmed"]:
                pending["confirmed"] = True
                self._add(pending["logits"], pending["place"])
                pending["logits"] = None
                return
        self._scores.set(result, True)

    def _softmax(self, args: Any, result: Tensor) -> None:
        logits, dim = args[0], args[1] % args[0].ndim
        if logits.ndim >= 3 and self._scores.get(logits):
            kept = logits.movedim(dim, -1)[: MOST_SAMPLES * _folded_heads(logits, self._names)].float()
            kept = kept if self._measuring else None
            self._weights.set(result, {"confirmed": False, "logits": kept, "place": self._names.innermost()})

    def _add(self, logits: Tensor | None, place: tuple[str, nn.Module | None] | None = None) -> None:
        name, module = place or self._names.innermost()
        call = self._calls[name] = self._calls.get(name, -1) + 1
        kind = "" if module is None else type(module).__name__
        keys, entropy, logit = (0.0, (), ()) if logits is None else _by_head(logits, module)
        self.seen.append(Seen(name, kind, call, keys, entropy, logit))


def _folded_heads(logits: Tensor, names: Names) -> int:
    """How many heads lie in the first dimension: nn.MultiheadAttention's weights are (batch * heads, query, key)."""
    module = names.innermost()[1]
    heads = getattr(module, "num_heads", 1)
    return heads if logits.ndim == 3 and isinstance(heads, int) and logits.shape[0] % max(1, heads) == 0 else 1


def _by_head(logits: Tensor, module: nn.Module | None) -> tuple[float, tuple[float, ...], tuple[float, ...]]:
    """Keys per query, and by head the mean entropy in nats and the largest logit, of (..., head, query, key)."""
    heads = getattr(module, "num_heads", 1)
    if logits.ndim == 3 and isinstance(heads, int) and heads > 1 and logits.shape[0] % heads == 0:
        logits = logits.unflatten(0, (-1, heads))
    elif logits.ndim != 4:
        logits = logits.reshape(-1, 1, logits.shape[-2], logits.shape[-1])
    logits = logits.detach().movedim(1, 0).flatten(1, -2)  # (head, queries, key)
    visible = ~(logits <= HIDDEN)  # NaN is no mask
    count = visible.sum(-1)
    chance = logits.masked_fill(~visible, -torch.inf).softmax(-1)
    entropy = -torch.special.xlogy(chance, chance).sum(-1)
    choosing = count >= 2  # a query that sees one key has no choice
    counted = choosing.sum(-1).clamp(min=1)
    entropies = torch.where(choosing, entropy, 0.0).sum(-1) / counted
    largest = torch.where(visible, logits.abs(), 0.0).amax((-2, -1))
    keys = float(torch.where(choosing, count, 0).sum() / counted.sum())
    return keys, tuple(entropies.tolist()), tuple(largest.tolist())


@contextmanager
def without_fast_path() -> Iterator[None]:
    """nn.MultiheadAttention and its kin run as they are written, in evaluation mode too.

    Their fast path is one operator that shows nothing of its inside, and sets outputs at padding to zero, which
    training does not.
    """
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@contextmanager
def watching_attention(model: nn.Module, *, measure: bool = True) -> Iterator[AttentionWatch]:
    """Watch what runs inside."""
    names = Names(model)
    with without_fast_path(), names.watch(), AttentionWatch(names, measure=measure) as watch:
        yield watch
