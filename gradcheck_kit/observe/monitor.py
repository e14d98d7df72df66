"""Watches your own training loop, unchanged, and says afterwards what a probe would say."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from gradcheck_kit import plugins
from gradcheck_kit.errors import ProbeError, UsageError
from gradcheck_kit.facts import FACTS, Training, WiredModule, WiredParameter, Wiring
from gradcheck_kit.observe.loop import LoopWatch, owned_by
from gradcheck_kit.observe.module_stack import compiled_frames
from gradcheck_kit.observe.names import named_modules, named_parameters
from gradcheck_kit.observe.recorder import Recorder
from gradcheck_kit.observe.unregistered import unregistered_modules
from gradcheck_kit.report import Report, check
from gradcheck_kit.rule import OptionValue, Severity
from gradcheck_kit.target.layers import layer_of
from gradcheck_kit.target.source_lines import source_lines
from gradcheck_kit.trace import Header, Trace, decode, encode


class Monitor:
    """Watch a model in your own training loop: `with gk.Monitor(model, optimizer=optimizer) as monitor: train()`.

    `optimizer` is one or several; those that step on the model's parameters are found without it, but one that never
    steps is not. `every` records each such step; by default all of the first eight, then four in every doubling of
    their number, which costs next to nothing in runs of any length. `activations=False` leaves out the counting of
    dead and saturated units.

    Mixed precision, accumulated gradients, closures and several optimizers need nothing said. A failure of the monitor
    itself never ends the training: it is reported once, as a warning, and watching goes on without that place.

    Raises UsageError when an argument is none that can be watched.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer | Sequence[Optimizer] | None = None,
        *,
        every: int | None = None,
        activations: bool = True,
        name: str = "",
    ) -> None:
        if not isinstance(model, nn.Module):
            raise UsageError(f"Monitor watches a torch.nn.Module, not a {type(model).__name__}")
        given: list[Any] = []
        if optimizer is not None:
            given = list(optimizer) if isinstance(optimizer, list | tuple) else [optimizer]
        for one in given:
            if not isinstance(one, Optimizer):
                raise UsageError(f"optimizer is a {type(one).__name__}, not a torch.optim.Optimizer")
        if every is not None and every < 1:
            raise UsageError(f"every is {every}; use 1 to record every step")
        self.model = model
        self.name = name or type(model).__name__
        self._loop = LoopWatch(model, self.name, given, every=every, activations=activations)
        self._started: float | None = None
        self._seconds = 0.0

    @property
    def steps(self) -> int:
        """Updates seen so far; of several optimizers, one step of each counts once."""
        return self._loop.steps

    def __enter__(self) -> Monitor:  # noqa: PYI034  # Self is in typing since Python 3.11 only
        self.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _value: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Watch from now on; after a `stop`, go on. Raises UsageError while it watches already."""
        self._loop.start()
        self._started = time.perf_counter()

    def stop(self) -> None:
        """Take every hook away. What was seen stays."""
        self._loop.stop()
        self._seconds, self._started = self._elapsed(), None

    def _elapsed(self) -> float:
        return self._seconds + (time.perf_counter() - self._started if self._started is not None else 0.0)

    # -- what was seen --

    @property
    def trace(self) -> Trace:
        """What was seen so far. Raises ProbeError before the first recorded step."""
        recorder = self._loop.recorder
        if recorder is None or not recorder.steps:
            raise ProbeError(
                f"the monitor of {self.name} has seen no training step; run one within `with`, on the same model object"
            )
        self._loop.read_losses()
        facts: dict[type, Any] = {}
        for fact in (self._training(recorder), self._wiring(recorder)):
            facts[type(fact)] = decode(type(fact), encode(fact))
        watched = "a watched loop shows no such experiment; gradcheck-kit scan makes it"
        absent = {kind.__name__: watched for kind in FACTS if kind not in facts}
        return Trace(self._header(recorder), facts, absent)

    def report(
        self,
        *,
        select: Sequence[str] | None = None,
        ignore: Sequence[str] | None = None,
        options: Mapping[str, Mapping[str, OptionValue]] | None = None,
        fail_on: Severity = "error",
    ) -> Report:
        """What the rules say of it so far. Arguments as of `scan`; raises ProbeError before the first recorded step."""
        known = plugins.all_rules()
        chosen = plugins.select(known, select, ignore or ())
        named = {plugins.find_rule(known, rule).name: dict(values) for rule, values in (options or {}).items()}
        return check(self.trace, chosen, options=named, fail_on=fail_on, seconds=self._elapsed())

    def _training(self, recorder: Recorder) -> Training:
        return Training(
            planned_steps=self.steps,
            losses=self._loop.losses.values(),
            loss_window=self._loop.losses.window,
            recorded=tuple(recorder.steps),
            accuracies=(None,) * len(recorder.steps),
            samples_per_step=recorder.batch_size or 1,
            parameters=tuple(recorder.parameter_records(owned_by(self._loop.optimizers))),
            outputs=tuple(recorder.output_records()),
            activations=tuple(recorder.activation_records()),
            non_finite=self._loop.bad,
            constant_loss=None,
            constant_loss_error=None,
            zero_loss=None,
            constant_prediction="",
            synthetic=False,
            learning_rates=self._loop.rates,
            optimizer=self._loop.description,
            optimizer_given=True,
            norm_layers=recorder.norm_layers(),
            watched=True,
            competing=self._loop.competing,
        )

    def _wiring(self, recorder: Recorder) -> Wiring:
        owned = owned_by(self._loop.optimizers)
        own = {id(p) for p in self.model.parameters()}
        modules = dict(named_modules(self.model))
        calls = recorder.stack.calls
        finished = {id(module): place for place, module in enumerate(recorder.stack.finished)}
        return Wiring(
            parameters=tuple(
                WiredParameter(
                    name,
                    layer_of(name),
                    type(modules.get(layer_of(name))).__name__,
                    tuple(p.shape),
                    p.requires_grad,
                    id(p) in owned,
                    recorder.gradient_kind(i),
                )
                for i, (name, p) in enumerate(recorder.parameters.named)
            ),
            modules=tuple(
                WiredModule(
                    name,
                    type(module).__name__,
                    round(calls.get(id(module), 0) / len(recorder.steps)),
                    sum(p.numel() for p in module.parameters()),
                    finished.get(id(module)),
                )
                for name, module in recorder.outputs.sites
            ),
            unregistered=tuple(unregistered_modules(self.model, recorder.stack, owned)),
            foreign_parameters=len(owned - own),
            optimizer_given=True,
            prediction_shape=None,
            target_shape=None,
            broadcasts=(),
        )

    def _header(self, recorder: Recorder) -> Header:
        from gradcheck_kit import __version__

        named = [(name, p) for name, p in named_parameters(self.model) if p.ndim >= 2]
        notes = [f"{place or 'the model'} is not watched: {error}" for place, error in recorder.trouble.items()]
        if self._loop.compiled():
            notes.append("the model is compiled: gradients and updates are seen, what its layers put out is not")
        elif compiled_frames():
            notes.append("compiled code runs in this process: its insides are not seen, dead units are not counted")
        device = next((p.device for p in self.model.parameters()), torch.device("cpu"))
        size = recorder.batch_size
        return Header(
            name=self.name,
            model=type(self.model).__name__,
            parameters=sum(p.numel() for p in self.model.parameters()),
            weight_layers=len({layer_of(name) for name, _ in named}),
            data="the loop's own" + (f", in batches of {size}" if size else ""),
            test_data="",
            optimizer=self._loop.description,
            loss="",
            device=str(device),
            threads=torch.get_num_threads(),
            steps=self.steps,
            batch_size=size,
            seed=None,
            torch_version=torch.__version__,
            tool_version=__version__,
            supplied=tuple(notes),
            sources=source_lines(self.model),
        )
