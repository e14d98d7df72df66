"""How one batch goes through the model into a loss, and what it says about accuracy.

The way is found by trying it once: which parts of a batch the model takes, and how the loss wants to be called. After
that every step takes the same way.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from gradcheck_kit.errors import ProbeError
from gradcheck_kit.target.classes import class_form, predicted_classes, rewards_classes
from gradcheck_kit.target.flow import DECAY, refinements, sequence_loss
from gradcheck_kit.target.forms import Form
from gradcheck_kit.target.infer_loss import infer_loss, with_auxiliary
from gradcheck_kit.target.outputs import (
    auxiliary_outputs,
    brings_loss,
    own_loss,
    prediction_of,
    same_shape,
    scalar,
    tensors,
)
from gradcheck_kit.target.precision import Precision, autocast

Step = Callable[[nn.Module, Any], Any]


@dataclass(frozen=True, slots=True)
class Task:
    """One way from a batch to a loss. `loss_name` is for people; `own_loss` says that the model brings it."""

    form: Form
    loss_fn: Callable[..., Any] | None
    loss_style: str = "plain"  # see _LOSS_STYLES
    loss_name: str = ""
    training_step: Step | None = None
    classes_from: str = ""  # see class_form
    precision: Precision | None = None  # forward and loss run under its autocast

    @property
    def of_step(self) -> bool:
        """Whether it is a training step of the user's that was taken apart."""
        return self.form.kind == "step"

    def lent(self, loss_fn: Any) -> Task:
        """This task with the loss that was lent out."""
        return replace(self, loss_fn=loss_fn, form=self.form.lent(loss_fn))

    def forward(self, model: nn.Module, batch: Any) -> Any:
        """The model's output for a batch; with a training step of the user's, what that returns."""
        with autocast(self.precision):
            if self.training_step is not None:
                return self.training_step(model, batch)
            return self.form.call(model, batch)

    def loss(self, output: Any, batch: Any) -> Tensor:
        """The scalar loss, shape ()."""
        with autocast(self.precision):
            return self._loss(output, batch)

    def _loss(self, output: Any, batch: Any) -> Tensor:
        if self.training_step is not None or self.loss_fn is None:
            return own_loss(output, labelled=self.form.labelled)
        if self.of_step:
            return scalar(self.loss_fn(output, batch))
        args, kwargs, target = self.form.split(batch)
        if target is None:
            target = next((t for t in tensors((args, kwargs)) if t.is_floating_point()), None)
        if self.loss_style == "reconstruction":
            return scalar(self.loss_fn(prediction_of(output), args[0]))
        return scalar(_LOSS_STYLES[self.loss_style](self.loss_fn, output, target, batch))

    def target(self, batch: Any) -> Any:
        """The target of a batch, None when it has none of its own."""
        if self.training_step is not None or self.loss_style == "reconstruction":
            return None
        target = self.form.target_of(batch)
        return target[0] if self.loss_style in ("several", "first", "spread several") else target

    def inputs(self, batch: Any) -> Any:
        """What the model is given of a batch."""
        return batch if self.training_step is not None else self.form.given(batch)

    def prediction(self, output: Any) -> Tensor | None:
        """The main tensor of an output: what is compared with the target."""
        return None if self.training_step is not None else prediction_of(output)

    def classes(self, output: Any, batch: Any) -> tuple[Tensor, Tensor] | None:
        """Predicted and true class indices, both of shape (n,), or None when this is no classification."""
        if not self.classes_from:
            return None
        target, prediction = self.target(batch), self.prediction(output)
        if prediction is None or not isinstance(target, Tensor):
            return None
        predicted, labels = predicted_classes(prediction, target, self.classes_from)
        ignored = getattr(self.loss_fn, "ignore_index", -100) if self.of_step else -100
        return predicted, labels.masked_fill(labels == ignored, -100) if ignored >= 0 else labels

    def reading_classes(self, output: Any, batch: Any) -> Task:
        """This task, knowing how to read classes off its outputs."""
        prediction, target = self.prediction(output), self.target(batch)
        # A step is known by its own name; what it calls of torch's tells how its output is meant.
        form = class_form(prediction, target, getattr(self.loss_fn, "kind", "") if self.of_step else self.loss_name)
        if form and prediction is not None and not rewards_classes(self.loss(output, batch), prediction, target, form):
            return self
        return replace(self, classes_from=form)


def _as_sequence(output: Any) -> tuple[Any, ...]:
    if not isinstance(output, list | tuple):
        raise TypeError(f"a {type(output).__name__} is no tuple")
    return tuple(output)


Style = Callable[[Callable[..., Any], Any, Any, Any], Any]


# Ways in which people's losses are called with (output, target, batch); the first that works is theirs.
_LOSS_STYLES: dict[str, Style] = {
    "plain": lambda loss_fn, output, target, _: loss_fn(output, target),
    "main": lambda loss_fn, output, target, _: loss_fn(prediction_of(output), target),
    "several": lambda loss_fn, output, target, _: loss_fn(output, *_as_sequence(target)),
    "first": lambda loss_fn, output, target, _: loss_fn(prediction_of(output), _as_sequence(target)[0]),
    "spread": lambda loss_fn, output, target, _: loss_fn(*_as_sequence(output), target),
    "spread several": lambda loss_fn, output, target, _: loss_fn(*_as_sequence(output), *_as_sequence(target)),
    "vae": lambda loss_fn, output, target, _: loss_fn(output[0], target, *_as_sequence(output)[1:]),
    "batch": lambda loss_fn, output, _, batch: loss_fn(output, batch),
    "unsupervised": lambda loss_fn, output, *_: loss_fn(output),
    "unsupervised spread": lambda loss_fn, output, *_: loss_fn(*_as_sequence(output)),
}


def find_loss(task: Task, output: Any, batch: Any, *, name: Callable[[Callable[..., Any]], str] | None = None) -> Task:
    """The task with the way its loss is called, tried on one output. Raises what the loss raises."""
    named = name or loss_name
    args, _, target = task.form.split(batch)
    if task.loss_fn is None:
        if brings_loss(output, labelled=task.form.labelled):
            return replace(task, loss_name="the model's own loss")
        if refined := refinements(output, target):
            name_of_it = f"L1Loss of {len(refined)} successive predictions, each weighing {DECAY:g} of the next"
            return replace(task, loss_fn=sequence_loss, loss_name=name_of_it)
        function, description = infer_loss(prediction_of(output), target, args)
        if target is None:
            return replace(task, loss_fn=function, loss_style="reconstruction", loss_name=description)
        style = "plain" if isinstance(output, Tensor) else "main"
        auxiliary = auxiliary_outputs(output)
        if auxiliary:
            description += f" + 0.4 x {len(auxiliary)} auxiliary"
            return replace(task, loss_fn=with_auxiliary(function), loss_name=description)
        return replace(task, loss_fn=function, loss_style=style, loss_name=description)
    first: Exception | None = None
    for style in _styles(task.form):
        candidate = replace(task, loss_style=style, loss_name=named(task.loss_fn))
        if style == "reconstruction" and (not _reconstructs(output, args) or same_shape(prediction_of(output), target)):
            continue
        try:
            candidate.loss(output, batch)
        except ProbeError:
            raise
        except Exception as error:  # noqa: BLE001  # another way may be theirs; else the first one's error is told
            first = first or error
        else:
            return candidate
    assert first is not None
    raise first


def _styles(form: Form) -> list[str]:
    """The ways to try, most likely first."""
    styles = list(_LOSS_STYLES)
    if isinstance(form.target, int) and form.inputs > 0 and form.target < form.inputs:
        # The batch holds only inputs: views that are compared with each other come before teacher forcing.
        styles.sort(key=lambda style: not style.startswith("unsupervised"))
    # An autoencoder's loader often yields labels that its training ignores.
    styles.insert(styles.index("batch"), "reconstruction")
    return styles


def _reconstructs(output: Any, args: tuple[Any, ...]) -> bool:
    return bool(args) and same_shape(prediction_of(output), args[0])


def loss_name(loss_fn: Callable[..., Any]) -> str:
    """How a person would call a loss: a module's class, a function's name."""
    if isinstance(loss_fn, nn.Module):
        return type(loss_fn).__name__
    name = getattr(loss_fn, "__name__", type(loss_fn).__name__)
    return "loss_fn (a lambda)" if name == "<lambda>" else str(name)
