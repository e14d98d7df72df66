"""Which arguments of the model change nothing, though its forward reads them: a time step that is divided to 0, say.

Told of one argument beside others, whose values differ between the samples of a batch. What forward never reads, or
reads for its shape alone, is an interface and no fault, unless it is the like of one that it reads: of two sentences
that are to be compared one is read twice.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from gradcheck_kit.experiments import Probe
from gradcheck_kit.experiments.batch_mixing import part_equal_weights
from gradcheck_kit.experiments.evaluation import load_trained
from gradcheck_kit.experiments.other_inputs import every_second_row, noisy, outputs_differ
from gradcheck_kit.facts import IgnoredArgument
from gradcheck_kit.target.batches import endless
from gradcheck_kit.target.layers import takes_hooks
from gradcheck_kit.target.outputs import tensors
from gradcheck_kit.target.workspace import Workspace, seed_everything, workspace

SCALES = (1.0, 30.0)
WAYS = 5  # in which a value is changed
# What is asked of a tensor that tells nothing of its values.
OF_NO_VALUE = {"shape", "size", "device", "dtype", "ndim", "dim", "numel", "is_cuda", "new_zeros", "new_ones",
               "new_full", "new_empty"}  # fmt: skip


def ignored_arguments(probe: Probe) -> tuple[IgnoredArgument, ...]:
    """The arguments that no other values of which change the output by a bit, before training and after it."""
    if probe.prepared.synthetic:
        return ()
    try:
        found = _ignored(probe, None, trained=False)
        if found and probe.trained is not None:
            after = {one.name for one in _ignored(probe, {one.name for one in found}, trained=True)}
            found = [one for one in found if one.name in after]
    except Exception:  # noqa: BLE001  # a model that does not run in evaluation mode, or twice
        return ()
    return tuple(found)


def _ignored(probe: Probe, names: set[str] | None, *, trained: bool) -> list[IgnoredArgument]:
    with workspace(probe.prepared, seed=probe.prepared.settings.seed) as work, torch.no_grad():
        if trained:
            load_trained(work, probe)
        part_equal_weights(work.model)  # a branch that starts at zero lets nothing through yet
        batch = work.to_device(next(endless(probe.prepared.train)))
        args, kwargs = _call(work, batch)
        bound = inspect.signature(work.model.forward).bind(*args, **kwargs)
        given = {name: value for name, value in bound.arguments.items() if isinstance(value, Tensor)}
        if len(given) < 2:
            return []
        known = tensors(work.task.target(batch))
        lines = _reads(work.model)
        found = []
        for name, value in given.items():
            if (names is not None and name not in names) or any(value is target for target in known):
                continue
            twin = "" if name in lines else _twin(name, given, lines)
            if not (name in lines or twin) or not (changes := _changes(work, bound, name, value)):
                continue
            if not _changes_loss(work, batch, name):
                found.append(IgnoredArgument(name, tuple(value.shape), lines.get(name, ""), changes, twin))
        return found


def _twin(name: str, given: dict[str, Tensor], lines: dict[str, str]) -> str:
    """Another argument of the same shape and type, which forward reads; "" where there is none.

    Masks, positions and one number per sample, such as lengths, are an interface.
    """
    value = given[name]
    if not lines or value.ndim < 2 or len(value.unique()) <= 2 or torch.equal(every_second_row(value), value):
        return ""
    like = (other for other in given if other in lines and given[other].dtype is value.dtype)
    return next((other for other in like if given[other].shape == value.shape), "")


def _changes(work: Workspace, bound: inspect.BoundArguments, name: str, value: Tensor) -> int:
    """How many other values were tried, none of which changed the output; 0: one did, or there is none to try."""
    others = [other for other in _others(value) if not torch.equal(other, value)]
    for training in (False, True):
        plain = _run(work, bound, training=training)
        if not any(t.is_floating_point() for t in plain):
            return 0  # a distribution, say: what it holds is not seen
        if outputs_differ(plain, _run(work, bound, training=training)):
            return 0  # it draws numbers that no seed holds
        for other in others:
            changed = inspect.BoundArguments(bound.signature, type(bound.arguments)({**bound.arguments, name: other}))
            if outputs_differ(plain, _run(work, changed, training=training)):
                return 0
    return len(others)


def _others(value: Tensor) -> Iterator[Tensor]:
    """Other values that the model must be able to take: those of other samples, all the least, all the largest."""
    yield every_second_row(value)
    for end in (torch.min, torch.max):
        yield end(value).expand_as(value) if value.numel() and not value.is_complex() else value
    yield from (noisy(value, scale) for scale in SCALES)


def _run(work: Workspace, bound: inspect.BoundArguments, *, training: bool) -> list[Tensor]:
    """The outputs. The model gets tensors of its own: it may write into what it is given."""
    work.model.train(training)
    seed_everything(0)
    args, kwargs = pytree.tree_map(
        lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, (bound.args, bound.kwargs)
    )
    return tensors(work.model(*args, **kwargs))


def _changes_loss(work: Workspace, batch: Any, name: str) -> bool:
    """Whether the argument changes the loss all the same: a model may keep something for it, or return an object."""
    forward = inspect.signature(work.model.forward)
    way = 0

    def change(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        bound = forward.bind(*args, **kwargs)
        value = bound.arguments.get(name)
        if way and isinstance(value, Tensor):
            bound.arguments[name] = list(_others(value))[way - 1]
        return bound.args, bound.kwargs

    work.model.train()
    handle = work.model.register_forward_pre_hook(change, with_kwargs=True)
    losses = set()
    try:
        for way in range(1 + WAYS):  # noqa: B007  # the hook reads it
            seed_everything(0)
            losses.add(float(work.step(batch)[1]))
    finally:
        handle.remove()
    return len(losses) > 1


class _Called(BaseException):  # no Exception: a step may catch those
    pass


def _call(work: Workspace, batch: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What the model is called with, first, for a batch."""
    if work.task.training_step is None:
        args, kwargs, _ = work.task.form.split(batch)
        return args, kwargs
    if not takes_hooks(work.model):
        return (), {}
    seen: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def note(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        seen.append((args, kwargs))
        raise _Called

    handle = work.model.register_forward_pre_hook(note, with_kwargs=True)
    try:
        work.task.forward(work.model, batch)
    except _Called:
        pass
    finally:
        handle.remove()
    return seen[0] if seen else ((), {})


def _reads(model: nn.Module) -> dict[str, str]:
    """The arguments whose values forward reads, each with the first line that does: "model.py:31"."""
    forward = inspect.unwrap(type(model).forward)
    try:
        lines, start = inspect.getsourcelines(forward)
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (OSError, TypeError, SyntaxError):
        return {}
    file = Path(inspect.getsourcefile(forward) or "").name
    of_no_value: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in OF_NO_VALUE:
            of_no_value.add(id(node.value))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("len", "print"):
            of_no_value.update(map(id, node.args))
        if isinstance(node, ast.Compare) and all(isinstance(op, ast.Is | ast.IsNot) for op in node.ops):
            of_no_value.update(map(id, [node.left, *node.comparators]))
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and id(node) not in of_no_value:
            found.setdefault(node.id, f"{file}:{start + node.lineno - 1}")
    return found
