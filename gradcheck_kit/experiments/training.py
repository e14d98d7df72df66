"""A short training run as the user would start it, observed at some of its steps."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from gradcheck_kit.errors import ProbeError
from gradcheck_kit.experiments import Probe
from gradcheck_kit.experiments.constant_loss import ConstantLoss, constant_loss
from gradcheck_kit.experiments.non_finite import find_non_finite
from gradcheck_kit.facts import ActivationRecord, OutputRecord, ParameterRecord, Series, Training
from gradcheck_kit.observe.functions import ActivationSite, ActivationWatch, ModuleStack
from gradcheck_kit.observe.outputs import OutputWatch
from gradcheck_kit.observe.parameters import ParameterWatch
from gradcheck_kit.observe.statistics import read
from gradcheck_kit.target.batches import batch_size_of, endless
from gradcheck_kit.target.blame import located
from gradcheck_kit.target.layers import layer_of
from gradcheck_kit.target.workspace import Workspace, describe_optimizers, workspace

CONSTANT_BATCHES = 8  # the targets of so many batches tell what a constant prediction would reach
NORMS = ("BatchNorm", "LayerNorm", "GroupNorm", "InstanceNorm", "RMSNorm", "LocalResponseNorm")


def schedule(steps: int) -> set[int]:
    """The steps that are recorded: the first three, then evenly up to some twenty, and the last two."""
    spacing = max(1, math.ceil(steps / 20))
    return {s for s in range(steps) if s < 3 or s % spacing == 0 or s >= steps - 2}


def activation_phases(steps: int) -> dict[int, str]:
    """The steps in which activations are counted: the first, and four late ones that are recorded anyway."""
    recorded = sorted(s for s in schedule(steps) if s > 0 and s * 2 >= steps)
    return {0: "start"} | dict.fromkeys(recorded[-4:], "end")


def train(probe: Probe) -> Training:
    """Run the training and say what happened at the recorded steps."""
    prepared = probe.prepared
    with workspace(prepared, seed=prepared.settings.seed) as work:
        if not work.optimizers:
            raise ProbeError(f"{prepared.name} has nothing to optimise: no parameter requires a gradient")
        run = _Run(work, probe)
        run.go()
        probe.trained = [t.detach().clone() for t in trained_tensors(work)]
        losses = read(run.losses)
        facts = run.facts(losses, constant_loss(work, run.targets))
    # The first steps that GradScaler skips are how it finds its scale; what is bad without one is found at the last.
    bad = [step for step, loss in enumerate(losses) if not math.isfinite(loss)][:1] or [
        *run.bad_gradient_steps[:1],
        *(run.bad_gradient_steps[1:][-1:] if work.scaler is not None else ()),
    ]
    found = next(filter(None, (find_non_finite(prepared, step) for step in bad)), None)
    return facts if found is None else replace(facts, non_finite=found)


def trained_tensors(work: Workspace) -> list[Tensor]:
    """What training changes, in an order that is the same in every workspace of a target."""
    return [*work.parameters(), *work.model.buffers()]


class _Run:
    """One training run and what is collected on the way."""

    def __init__(self, work: Workspace, probe: Probe) -> None:
        self.work, self.probe, self.prepared = work, probe, probe.prepared
        self.steps = probe.prepared.settings.steps
        self.stack = ModuleStack(work.model)
        self.outputs = OutputWatch(work.model)
        self.parameters = ParameterWatch(work.model)
        self.activations = ActivationWatch(self.stack, lambda: len(self.outputs.output), self._channels_second)
        self.losses: list[Tensor] = []
        self.recorded: list[int] = []
        self.output_rms: list[dict[int, float]] = []  # by recorded step, by site
        self.gradient_rms: list[dict[int, float]] = []
        self.parameter_rows: list[list[tuple[float | None, float | None, float, float]]] = []
        self.accuracies: list[float | None] = []
        self.targets: list[tuple[Any, tuple[int, ...]]] = []  # target and prediction's shape of the first batches
        self.bad_gradient_steps: list[int] = []
        self.samples = 1

    def _channels_second(self) -> bool:
        last = self.outputs.last
        kinds = nn.Conv1d | nn.ConvTranspose1d | nn.BatchNorm1d | nn.InstanceNorm1d
        return last is not None and isinstance(self.outputs.sites[last][1], kinds)

    def go(self) -> None:
        """Train until the steps are done or the loss is no longer finite."""
        batches = endless(self.prepared.train)
        recorded, phases = schedule(self.steps), activation_phases(self.steps)
        on_cpu = self.work.device.type == "cpu"
        for step in range(self.steps):
            self.probe.tick(step, self.steps)
            try:
                batch = self.work.to_device(next(batches))
                self.samples = (batch_size_of(batch) or 1) if step == 0 else self.samples
                if step in recorded:
                    self._observed(step, batch, phases.get(step, ""))
                else:
                    self._plain(batch)
            except ProbeError:
                raise
            except Exception as error:
                raise ProbeError(
                    f"{self.prepared.name}: training step {step + 1} of {self.steps} raised {located(error)}"
                ) from error
            # Reading the loss makes a GPU wait, so there it is looked at where a recorded step has waited anyway.
            if (on_cpu or step in recorded) and not math.isfinite(float(self.losses[-1])):
                break
        self.probe.tick(self.steps, self.steps)

    def _plain(self, batch: Any) -> None:
        work = self.work
        work.clear_gradients()
        output, loss = work.step(batch)
        work.backward(loss)
        self._keep(output, loss, batch)
        work.update(batch)

    def _observed(self, step: int, batch: Any, phase: str) -> None:
        work = self.work
        work.clear_gradients()
        with self.outputs.step():
            output = self._forward(batch, phase)
            loss = work.task.loss(output, batch)
            work.backward(loss)
        work.unscale()
        self._keep(output, loss, batch)
        classes = work.task.classes(output, batch)
        scale = work.loss_scale
        with self.parameters.step():
            work.update(batch)
        if scale != 1:
            self.outputs.gradient = {site: rms / scale for site, rms in self.outputs.gradient.items()}
        self._read(step, classes)

    def _forward(self, batch: Any, phase: str) -> Any:
        if not phase:
            return self.work.task.forward(self.work.model, batch)
        self.activations.begin(phase)
        with self.stack.watch(), self.activations:
            output = self.work.task.forward(self.work.model, batch)
        self.activations.end(self.work.task.prediction(output))
        return output

    def _keep(self, output: Any, loss: Tensor, batch: Any) -> None:
        self.losses.append(loss.detach())
        if len(self.targets) < CONSTANT_BATCHES:
            prediction = self.work.task.prediction(output)
            target = self.work.task.target(batch)
            if prediction is not None and isinstance(output, Tensor) and isinstance(target, Tensor):
                self.targets.append((target.detach().clone(), tuple(prediction.shape)))

    def _read(self, step: int, classes: tuple[Tensor, Tensor] | None) -> None:
        """Bring this step's numbers over from the device, all at once. One that GradScaler skipped is not recorded."""
        extra: list[Tensor] = []
        if classes is not None:
            predicted, labels = classes
            counted = labels >= 0
            extra = [((predicted == labels) & counted).sum(), counted.sum()]
        scalars = [*extra, *self.outputs.output.values(), *self.outputs.gradient.values(), *self.parameters.scalars]
        values = read(scalars)
        correct, counted_samples = values[:2] if extra else (0.0, 0.0)
        values = values[len(extra) :]
        n, m = len(self.outputs.output), len(self.outputs.gradient)
        rows = self.parameters.sort(values[n + m :])
        if any(g is not None and not math.isfinite(g) for g, *_ in rows):
            self.bad_gradient_steps.append(step)
        if self.work.skipped:
            return
        self.recorded.append(step)
        self.accuracies.append(correct / counted_samples if counted_samples else None)
        self.output_rms.append(dict(zip(self.outputs.output, values[:n], strict=True)))
        self.gradient_rms.append(dict(zip(self.outputs.gradient, values[n : n + m], strict=True)))
        self.parameter_rows.append(rows)

    # -- facts --

    def facts(self, losses: list[float], constant: ConstantLoss | None) -> Training:
        """What was collected; while the workspace is open, because it compares parameters with their start."""
        work = self.work
        optimized = {id(p) for o in work.optimizers for g in o.param_groups for p in g["params"]}
        return Training(
            planned_steps=self.steps,
            losses=tuple(losses),
            recorded=tuple(self.recorded),
            accuracies=tuple(self.accuracies),
            samples_per_step=self.samples,
            parameters=tuple(self._parameters(optimized)),
            outputs=tuple(self._outputs()),
            activations=tuple(self._activations()),
            non_finite=None,
            constant_loss=constant.loss if constant else None,
            constant_loss_error=constant.error if constant else None,
            zero_loss=constant.zero if constant else None,
            constant_prediction=constant.prediction if constant else "",
            synthetic=self.prepared.synthetic,
            learning_rates=tuple(float(g["lr"]) for o in work.optimizers for g in o.param_groups if "lr" in g),
            optimizer=describe_optimizers(work.optimizers),
            optimizer_given=self.prepared.optimizer_chosen,
            norm_layers=sum(
                any(n in type(self.outputs.sites[i][1]).__name__ for n in NORMS) for i in self.outputs.order
            ),
        )

    def _order_of(self) -> dict[str, int]:
        """Each layer's place in the execution order; a module whose children ran has none: it ends after them."""
        ran = [self.outputs.sites[i] for i in self.outputs.order]
        names = {name for name, _ in ran}
        return {
            name: place
            for place, (name, module) in enumerate(ran)
            if not any(f"{name}.{child}" in names for child, _ in module.named_modules() if child)
        }

    def _parameters(self, optimized: set[int]) -> Iterable[ParameterRecord]:
        order = self._order_of()
        modules = dict(self.work.model.named_modules())
        changes = read(self.parameters.largest_changes())
        for i, (name, parameter) in enumerate(self.parameters.named):
            layer = layer_of(name)
            gradient, maximum, weight, update = (
                tuple(zip(*(rows[i] for rows in self.parameter_rows), strict=True)) or ((),) * 4
            )
            yield ParameterRecord(
                name=name,
                layer=layer,
                layer_type=type(modules[layer]).__name__,
                shape=tuple(parameter.shape),
                trainable=parameter.requires_grad,
                optimized=id(parameter) in optimized,
                order=order.get(layer) if layer else None,
                gradient_rms=gradient,
                gradient_max=maximum,
                weight_rms=weight,
                update_rms=update,
                largest_change=changes[i],
            )

    def _outputs(self) -> Iterable[OutputRecord]:
        for place, index in enumerate(self.outputs.order):
            name, module = self.outputs.sites[index]
            yield OutputRecord(
                module=name,
                module_type=type(module).__name__,
                order=place,
                shape=self.outputs.shapes[index],
                output_rms=_column(self.output_rms, index),
                gradient_rms=_column(self.gradient_rms, index),
            )

    def _activations(self) -> Iterable[ActivationRecord]:
        for site in sorted(self.activations.sites.values(), key=lambda s: s.order):
            yield _activation_record(site)


def _column(rows: list[dict[int, float]], index: int) -> Series:
    return tuple(row.get(index) for row in rows)


def _activation_record(site: ActivationSite) -> ActivationRecord:
    def dead(phase: str) -> float | None:
        if phase not in site.active:
            return None
        rare = 0.01 * site.samples[phase]
        return read([(site.active[phase].float() < max(rare, 0.5)).float().mean()])[0]

    def flat(phase: str) -> float | None:
        found = read(site.flat.get(phase, []))
        return sum(found) / len(found) if found else None

    last = "end" if site.samples.get("end") else "start"
    return ActivationRecord(
        module=site.module,
        function=site.function,
        name=site.name,
        order=site.order,
        is_output=site.is_output,
        units=site.units,
        samples=site.samples.get(last, 0),
        dead_share=dead(last),
        dead_share_at_start=dead("start"),
        saturated_share=flat(last),
        saturated_share_at_start=flat("start"),
    )
