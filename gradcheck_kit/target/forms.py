"""Which parts of a batch the model takes, and which part is the target."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from gradcheck_kit.target.fields import field_names, has_fields, item
from gradcheck_kit.target.outputs import tensors

TARGET_KEYS = ("labels", "label", "targets", "target", "y")


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

    def taken(self, batch: Any) -> list[Tensor]:
        """All that the loss takes of a batch beside the output."""
        return tensors(self.target_of(batch))

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
