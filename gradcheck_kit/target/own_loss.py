"""Labels with which a model returns its own loss: found in its signature, made up to fit, confirmed by running."""

from __future__ import annotations

import copy
import inspect
import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from gradcheck_kit.errors import GradcheckKitError
from gradcheck_kit.target.conventions import stated, vocabulary
from gradcheck_kit.target.keep import keep_state
from gradcheck_kit.target.outputs import own_loss, prediction_of
from gradcheck_kit.target.trial import isolated

MOST_TRIED = 48  # combinations of labels
_LABELS = re.compile(r"(\w+_)?(labels?|targets?)")
_PLACES = re.compile(r"(start|end)_positions?")
_OBJECTS = re.compile(r"list\[dict\b", re.IGNORECASE)
_SWITCHES = ("return_loss",)

MakeTargets = Callable[[Any], Tensor | None]


@dataclass(frozen=True, slots=True)
class Labelled:
    """All that is passed by name, with as many rows as the inputs have; `labels` are the names of the added ones."""

    values: dict[str, Any]
    labels: tuple[str, ...]


def label_names(model: nn.Module) -> dict[str, str]:
    """The optional arguments of forward that take what is to be learned, or that ask for the loss; with their types."""
    try:
        parameters = inspect.signature(model.forward).parameters.values()
    except (TypeError, ValueError):  # a scripted module has no Python signature
        return {}
    return {
        p.name: str(p.annotation)
        for p in parameters
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and (p.default is None or p.default is False)
        and (_LABELS.fullmatch(p.name) or _PLACES.fullmatch(p.name) or p.name in _SWITCHES)
    }  # fmt: skip


def find_labels(
    model: nn.Module,
    values: Mapping[str, Any],
    output: Any,
    *,
    size: int,
    made: MakeTargets,
    generator: torch.Generator,
) -> Labelled | None:
    """The inputs and the labels with which the model returns a loss that is finite and has a gradient; else None.

    `values` are inputs by name, `output` what the model returns for the first `size` rows of them, `made` makes up
    targets for an output. A decoder makes its inputs of the labels, if it does that.
    """
    types = label_names(model)
    if not types:
        return None
    names = list(types)
    columns = [
        [_objects(len(next(iter(values.values()))), output, generator)]
        if _OBJECTS.search(types[name])
        else list(_candidates(name, model, values, output, made=made, generator=generator))
        for name in names
    ]
    without = {name: value for name, value in values.items() if not name.startswith("decoder_")}
    tried = 0
    for count in range(len(names), 0, -1):
        for chosen in itertools.combinations(range(len(names)), count):
            for labels in sorted(itertools.product(*(enumerate(columns[i]) for i in chosen)), key=_rank):
                added = {names[i]: label for i, (_, label) in zip(chosen, labels, strict=True)}
                for inputs in (without, values) if len(without) < len(values) else (values,):
                    if tried >= MOST_TRIED:
                        return None
                    tried += 1
                    if _brings_loss(model, {**inputs, **added}, size):
                        return Labelled({**inputs, **added}, tuple(added))
    return None


def _rank(labels: tuple[tuple[int, Any], ...]) -> int:
    return sum(place for place, _ in labels)


def _brings_loss(model: nn.Module, values: Mapping[str, Any], size: int) -> bool:
    # What the model draws while it is tried belongs to nobody; what it keeps is put back.
    with isolated(model), keep_state(model, None, []), torch.enable_grad():
        try:
            probe = copy.deepcopy(model)
        except Exception:  # noqa: BLE001  # a copy may fail as it likes; then the model itself is used and restored
            probe = model
        try:
            loss = own_loss(probe(**first_rows(values, size)), labelled=True)
        except Exception:  # noqa: BLE001  # whatever forward raises: these labels are not what it takes
            return False
        return loss.requires_grad and bool(loss.isfinite())


def first_rows(values: Mapping[str, Any], size: int) -> dict[str, Any]:
    """The first `size` rows of all that has rows."""
    return {name: value[:size] if isinstance(value, Tensor | list) else value for name, value in values.items()}


def _objects(rows: int, output: Any, generator: torch.Generator) -> list[dict[str, Tensor]]:
    """Two objects in each image, as DETR has them: a class and a box (centre, width, height) in shares of the image."""
    prediction = prediction_of(output)
    # The last class of a detector stands for "no object".
    classes = max(2, prediction.shape[-1] - 1) if prediction is not None and prediction.ndim else 2
    return [
        {
            "class_labels": torch.randint(classes, (2,), generator=generator),
            "boxes": torch.rand((2, 4), generator=generator) * 0.2 + 0.4,
        }
        for _ in range(rows)
    ]


def _candidates(
    name: str,
    model: nn.Module,
    values: Mapping[str, Any],
    output: Any,
    *,
    made: MakeTargets,
    generator: torch.Generator,
) -> Iterator[Any]:
    """Yields what the argument may be, the likeliest first. All have as many rows as the inputs."""
    if name in _SWITCHES:
        yield True
        return
    inputs = [value for value in values.values() if isinstance(value, Tensor) and value.ndim]
    texts = [value for value in inputs if not value.is_floating_point() and value.ndim > 1]
    rows, device = len(inputs[0]), inputs[0].device
    prediction = prediction_of(output)
    width = prediction.shape[-1] if prediction is not None and prediction.ndim > 1 else 2
    steps = (
        texts[0].shape[-1] if texts else prediction.shape[1] if prediction is not None and prediction.ndim > 2 else 1
    )

    def drawn(most: int, *shape: int, least: int = 0) -> Tensor:
        return torch.randint(least, max(most, least + 1), (rows, *shape), generator=generator).to(device)

    if _PLACES.fullmatch(name):
        yield drawn(steps)
        return
    if name.startswith("next_sentence") or name.endswith("order_label"):  # one label among others, for two classes
        yield drawn(2)
        return
    if stated(model, "problem_type") == "multi_label_classification" and prediction is not None:
        yield drawn(2, *prediction.shape[1:]).to(prediction.dtype)
    # A language model learns its own text.
    size = vocabulary(model).size
    yield from (text.clone() for text in reversed(texts) if width in (size, int(text.max()) + 1))
    if not texts and prediction is not None and prediction.ndim == 3:  # transcripts are shorter than what is heard
        yield drawn(width, max(1, steps // 4), least=1)
    try:
        fitting = made(output)
    except GradcheckKitError:
        fitting = None
    if fitting is not None:
        yield fitting
    classes = stated(model, "num_labels")
    classes = classes if isinstance(classes, int) and classes > 1 else width
    yield drawn(classes)
    for text in texts:
        yield drawn(classes, *text.shape[1:])
        yield drawn(2, *text.shape[1:]).float()
    if size is not None:
        yield drawn(size, 8)
    if prediction is not None:
        yield torch.randn((rows, *prediction.shape[1:]), generator=generator).to(prediction)
