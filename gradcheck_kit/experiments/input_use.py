"""Whether the output depends on the input at all: other inputs, in both modes, must change it by a bit.

One bit that differs settles it, so a model that looks at its input costs two forward passes. What looks as if it did
not is asked again: with far larger changes, in training mode, by its gradient, and with the weights that training left.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from gradcheck_kit.experiments import WHOLE_STEP, NotApplicable, Probe
from gradcheck_kit.experiments.argument_use import ignored_arguments
from gradcheck_kit.experiments.batch_mixing import in_precision, is_float, part_equal_weights
from gradcheck_kit.experiments.evaluation import load_trained
from gradcheck_kit.experiments.input_worth import with_worth
from gradcheck_kit.experiments.operations import Call, aligned, calls_of
from gradcheck_kit.experiments.other_inputs import every_second_row, noisy, outputs_differ
from gradcheck_kit.facts import InputUse, MixingOperation
from gradcheck_kit.target.batches import endless
from gradcheck_kit.target.outputs import tensors
from gradcheck_kit.target.workspace import Workspace, seed_everything, workspace

# Times the input's own spread: units that are dead or saturated on the data need not be so far from it.
SCALES = (1.0, 30.0, 1000.0)
# What flattens at an end: what is lost there is lost to dead or saturated units, and other rules name them.
FLAT = {"relu", "relu6", "leaky_relu", "hardtanh", "clamp", "clip", "clamp_min", "clamp_max", "threshold", "sigmoid",
        "tanh", "hardsigmoid", "hardswish", "logsigmoid", "elu", "selu", "celu", "gelu", "silu", "mish", "softplus",
        "sign", "round", "heaviside", "max_pool1d", "max_pool2d", "erf", "gt", "where"}  # fmt: skip

NORMS = ("layer_norm", "group_norm", "instance_norm")


def look_at_input_use(probe: Probe) -> InputUse:
    """Whether any other input changes the output, and each argument; where none does, where the input is lost."""
    if probe.prepared.task.training_step is None:
        found = _of_input(probe)
        return found if found.ignored else replace(found, arguments=ignored_arguments(probe))
    arguments = ignored_arguments(probe)
    if not arguments:
        raise NotApplicable(f"{WHOLE_STEP}, so it does not say what the model's input is")
    return replace(_used(sum(one.changes for one in arguments)), arguments=arguments)


def _of_input(probe: Probe) -> InputUse:
    tried = 0
    if probe.trained is not None:
        start = _depends(probe, trained=False)
        if start.changed:
            return with_worth(probe, _used(start.changes))
        tried = start.changes
    end = _depends(probe, trained=probe.trained is not None)
    if end.changed or _depends_in_float64(probe):
        return _used(tried + end.changes)
    assert end.fact is not None
    return replace(end.fact, changes=tried + end.changes)


@dataclass(frozen=True, slots=True)
class _Answer:
    changed: bool
    changes: int
    fact: InputUse | None = None


def _depends(probe: Probe, *, trained: bool, dtype: torch.dtype | None = None) -> _Answer:
    """Whether the output depends on the input with the weights of the start, or with those that training left."""
    prepared = probe.prepared
    with workspace(prepared, seed=prepared.settings.seed) as work:
        if trained:
            load_trained(work, probe)
        part_equal_weights(work.model)
        work.task = replace(work.task, precision=None)
        batches = endless(prepared.train)
        if dtype is not None:
            work.model.to(dtype)
            batches = (in_precision(batch, dtype) for batch in batches)
        look = _Look(work, batches)
        if look.depends():
            return _Answer(True, look.changes)
        return _Answer(False, look.changes, look.ignored() if dtype is None else None)


def _depends_in_float64(probe: Probe) -> bool:
    """Many narrow sigmoids may let less through than a bit of float32: that is vanishing, and not ignored."""
    try:
        return _depends(probe, trained=probe.trained is not None, dtype=torch.float64).changed
    except Exception:  # noqa: BLE001  # a model that is not made for float64
        return False


def _used(changes: int) -> InputUse:
    return InputUse(changes, ignored=False, inputs=(), operation=None, unused="", unused_type="", targets_differ=None)


class _Look:
    """One model, one batch, and other inputs in its place."""

    def __init__(self, work: Workspace, batches: Iterator[Any]) -> None:
        self.work, self.batches = work, batches
        self.batch = work.to_device(next(batches))
        self.changes = 0
        given = tensors(work.task.inputs(self.batch))
        known = tensors(work.task.form.target_of(self.batch))
        # A model that is given its target, as for teacher forcing or for its own loss, shall look at the rest.
        self.kept = [t for t in given if any(t is target for target in known)]
        if len(self.kept) == len(given):
            self.kept = []
        self.given = [t for t in given if not any(t is kept for kept in self.kept)]
        if not self.given:
            raise NotApplicable("the model is given no tensor")

    def forward(self, batch: Any, *, training: bool = False, seed: int = 0) -> list[Tensor]:
        self.work.model.train(training)
        seed_everything(seed)
        with _ExactNorms():
            return tensors(self.work.task.forward(self.work.model, batch))

    def depends(self) -> bool:
        """Whether some other input makes a difference. Raises NotApplicable where that cannot be told."""
        try:
            plain = self.forward(self.batch)
        except Exception as error:  # a model may want its target in evaluation mode, or have no such mode
            raise NotApplicable("the model does not run in evaluation mode") from error
        if not any(is_float(t) and t.numel() for t in plain):
            raise NotApplicable("the model returns no numbers in evaluation mode")
        if not all(bool(t.isfinite().all()) for t in plain if is_float(t)):
            raise NotApplicable("the output is not finite (see non-finite)")
        for other in self.others():
            if self._differs(plain, other, training=False):
                return True
        if not self.changes:
            raise NotApplicable("all samples are the same: other inputs are not known")
        if outputs_differ(plain, self.forward(self.batch, seed=1)):
            raise NotApplicable("the model draws its own random numbers and makes its output of them")
        trained = self.forward(self.batch, training=True)
        return any(self._differs(trained, other, training=True) for other in self.others()) or self._has_gradient()

    def _differs(self, plain: list[Tensor], other: Any, *, training: bool) -> bool:
        try:
            outputs = self.forward(other, training=training)
        except Exception:  # noqa: BLE001  # an input that the model refuses says nothing
            return False
        self.changes += not training
        return outputs_differ(plain, outputs)

    def others(self) -> Iterator[Any]:
        """Batches with other inputs, such as the model must be able to take; targets stay."""
        rows = self._changed(every_second_row)
        if rows is not None:
            yield rows
        for scale in SCALES:
            changed = self._changed(lambda t, scale=scale: noisy(t, scale))
            if changed is not None:
                yield changed
        following = self._following()
        if following is not None:
            yield following

    def _changed(self, change: Any) -> Any:
        """The batch with its inputs changed; None where that leaves them as they are."""
        changed = [change(t) for t in self.given]
        if all(torch.equal(a, b) for a, b in zip(self.given, changed, strict=True)):
            return None
        return self._with(changed)

    def _with(self, values: list[Tensor]) -> Any:
        new = {id(old): value for old, value in zip(self.given, values, strict=True)}
        batch = pytree.tree_map(lambda leaf: new.get(id(leaf), leaf), self.batch)
        replaced = tensors(self.work.task.inputs(batch))
        return batch if sum(any(t is v for v in values) for t in replaced) == len(values) else None

    def _following(self) -> Any:
        """The inputs of the next batch, where they have the same shapes."""
        try:
            batch = self.work.to_device(next(self.batches))
        except Exception:  # noqa: BLE001  # this is not the place to tell it
            return None
        given, known = tensors(self.work.task.inputs(batch)), tensors(self.work.task.form.target_of(batch))
        new = [t for t in given if not self.kept or not any(t is target for target in known)]
        if [t.shape for t in new] != [t.shape for t in self.given]:
            return None
        return None if all(map(torch.equal, new, self.given)) else self._with(new)

    def _has_gradient(self) -> bool:
        """Whether any output has a gradient in any of the inputs that is not zero."""
        if not any(t.is_floating_point() for t in self.given):
            return False
        leaves = [t.detach().clone().requires_grad_() if t.is_floating_point() else t for t in self.given]
        batch = self._with(leaves)
        if batch is None:
            return False
        try:
            outputs = [t for t in self.forward(batch) if is_float(t) and t.requires_grad]
            if not outputs:
                return False
            real_outputs = [torch.view_as_real(t) if t.is_complex() else t for t in outputs]
            total = torch.stack([(t.double().square() + t.double()).sum() for t in real_outputs]).sum()
            wanted = [t for t in leaves if t.requires_grad]
            slopes = torch.autograd.grad(total, wanted, allow_unused=True)
        except Exception:  # noqa: BLE001  # a forward that differentiates by itself may not be differentiated again
            return False
        return any(slope is not None and bool((slope != 0).any()) for slope in slopes)

    def ignored(self) -> InputUse:
        """The fact that nothing changes the output. Raises NotApplicable where dead or saturated units are why."""
        other = next((o for o in self.others() if o is not None), None)
        operation, unused = self._lost(other)
        if operation is not None and operation.operation in FLAT:
            raise NotApplicable(
                f"the output is constant because all of {operation.module or 'the model'}'s {operation.operation} is "
                "at its flat end (see dead-units and saturated-activation)"
            )
        names = dict(self.work.model.named_modules())
        targets = [t for t in tensors(self.work.task.form.target_of(self.batch)) if t.ndim]
        differ = any(not torch.equal(t, t[:1].expand_as(t)) for t in targets) if targets else None
        return InputUse(
            changes=self.changes,
            ignored=True,
            inputs=tuple(tuple(t.shape) for t in self.given),
            operation=operation,
            unused=unused or "",
            unused_type=type(names[unused]).__name__ if unused in names else "",
            targets_differ=differ,
        )

    def _lost(self, other: Any) -> tuple[MixingOperation | None, str | None]:
        """The operation at which the input is lost; or the module of the last result that depends on it."""
        self.work.model.eval()

        def run(batch: Any) -> list[Call]:
            seed_everything(0)
            return calls_of(self.work.model, lambda: self.work.task.forward(self.work.model, batch))

        try:
            passes = [run(self.batch), run(other)]
        except Exception:  # noqa: BLE001  # that it is ignored is proved; where it is lost is a help
            return None, None
        moved: list[bool] = []
        lost: Call | None = None
        last: str | None = None
        for call, outputs in aligned(passes):
            reached = [moved[i] for i in call.given]
            near = 1e-4 if call.operation in NORMS else 0.0  # rounding, see _ExactNorms
            differs = any(not torch.allclose(a, b, rtol=0.0, atol=near) for a, b in outputs)
            moved.append(differs and (not reached or any(reached)))
            if moved[-1]:
                last, lost = call.module, None
            elif any(reached):
                lost = lost if lost is not None and lost.operation not in FLAT else call
        if lost is None:
            return None, last
        kind = type(dict(self.work.model.named_modules()).get(lost.module, self.work.model))
        # In a module of torch's own the innermost line of somebody else's may be that which started the probe.
        source = "" if kind.__module__.startswith("torch.") else lost.source
        return MixingOperation(lost.operation, lost.module, kind.__name__, source), None


class _ExactNorms(TorchFunctionMode):
    """Norms over a single number return what they do for zeros: x - x, which they round to something else."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if args and isinstance(args[0], Tensor) and _normalizes_one(getattr(func, "__name__", ""), *args):
            args = (torch.zeros_like(args[0]), *args[1:])
        return func(*args, **(kwargs or {}))


def _normalizes_one(name: str, x: Tensor, *rest: Any) -> bool:
    """Whether each number is its own mean."""
    if name == "layer_norm" and rest:
        return bool(math.prod(rest[0]) == 1)
    if name == "group_norm" and rest:
        return x.ndim > 1 and x.numel() == len(x) * int(rest[0])
    return bool(name == "instance_norm" and x.ndim > 2 and math.prod(x.shape[2:]) == 1)
