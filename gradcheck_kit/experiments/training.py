"""A short training run as the user would start it, observed at some of its steps."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from torch import Tensor
from torch.utils import _pytree as pytree

from gradcheck_kit.errors import LabelError, ProbeError
from gradcheck_kit.experiments import Probe
from gradcheck_kit.experiments.constant_loss import ConstantLoss, constant_loss
from gradcheck_kit.experiments.non_finite import find_non_finite
from gradcheck_kit.facts import Training
from gradcheck_kit.observe.recorder import Recorder
from gradcheck_kit.observe.statistics import read
from gradcheck_kit.target.batches import batch_size_of, endless
from gradcheck_kit.target.blame import located
from gradcheck_kit.target.labels import check_classes, why_refused
from gradcheck_kit.target.workspace import Workspace, describe_optimizers, workspace

CONSTANT_BATCHES = 8  # the targets of so many batches tell what a constant prediction would reach


def schedule(steps: int) -> set[int]:
    """The steps that are recorded: the first three, then evenly up to some fifteen, and the last two."""
    spacing = max(1, math.ceil(steps / 14))
    return {s for s in range(steps) if s < 3 or s % spacing == 0 or s >= steps - 2}


def activation_steps(steps: int) -> set[int]:
    """The steps in which activations are counted: the first, and four late ones that are recorded anyway."""
    late = sorted(s for s in schedule(steps) if s > 0 and s * 2 >= steps)
    return {0, *late[-4:]}


def train(probe: Probe) -> Training:
    """Run the training and say what happened at the recorded steps."""
    prepared = probe.prepared
    with workspace(prepared, seed=prepared.settings.seed) as work:
        if not work.optimizers:
            raise ProbeError(f"{prepared.name} has nothing to optimise: no parameter requires a gradient")
        run = _Run(work, probe)
        run.go()
        probe.trained = {name: t.detach().clone() for name, t in trained_tensors(work).items()}
        losses = read(run.losses)
        facts = run.facts(losses, constant_loss(work, run.targets, run.batches))
    # The first steps that GradScaler skips are how it finds its scale; what is bad without one is found at the last.
    bad = [step for step, loss in enumerate(losses) if not math.isfinite(loss)][:1] or [
        *run.bad_gradient_steps[:1],
        *(run.bad_gradient_steps[1:][-1:] if work.scaler is not None else ()),
    ]
    found = next(filter(None, (find_non_finite(prepared, step) for step in bad)), None)
    return facts if found is None else replace(facts, non_finite=found)


def trained_tensors(work: Workspace) -> dict[str, Tensor]:
    """What training changes, by a name that is the same in every workspace of a target."""
    named: dict[str, Tensor] = {f"parameter {i}": p for i, p in enumerate(work.parameters())}
    return named | {f"buffer {name}": buffer for name, buffer in work.model.named_buffers()}


class _Run:
    """One training run and what is collected on the way."""

    def __init__(self, work: Workspace, probe: Probe) -> None:
        self.work, self.probe, self.prepared = work, probe, probe.prepared
        self.steps = probe.prepared.settings.steps
        self.recorder = Recorder(work.model)
        self.losses: list[Tensor] = []
        self.accuracies: list[float | None] = []
        self.targets: list[tuple[Any, tuple[int, ...]]] = []  # target and prediction's shape of the first batches
        self.batches: list[Any] = []  # these batches, where the loss is a training step that takes them whole
        self.bad_gradient_steps: list[int] = []
        self.samples = 1

    def go(self) -> None:
        """Train until the steps are done or the loss is no longer finite."""
        batches = endless(self.prepared.train)
        recorded, with_activations = schedule(self.steps), activation_steps(self.steps)
        on_cpu = self.work.device.type == "cpu"
        batch: Any = None
        for step in range(self.steps):
            self.probe.tick(step, self.steps)
            try:
                batch = self.work.to_device(next(batches))
                self.samples = (batch_size_of(batch) or 1) if step == 0 else self.samples
                if step in recorded:
                    self._observed(step, batch, activations=step in with_activations)
                else:
                    self._plain(batch)
            except ProbeError:
                raise
            except Exception as error:
                self._blame_labels(batch)
                raise ProbeError(
                    f"{self.prepared.name}: training step {step + 1} of {self.steps} raised {located(error)}"
                ) from error
            # Reading the loss makes a GPU wait, so there it is looked at where a recorded step has waited anyway.
            if (on_cpu or step in recorded) and not math.isfinite(float(self.losses[-1])):
                break
        self.probe.tick(self.steps, self.steps)

    def _blame_labels(self, batch: Any) -> None:
        """Raise LabelError where it is the labels of this batch that its loss refuses."""
        if batch is None or self.prepared.synthetic:
            return
        task = self.work.task
        try:
            output = task.forward(self.work.model, batch)
            check_classes(task, output, batch)
        except LabelError as refusal:
            refusal.prepared = self.prepared
            raise
        except Exception:  # noqa: BLE001  # then it is not the labels
            return
        try:
            task.loss(output, batch)
        except Exception as error:
            found = why_refused(task, output, batch, error)
            if found is not None:
                found.prepared = self.prepared
                raise found from error

    def _plain(self, batch: Any) -> None:
        work = self.work
        work.clear_gradients()
        output, loss = work.step(batch)
        work.backward(loss)
        self._keep(output, loss, batch)
        work.update(batch)

    def _observed(self, step: int, batch: Any, *, activations: bool) -> None:
        work = self.work
        work.clear_gradients()
        with self.recorder.watching(everything=activations):
            output, loss = work.step(batch)
            work.backward(loss)
        work.unscale()
        self._keep(output, loss, batch)
        classes = work.task.classes(output, batch)
        scale = work.loss_scale
        self.recorder.parameters.before()
        work.update(batch)
        self.recorder.parameters.after()
        if work.skipped:
            self.bad_gradient_steps.append(step)
            self.recorder.begin()  # it says nothing about the training: the scale was too large
        else:
            self._read(step, classes, scale)

    def _keep(self, output: Any, loss: Tensor, batch: Any) -> None:
        self.losses.append(loss.detach())
        if len(self.targets) < CONSTANT_BATCHES:
            prediction = self.work.task.prediction(output)
            target = self.work.task.target(batch)
            if prediction is not None and isinstance(output, Tensor) and isinstance(target, Tensor):
                self.targets.append((target.detach().clone(), tuple(prediction.shape)))
                if self.work.task.of_step:
                    self.batches.append(pytree.tree_map_only(Tensor, lambda t: t.detach().clone(), batch))

    def _read(self, step: int, classes: tuple[Tensor, Tensor] | None, scale: float) -> None:
        """Bring this step's numbers over from the device, all at once."""
        extra: list[Tensor] = []
        if classes is not None:
            predicted, labels = classes
            counted = labels >= 0
            extra = [((predicted == labels) & counted).sum(), counted.sum()]
        correct, counted_samples = self.recorder.read(extra) if extra else (*self.recorder.read(), 0.0, 0.0)
        self.accuracies.append(correct / counted_samples if counted_samples else None)
        self.recorder.keep(step, output_scale=scale)
        gradients = [g for _, g, _ in self.recorder.latest_parameters() if g is not None]
        if not all(map(math.isfinite, gradients)):
            self.bad_gradient_steps.append(step)

    def facts(self, losses: list[float], constant: ConstantLoss | None) -> Training:
        """What was collected; while the workspace is open, because it compares parameters with their start."""
        work, recorder = self.work, self.recorder
        optimized = {id(p) for o in work.optimizers for g in o.param_groups for p in g["params"]}
        return Training(
            planned_steps=self.steps,
            losses=tuple(losses),
            loss_window=1,
            recorded=tuple(recorder.steps),
            accuracies=tuple(self.accuracies),
            samples_per_step=self.samples,
            parameters=tuple(recorder.parameter_records(optimized)),
            outputs=tuple(recorder.output_records()),
            activations=tuple(recorder.activation_records()),
            non_finite=None,
            constant_loss=constant.loss if constant else None,
            constant_loss_error=constant.error if constant else None,
            zero_loss=constant.zero if constant else None,
            constant_prediction=constant.prediction if constant else "",
            synthetic=self.prepared.synthetic,
            learning_rates=tuple(float(g["lr"]) for o in work.optimizers for g in o.param_groups if "lr" in g),
            optimizer=describe_optimizers(work.optimizers),
            optimizer_given=self.prepared.optimizer_chosen,
            norm_layers=recorder.norm_layers(),
            watched=False,
            competing=False,
        )
