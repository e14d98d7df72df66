"""Finds weights that are one under two names, and those that should be."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from gradcheck_kit.experiments import NotApplicable, Probe
from gradcheck_kit_transformers.experiments.calls import rms
from gradcheck_kit_transformers.facts import Pair, Ties


def look_at_ties(probe: Probe) -> Ties:
    """Every pair that a configuration ties, and every head that shares or copies the weight of an embedding."""
    with probe.workspace() as work:
        if not any(isinstance(module, nn.Embedding) for module in work.model.modules()):
            raise NotApplicable("the model has no embedding whose weight a head could share")
        named = dict(work.model.named_parameters(remove_duplicate=False))
        owned = {id(p) for optimizer in work.optimizers for group in optimizer.param_groups for p in group["params"]}
        found: dict[frozenset[str], Pair] = {}
        for name, other, stated, apart in (*_stated(work.model), *_alike(work.model)):
            if name in named and other in named and name != other:
                key = frozenset((name, other))
                found.setdefault(key, _pair((name, other), (named[name], named[other]), (stated, apart), owned))
        return Ties(tuple(pair for pair in found.values() if pair.stated or pair.tied or pair.equal))


def _pair(names: tuple[str, str], both: tuple[Tensor, Tensor], said: tuple[str, bool], owned: set[int]) -> Pair:
    a, b = both
    return Pair(
        *names, said[0], a is b, said[1], tuple(a.shape), tuple(b.shape), a is b or torch.equal(a, b),
        id(a) in owned, id(b) in owned, rms(a), a.shape[-1] if a.ndim == 2 else 0,
    )  # fmt: skip


def _stated(model: nn.Module) -> Iterator[tuple[str, str, str, bool]]:
    """Embedding and head by name, where a configuration of transformers' ties them."""
    covered: list[str] = []
    for prefix, module in model.named_modules():
        config = getattr(module, "config", None)
        if config is None or any(prefix.startswith(f"{outer}.") or not outer for outer in covered):
            continue
        if not getattr(module, "_tied_weights_keys", None) and not callable(getattr(module, "tie_weights", None)):
            continue
        covered.append(prefix)
        before = f"{prefix}." if prefix else ""
        for target, source in _keys(module).items():
            apart = target not in getattr(module, "all_tied_weights_keys", {target})
            yield before + source, before + target, f"{before}config.tie_word_embeddings", apart


def _keys(module: Any) -> dict[str, str]:
    """Which parameter is tied to which, by the configuration: transformers 5 tells, older ones name the two modules."""
    expanded = getattr(module, "get_expanded_tied_weights_keys", None)
    if callable(expanded):
        return dict(expanded(all_submodels=True))
    if not getattr(module.config, "tie_word_embeddings", False) or not getattr(module, "_tied_weights_keys", None):
        return {}
    names = {id(part): name for name, part in module.named_modules()}
    ends = (module.get_output_embeddings(), module.get_input_embeddings())
    if any(end is None or id(end) not in names for end in ends):
        return {}
    target, source = (f"{names[id(end)]}.weight" for end in ends)
    return {target: source} if target in module._tied_weights_keys else {}  # noqa: SLF001  # their name for it


def _alike(model: nn.Module) -> Iterator[tuple[str, str, str, bool]]:
    """Embedding and Linear whose weights are one, or hold the same random values."""
    modules = list(model.named_modules())
    for name, embedding in modules:
        if isinstance(embedding, nn.Embedding):
            for other, head in modules:
                if isinstance(head, nn.Linear) and _same(embedding.weight, head.weight):
                    yield f"{name}.weight", f"{other}.weight", "", False


def _same(a: Tensor, b: Tensor) -> bool:
    """Whether equal values are no accident: not those of weights that are constant."""
    return a is b or (a.shape == b.shape and torch.equal(a, b) and bool((a != a.reshape(-1)[0]).any()))
