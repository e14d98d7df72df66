"""Observes the recorded steps of a training run, whoever runs it, and makes of them the records of `Training`."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from gradcheck_kit.facts import ActivationRecord, OutputRecord, ParameterRecord, Series
from gradcheck_kit.observe.activations import ActivationSite, ActivationWatch
from gradcheck_kit.observe.module_stack import ModuleStack
from gradcheck_kit.observe.names import named_modules
from gradcheck_kit.observe.outputs import OutputWatch
from gradcheck_kit.observe.parameters import ParameterWatch
from gradcheck_kit.observe.statistics import ABSENT, read
from gradcheck_kit.target.batches import batch_size_of
from gradcheck_kit.target.eager import compiling_nothing
from gradcheck_kit.target.layers import layer_of
from gradcheck_kit.target.outputs import prediction_of

NORMS = ("BatchNorm", "LayerNorm", "GroupNorm", "InstanceNorm", "RMSNorm", "LocalResponseNorm")


class _Eager:
    """Compiles nothing while anybody is in it: two recorders do not always leave in the reverse order."""

    def __init__(self) -> None:
        self._inside = 0
        self._context: AbstractContextManager[object] = nullcontext()

    def enter(self) -> None:
        if self._inside == 0:
            self._context = compiling_nothing()
            self._context.__enter__()
        self._inside += 1

    def leave(self) -> None:
        self._inside -= 1
        if self._inside == 0:
            self._context.__exit__(None, None, None)


_EAGER = _Eager()


class Recorder:
    """Watches one step at a time: outputs and activations while attached, parameters around the optimizer's step.

    All numbers of a step come from the device in one read. Of a model that is called several times in a step, the
    last pass with gradients counts; of a module that is called several times in a pass, the first call.
    """

    def __init__(self, model: nn.Module, report: Callable[[str, Exception], None] | None = None) -> None:
        self.model = model
        self.trouble: dict[str, Exception] = {}  # by place; observation of it has ended
        self.stack = ModuleStack(model)
        self.outputs = OutputWatch(model, self._failed)
        self.parameters = ParameterWatch(model)
        self.activations = ActivationWatch(self.stack, lambda: self.outputs.count, self._channels_second)
        self.steps: list[int] = []  # that were kept
        self.batch_size: int | None = None  # rows of what the model puts out
        self._report = report
        self._output_rows: list[array[float]] = []  # by step: for each site output RMS and gradient RMS
        self._parameter_rows: list[array[float]] = []  # by step: for each parameter gradient, weight and update RMS
        self._read: tuple[dict[int, float], dict[int, float], list[float]] = ({}, {}, [])
        self._everything = self._with_activations = True
        self._outermost: set[int] = set()  # modules that were called as outermost ones in this pass
        self._following = False  # this pass records gradients
        self._active: ActivationWatch | None = None  # while it is on

    def _failed(self, place: str, error: Exception) -> None:
        if place not in self.trouble:
            self.trouble[place] = error
            if self._report is not None:
                self._report(place, error)

    def _channels_second(self) -> bool:
        last = self.outputs.last
        kinds = nn.Conv1d | nn.ConvTranspose1d | nn.BatchNorm1d | nn.InstanceNorm1d
        return last is not None and isinstance(self.outputs.sites[last][1], kinds)

    # -- forward and backward --

    def attach(self, *, everything: bool = True, activations: bool = True, outputs: bool = True) -> None:
        """Watch from now on, until `detach`.

        Without `everything` only layers with parameters are looked at, without `activations` nothing is counted of
        activation functions. Without `outputs` nothing is hooked: parameters are seen all the same.
        """
        self._everything, self._with_activations = everything, activations
        self.begin()
        if outputs:
            self.stack.attach(self)

    def detach(self) -> None:
        self.stack.detach()

    def pause(self) -> None:
        """Watch no more, with the hooks in their place."""
        self.stack.pause()

    @contextmanager
    def watching(self, *, everything: bool = True) -> Iterator[None]:
        """Watch one forward and backward pass; every hook is gone at the end. Everything, or layers with parameters."""
        self.attach(everything=everything, activations=everything)
        try:
            yield
        finally:
            self.detach()

    def begin(self) -> None:
        """Forget what was seen of a step that was not kept."""
        self.stack.reset()
        self._outermost.clear()
        self.outputs.begin(everything=self._everything)
        self.parameters.begin()

    def began(self, module: nn.Module) -> None:
        self._following = torch.is_grad_enabled()
        if not self._following:
            return
        if id(module) in self._outermost:
            self._outermost.clear()
            self.outputs.begin(everything=self._everything)
            self.activations.cancel()
        if self._with_activations:
            if not self._outermost:
                self.activations.begin()
            self._enter_modes()
        self._outermost.add(id(module))

    def _enter_modes(self) -> None:
        """Watch functions until `ended`. What is compiled would be compiled with that: this once it runs eagerly."""
        _EAGER.enter()
        self.activations.__enter__()
        self._active = self.activations

    def returned(self, module: nn.Module, output: Any, *, again: bool = False) -> None:
        if not self._following and not again:
            return
        if self._active is None:
            self.outputs.returned(module, output, again=again)
        else:  # what is asked of the output here is no function of the user's
            with torch._C.DisableTorchFunction():  # noqa: SLF001
                self.outputs.returned(module, output, again=again)

    def ended(self, _module: nn.Module, output: Any) -> None:
        active, self._active = self._active, None
        if active is not None:
            active.leave()
            _EAGER.leave()
        try:
            if self.batch_size is None:
                self.batch_size = batch_size_of(output)
            if active is not None:
                active.end(prediction_of(output))
        except Exception as error:  # noqa: BLE001  # an odd output must not end a training run
            self._failed("", error)

    # -- a step's numbers --

    def read(self, extra: Sequence[Tensor] = ()) -> list[float]:
        """Bring over what this step left on the device, and `extra` scalars with it; their values are returned."""
        outputs, parameters = self.outputs.scalars, self.parameters.scalars
        values = read([*extra, *outputs, *parameters])
        ends = len(extra), len(values) - len(parameters)
        output, gradient = self.outputs.sort(values[ends[0] : ends[1]])
        self._read = output, gradient, values[ends[1] :]
        return values[: ends[0]]

    def keep(self, step: int, *, output_scale: float = 1.0, parameter_scale: float = 1.0) -> None:
        """Keep what was read as the row of `step`. Gradients are divided by the scale that the loss was multiplied by:

        at outputs that is the scaler's, at parameters 1 once the scaler has unscaled them.
        """
        output, gradient, parameters = self._read
        row = array("d", [ABSENT]) * (2 * len(self.outputs.sites))
        for index, value in output.items():
            row[2 * index] = value
        for index, value in gradient.items():
            row[2 * index + 1] = value / output_scale
        self._output_rows.append(row)
        self._parameter_rows.append(self.parameters.sort(parameters, scale=parameter_scale))
        self.steps.append(step)
        self.begin()

    def thin(self) -> None:
        """Drop every second row."""
        for rows in (self.steps, self._output_rows, self._parameter_rows):
            del rows[1::2]

    # -- records --

    def latest_outputs(self) -> list[tuple[str, str, float | None, float | None]]:
        """Of the last row, in execution order: module, its type, output RMS and gradient RMS."""
        row = self._output_rows[-1]
        sites = [(i, *self.outputs.sites[i]) for i in self.outputs.order]
        return [(n, type(m).__name__, _value(row[2 * i]), _value(row[2 * i + 1])) for i, n, m in sites]

    def latest_parameters(self) -> list[tuple[str, float | None, float | None]]:
        """Of the last row: parameter, gradient RMS and weight RMS before the step."""
        row = self._parameter_rows[-1]
        return [(n, _value(row[3 * i]), _value(row[3 * i + 1])) for i, (n, _) in enumerate(self.parameters.named)]

    def gradient_kind(self, index: int) -> str:
        """Of a parameter over all rows: "none", "zero" (exactly, everywhere), "nonzero" or "nonfinite"."""
        found = [g for row in self._parameter_rows if (g := _value(row[3 * index])) is not None]
        if not found:
            return "none"
        return "nonzero" if any(0 < g < math.inf for g in found) else "zero" if not any(found) else "nonfinite"

    def parameter_records(self, optimized: set[int]) -> Iterable[ParameterRecord]:
        """One record for each parameter; `optimized` holds the ids of those that an optimizer owns."""
        order = self._order()
        modules = dict(named_modules(self.model))
        changed = self.parameters.changed()
        for i, (name, parameter) in enumerate(self.parameters.named):
            layer = layer_of(name)
            gradient, weight, update = (_column(self._parameter_rows, 3 * i + k) for k in range(3))
            yield ParameterRecord(
                name=name,
                layer=layer,
                layer_type=type(modules.get(layer)).__name__,
                shape=tuple(parameter.shape),
                trainable=parameter.requires_grad,
                optimized=id(parameter) in optimized,
                order=order.get(layer) if layer else None,
                gradient_rms=gradient,
                weight_rms=weight,
                update_rms=update,
                changed=changed[i],
            )

    def _order(self) -> dict[str, int]:
        """Each layer's place in the execution order; a module whose children ran has none: it ends after them."""
        ran = [self.outputs.sites[i] for i in self.outputs.order]
        parents = {name.rpartition(".")[0] for name, _ in ran}
        parents |= {parent[:i] for parent in parents for i, c in enumerate(parent) if c == "."}
        return {name: place for place, (name, _) in enumerate(ran) if name not in parents}

    def output_records(self) -> Iterable[OutputRecord]:
        for place, index in enumerate(self.outputs.order):
            name, module = self.outputs.sites[index]
            yield OutputRecord(
                module=name,
                module_type=type(module).__name__,
                order=place,
                shape=self.outputs.shapes[index],
                output_rms=_column(self._output_rows, 2 * index),
                gradient_rms=_column(self._output_rows, 2 * index + 1),
            )

    def activation_records(self) -> Iterable[ActivationRecord]:
        for site in sorted(self.activations.sites.values(), key=lambda s: s.order):
            yield _activation_record(site)

    def norm_layers(self) -> int:
        """How many normalisation layers ran."""
        return sum(any(n in type(self.outputs.sites[i][1]).__name__ for n in NORMS) for i in self.outputs.order)


def _value(number: float) -> float | None:
    return None if number == ABSENT else number


def _column(rows: Sequence[array[float]], index: int) -> Series:
    return tuple(_value(row[index]) for row in rows)


def _activation_record(site: ActivationSite) -> ActivationRecord:
    def dead(passes: Sequence[int]) -> float | None:
        counts = [site.active[n] for n in passes if n in site.active]
        if not counts:
            return None
        rare = 0.01 * sum(site.samples[n] for n in passes if n in site.active)
        return read([(sum(counts[1:], counts[0]).float() < max(rare, 0.5)).float().mean()])[0]

    def flat(passes: Sequence[int]) -> float | None:
        found = read([share for n in passes for share in site.flat.get(n, [])])
        return sum(found) / len(found) if found else None

    first, last = [0], [n for n in site.samples if n] or [0]
    return ActivationRecord(
        module=site.module,
        function=site.function,
        name=site.name,
        order=site.order,
        is_output=site.is_output,
        units=site.units,
        samples=sum(site.samples.get(n, 0) for n in last),
        dead_share=dead(last),
        dead_share_at_start=dead(first),
        saturated_share=flat(last),
        saturated_share_at_start=flat(first),
    )
