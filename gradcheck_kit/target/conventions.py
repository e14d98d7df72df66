"""What a model states about itself: the image size, vocabulary and special tokens of its configuration."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn


def stated(model: nn.Module, name: str) -> Any:
    """The value called `name` of the model itself, of its configuration or of a part of that; None when it has none."""
    for owner in (model, *configurations(model)):
        value = getattr(owner, name, None)
        if value is not None and not callable(value):
            return value
    return None


def configurations(model: nn.Module) -> Iterator[Any]:
    """Yields `model.config` and the configurations in it, such as those of a text and a vision tower."""
    config = getattr(model, "config", None)
    if config is None or isinstance(config, nn.Module):
        return
    yield config
    for name, value in list(vars(config).items()) if hasattr(config, "__dict__") else []:
        if name.endswith("_config") and hasattr(value, "__dict__"):
            yield value


def stated_size(model: nn.Module) -> int | None:
    """The image size that a model, its configuration or the layer that cuts its patches states."""
    for owner in (model, *configurations(model), *model.modules()):
        for name in ("image_size", "img_size"):
            size = _side(getattr(owner, name, None))
            if size is not None:
                return size
    # timm's models carry what they were made for; where the size is fixed, no other will do.
    for name in ("pretrained_cfg", "default_cfg"):
        made_for = getattr(model, name, None)
        if isinstance(made_for, Mapping) and made_for.get("fixed_input_size"):
            shape = made_for.get("input_size")
            return _side(shape[1:]) if isinstance(shape, tuple | list) else None
    return None


def _side(size: Any) -> int | None:
    size = size[0] if isinstance(size, tuple | list) and size else size
    return size if isinstance(size, int) and not isinstance(size, bool) else None


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Which token ids a configuration keeps for itself: random text holds none of them, and ends as texts end."""

    size: int | None = None
    special: tuple[int, ...] = ()
    end: int | None = None


def vocabulary(model: nn.Module) -> Vocabulary:
    """The vocabulary's size, the ids that stand for padding, start, images and the like, and the one for the end."""
    special: set[int] = set()
    end: int | None = None
    for config in configurations(model):
        for name in ("pad", "bos", "eos", "sep", "cls", "mask", "unk", "decoder_start", "image", "video", "audio"):
            token = getattr(config, f"{name}_token_id", None)
            if isinstance(token, int) and token >= 0:
                special.add(token)
        eos = getattr(config, "eos_token_id", None)
        end = eos if end is None and isinstance(eos, int) and eos != getattr(config, "pad_token_id", None) else end
    size = stated(model, "vocab_size")
    return Vocabulary(size if isinstance(size, int) else None, tuple(sorted(special)), end)
