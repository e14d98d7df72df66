"""What the layers of a model, and the names of its inputs, tell about what it takes in."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from math import isqrt, prod
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.modules import batchnorm, conv

from gradcheck_kit.target.conventions import Vocabulary, stated_size

SIZES = (64, 32, 28, 96, 128, 224, 48, 16, 84, 227, 256, 299, 8)
LENGTHS = (16, 8, 32, 64, 1)
SIGNAL_LENGTHS = (128, 64, 32, 256, 100, 1024, 16, 3000, 16000)
VOLUMES = ((8, 32), (16, 64), (16, 112), (16, 32), (32, 32), (16, 224))  # frames or depth, height and width
ENTRY_LAYERS = 4  # so many different first layers are looked at


@dataclass(frozen=True, slots=True)
class Spec:
    """One input without its batch dimension; `free` are the dimensions that the layer leaves open."""

    kind: Literal["float", "token", "mask", "length", "none"]
    shape: tuple[int, ...] = ()
    bound: int = 0  # tokens lie below it; the length; the value that fills a mask
    dtype: torch.dtype | None = None  # of a mask
    free: tuple[int, ...] = field(default=(), compare=False)
    vocabulary: Vocabulary = field(default=Vocabulary(), compare=False)  # which tokens are not to be drawn

    def __str__(self) -> str:
        shape = "x".join(map(str, self.shape))
        if self.kind == "none":
            return "None"
        if self.kind == "length":
            return f"lengths of {self.bound}"
        if self.kind == "mask":
            return f"masks of {shape}"
        if self.kind == "token":
            what = f"token sequences of {shape}" if shape else "tokens"
            return f"{what} (vocabulary {self.bound})"
        names = ("numbers", f"vectors of {shape}", f"sequences {shape}", f"images {shape}", f"volumes {shape}")
        return names[len(self.shape)] if len(self.shape) < len(names) else f"tensors {shape}"

    def resized(self, old: int, new: int) -> Spec:
        """Returns it with `new` in place of `old` in the dimensions that are open."""
        shape = (new if i in self.free and n == old else n for i, n in enumerate(self.shape))
        return replace(self, shape=tuple(shape))

    def make(self, samples: int, dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Any:
        """Returns `samples` of it, of shape (samples, *shape); floats are standard normal in `dtype`."""
        shape, source = (samples, *self.shape), generator.device
        if self.kind == "none":
            return None
        if self.kind == "length":
            return torch.full(shape, self.bound)  # pack_padded_sequence wants lengths on the CPU
        if self.kind == "mask":
            return torch.full(shape, self.bound, dtype=self.dtype or dtype, device=device)
        if self.kind == "token":
            return self._tokens(shape, generator).to(device)
        # Half-precision normals differ between devices; drawn in float32 they are the same numbers everywhere.
        drawn = torch.float32 if dtype.itemsize < torch.float32.itemsize else dtype
        return torch.randn(shape, generator=generator, dtype=drawn, device=source).to(device, dtype)

    def _tokens(self, shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
        ordinary = sorted(set(range(self.bound)) - set(self.vocabulary.special)) if self.vocabulary.special else []
        if len(ordinary) < 2:
            return torch.randint(self.bound, shape, generator=generator, device=generator.device)
        places = torch.randint(len(ordinary), shape, generator=generator, device=generator.device)
        drawn = torch.tensor(ordinary, device=generator.device)[places]
        end = self.vocabulary.end
        if end is not None and end < self.bound and len(shape) > 1 and shape[-1] > 1:
            drawn[..., -1] = end  # one end in each text, as tokenizers write it
        return drawn


def floats(*shape: int, free: tuple[int, ...] = ()) -> Spec:
    return Spec("float", shape, free=free)


def tokens(vocabulary: int, *shape: int) -> Spec:
    return Spec("token", shape, bound=max(vocabulary, 1), free=(0,) if shape else ())


def _sequences(width: int) -> list[Spec]:
    return [floats(length, width, free=(0,)) for length in LENGTHS]


def _images(channels: int, sizes: Iterable[int] = SIZES) -> list[Spec]:
    return [floats(channels, size, size, free=(1, 2)) for size in sizes]


def _token_sequences(vocabulary: int) -> list[Spec]:
    return [*(tokens(vocabulary, length) for length in LENGTHS), tokens(vocabulary)]


def _maps(channels: int, dimensions: int) -> list[Spec]:
    """Returns what a layer over `dimensions` spatial dimensions takes, the likeliest size first."""
    if dimensions == 1:
        signals = [floats(channels, length, free=(1,)) for length in SIGNAL_LENGTHS]
        return signals + [floats(length, free=(0,)) for length in SIGNAL_LENGTHS if channels == 1]
    if dimensions == 3:
        return [floats(channels, depth, size, size, free=(2, 3)) for depth, size in VOLUMES]
    if channels == 1:  # grey images are mostly handwritten digits, and spectrograms come without a channel
        flat = [floats(size, size, free=(0, 1)) for size in (64, 28)]
        return _images(1, dict.fromkeys((28, 32, *SIZES))) + flat
    return _images(channels)


def _convolution(layer: conv._ConvNd) -> list[Spec]:
    dimensions = len(layer.kernel_size)
    channels = [layer.in_channels] if layer.in_channels else [3, 1]  # 0: a lazy layer
    if layer.transposed:  # a generator's first layer grows a map of one pixel
        sizes = (1, 4, 7, 8, 16, 32)
        grown = [floats(c, *(size,) * dimensions) for c in channels for size in sizes]
        return [grown[0], *(floats(c) for c in channels), *grown[1:]]
    specs = [spec for c in channels for spec in _maps(c, dimensions)]
    if dimensions == 2 and layer.kernel_size == layer.stride and layer.kernel_size[0] >= 8:  # cuts patches
        specs.sort(key=lambda spec: spec.shape[1] != 224)
    return specs


def _linear(width: int, *, flattened: bool) -> list[Spec]:
    if not width:  # a lazy layer
        vectors, images = [floats(16), *_sequences(16)], [*_images(3, (32, 64)), *_images(1, (28,))]
    else:
        vectors = [floats(width), *_sequences(width)]
        sides = {c: isqrt(width // c) for c in (1, 3)}
        least = 8 if flattened else 16
        images = [floats(c, side, side) for c, side in sides.items() if side >= least and c * side * side == width]
    return images + vectors if flattened else vectors + images


def _owned(module: nn.Module) -> list[Spec]:
    """Returns what fits the parameters that a module multiplies its input with by hand."""
    specs: list[Spec] = []
    for parameter in module.parameters(recurse=False):
        if isinstance(parameter, nn.UninitializedParameter):
            continue
        shape = tuple(parameter.shape)
        if len(shape) == 1:
            specs.append(floats(shape[0]))
        elif len(shape) == 2:
            specs += [floats(shape[0]), floats(shape[1]), *_sequences(shape[0])[:1], *_sequences(shape[1])[:1]]
        elif len(shape) == 3:
            specs += [floats(*shape[1:]), floats(shape[2])]
        elif len(shape) > 3:
            specs += _maps(shape[1], len(shape) - 2)
    return specs


def _norm(layer: nn.LayerNorm | nn.RMSNorm) -> list[Spec]:
    *rest, width = layer.normalized_shape
    return [floats(*rest, width)] if rest else [floats(width), *_sequences(width)]


def _channel_norm(layer: batchnorm._NormBase | nn.GroupNorm) -> list[Spec]:
    channels = (layer.num_channels if isinstance(layer, nn.GroupNorm) else layer.num_features) or 3  # 0: a lazy layer
    dimensions = next((d for d in (1, 2, 3) if type(layer).__name__.endswith(f"{d}d")), 2)
    maps = _maps(channels, dimensions)
    return [floats(channels), *maps] if dimensions == 1 else maps


def _recurrent(layer: nn.RNNBase | nn.RNNCellBase) -> list[Spec]:
    return [*_sequences(layer.input_size), floats(layer.input_size)]


# torch has no public name for "any convolution" and "any norm over channels".
_CONVOLUTIONS, _CHANNEL_NORMS = conv._ConvNd, batchnorm._NormBase  # noqa: SLF001
_TAKES: tuple[tuple[Any, Callable[[Any], list[Spec]]], ...] = (
    (nn.Embedding | nn.EmbeddingBag, lambda layer: _token_sequences(layer.num_embeddings)),
    (_CONVOLUTIONS, _convolution),
    (nn.RNNBase | nn.RNNCellBase, _recurrent),
    (nn.MultiheadAttention, lambda layer: _sequences(layer.embed_dim)),
    (nn.Transformer, lambda layer: _sequences(layer.d_model)),
    (nn.TransformerEncoderLayer | nn.TransformerDecoderLayer, lambda layer: _sequences(layer.self_attn.embed_dim)),
    (nn.Bilinear, lambda layer: [floats(layer.in1_features), floats(layer.in2_features)]),
    (nn.LayerNorm | nn.RMSNorm, _norm),
    (_CHANNEL_NORMS | nn.GroupNorm, _channel_norm),
    (nn.Unflatten, lambda layer: [floats(prod(layer.unflattened_size))] if min(layer.unflattened_size) > 0 else []),
    (nn.Module, _owned),
)


def layer_specs(layer: nn.Module, *, flattened: bool = False) -> list[Spec]:
    """Returns what a layer takes in, the likeliest first; empty for a layer that takes anything."""
    if isinstance(layer, nn.Linear):
        return _linear(layer.in_features, flattened=flattened)
    return next(specs(layer) for kinds, specs in _TAKES if isinstance(layer, kinds))


WHOLE = (nn.MultiheadAttention, nn.Transformer, nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)
_NORMS = (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm, _CHANNEL_NORMS)


def _leaves(name: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yields the layers in the order in which they were registered; attention stays in one piece."""
    children = [] if isinstance(module, WHOLE) else list(module.named_children())
    for child_name, child in children:
        yield from _leaves(f"{name}.{child_name}", child)
    yield name, module


def entry_specs(model: nn.Module) -> list[list[Spec]]:
    """Returns, for each of the first layers that an input may enter, what it takes in."""
    known: list[list[Spec]] = []
    late: list[list[Spec]] = []
    flattened = weighted = False
    for name, layer in _leaves("", model):
        flattened = flattened or isinstance(layer, nn.Flatten)
        specs = _preferred(layer_specs(layer, flattened=flattened), stated_size(model))
        if not specs or specs in known or specs in late:
            continue
        norm = isinstance(layer, _NORMS)
        by_hand = not norm and not type(layer).__module__.startswith("torch.nn")
        # Positions are looked up with numbers that the model makes itself; a norm after a layer follows that layer.
        if by_hand or (norm and weighted) or ("pos" in name.lower() and isinstance(layer, nn.Embedding)):
            late.append(specs)
        else:
            known.append(specs)
        weighted = weighted or not norm
    return [*_tables(model), *known[:ENTRY_LAYERS], *late[:ENTRY_LAYERS]]


def _tables(model: nn.Module) -> Iterator[list[Spec]]:
    """Yields rows of categories for each list of embeddings, one for each column."""
    for module in model.modules():
        columns = [child.num_embeddings for child in module.children() if isinstance(child, nn.Embedding)]
        if isinstance(module, nn.ModuleList | nn.ModuleDict) and 1 < len(columns) == len(module):
            yield [tokens(min(columns), len(columns))]


def _preferred(specs: list[Spec], size: int | None) -> list[Spec]:
    images = [spec.resized(spec.shape[1], size) for spec in specs[:1] if size and spec.free == (1, 2)]
    return list(dict.fromkeys(images + specs))


GENERIC = (
    *(floats(16), *_images(3, (64, 224)), *_images(1, (28,))),
    *(floats(16, 16), floats(), floats(1), tokens(2, 16), tokens(2)),
)


def input_specs(
    name: str, place: int, entries: list[list[Spec]], classes: int, *, floats_first: bool = False
) -> list[Spec]:
    """Returns what the input called `name`, the one in this `place`, may be: the likeliest first."""
    turned = entries[place % len(entries) :] + entries[: place % len(entries)] if entries else []
    own = [spec for layer in turned for spec in layer]
    specs = [*own, *GENERIC]
    words = name.lower()
    if "mask" in words:
        values = (0, 1) if "pad" in words else (1, 0)  # of a padding mask, True is left out
        kinds = (torch.int64, torch.bool, None) if values[0] else (torch.bool, None, torch.int64)
        return [Spec("mask", bound=value, dtype=kind) for value in values for kind in kinds]
    if re.search(r"len(gth)?s?$", words):
        return [Spec("length")]
    if re.fullmatch(r"(y|labels?|targets?|class(es)?)(_ids?)?", words):
        # The largest vocabulary first: a class that is too high raises, one that is always low goes unnoticed.
        looked_up = sorted((spec for spec in own if spec.kind == "token" and not spec.shape), key=lambda s: -s.bound)
        specs = [*looked_up, tokens(classes), tokens(classes, 16), *specs]
    elif re.fullmatch(r"t|times?|(time_?)?steps?|sigmas?", words):
        specs = [tokens(100), floats(), floats(1), *specs]
    elif re.fullmatch(r"hidden(_state)?s?|hx|h_?0?|states?|h_prev", words):
        specs = [Spec("none"), *specs]
    elif re.search(r"ima?ge?s?\d*$|pixel|frame|picture", words):
        specs.sort(key=lambda spec: len(spec.shape) != 3)
    elif re.search(r"(^|_)(users?|items?|idx|index|id|category|word)$", words):
        specs = sorted(own, key=lambda spec: (spec.kind != "token", len(spec.shape))) + specs
    elif re.search(r"ids$|token|(^|_)(src|tgt|text|words|chars|docs?|sentences?)$", words):
        specs = sorted(own, key=lambda spec: spec.kind != "token") + specs
    elif floats_first:
        specs.sort(key=lambda spec: spec.kind == "token")
    return list(dict.fromkeys(specs))


def given_specs(name: str, shape: tuple[int, ...], entries: list[list[Spec]], classes: int) -> list[Spec]:
    """Returns what the input called `name` may be when its shape is given."""
    hints = input_specs(name, 0, entries, classes)
    if hints[0].kind == "length":
        return hints
    if hints[0].kind == "mask":
        return [replace(hint, shape=shape) for hint in hints]
    vocabularies = dict.fromkeys(hint.bound for hint in hints if hint.kind == "token")
    specs = [floats(*shape), *(tokens(vocabulary, *shape) for vocabulary in vocabularies)]
    return specs[1:] + specs[:1] if hints[0].kind == "token" else specs
