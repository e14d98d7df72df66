"""Running a model to see whether it accepts an input, so that nothing of the model changes."""

from __future__ import annotations

import contextlib
import copy
import io
import linecache
import os
import random
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from gradcheck_kit.target.input_specs import WHOLE

EVAL_SAMPLES, TRAIN_SAMPLES = 3, 2  # different, so that a model that takes its batch apart does not fit by chance


@dataclass(frozen=True, slots=True)
class Failure:
    """What forward raised, and where."""

    error: str  # "RuntimeError: mat1 and mat2 shapes cannot be multiplied (3x64 and 20x10)"
    type: type[Exception] = RuntimeError
    module: str = ""  # the innermost module that was running
    line: str = ""  # the innermost line that is not torch's: "model.py:31"
    consumer: nn.Module | None = None  # that module, if it was given an argument as it is
    consumed: tuple[int, ...] = ()  # the places of these arguments
    key: str = ""  # that a mapping was asked for in vain
    absent: tuple[str, ...] = ()  # the variables of the line that raised, so far as they are None
    training: bool = False

    def __str__(self) -> str:
        places = [f"in {self.module}" if self.module else f"at {self.line}" if self.line else ""]
        places += ["in training mode"] if self.training else []
        return f"{self.error} ({', '.join(filter(None, places))})" if any(places) else self.error


@dataclass(frozen=True, slots=True)
class Fit:
    """The model accepts it; `good` tells that the output is finite and has a row per sample or step, or is a scalar."""

    good: bool
    crossed: bool = False  # every output has a row and a column per sample: each was compared with each other


class Trial:
    """Runs a copy of the model, or the model itself and restores it where it cannot be copied."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.runs = 0
        self._copyable = True
        self._lazy = any(isinstance(p, nn.UninitializedParameter) for p in model.parameters())
        self._scratch = self._copied()

    def run(self, call: Callable[[nn.Module, int], tuple[Any, list[Any]]], length: int) -> Fit | Failure:
        """Returns how `call(model, samples)` goes in evaluation mode, then in training mode.

        `call` prepares and returns a function of no arguments, and the arguments as a flat list. `length` is that of
        the sequences: a language model may return a row for each of their steps.
        """
        if self._lazy:  # the run before has settled its shapes
            self._scratch = self._copied()
        outcome = self._run(call, EVAL_SAMPLES, length, training=False)
        if isinstance(outcome, Failure):
            return outcome
        # Anew, for models that keep a hidden state of the last batch.
        self._scratch = self._copied()
        trained = self._run(call, TRAIN_SAMPLES, length, training=True)
        if isinstance(trained, Failure):
            return trained
        return Fit(outcome.good and trained.good, crossed=outcome.crossed and trained.crossed)

    def _copied(self) -> nn.Module:
        if self._copyable:
            # A failed copy may come as any exception that a user's __deepcopy__ or __reduce__ raises.
            with contextlib.suppress(Exception), isolated(self.model):
                return copy.deepcopy(self.model)
            self._copyable = False
        return self.model

    def _run(
        self, call: Callable[[nn.Module, int], tuple[Any, list[Any]]], samples: int, length: int, *, training: bool
    ) -> Fit | Failure:
        self.runs += 1
        model = self._scratch
        with contextlib.nullcontext() if self._copyable else restored(model), isolated(model), torch.no_grad():
            model.train(training)
            forward, arguments = call(model, samples)
            try:
                output = forward()
            except Exception as error:  # noqa: BLE001  # whatever a user's forward raises is the answer
                return _failure(error, model, arguments, training=training)
            return _judge(output, (samples, samples * length))


def _judge(output: Any, rows: tuple[int, ...]) -> Fit | Failure:
    tensors = [t for t in tensors_in(output) if t.is_floating_point() or t.is_complex()]
    if not tensors:
        return Failure(f"the output holds no floating-point tensor but {type(output).__name__}", TypeError)
    fits = any(not t.ndim or t.shape[0] in rows for t in tensors)
    crossed = all(t.ndim > 1 and t.shape[0] == t.shape[1] == rows[0] for t in tensors)
    return Fit(good=fits and all(bool(t.isfinite().all()) for t in tensors), crossed=crossed)


def tensors_in(value: Any) -> Iterator[torch.Tensor]:
    """Yields the tensors in an output, however it is nested."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors_in(item)
    elif is_dataclass(value):
        for attribute in fields(value):
            yield from tensors_in(getattr(value, attribute.name))
    elif isinstance(value, torch.distributions.Distribution):
        with contextlib.suppress(NotImplementedError):
            yield value.mean


def _failure(error: Exception, model: nn.Module, arguments: list[Any], *, training: bool) -> Failure:
    names = {module: name for name, module in model.named_modules()}
    storages = {_storage(value): place for place, value in enumerate(arguments) if isinstance(value, torch.Tensor)}
    hidden = (f"{Path(__file__).parent}{os.sep}", f"{Path(torch.__file__).parent}{os.sep}")
    module, consumer, line = model, model, ""
    absent: tuple[str, ...] = ()
    values: tuple[Any, ...] = ()
    for frame, number in traceback.walk_tb(error.__traceback__):
        if isinstance(frame.f_locals.get("self"), nn.Module) and frame.f_locals["self"] in names:
            module = frame.f_locals["self"]
            if not isinstance(consumer, WHOLE):  # what attention is made of tells less than attention itself
                consumer, values = module, tuple(frame.f_locals.values())
        if not frame.f_code.co_filename.startswith(hidden):
            line = f"{Path(frame.f_code.co_filename).name}:{number}"
            words = re.findall(r"\w+", linecache.getline(frame.f_code.co_filename, number))
            absent = tuple(word for word in words if frame.f_locals.get(word, model) is None)
    consumed = {storages.get(_storage(value)) for value in values if isinstance(value, torch.Tensor)}
    return Failure(
        error=_sentence(error),
        type=type(error),
        module=names[module],
        line=line,
        consumer=consumer,
        consumed=tuple(sorted(place for place in consumed if place is not None)),
        key=str(error.args[0]) if isinstance(error, KeyError) and error.args else "",
        absent=absent,
        training=training,
    )


def _storage(value: torch.Tensor) -> int:
    try:
        return value.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):  # sparse and functional tensors have none
        return 0


def _sentence(error: Exception) -> str:
    """Returns the type and the first line of an error."""
    text = re.sub(r"\s+", " ", next(iter(str(error).strip().splitlines()), "")).strip()
    text = f"{text[:197]}..." if len(text) > 200 else text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


@contextlib.contextmanager
def isolated(model: nn.Module) -> Iterator[None]:
    """Keeps what a forward pass draws, prints and warns of to itself."""
    cuda = {tensor.device for tensor in (*model.parameters(), *model.buffers()) if tensor.is_cuda}
    numpy = sys.modules.get("numpy")
    state, numpy_state = random.getstate(), numpy.random.get_state() if numpy else None
    with (
        torch.random.fork_rng(devices=list(cuda)),
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            random.setstate(state)
            if numpy:
                numpy.random.set_state(numpy_state)


@contextlib.contextmanager
def restored(model: nn.Module) -> Iterator[None]:
    """Puts modes, buffers and attributes of every module back."""
    attributes = [(module, vars(module).copy(), dict(module._buffers)) for module in model.modules()]  # noqa: SLF001
    values = [(buffer, buffer.clone()) for buffer in model.buffers()]
    try:
        yield
    finally:
        for module, before, buffers in attributes:
            vars(module).clear()
            vars(module).update(before)
            module._buffers.clear()  # noqa: SLF001
            module._buffers.update(buffers)  # noqa: SLF001
        with torch.no_grad():
            for buffer, value in values:
                buffer.copy_(value)
