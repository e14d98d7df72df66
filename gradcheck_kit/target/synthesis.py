"""Training data for a model that comes without: random inputs that it accepts, random targets that fit its output."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from gradcheck_kit.errors import DataError
from gradcheck_kit.target import ProbeSettings, Target
from gradcheck_kit.target.detection import IMAGES, find_scenes
from gradcheck_kit.target.flow import looks_like_flow, made_up_flow
from gradcheck_kit.target.inputs import call_model, synthesize_inputs
from gradcheck_kit.target.keep import keep_state
from gradcheck_kit.target.resizing import describe_limit
from gradcheck_kit.target.task import Form, prediction_of
from gradcheck_kit.target.workspace import copyable

SAMPLES = 32  # in a batch, unless they are large
FEWEST = 4  # of large ones
NUMBERS = 2**20  # in a batch of large ones, which a probe without a GPU still gets through


@dataclass(frozen=True, slots=True)
class MadeUp:
    """Batches and how they go into the model. `image_side`: the model shall not enlarge images beyond it."""

    batches: list[Any]
    form: Form
    description: str
    image_side: int | None = None
    changed: str = ""  # what is different in the probe for it, for the header


def synthesize_data(target: Target, settings: ProbeSettings) -> MadeUp:
    """Two batches of random samples. Raises DataError when no input fits the model, or no target its output."""
    generator = torch.Generator().manual_seed(settings.seed)
    model = target.model
    scenes = find_scenes(model, settings.input_shape[0] if settings.input_shape else None, settings.classes)
    if scenes is not None:
        size = settings.batch_size or IMAGES
        device = next(model.parameters()).device
        pairs = [scenes.make(size, device, generator) for _ in range(2)]
        described = f"{2 * size} random samples in batches of {size}: {scenes}"
        side = min(scenes.image[1:])
        return MadeUp(pairs, Form("positional", inputs=2), described, side, describe_limit(model, side))
    count = 2 * (settings.batch_size or SAMPLES)
    inputs = synthesize_inputs(model, count, shapes=settings.input_shape, generator=generator)
    size = settings.batch_size or _affordable(inputs.values)
    count = 2 * size
    inputs = replace(inputs, values=_first(inputs.values, count))
    modes = [(m, m.training) for m in model.modules()]
    try:
        model.train()
        probe = copy.deepcopy(model) if copyable(model, None, ()) else model
        with torch.no_grad(), keep_state(model, None, []):
            output = call_model(probe, replace(inputs, values=_first(inputs.values, size)))
    finally:
        for module, mode in modes:
            module.training = mode
    values = inputs.values
    whole: list[Any] = list(values.values()) if isinstance(values, dict) else list(values)
    made = None if brings_own_loss(output) else make_targets(output, whole, count, settings.classes, generator)
    keys = tuple(values) if isinstance(values, dict) else ()
    form: Form
    if inputs.call == "positional":
        form = Form("positional", inputs=len(whole), target=None if made is None else len(whole))
    elif inputs.call == "keyword":
        form = Form("keyword", keys=keys, target=None if made is None else "__target__")
    else:
        form = Form("mapping", target=None if made is None else "__target__")
    batches: list[Any] = []
    for start in range(0, count, size):
        parts = [_rows(value, start, size) for value in whole]
        label = None if made is None else made[start : start + size]
        if inputs.call == "positional":
            batches.append((*parts, label) if label is not None else tuple(parts))
        else:
            named = dict(zip(keys, parts, strict=True))
            batches.append(named if label is None else {**named, "__target__": label})
    described = f"{count} random samples in batches of {size}: {inputs.description}"
    return MadeUp(batches, form, described)


def _affordable(values: Any) -> int:
    """How many samples make a batch: fewer than usual where each is large."""
    whole = values.values() if isinstance(values, dict) else values
    numbers = sum(value[0].numel() for value in whole if isinstance(value, Tensor) and value.ndim)
    most = NUMBERS // max(1, numbers)
    return min(SAMPLES, max(FEWEST, 1 << max(0, most.bit_length() - 1)))


def _rows(value: Any, start: int, size: int) -> Any:
    return value[start : start + size] if isinstance(value, Tensor | list) else value


def _first(values: Any, size: int) -> Any:
    if isinstance(values, dict):
        return {key: _rows(value, 0, size) for key, value in values.items()}
    return tuple(_rows(value, 0, size) for value in values)


def brings_own_loss(output: Any) -> bool:
    """Whether the output holds a loss, also when no gradient was recorded."""
    return (isinstance(output, Mapping) and "loss" in output) or isinstance(getattr(output, "loss", None), Tensor)


def make_targets(
    output: Any, inputs: Sequence[Any], count: int, classes: int | None, generator: torch.Generator
) -> Tensor | None:
    """Random targets for an output: classes, one per sample, token or pixel; or numbers of its shape.

    None where the output has the input's shape: an autoencoder's target is its input.
    """
    prediction = prediction_of(output)
    if prediction is None:
        raise DataError("the model returns no floating-point tensor to learn from; define gradcheck_target()")
    if prediction.is_complex() or prediction.ndim == 0:
        raise DataError(
            f"targets cannot be made up for an output of shape {tuple(prediction.shape)} and {prediction.dtype}; "
            "define loss_fn and train_loader in the file"
        )
    first = inputs[0] if isinstance(inputs[0], Tensor) else None
    shape = (count, *prediction.shape[1:])
    if first is not None and first.is_floating_point() and first.shape[1:] == prediction.shape[1:] and classes is None:
        return None if prediction.ndim > 2 else torch.randn(shape, generator=generator).to(prediction)
    if classes is None and looks_like_flow(prediction, inputs):
        return made_up_flow(shape, generator).to(prediction)
    if first is not None and not first.is_floating_point() and prediction.shape[1:-1] == first.shape[1:]:
        return _labels(shape[:-1], classes or prediction.shape[-1], generator, prediction)  # one per token
    if prediction.ndim == 1 or prediction.shape[1:].numel() == 1:
        if _looks_like_probability(prediction) or classes == 2:
            return torch.randint(0, 2, shape, generator=generator).to(prediction)
        return torch.randn(shape, generator=generator).to(prediction)
    if prediction.ndim == 2 or prediction.ndim >= 4:
        return _labels((count, *prediction.shape[2:]), classes or prediction.shape[1], generator, prediction)
    return torch.randn(shape, generator=generator).to(prediction)


def _labels(shape: tuple[int, ...], classes: int, generator: torch.Generator, like: Tensor) -> Tensor:
    return torch.randint(0, classes, shape, generator=generator).to(like.device)


def _looks_like_probability(prediction: Tensor) -> bool:
    return bool(((prediction >= 0) & (prediction <= 1)).all())
