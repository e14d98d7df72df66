"""How one batch goes through the model into a loss, and what it says about accuracy.

The form is found by trying it once: which parts of a batch the model takes, which part is the target, and how the
loss wants to be called. After that every step takes the same way.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # torch's own convention
from torch.utils import _pytree as pytree

from gradcheck_kit.errors import DataError, ProbeError
from gradcheck_kit.target.fields import field_names, has_fields, item
from gradcheck_kit.target.flow import DECAY, refinements, sequence_loss
from gradcheck_kit.target.precision import Precision, autocast

TARGET_KEYS = ("labels", "label", "targets", "target", "y")

Step = Callable[[nn.Module, Any], Any]


@dataclass(frozen=True, slots=True)
class Form:
    """Which parts of a batch go where."""

    kind: Literal["positional", "keyword", "mapping", "step"]
    inputs: int = 1  # leading items of a tuple batch that the model takes; 0: the batch is the only input
    nested: bool = False  # the first item is itself the tuple of inputs
    keys: tuple[str, ...] = ()  # of a dict batch, or attributes of an object, passed by name
    positional_keys: bool = False  # ... passed by position instead
    target: int | str | None = None  # index or key of the target, None when there is none
    several_targets: bool = False  # everything after the inputs is the target

    @property
    def labelled(self) -> bool:
        """Whether the model is given what it is to learn."""
        if self.kind == "keyword":
            return not self.positional_keys and self.target in self.keys
        return self.kind == "positional" and self.inputs > 1 and self.target is None

    def split(self, batch: Any) -> tuple[tuple[Any, ...], dict[str, Any], Any]:
        """The model's positional and keyword arguments, and the target (None when there is none)."""
        if self.kind == "mapping":
            return (batch,), {}, item(batch, self.target)
        if self.kind == "keyword":
            target = item(batch, self.target)
            if self.positional_keys:
                return tuple(item(batch, key) for key in self.keys), {}, target
            return (), {key: item(batch, key) for key in self.keys}, target
        if self.inputs == 0:
            return (batch,), {}, None
        args = tuple(batch[0]) if self.nested else tuple(batch[: self.inputs])
        if self.several_targets:
            return args, {}, tuple(batch[self.inputs :])
        return args, {}, None if self.target is None else batch[self.target]

    def target_of(self, batch: Any) -> Any:
        """The target alone."""
        return self.split(batch)[2]

    def given(self, batch: Any) -> Any:
        """What the model is given of a batch."""
        args, kwargs, _ = self.split(batch)
        return (args, kwargs) if kwargs else args

    def call(self, model: nn.Module, batch: Any) -> Any:
        """The model's output for a batch."""
        args, kwargs, _ = self.split(batch)
        return model(*args, **kwargs)

    def lent(self, _loss_fn: Any) -> Form:
        """The form beside a loss that was lent out."""
        return self


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
        if form and prediction is not None and not self._rewards_classes(output, prediction, target, form, batch):
            return self
        return replace(self, classes_from=form)

    def _rewards_classes(self, output: Any, prediction: Tensor, target: Tensor, form: str, batch: Any) -> bool:
        """Whether raising the true class's score lowers the loss, for nine samples in ten: else the integers are no
        classes of this output, as in metric learning, where a 16-wide embedding meets labels below 16.
        """
        loss = self.loss(output, batch)
        if not (loss.requires_grad and prediction.requires_grad):
            return True  # nothing can learn, and the probe will say why
        (slope,) = torch.autograd.grad(loss, prediction, retain_graph=True, materialize_grads=True, allow_unused=True)
        if form in ("logits", "probabilities"):
            good = slope.reshape(-1) * (target.reshape(-1) * 2 - 1) <= 0
        else:
            _, labels = predicted_classes(prediction, target, form)
            dim = 1 if form == "one-hot" else class_dimension(prediction, target) or 1
            scores = slope.movedim(dim, -1).reshape(-1, slope.shape[dim])
            kept = (labels >= 0) & (labels < scores.shape[1])
            if _picked_out(scores[kept], labels[kept]) and not _probabilities(prediction, dim):
                return False
            good = scores[kept].gather(1, labels[kept][:, None]) <= 0
        return bool(good.float().mean() >= 0.9)


def _picked_out(slopes: Tensor, labels: Tensor) -> bool:
    """Whether the loss depends on the one score of each sample that is named, and on no other: `q.gather(1, action)`.

    `slopes` are the loss's with respect to the scores, shape (n, c).
    """
    return not bool(slopes.scatter(1, labels[:, None], 0.0).any())


def _probabilities(prediction: Tensor, dim: int) -> bool:
    """Whether it holds probabilities over that dimension, or their logarithms: their sum is what ties scores."""
    values = prediction.detach().float()
    sums = (values.sum(dim), values.exp().sum(dim))
    return any(bool(((one - 1).abs() < 2e-2).all()) for one in sums)


def tensors(tree: Any, *, depth: int = 4) -> list[Tensor]:
    """All tensors in nested tuples, lists, dicts, named tuples and dataclass-like outputs, in order."""
    found: list[Tensor] = []
    for leaf in pytree.tree_leaves(tree):
        if isinstance(leaf, Tensor):
            found.append(leaf)
        elif isinstance(leaf, list | tuple):  # a subclass that pytree does not know, such as a PackedSequence
            found.extend(t for value in leaf for t in tensors(value))
        elif has_fields(leaf):
            if depth:  # an object may hold itself
                found.extend(t for name in field_names(leaf) for t in tensors(getattr(leaf, name), depth=depth - 1))
        elif isinstance(leaf, Mapping):  # a dict subclass that pytree does not know, such as a ModelOutput
            found.extend(t for value in leaf.values() for t in tensors(value))
    return found


def scalar(loss: Any) -> Tensor:
    """The loss as a tensor of shape (). A loss per sample is averaged; anything else is refused."""
    if not isinstance(loss, Tensor):
        raise ProbeError(f"the loss is a {type(loss).__name__}, not a tensor; return a scalar tensor from loss_fn")
    if loss.is_complex():
        raise ProbeError("the loss is complex; return a real scalar tensor, such as loss.abs()")
    if loss.ndim and loss.numel() != 1:
        raise ProbeError(
            f"the loss has shape {tuple(loss.shape)}, not a single number; use reduction='mean' or return loss.mean()"
        )
    return loss.reshape(())


def own_loss(output: Any, *, labelled: bool = False) -> Tensor:
    """The loss that a model (or a training step) returns: `out.loss`, a dict of losses, or the scalar itself.

    Of a tuple it is the first, or the only scalar when the model was given labels: `logits, loss = model(x, y)`.
    """
    if isinstance(output, Tensor):
        return scalar(output)
    if isinstance(getattr(output, "loss", None), Tensor):
        return scalar(output.loss)
    if isinstance(output, Mapping):
        if isinstance(output.get("loss"), Tensor):
            return scalar(output["loss"])
        parts = [value for value in output.values() if isinstance(value, Tensor) and value.numel() == 1]
        if parts and len(parts) == len(output):
            return scalar(torch.stack([part.reshape(()) for part in parts]).sum())
    if isinstance(output, list | tuple) and output and isinstance(output[0], Tensor) and output[0].numel() == 1:
        return scalar(output[0])
    if labelled and isinstance(output, list | tuple):
        scalars = [t for t in output if isinstance(t, Tensor) and t.ndim == 0 and t.is_floating_point()]
        if len(scalars) == 1:
            return scalar(scalars[0])
    raise ProbeError("no loss was found in the model's output; name one loss_fn in the file")


def brings_loss(output: Any, *, labelled: bool = False) -> bool:
    """Whether the output already holds a loss that gradients can be taken of."""
    try:
        return own_loss(output, labelled=labelled).requires_grad
    except ProbeError:
        return False


def prediction_of(output: Any) -> Tensor | None:
    """The main floating-point tensor of an output: `.logits`, ["out"], the first of a tuple."""
    if isinstance(output, Tensor):
        return output
    for name in ("logits", "out", "prediction", "predictions", "pred", "output"):
        value = output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)
        if isinstance(value, Tensor):
            return value
    return next((t for t in tensors(output) if t.is_floating_point() or t.is_complex()), None)


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


def find_form(model: nn.Module, batch: Any, *, has_loss: bool) -> Iterator[Form]:
    """The forms a batch may have for this model, most likely first."""
    least, most, names, open_ended = _arity(model)
    if isinstance(batch, Mapping):
        yield from _mapping_forms(batch, least, names, has_loss=has_loss, open_ended=open_ended)
        return
    if has_fields(batch):
        parts = {name: item(batch, name) for name in field_names(batch)}
        yield from _mapping_forms(parts, least, names, has_loss=has_loss, open_ended=open_ended)
    if not isinstance(batch, list | tuple):
        yield Form("positional", inputs=0)
        return
    n = len(batch)
    if n == 0:
        return
    if n > 1 and isinstance(batch[0], list | tuple) and len(batch[0]) >= least >= 2:
        yield Form("positional", inputs=1, nested=True, target=1, several_targets=n > 2)
    if n == 1:
        yield Form("positional", inputs=1)
    if n > 1 and least <= n - 1:
        taken = max(1, n - 1 if most is None else min(n - 1, most))
        yield Form("positional", inputs=taken, target=taken, several_targets=n - taken > 1)
        if taken > 1 and least <= 1:
            yield Form("positional", inputs=1, target=1, several_targets=n > 2)
    if n > 1 and least <= n and (most is None or n <= most):
        yield Form("positional", inputs=n, target=n - 1 if has_loss else None)
    if n > 1 and least == 1:
        yield Form("positional", inputs=0)


def _mapping_forms(
    batch: Mapping[str, Any], least: int, names: list[str], *, has_loss: bool, open_ended: bool
) -> Iterator[Form]:
    target = next((key for key in TARGET_KEYS if key in batch), None)
    taken = tuple(key for key in batch if key in names or open_ended)
    if target in taken and has_loss and target not in names[:least]:
        taken = tuple(key for key in taken if key != target)
    if taken and len([key for key in names[:least] if key not in taken]) == 0:
        yield Form("keyword", keys=taken, target=target)
    yield Form("mapping", target=target)
    rest = tuple(key for key in batch if key != target)
    if len(rest) >= least:
        yield Form("keyword", keys=rest[: max(1, least)], positional_keys=True, target=target)


def _arity(model: nn.Module) -> tuple[int, int | None, list[str], bool]:
    """Least and most positional arguments of forward (None: any number), their names, whether it takes any keyword."""
    try:
        parameters = inspect.signature(model.forward).parameters.values()
    except (TypeError, ValueError):  # a ScriptModule or a C function tells nothing
        return 1, None, [], False
    plain = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    most = None if any(p.kind is p.VAR_POSITIONAL for p in parameters) else len(plain)
    names = [p.name for p in plain] + [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    least = sum(p.default is p.empty for p in plain)
    return max(least, 1 if most is None else least), most, names, any(p.kind is p.VAR_KEYWORD for p in parameters)


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
            return replace(task, loss_fn=_with_auxiliary(function), loss_name=description)
        return replace(task, loss_fn=function, loss_style=style, loss_name=description)
    first: Exception | None = None
    for style in _styles(task.form):
        candidate = replace(task, loss_style=style, loss_name=named(task.loss_fn))
        if style == "reconstruction" and (
            not _reconstructs(output, args) or _same_shape(prediction_of(output), target)
        ):
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
    return bool(args) and _same_shape(prediction_of(output), args[0])


def _same_shape(a: Any, b: Any) -> bool:
    return isinstance(a, Tensor) and isinstance(b, Tensor) and a.shape == b.shape


def loss_name(loss_fn: Callable[..., Any]) -> str:
    """How a person would call a loss: a module's class, a function's name."""
    if isinstance(loss_fn, nn.Module):
        return type(loss_fn).__name__
    name = getattr(loss_fn, "__name__", type(loss_fn).__name__)
    return "loss_fn (a lambda)" if name == "<lambda>" else str(name)


def auxiliary_outputs(output: Any) -> list[Tensor]:
    """Further predictions of the main one's shape: GoogLeNet's and Inception's tuples, segmentation's "aux"."""
    main = prediction_of(output)
    if main is None or isinstance(output, Tensor):
        return []
    return [t for t in tensors(output) if t is not main and t.shape == main.shape and t.requires_grad]


def _with_auxiliary(loss_fn: Callable[..., Tensor]) -> Callable[[Any, Any], Tensor]:
    """0.4 is the weight that GoogLeNet and Inception-v3 were trained with (Szegedy et al. 2015: 0.3 to 0.4)."""

    def loss(output: Any, target: Any) -> Tensor:
        total = loss_fn(prediction_of(output), target)
        for auxiliary in auxiliary_outputs(output):
            total = total + 0.4 * loss_fn(auxiliary, target)
        return total

    return loss


def infer_loss(prediction: Tensor | None, target: Any, args: tuple[Any, ...]) -> tuple[Callable[..., Tensor], str]:
    """The loss that fits an output and a target, and its name. Raises DataError when none does."""
    if prediction is None:
        raise DataError("the model returns no floating-point tensor, so no loss fits; name a loss_fn in the file")
    if target is None:
        if _same_shape(prediction, args[0] if args else None):
            return F.mse_loss, "MSELoss against the input"
        raise DataError("the data has no targets and the model brings no loss; name a loss_fn in the file")
    if not isinstance(target, Tensor):
        raise DataError(f"the target is a {type(target).__name__}; name a loss_fn that takes it in the file")
    if not target.is_floating_point() and not target.is_complex():
        return _infer_class_loss(prediction, target)
    if prediction.shape == target.shape or prediction.numel() == target.numel():
        binary = bool(((target == 0) | (target == 1)).all()) and target.numel() > 1
        if binary:
            if _within(prediction, 0, 1):
                return lambda out, y: F.binary_cross_entropy(out.reshape(y.shape), y), "BCELoss"
            return lambda out, y: F.binary_cross_entropy_with_logits(out.reshape(y.shape), y), "BCEWithLogitsLoss"
        return lambda out, y: F.mse_loss(out.reshape(y.shape), y), "MSELoss"
    raise DataError(
        f"no loss fits an output of shape {tuple(prediction.shape)} and a target of shape {tuple(target.shape)}; "
        "name a loss_fn in the file"
    )


def _infer_class_loss(prediction: Tensor, target: Tensor) -> tuple[Callable[..., Tensor], str]:
    dim = class_dimension(prediction, target)
    if dim is None and prediction.numel() == target.numel():  # one logit per sample
        if _within(prediction, 0, 1):
            return lambda out, y: F.binary_cross_entropy(out.reshape(y.shape), y.to(out.dtype)), "BCELoss"
        return (
            lambda out, y: F.binary_cross_entropy_with_logits(out.reshape(y.shape), y.to(out.dtype)),
            "BCEWithLogitsLoss",
        )
    if dim is None:
        raise DataError(
            f"no loss fits an output of shape {tuple(prediction.shape)} and integer targets of shape "
            f"{tuple(target.shape)}; name a loss_fn in the file"
        )
    total = prediction.detach().exp().sum(dim) if _at_most(prediction, 0) else None
    if total is not None and bool(torch.isclose(total, torch.ones_like(total), atol=1e-3).all()):
        return lambda out, y: F.nll_loss(out.movedim(dim, 1), y.long()), "NLLLoss"
    total = prediction.detach().sum(dim) if _within(prediction, 0, 1) else None
    if total is not None and bool(torch.isclose(total, torch.ones_like(total), atol=1e-3).all()):
        tiny = torch.finfo(prediction.dtype).tiny
        return lambda out, y: F.nll_loss(out.clamp_min(tiny).log().movedim(dim, 1), y.long()), "NLLLoss of the log"
    return lambda out, y: F.cross_entropy(out.movedim(dim, 1), y.long()), "CrossEntropyLoss"


def _within(tensor: Tensor, low: float, high: float) -> bool:
    return bool(((tensor >= low) & (tensor <= high)).all())


def _at_most(tensor: Tensor, high: float) -> bool:
    return bool((tensor <= high).all())


def class_dimension(prediction: Tensor, target: Tensor) -> int | None:
    """The dimension of `prediction` that holds the classes for integer targets: 1, -1, or None."""
    if prediction.ndim != target.ndim + 1:
        return None
    if prediction.shape[:1] + prediction.shape[2:] == target.shape and prediction.shape[1] > 1:
        return 1
    return -1 if prediction.shape[:-1] == target.shape and prediction.shape[-1] > 1 else None


def class_form(prediction: Tensor | None, target: Any, loss: str) -> str:
    """How classes are read off a prediction: "indices", "flat", "one-hot", "logits", "probabilities"; "" not at all.

    Decided once, on one batch, because it looks at values.
    """
    if prediction is None or not isinstance(target, Tensor) or prediction.is_complex() or target.is_complex():
        return ""
    binary_values = bool(((target == 0) | (target == 1)).all())
    same_size = prediction.numel() == target.numel()
    threshold = "probabilities" if _within(prediction, 0, 1) and "Logits" not in loss else "logits"
    if target.is_floating_point():
        if prediction.shape == target.shape and target.ndim == 2 and target.shape[1] > 1 and "MSE" not in loss:
            return "one-hot" if binary_values and bool((target.sum(1) == 1).all()) else ""
        binary_loss = "BCE" in loss or "binary" in loss.lower() or "bce" in loss
        return threshold if binary_loss and binary_values and same_size else ""
    if class_dimension(prediction, target) is not None:
        return "indices"
    if prediction.ndim == 2 and prediction.shape[0] == target.numel() and prediction.shape[1] > 1:
        return "flat"  # the model flattened batch and time into one dimension
    return threshold if binary_values and same_size else ""


def predicted_classes(prediction: Tensor, target: Tensor, form: str) -> tuple[Tensor, Tensor]:
    """Predicted and true class indices, both of shape (n,). True ones below 0 (ignore_index=-100) do not count."""
    prediction = prediction.detach()
    if form == "one-hot":
        return prediction.argmax(1), target.argmax(1)
    if form in ("logits", "probabilities"):
        return (prediction.reshape(-1) > (0.5 if form == "probabilities" else 0.0)).long(), target.reshape(-1).long()
    if form == "flat":
        return prediction.argmax(1), target.reshape(-1)
    dim = class_dimension(prediction, target)
    return prediction.argmax(-1 if dim is None else dim).reshape(-1), target.reshape(-1)
