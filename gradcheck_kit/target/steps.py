"""The two halves of a training step of the user's: the model's output for a batch, and the loss of an output.

The step is run up to where the model returns, for the output; and with that output in the place of the model's answer,
for the loss. Whether the halves are the whole is looked at in `take_apart`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from gradcheck_kit.target.forms import Form
from gradcheck_kit.target.outputs import own_loss, tensors
from gradcheck_kit.target.task import Step

_ABSENT = object()


class _Reached(BaseException):  # no Exception: a step may catch those
    """Ends a step where it has come to the model's call, or to its return."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value


@contextmanager
def answering(model: nn.Module, answer: Callable[..., Any]) -> Iterator[None]:
    """While it is open, calling the model calls `answer`, and no hook of the model's runs; all else is the model's.

    torch looks for a compiled call in this place; there is none in a model that is lent out.
    """
    name = "_compiled_call_impl"
    kept = vars(model).get(name, _ABSENT)
    vars(model)[name] = answer
    try:
        yield
    finally:
        if kept is _ABSENT:
            vars(model).pop(name, None)
        else:
            vars(model)[name] = kept


class StepLoss:
    """The loss of an output and a batch, as the user's training step computes it. Copied together with the model."""

    __name__ = "training_step"

    def __init__(self, step: Step, model: nn.Module, kind: str = "", ignore_index: int = -100) -> None:
        self.step, self.model = step, model
        self.kind, self.ignore_index = kind, ignore_index  # of the loss of torch's that the step calls, if any

    def __deepcopy__(self, memo: dict[int, Any]) -> StepLoss:
        return StepLoss(self.step, copy.deepcopy(self.model, memo), self.kind, self.ignore_index)

    def __call__(self, output: Any, batch: Any) -> Tensor:
        with answering(self.model, lambda *_args, **_kwargs: output):
            return own_loss(self.step(self.model, unpacked(batch)))

    def output(self, model: nn.Module, batch: Any) -> Any:
        """What the model returns within the step, hooks and all."""

        def call(*args: Any, **kwargs: Any) -> Any:
            with answering(model, model._call_impl):  # noqa: SLF001  # a model may call itself
                raise _Reached(model._call_impl(*args, **kwargs))  # noqa: SLF001

        return self._until(model, batch, call)

    def arguments(self, batch: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What the step calls the model with."""

        def call(*args: Any, **kwargs: Any) -> Any:
            raise _Reached((args, kwargs))

        found: tuple[tuple[Any, ...], dict[str, Any]] = self._until(self.model, batch, call)
        return found

    def _until(self, model: nn.Module, batch: Any, call: Callable[..., Any]) -> Any:
        try:
            with answering(model, call):
                self.step(model, unpacked(batch))
        except _Reached as reached:
            return reached.value
        raise RuntimeError("training_step did not call the model")


def unpacked(batch: Any) -> Any:
    """The same tensors in containers of their own: a step may pop the labels off a dict, and is run again."""
    return pytree.tree_map(lambda leaf: leaf, batch)


@dataclass(frozen=True, slots=True)
class StepForm(Form):
    """A batch that the user's training step deals out. Places are those of its tensors, in their order."""

    step: StepLoss | None = None
    places: tuple[int, ...] = ()  # what the model's arguments are made of
    targets: tuple[int, ...] = ()  # what the loss takes beside the output
    part: tuple[Any, ...] = ()  # by which indices the one target is cut out, one after the other
    compared: bool = False  # there is one target, which is what the prediction is compared with
    beside: tuple[int, ...] = ()  # what the loss takes beside output and target
    count: int = 0  # tensors of a batch

    def split(self, batch: Any) -> tuple[tuple[Any, ...], dict[str, Any], Any]:
        """The model's positional and keyword arguments, and the target (None when there is none)."""
        assert self.step is not None
        return (*self.step.arguments(batch), self.target_of(batch))

    def target_of(self, batch: Any) -> Any:
        """What the loss takes beside the output: the tensor that it is compared with or the only one, else a tuple."""
        leaves = tensors(batch)
        if len(leaves) != self.count or not self.targets:
            return None
        if not self.compared:
            return tuple(leaves[place] for place in self.targets)
        found = leaves[self.targets[0]]
        for index in self.part:
            found = found[index]
        return found

    def taken(self, batch: Any) -> list[Tensor]:
        """All that the loss takes of a batch beside the output."""
        leaves = tensors(batch)
        found = tensors(self.target_of(batch))
        return found + [leaves[place] for place in self.beside] if len(leaves) == self.count else found

    def given(self, batch: Any) -> Any:
        """What of a batch reaches the model, by name where it has names."""
        leaves = tensors(batch)
        if len(leaves) != self.count:
            return batch
        found = tuple(leaves[place] for place in self.places)
        if isinstance(batch, Mapping):
            named = {key: value for key, value in batch.items() if any(value is t for t in found)}
            if len(named) == len(found):
                return named
        return found

    def call(self, model: nn.Module, batch: Any) -> Any:
        """The model's output for a batch."""
        assert self.step is not None
        return self.step.output(model, batch)

    def lent(self, loss_fn: Any) -> Form:
        """The same with the step as it is lent out, on a copy of the model."""
        return replace(self, step=loss_fn) if isinstance(loss_fn, StepLoss) else self
