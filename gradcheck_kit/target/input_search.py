"""The search for inputs that a model accepts: tries what layers and names suggest, and learns from what it raises."""

from __future__ import annotations

import inspect
import itertools
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import torch
from torch import nn

from gradcheck_kit.target.conventions import vocabulary
from gradcheck_kit.target.input_specs import (
    SIZES,
    WHOLE,
    Spec,
    entry_specs,
    floats,
    given_specs,
    input_specs,
    layer_specs,
    tokens,
)
from gradcheck_kit.target.trial import Failure, Fit, Trial

Call: TypeAlias = Literal["positional", "keyword", "mapping"]
Shapes: TypeAlias = tuple[tuple[int, ...], ...]
Specs: TypeAlias = tuple[Spec, ...]

MAX_RUNS = 300
RUNS_AFTER_ODD_FIT = 40
MAX_SUGGESTED = 60
SAME_IN_TRAINING = 3
BROKEN = (NameError, ImportError, SyntaxError, ZeroDivisionError)  # no other input mends these


@dataclass(frozen=True, slots=True)
class Plan:
    """How to call forward. With `asks`, the model names the inputs itself, by the keys that it looks up."""

    call: Call
    names: tuple[str, ...]
    asks: bool = False

    def bind(self, values: Sequence[Any]) -> tuple[Any, ...] | dict[str, Any]:
        return tuple(values) if self.call == "positional" else dict(zip(self.names, values, strict=True))


class _Asked(dict[str, Any]):
    """A batch that remembers the keys that it was asked for in vain."""

    def __init__(self, values: Mapping[str, Any], asked: list[str]) -> None:
        super().__init__(values)
        self.asked = asked

    def __missing__(self, key: str) -> Any:
        self.asked.append(key)
        raise KeyError(key)

    def get(self, key: str, default: Any = None) -> Any:
        if key not in self:
            self.asked.append(key)
        return super().get(key, default)


def call_with(model: nn.Module, call: Call, values: tuple[Any, ...] | dict[str, Any]) -> Any:
    if isinstance(values, tuple):
        return model(*values)
    return model(**values) if call == "keyword" else model(values)


def is_broken(failure: Failure) -> bool:
    """Tells whether forward failed for a reason that lies in itself."""
    return issubclass(failure.type, BROKEN) or 'missing the required "forward"' in failure.error


class Search:
    """Looks for inputs that fit one plan. Afterwards `failures` tells what was tried, and `plan` has all names."""

    def __init__(self, trial: Trial, plan: Plan, shapes: Shapes, dtype: torch.dtype, device: torch.device) -> None:
        self.trial, self.plan, self.shapes, self.dtype, self.device = trial, plan, shapes, dtype, device
        self.failures: dict[Specs, Failure] = {}
        self._entries = entry_specs(trial.model)
        self._vocabulary = vocabulary(trial.model)
        self._optional = _keywords(trial.model) if plan.call == "keyword" else ()
        linear = [module.out_features for module in trial.model.modules() if isinstance(module, nn.Linear)]
        self._classes = linear[-1] if linear and linear[-1] > 1 else 2
        self._consumers: dict[int, nn.Module] = {}
        self._asked: list[str] = []
        self._suggested = 0
        self._odd: Specs | None = None
        self._queue: Iterator[Specs] = iter(())
        self._later: deque[Specs] = deque()

    def fitting(self) -> Specs | None:
        """Returns what fits; failing that, the first that runs although its output looks odd."""
        limit = MAX_RUNS
        self._queue, self._later = self._candidates(), deque()
        while self.trial.runs < limit and (specs := self._next()) is not None:
            length = next((spec.shape[0] for spec in specs if spec.free == (0,)), 1)
            outcome = self.trial.run(self._call(specs), length)
            if isinstance(outcome, Failure):
                self.failures[specs] = outcome
                if self._hopeless(outcome):
                    break
                self._learn(specs, outcome)
            elif self.plan.call == "mapping" and len(specs) < max(1, len(self.shapes)):
                break  # forward does not look at what it is given
            elif outcome.good:
                return self._of_one_rank(specs) if outcome.crossed else specs
            else:
                self.failures[specs] = Failure("ValueError: the output has no row per sample", ValueError)
                if self._odd is None:
                    self._odd, limit = specs, min(limit, self.trial.runs + RUNS_AFTER_ODD_FIT)
        return self._odd

    def _of_one_rank(self, specs: Specs) -> Specs:
        """The vectors among these inputs as such, if that keeps samples apart: (n, 1, d) + (n, d) has shape (n, n, d).

        What is meant to compare each sample with each other, as CLIP does, stays as it is.
        """
        flat = tuple(floats(s.shape[-1]) if s.kind == "float" and s.shape[:-1] == (1,) else s for s in specs)
        if flat == specs or self.shapes:
            return specs
        outcome = self.trial.run(self._call(flat), 1)
        return flat if isinstance(outcome, Fit) and outcome.good and not outcome.crossed else specs

    def _next(self) -> Specs | None:
        later = (self._later.popleft() for _ in range(len(self._later)))
        return next((specs for specs in itertools.chain(self._queue, later) if specs not in self.failures), None)

    def _hopeless(self, failure: Failure) -> bool:
        """Tells whether forward fails for a reason that no other input mends."""
        if is_broken(failure):
            return True
        alike = [f for f in self.failures.values() if (f.error, f.line) == (failure.error, failure.line)]
        return failure.training and len(alike) >= SAME_IN_TRAINING

    def _learn(self, specs: Specs, failure: Failure) -> None:
        if self._named_another(failure) or self._complained_of_another(failure):
            self._queue, self._later, self._odd = self._candidates(), deque(), None
            return
        if self._found_entered(failure):
            self._queue = self._candidates()
        if not self.shapes and self._suggested < MAX_SUGGESTED:
            exact, near = _suggested(specs, failure.error)
            self._suggested += len(exact) + len(near)
            self._queue = itertools.chain(exact, self._queue)
            self._later.extend(near)

    def _call(self, specs: Specs) -> Callable[[nn.Module, int], tuple[Callable[[], Any], list[Any]]]:
        def prepare(model: nn.Module, samples: int) -> tuple[Callable[[], Any], list[Any]]:
            generator = torch.Generator().manual_seed(0)
            arguments = [spec.make(samples, self.dtype, self.device, generator) for spec in specs]
            values = self.plan.bind(arguments)
            if self.plan.call == "mapping" and isinstance(values, dict):
                self._asked = []
                values = _Asked(values, self._asked)
            return lambda: call_with(model, self.plan.call, values), arguments

        return prepare

    def _named_another(self, failure: Failure) -> bool:
        """Takes up the first key that the model looked for in vain, if there is one."""
        # A key that is only asked for with `get` is optional, unless it turns out that None will not do.
        needed = not self.plan.names or "NoneType" in failure.error
        asked = [failure.key, *(self._asked if needed else [])]
        new = [key for key in asked if key and isinstance(key, str) and key not in self.plan.names]
        if not new or not self.plan.asks:
            return False
        self.plan = replace(self.plan, names=(*self.plan.names, new[0]))
        self.failures.clear()
        return True

    def _complained_of_another(self, failure: Failure) -> bool:
        """Takes up an argument that the message names ("You have to specify pixel_values"), or must not be None."""
        words = [*re.findall(r"\w+", failure.error), *(failure.absent if "NoneType" in failure.error else ())]
        new = next((name for name in self._optional if name in words and name not in self.plan.names), None)
        if new is None:
            return False
        self.plan = replace(self.plan, names=(*self.plan.names, new))
        self.failures.clear()
        return True

    def _found_entered(self, failure: Failure) -> bool:
        """Remembers which layer an input enters, now that this layer has refused it."""
        layer = failure.consumer
        new = [place for place in failure.consumed if place not in self._consumers]
        if not new or layer is None or not layer_specs(layer):
            return False
        if not isinstance(layer, WHOLE) and next(layer.children(), None) is not None:
            return False
        self._consumers |= dict.fromkeys(new, layer)
        return True

    def _candidates(self) -> Iterator[Specs]:
        """Yields what to give for all inputs together, the likeliest first."""
        columns = []
        for place, name in enumerate(self.plan.names):
            entries, turn = self._entries, 0 if _stem(name) == _stem(self.plan.names[0]) else place
            if place in self._consumers:
                entries, turn = [layer_specs(self._consumers[place]), *entries], 0
            if place < len(self.shapes):
                column = given_specs(name, self.shapes[place], entries, self._classes)
            else:
                # Among several, one that no embedding has refused is no sequence of tokens, though it may pass for one.
                floats_first = len(self.plan.names) > 1 and place not in self._consumers
                column = input_specs(name, turn, entries, self._classes, floats_first=floats_first)
            columns.append(self._in_vocabulary(column))
        return map(_aligned, _together(columns))

    def _in_vocabulary(self, column: list[Spec]) -> list[Spec]:
        """Among embeddings, the one of the stated vocabulary takes the text: others are for positions and the like."""
        size = self._vocabulary.size
        if column[0].kind == "token" and any(spec.kind == "token" and spec.bound == size for spec in column):
            text = [spec for spec in column if spec.kind == "token" and spec.bound == size]
            # Texts to choose among; before a text of one token, which hides what happens between tokens.
            several = tokens(text[0].bound, 2, *text[0].shape)
            short = next((place for place, spec in enumerate(text) if spec.shape in ((1,), ())), len(text))
            rest = [spec for spec in column if spec not in text]
            column = [*text[:short], several, *text[short:], *rest]
        return [replace(spec, vocabulary=self._vocabulary) if spec.kind == "token" else spec for spec in column]


def _keywords(model: nn.Module) -> tuple[str, ...]:
    """Returns the names of what forward may be given, besides what it returns and how."""
    try:
        parameters = inspect.signature(model.forward).parameters.values()
    except (TypeError, ValueError):  # a scripted module has no Python signature
        return ()
    return tuple(p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY))


def _stem(name: str) -> str:
    """Returns what inputs like image1 and image2 have in common, which enter the model alike."""
    return name.rstrip("0123456789")


def _together(columns: list[list[Spec]]) -> Iterator[Specs]:
    """Yields combinations: equal places first (twins; source and target), shares of one vector, then all the rest."""
    for place in range(max(map(len, columns), default=1)):
        yield tuple(column[min(place, len(column) - 1)] for column in columns)
    if len(columns) > 1:
        widths = dict.fromkeys(spec.shape[0] for spec in columns[0] if spec.kind == "float" and len(spec.shape) == 1)
        for width in widths:  # inputs that are concatenated
            share = width // len(columns)
            if share:
                yield (*(floats(share) for _ in columns[1:]), floats(width - share * (len(columns) - 1)))
        depth = 12 if len(columns) < 4 else 4
        places = itertools.product(*(range(min(len(column), depth)) for column in columns))
        for chosen in sorted(places, key=sum):
            yield tuple(column[place] for column, place in zip(columns, chosen, strict=True))


def _aligned(specs: Specs) -> Specs:
    """Gives masks and lengths the length of the sequence that they belong to."""
    sequence = next((spec.shape for spec in specs if spec.shape and spec.kind in ("float", "token")), ())
    mask = sequence[:1] if len(sequence) < 3 else (1, *sequence[1:])

    def fitted(spec: Spec) -> Spec:
        if spec.kind == "length":
            return replace(spec, bound=sequence[0] if sequence else 1)
        return replace(spec, shape=mask) if spec.kind == "mask" and not spec.shape else spec

    return tuple(map(fitted, specs))


def _suggested(specs: Specs, message: str) -> tuple[list[Specs], list[Specs]]:
    """Returns the sizes that an error message hints at: those that must fit if it means what it says; the others."""
    exact: list[Specs] = []
    pairs = [tuple(map(int, pair)) for pair in re.findall(r"\(\d+x(\d+) and (\d+)x\d+\)", message)]
    for got, wanted in pairs if len(specs) > 1 else ():  # a vector that is concatenated with something else
        for place, spec in enumerate(specs):
            if spec.kind == "float" and len(spec.shape) == 1 and spec.shape[0] + wanted - got > 0:
                exact.append((*specs[:place], floats(spec.shape[0] + wanted - got), *specs[place + 1 :]))
    opened = next((spec for spec in specs if spec.free), None)
    if opened is None:
        return exact, []
    size = opened.shape[opened.free[0]]
    sides = [tuple(map(int, pair)) for pair in re.findall(r"tensor a \((\d+)\) .* tensor b \((\d+)\)", message)]
    scales = [wanted / got for got, wanted in [*pairs, *sides, *((b, a) for a, b in sides)] if got and wanted]
    guesses = [round(size * scale ** (1 / len(opened.free))) for scale in scales]
    near = [guess + step for guess in guesses for step in (0, 1, -1, 2, -2, 3, -3, 4, -4)]
    named = [number for number in map(int, re.findall(r"\d+", message)) if number > 3]

    def resized(sizes: Sequence[int]) -> list[Specs]:
        fitting = dict.fromkeys(new for new in sizes if 0 < new <= 1024 and new != size)
        return [tuple(spec.resized(size, new) for spec in specs) for new in fitting]

    # Along one dimension the ratio is the answer; over an area, borders and strides blur it.
    likely = guesses if len(opened.free) == 1 else [number for number in named if number in SIZES and not pairs]
    return exact + resized(likely), resized(near + named)
