"""Where a batch is padded, as far as it can be told for certain."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gradcheck_kit_transformers.experiments.calls import Call, Lookup

# Looked up as well, and no content.
_NO_CONTENT = ("type", "position", "segment", "mask", "label", "target", "bbox", "lang")
_PADDED_WHERE_TRUE = ("padding_mask", "pad_mask")
_KEPT_WHERE_TRUE = ("attention_mask",)


@dataclass(slots=True)
class Padding:
    """`where` is True at padding, shape (row, position)."""

    name: str
    content: Tensor
    where: Tensor
    source: str
    mask: str = ""
    inverted: bool = False

    @property
    def side(self) -> str:
        left, right = bool(self.where[:, 0].any()), bool(self.where[:, -1].any())
        return "both" if left and right else "left" if left else "right"


def find_padding(model: nn.Module, call: Call) -> Iterator[Padding]:
    """Of every padded input, with what told it: a mask, or the token that stands for padding."""
    for name, content in _contents(call):
        mask_name, hidden = _mask_for(name, content, call)
        token, source = _padding_token(model, content, call)
        runs = None if token is None else _runs(content, token)
        if hidden is not None and bool(hidden.any()):
            inverted = _keeps_padding(content, hidden)
            if not inverted and (bool(hidden.all(-1).any()) or not _constant(content[hidden])):
                continue  # a row without anything, or words where padding should be: nothing is certain
            yield Padding(name, content, ~hidden if inverted else hidden, mask_name, mask_name, inverted)
        elif runs is not None and _certain(content, runs):
            yield Padding(name, content, runs, source, mask_name)


def may_be_padded(call: Call) -> bool:
    """Whether the model is given tokens, or a mask beside vectors: images have neither."""
    named = call.tensors()
    masked = any(name.endswith((*_KEPT_WHERE_TRUE, *_PADDED_WHERE_TRUE)) for name in named) or bool(call.masks)
    return any(masked or not content.is_floating_point() for _, content in _contents(call))


def _contents(call: Call) -> list[tuple[str, Tensor]]:
    """Inputs with a row per sample and a place per position: tokens that are looked up, or vectors."""
    found = []
    for name, tensor in call.tensors().items():
        if any(word in name for word in _NO_CONTENT) or tensor.ndim < 2 or min(tensor.shape[:2]) < 2:
            continue
        if tensor.is_floating_point():
            found += [(name, tensor)] if tensor.ndim in (2, 3) else []
        elif tensor.ndim == 2 and tensor.dtype != torch.bool and _looked_up(tensor, call):
            found.append((name, tensor))
    return found


def looks_up(indices: Tensor, tokens: Tensor) -> bool | None:
    """Whether these indices are the tokens as they are (True) or with positions first (False); None: neither."""
    for turned in (tokens, tokens.T):
        if indices.shape == turned.shape and bool((indices == turned).all()):
            return turned is tokens
    return None


def _looked_up(tokens: Tensor, call: Call) -> list[Lookup]:
    return [look for look in call.lookups if looks_up(look.indices, tokens) is not None]


def _mask_for(name: str, content: Tensor, call: Call) -> tuple[str, Tensor | None]:
    """The mask that the model is given for this input, or that its forward makes, True at what is hidden."""
    shape = content.shape[:2]
    for mask_name, mask in call.tensors().items():
        if mask.shape != shape or mask_name.startswith("decoder") != name.startswith("decoder"):
            continue
        if not bool(((mask == 0) | (mask == 1)).all()):
            continue
        if mask_name.endswith(_KEPT_WHERE_TRUE):
            return mask_name, mask == 0
        if mask_name.endswith(_PADDED_WHERE_TRUE):  # people disagree on what is True there: the content tells
            return mask_name, mask == 0 if _constant(content[mask == 0]) else mask != 0
    for place, mask in call.masks:
        if mask.shape == shape:
            return place, mask if mask.dtype == torch.bool else mask < -1
    return "", None


def _padding_token(model: nn.Module, content: Tensor, call: Call) -> tuple[int | None, str]:
    """The token that stands for padding, and who says so."""
    if content.is_floating_point():
        return None, ""
    for look in _looked_up(content, call):
        if look.padding >= 0:
            names = [name for name, p in model.named_parameters() if p is look.weight]
            return (
                look.padding,
                f"padding_idx {look.padding} of {names[0].rpartition('.')[0] if names else 'embedding'}",
            )
    token = getattr(getattr(model, "config", None), "pad_token_id", None)
    return (token, f"config.pad_token_id {token}") if isinstance(token, int) and token >= 0 else (None, "")


def _constant(content: Tensor) -> bool:
    """Whether there is one token, or one vector, and no other."""
    return not len(content) or bool((content == content[0]).all())


def _runs(tokens: Tensor, token: int) -> Tensor:
    """True where rows end with this token; where none does, where they begin with it. The start may have its number."""
    same = (tokens == token).int()
    after = same.flip(1).cumprod(1).flip(1).bool()
    return after if bool(after.any()) else same.cumprod(1).bool()


def _certain(tokens: Tensor, runs: Tensor) -> bool:
    """Whether these runs are padding and no words that happen to be at an end.

    The token is nowhere else, some run is longer than one, rows differ in length, and none is empty.
    """
    token = tokens[runs][:1]
    counts = runs.sum(1)
    inside = bool((tokens[~runs] == token).any()) if len(token) else True
    lengths = set(counts.tolist())
    return not inside and max(lengths) >= 2 and len(lengths) >= 2 and not bool(runs.all(1).any())


def _keeps_padding(content: Tensor, hidden: Tensor) -> bool:
    """Whether a mask hides the words and keeps the padding: what it keeps is one token, at the ends of rows only."""
    if content.is_floating_point():
        return False
    kept, words = content[~hidden], content[hidden]
    if len(kept) < 2 or bool((kept != kept[0]).any()) or len(words.unique()) < 2:
        return False
    return bool((_runs(content, int(kept[0])) == ~hidden).all())
