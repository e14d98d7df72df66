"""Inputs for a model that comes without data: guessed from its first layers and its signature, confirmed by running."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from gradcheck_kit.errors import DataError
from gradcheck_kit.target.input_search import Plan, Search, Shapes, call_with, is_broken
from gradcheck_kit.target.trial import Trial


@dataclass(frozen=True, slots=True)
class Inputs:
    """What to call a model with: every tensor has a leading batch dimension."""

    values: tuple[Any, ...] | dict[str, Any]
    call: Literal["positional", "keyword", "mapping"]  # model(*values), model(**values), or model(values) with a dict
    kinds: tuple[str, ...]  # what each is: "images 3x64x64"

    @property
    def description(self) -> str:
        return described(self.kinds)

    def named(self, model: nn.Module) -> dict[str, Any] | None:
        """Returns the values by the names that forward gives them; None where it names none."""
        if isinstance(self.values, dict):
            return dict(self.values) if self.call == "keyword" else None
        try:
            parameters = list(inspect.signature(model.forward).parameters.values())[: len(self.values)]
        except (TypeError, ValueError):  # a scripted module has no Python signature
            return None
        if len(parameters) < len(self.values) or any(p.kind != p.POSITIONAL_OR_KEYWORD for p in parameters):
            return None
        return {p.name: value for p, value in zip(parameters, self.values, strict=True)}


def call_model(model: nn.Module, inputs: Inputs) -> Any:
    """Returns what the model returns for these inputs."""
    return call_with(model, inputs.call, inputs.values)


def synthesize_inputs(
    model: nn.Module, samples: int, *, shapes: Shapes | None = None, generator: torch.Generator
) -> Inputs:
    """Returns inputs of `samples` samples that the model accepts, in evaluation and in training mode.

    `shapes`, one per input and without the batch dimension, settles the shapes. The model stays as it is.
    Raises DataError when nothing fits, or when the model's forward fails whatever it is given.
    """
    model = _unwrapped(model)
    tensors = [*model.parameters(), *model.buffers()]
    if any(tensor.is_meta for tensor in tensors):
        raise DataError("the model is on the meta device and holds no values: move it with to_empty and initialise it")
    device = tensors[0].device if tensors else torch.device("cpu")
    shapes = shapes or ()
    plans = list(_plans(model, len(shapes)))
    trial = Trial(model)
    searches = []
    for plan, dtype in itertools.product(plans, _dtypes(model)):
        if len(plan.names) < len(shapes) and not plan.asks:
            continue
        search = Search(trial, plan, shapes, dtype, device)
        specs = search.fitting()
        if specs is not None:
            values = search.plan.bind([spec.make(samples, dtype, device, generator) for spec in specs])
            return Inputs(values, plan.call, tuple(map(str, specs)))
        # A plan whose batch was never asked for a key was no plan at all.
        if search.failures and (search.plan.names or not search.plan.asks):
            searches.append(search)
    if not searches:
        names = max((plan.names for plan in plans), key=len)
        raise DataError(f"--input is given {len(shapes)} times, but the model takes {_listed(names)}")
    raise DataError(_complaint(searches[0]))  # the likeliest plan explains best


def _unwrapped(model: nn.Module) -> nn.Module:
    """Returns the module inside torch.compile or a parallel wrapper: it has the signature."""
    for name in ("_orig_mod", "module"):
        inner = getattr(model, name, None)
        if isinstance(inner, nn.Module) and type(model).__module__.startswith("torch."):
            return _unwrapped(inner)
    return model


def _dtypes(model: nn.Module) -> tuple[torch.dtype, ...]:
    """Returns the types of floating-point inputs to try: the first parameter's, and its real counterpart."""
    first = next((p.dtype for p in model.parameters() if p.is_floating_point() or p.is_complex()), torch.float32)
    return (first, first.to_real()) if first.is_complex else (first,)


def _plans(model: nn.Module, count: int) -> Iterator[Plan]:
    """Yields the ways to call forward with at least `count` inputs, the likeliest first."""
    try:
        parameters = list(inspect.signature(model.forward).parameters.values())
    except (TypeError, ValueError):  # a scripted module has no Python signature
        yield Plan("positional", ("input",))
        return
    named = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = [p.name for p in parameters if p.name in named and p.default is p.empty]
    keyword_only = [p.name for p in parameters if p.kind == p.KEYWORD_ONLY and p.default is p.empty]
    if hasattr(model, "main_input_name"):
        yield Plan("keyword", _main_inputs(model, [p.name for p in parameters]))
    if keyword_only:
        yield Plan("keyword", (*required, *keyword_only))
        return
    if any(p.kind == p.VAR_POSITIONAL for p in parameters):
        for extra in range(not required, 4):
            yield Plan("positional", (*required, *(f"input{i + 1}" for i in range(extra))))
        return
    if not named:
        asks = any(p.kind == p.VAR_KEYWORD for p in parameters)
        yield Plan("keyword" if asks else "positional", (), asks=asks)
        return
    if len(required) <= 1:
        yield Plan("mapping", (), asks=True)
    yield Plan("positional", tuple(named[: max(count, len(required), 1)]))


def _main_inputs(model: nn.Module, parameters: list[str]) -> tuple[str, ...]:
    """Returns the inputs of a model that names them, as those of Hugging Face do: all of them have defaults."""
    main = str(model.main_input_name)
    names = dict.fromkeys([main])
    dummy = getattr(model, "dummy_inputs", None)
    if isinstance(dummy, dict) and main in dummy:
        names |= dict.fromkeys(name for name in dummy if not name.endswith("mask"))
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        names |= {"decoder_input_ids": None}
    return tuple(name for name in names if name in parameters)


def described(kinds: Sequence[object]) -> str:
    """Several inputs in words: "2 inputs: vectors of 3, vectors of 5"."""
    words = ", ".join(map(str, kinds)) or "no inputs"
    return words if len(kinds) < 2 else f"{len(kinds)} inputs: {words}"


def _listed(names: Sequence[str]) -> str:
    return f"{len(names)} input{'' if len(names) == 1 else 's'}: {', '.join(names)}" if names else "no inputs"


def _complaint(search: Search) -> str:
    """Returns one sentence on why no input was found."""
    failures = list(search.failures.values())
    first, last = failures[0], failures[-1]
    accepted = [specs for specs, failure in search.failures.items() if failure.training]
    if last.training:
        return (
            f"the model takes {described(accepted[0])} in evaluation mode, but in training mode its forward raised "
            f"{last.error}: give it data to train on, in `train_loader` or with --data"
        )
    same = len(failures) > 1 and all((f.error, f.line) == (first.error, first.line) for f in failures)
    if is_broken(last) or (same and last.line and not search.shapes):
        return f"the model's forward raised {last.error}" + (f" at {last.line}" if last.line else "")
    if search.shapes:
        given = " ".join("--input " + "x".join(map(str, shape)) for shape in search.shapes)
        return f"the model does not accept {given}: {first}"
    tried = list(dict.fromkeys(map(described, search.failures)))
    more = f" and {len(tried) - 3} more" if len(tried) > 3 else ""
    return (
        f"nothing that was tried fits the model ({'; '.join(tried[:3])}{more}), the first was answered with {first}: "
        "say what it takes with --input, as in --input 3x224x224"
    )
