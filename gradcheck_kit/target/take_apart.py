"""Takes a training step of the user's apart, where its halves give what the whole gives.

Most steps call the model once and compare what it returns with the rest of the batch. The two halves (see `steps`) have
to give what the whole gives, bit for bit and on more than one batch: any other step stays whole.
"""

from __future__ import annotations

import itertools
import random
import sys
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from gradcheck_kit.errors import LabelError
from gradcheck_kit.target.forms import TARGET_KEYS
from gradcheck_kit.target.keep import keep_random_state, kept_generators
from gradcheck_kit.target.labels import check_classes, why_refused
from gradcheck_kit.target.outputs import own_loss, prediction_of, tensors
from gradcheck_kit.target.precision import autocast
from gradcheck_kit.target.provenance import Provenance
from gradcheck_kit.target.steps import StepForm, StepLoss, answering, unpacked
from gradcheck_kit.target.task import Task
from gradcheck_kit.target.workspace import Prepared, seed_everything, workspace


def taken_apart(prepared: Prepared, batch: Any) -> Prepared | None:
    """The target with its training step in two halves; None where they do not give what the whole gives."""
    try:
        with keep_random_state(), kept_generators(prepared.train, prepared.test):
            seed_everything(prepared.settings.seed)
            second = next(itertools.islice(prepared.train, 1, None), batch)
            test = None if prepared.test is None else next(iter(prepared.test))
        with workspace(prepared, seed=prepared.settings.seed) as work:
            seen = _Recorded(prepared, work.model, work.to_device(batch))
            if not seen.simple or not seen.complete:
                return None
            task = seen.task().reading_classes(seen.output, seen.batch)
        halves = replace(prepared, task=task.lent(_bound(task.loss_fn, prepared.model)))
        same = all(
            _same(_run(prepared, one, training=training), _run(halves, one, training=training), prepared.device)
            for one, training in ((batch, True), (second, True), (second, False))
        )
        return halves if same and _takes(halves, test) else None
    except Exception:  # noqa: BLE001  # whatever a step has against being run in another way: it stays whole
        return None


def refused_labels(prepared: Prepared, batch: Any) -> LabelError | None:
    """Whether it is the labels that the loss in a training step raises for; looked at on the CPU only."""
    if prepared.device.type != "cpu":
        return None
    try:
        with workspace(prepared, seed=prepared.settings.seed) as work:
            seen = _Recorded(prepared, work.model, work.to_device(batch))
            if not seen.simple or seen.error is None:
                return None
            task = seen.task()
            check_classes(task, seen.output, seen.batch)
            return why_refused(task, seen.output, seen.batch, seen.error)
    except LabelError as refusal:
        return refusal
    except Exception:  # noqa: BLE001  # then the error is told as it came
        return None


def _bound(loss_fn: Any, model: nn.Module) -> StepLoss:
    assert isinstance(loss_fn, StepLoss)
    return StepLoss(loss_fn.step, model, loss_fn.kind, loss_fn.ignore_index)


class _Recorded:
    """One run of a step that watches the model's call, and where tensors come from. A step may raise after it."""

    def __init__(self, prepared: Prepared, model: nn.Module, batch: Any) -> None:
        assert prepared.task.training_step is not None
        self.step, self.model, self.batch = prepared.task.training_step, model, batch
        self.task_before = prepared.task
        self.leaves = tensors(batch)
        self.calls = 0
        self.beside = False  # a part of the model was called outside of the model's own call
        self.output: Any = None
        self.loss: Tensor | None = None
        self.error: Exception | None = None  # that the step raised
        self._inside = False
        self._given: list[Tensor] = []
        self._keywords: dict[str, Any] = {}
        self._random: list[Any] = [random_state()]
        self._watch = Provenance(self.leaves)
        versions = [t._version for t in self.leaves]  # noqa: SLF001  # has no public name
        parts = {id(module) for module in model.modules()}

        def note(module: nn.Module, _args: Any) -> None:
            self.beside |= not self._inside and id(module) in parts

        handle = register_module_forward_pre_hook(note)
        try:
            with autocast(prepared.task.precision), answering(model, self._call), self._watch:
                self.loss = own_loss(self.step(model, unpacked(batch)))
            self._random.append(random_state())
        except Exception as error:  # noqa: BLE001  # the labels may be at fault, or the step is none of this kind
            self._random.append(self._random[-1])
            self.error = error
        finally:
            handle.remove()
        after = tensors(batch)
        self.untouched = len(after) == len(self.leaves) and all(map(_is, after, self.leaves))
        self.untouched &= versions == [t._version for t in self.leaves]  # noqa: SLF001

    def _call(self, *args: Any, **kwargs: Any) -> Any:
        if self._inside:  # a model that calls itself
            return self.model._call_impl(*args, **kwargs)  # noqa: SLF001
        self.calls += 1
        self._given, self._keywords = tensors((args, kwargs)), kwargs
        self._random.append(random_state())
        self._inside = self._watch.asleep = True
        try:
            self.output = self.model._call_impl(*args, **kwargs)  # noqa: SLF001
        finally:
            self._inside = self._watch.asleep = False
        self._random.append(random_state())
        self._watch.returned(tensors(self.output))
        return self.output

    @property
    def simple(self) -> bool:
        """Whether the model was called once, with something of the batch, and nothing else was done to it."""
        if self.calls != 1 or self.beside or not self.untouched or self.output is None or len(self._random) != 4:
            return False
        # What draws random numbers outside of the model, as diffusion does, draws others in every half.
        return self._random[0] == self._random[1] and self._random[2] == self._random[3] and bool(self._places())

    @property
    def complete(self) -> bool:
        """Whether there is a loss, and it depends on the output."""
        outputs = [t for t in tensors(self.output) if t.requires_grad]
        if self.loss is None or not self.loss.requires_grad or not outputs:
            return False
        slopes = torch.autograd.grad(self.loss, outputs, retain_graph=True, allow_unused=True)
        return any(slope is not None for slope in slopes)

    def _places(self) -> set[int]:
        return set().union(*(self._watch.places(t) for t in self._given))

    def task(self) -> Task:
        """The step in two halves, on the model that was watched."""
        places = self._places()
        found = self._compared()
        loss = StepLoss(self.step, self.model, found.kind if found else "", found.ignore_index if found else -100)
        used = set(range(len(self.leaves))) if self.loss is None else self._watch.places(self.loss)
        rest: tuple[int, ...] = ()
        if found is not None:
            whole = not found.part and any(self.leaves[found.place] is t for t in self._given)
            rest = () if whole and not found.labels else (found.place,)
        else:
            rest = tuple(sorted(used - places))
        form = StepForm(
            "step", step=loss, places=tuple(sorted(places)), targets=rest, part=found.part if found else (),
            compared=len(rest) == 1, beside=tuple(sorted(used - places - set(rest))), count=len(self.leaves),
        )  # fmt: skip
        return replace(self.task_before, form=form, loss_fn=loss, loss_style="batch", training_step=None)

    def _compared(self) -> _Target | None:
        """The tensor of the batch that the main prediction is compared with, where it is one."""
        if self.loss is not None and any(t.data_ptr() == self.loss.data_ptr() for t in tensors(self.output)):
            labels = [value for name, value in self._keywords.items() if name in TARGET_KEYS[:4]]
            place = next((i for i, leaf in enumerate(self.leaves) if len(labels) == 1 and labels[0] is leaf), None)
            return None if place is None else _Target(place, (), labels=True)
        main = prediction_of(self.output)
        found = [pair for pair in self._watch.comparisons if main is not None and pair.is_of(main)]
        found = [pair for pair in found if pair.kind] or found
        found = [pair for pair in found if pair.direct] or found  # before softened ones, as of distillation
        if not found or any((pair.place, pair.part) != (found[0].place, found[0].part) for pair in found):
            return None
        return _Target(found[0].place, found[0].part, found[0].kind, found[0].ignore_index)


@dataclass(frozen=True, slots=True)
class _Target:
    place: int
    part: tuple[Any, ...]
    kind: str = ""
    ignore_index: int = -100
    labels: bool = False  # which the model is given, because it makes its loss itself


def _is(a: Any, b: Any) -> bool:
    return a is b


def random_state() -> tuple[Any, ...]:
    """All that is drawn from, to compare with later."""
    numpy = sys.modules.get("numpy")
    drawn = None if numpy is None else numpy.random.get_state()
    used = torch.cuda.is_available() and torch.cuda.is_initialized()
    cuda = [state.numpy().tobytes() for state in torch.cuda.get_rng_state_all()] if used else []
    of_numpy = None if drawn is None else (drawn[1].tobytes(), *drawn[2:])
    return bytes(torch.get_rng_state().tolist()), random.getstate(), of_numpy, cuda


# ---- whether the halves are the whole ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What one step gives and leaves behind."""

    loss: Tensor
    tensors: list[Tensor | None]  # gradients, then parameters and buffers
    modes: list[bool]
    kept: bool  # parameters and modes are what they were


def _run(prepared: Prepared, batch: Any, *, training: bool) -> _Outcome:
    with workspace(prepared, seed=prepared.settings.seed) as work:
        model = work.model
        if not training:
            model.eval()
        parameters = list(model.parameters())
        before, modes = [p.detach().clone() for p in parameters], [m.training for m in model.modules()]
        _, loss = work.step(work.to_device(batch))
        work.backward(loss)
        left = [p.grad for p in parameters] + [t.detach() for t in (*parameters, *model.buffers())]
        same = all(map(_equal, before, (p.detach() for p in parameters)))
        same &= modes == [m.training for m in model.modules()]
        return _Outcome(loss.detach(), left, modes, same)


def _same(whole: _Outcome, halves: _Outcome, device: torch.device) -> bool:
    if not whole.kept or not halves.kept or len(whole.tensors) != len(halves.tensors):
        return False
    # The CPU is exact; on other devices atomic additions may reorder a sum.
    equal = _equal if device.type == "cpu" else _close
    return equal(whole.loss, halves.loss) and all(map(equal, whole.tensors, halves.tensors))


def _equal(a: Tensor | None, b: Tensor | None) -> bool:
    if a is None or b is None:
        return a is b
    a, b = (t.to_dense() if t.layout is not torch.strided else t for t in (a, b))
    return a.shape == b.shape and bool(((a == b) | ((a != a) & (b != b))).all())  # noqa: PLR0124  # NaN is not itself


def _close(a: Tensor | None, b: Tensor | None) -> bool:
    if a is None or b is None:
        return a is b
    return a.shape == b.shape and torch.allclose(a.double(), b.double(), rtol=1e-3, atol=1e-6, equal_nan=True)


def _takes(halves: Prepared, test: Any) -> bool:
    """Whether a batch of the test data fits the step."""
    if test is None:
        return True
    with workspace(halves, seed=halves.settings.seed) as work, torch.no_grad():
        work.model.eval()
        moved = work.to_device(test)
        form = work.task.form
        assert isinstance(form, StepForm)
        output = work.task.forward(work.model, moved)
        work.task.classes(output, moved)
        return len(tensors(moved)) == form.count
