"""Whether a model that predicts the next element sees it: a late element is replaced, what is before must not move."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # torch's own convention
from torch.utils import _pytree as pytree

from gradcheck_kit.experiments import WHOLE_STEP, NotApplicable, Probe
from gradcheck_kit.experiments.batch_mixing import in_evaluation_mode
from gradcheck_kit.experiments.operations import calls_of, first_operation
from gradcheck_kit.facts import FutureMixing, MixingOperation
from gradcheck_kit.target.batches import endless
from gradcheck_kit.target.outputs import tensors
from gradcheck_kit.target.task import Task
from gradcheck_kit.target.workspace import Workspace, workspace

SHORTEST = 4
ROUNDING = 1e-6  # of the largest change: a causal convolution by Fourier transform rounds all positions


@dataclass(frozen=True, slots=True)
class Shift:
    """The tensor that the target is shifted against, its dimension of time, and which of its targets count."""

    index: int  # among the tensors that the model is given
    time: int
    counted: Tensor  # by row and position of the output: whether what follows is to be predicted there
    outputs: int  # positions of the output
    ahead: int = 1  # positions from an input to the output that is to predict it; 0: it is the input itself

    @property
    def batch(self) -> int:
        """The dimension of the batch."""
        return 1 if self.time == 0 else 0


def mix_future(probe: Probe) -> FutureMixing:
    """Replace one late element of one sequence. Raises NotApplicable unless the target is the input, one later."""
    prepared = probe.prepared
    if prepared.task.training_step is not None:
        raise NotApplicable(f"{WHOLE_STEP}, so it does not say what is predicted")
    with workspace(prepared, seed=prepared.settings.seed) as work:
        batch = work.to_device(next(endless(prepared.train)))
        task = replace(work.task, precision=None)
        in_evaluation_mode(work.model)
        shift = (
            _shift(task.inputs(batch), task.target(batch))
            or _shift_in_loss(work, task, batch)
            or _unshifted(work, task, batch)
        )
        if shift is None:
            raise NotApplicable("the target is not the input shifted by one")
        try:
            return _mix(work, task, batch, shift)
        except NotApplicable:
            raise
        except Exception as error:
            raise NotApplicable(f"the model does not take one sequence alone ({type(error).__name__})") from error


# ---- what is predicted -------------------------------------------------------------------------------------------


def _shift(inputs: Any, target: Any) -> Shift | None:
    """Where the target holds, at every position, what the input holds one position later. Exact."""
    if not isinstance(target, Tensor):
        return None
    for index, given in reversed([*enumerate(tensors(inputs))]):  # a decoder's input comes after the encoder's
        if given.ndim != target.ndim or given.ndim < 2:
            continue
        for time in (1, 0, *range(2, given.ndim)):  # the last one: what convolutions take
            if given.shape[:time] + given.shape[time + 1 :] != target.shape[:time] + target.shape[time + 1 :]:
                continue
            if found := _shifted(given, target, time):
                return replace(found, index=index)
    return None


def _shifted(given: Tensor, target: Tensor, time: int) -> Shift | None:
    x, y = given.movedim(time, 0), target.movedim(time, 0)
    # As long as each other; or a step cuts both the model's input and the target out of a longer sequence.
    if len(x) < SHORTEST or len(x) - len(y) not in (0, 1):
        return None
    following, wanted = x[1:], y[: len(x) - 1]
    # Negative labels are ignored by torch's losses (-100): padding, and the prefix of a prefix language model.
    counted = torch.ones_like(wanted, dtype=torch.bool) if wanted.is_floating_point() else wanted >= 0
    changes = (following != x[:-1])[counted]
    if not bool((following == wanted)[counted].all()) or not len(changes) or float(changes.float().mean()) < 0.05:
        return None  # a constant sequence is its own shift
    rows = counted.flatten(2).any(2) if counted.ndim > 2 else counted  # (time - 1, batch)
    return Shift(0, time, rows.T, len(y))


def _shift_in_loss(work: Workspace, task: Task, batch: Any) -> Shift | None:
    """The same for models and losses that shift by themselves: theirs is the cross entropy of the next token, exactly.

    So do the models of Hugging Face when labels are the input, and scripts whose batches hold tokens only.
    """
    target = task.target(batch)
    with torch.no_grad():
        try:
            output = task.forward(work.model, batch)
            logits, loss = task.prediction(output), float(task.loss(output, batch))
        except Exception:  # noqa: BLE001  # in evaluation mode a model may bring no loss
            return None
        found = [*enumerate(tensors(task.inputs(batch)))]
        for index, given in [pair for pair in found if pair[1] is not target] or found:
            if given.is_floating_point() or given.ndim != 2 or given.dtype is torch.bool or given.shape[1] < SHORTEST:
                continue
            labels = target if isinstance(target, Tensor) else given
            same = labels.shape == given.shape and bool(((labels == given) | (labels < 0)).all())
            if not same or logits is None or logits.ndim != 3 or logits.shape[:2] != given.shape:
                continue
            if not 0 <= int(given.min()) <= int(given.max()) < logits.shape[2]:
                continue
            next_token = F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten())
            this_token = F.cross_entropy(logits.flatten(0, 1).float(), labels.flatten())
            close = abs(float(next_token) - loss) <= 1e-5 * abs(loss)
            if close and abs(float(this_token) - loss) > 1e-4 * abs(loss):
                return Shift(index, 1, labels[:, 1:] >= 0, given.shape[1])
    return None


def _unshifted(work: Workspace, task: Task, batch: Any) -> Shift | None:
    """Where the target is what the model is given, position by position, and the loss shifts nothing.

    What an autoencoder has, too: whether positions see each other is looked at later.
    """
    target = task.target(batch)
    if not isinstance(target, Tensor) or target.is_floating_point() or target.ndim != 2 or target.dtype is torch.bool:
        return None
    found = [
        index
        for index, given in enumerate(tensors(task.inputs(batch)))
        if given.shape == target.shape and bool(((given == target) | (target < 0)).all())
    ]
    if not found or target.shape[1] < SHORTEST or not bool((target[:, 1:] != target[:, :-1]).any()):
        return None
    with torch.no_grad():
        try:
            output = task.forward(work.model, batch)
            logits, loss = task.prediction(output), float(task.loss(output, batch))
        except Exception:  # noqa: BLE001  # in evaluation mode a model may bring no loss
            return None
    if logits is None or logits.ndim != 3 or logits.shape[:2] != target.shape or int(target.max()) >= logits.shape[2]:
        return None
    ignored = getattr(task.loss_fn, "ignore_index", -100)
    this_token = F.cross_entropy(logits.flatten(0, 1).float(), target.flatten().long(), ignore_index=ignored)
    same = abs(float(this_token) - loss) <= 1e-5 * abs(loss)
    return Shift(found[-1], 1, target >= 0, target.shape[1], ahead=0) if same else None


# ---- whether it is seen ------------------------------------------------------------------------------------------


def _mix(work: Workspace, task: Task, batch: Any, shift: Shift) -> FutureMixing:
    watched = tensors(task.inputs(batch))[shift.index]
    row = int(shift.counted.sum(1).argmax())
    counted = shift.counted[row].nonzero()[:, 0]
    length = watched.shape[shift.time]
    position = min(int(counted.max()) + shift.ahead, shift.outputs - 1)
    alone, given = _one_sequence(batch, watched, row, shift)
    changed = [_with(alone, given, value) for value in _replaced(given, shift.time, position)]

    def forward(one: Any) -> Tensor | None:
        found = None
        # A position that sees nothing at all may be NaN, whatever the input; in the fused kernels that torch takes
        # where no gradient is asked for, it makes the others NaN as well.
        for fused in (True, False):
            with torch.set_grad_enabled(not fused):
                found = task.prediction(task.forward(work.model, one))
            if found is None or bool(found.isfinite().any()):
                return None if found is None else found.detach().nan_to_num()
        return None

    plain, again = forward(alone), forward(alone)
    if plain is None or again is None or not torch.equal(plain, again):
        raise NotApplicable("two evaluations of one sequence differ (see eval-nondeterministic)")
    times = [dim for dim, size in enumerate(plain.shape) if size == shift.outputs]
    if not times:
        raise NotApplicable("which dimension of the output is time cannot be told")
    if not bool(plain.isfinite().all()):
        raise NotApplicable("the model's output is not finite (see non-finite)")
    moves = [(moved - plain).abs() for one in changed if (moved := forward(one)) is not None]
    # Where there are as many words as positions, time is the dimension along which less of the future is seen.
    found = [_seen(moves, time, position, counted[counted < position].cpu()) for time in times]
    influence, reached = min(found, key=lambda one: -1.0 if one[0] is None else one[0])
    if shift.ahead == 0:
        if influence is None or influence > ROUNDING or not _moves(moves, times[0], position):
            raise NotApplicable(
                "the target is the input itself, as in an autoencoder, and not the input shifted by one"
            )
        return FutureMixing(length, position, influence, 0, None, answer_given=True)
    if influence is not None and influence > 0 and _holds_target(task, batch):
        return FutureMixing(length, position, influence, reached, None, answer_given=True)
    operation = None
    if influence is not None and influence > 0:
        forwards = [partial(task.forward, work.model, one) for one in (alone, *changed)]
        operation = _locate(work.model, forwards, shift.outputs, position)
    return FutureMixing(length, position, influence, reached, operation)


def _holds_target(task: Task, batch: Any) -> bool:
    """Whether an argument of the model is the target itself: both were cut out of the sequence at the same place."""
    args, kwargs, target = task.form.split(batch)
    if not isinstance(target, Tensor):
        return False
    return any(given.shape == target.shape and torch.equal(given, target) for given in tensors([args, kwargs]))


def _moves(moves: Sequence[Tensor], time: int, position: int) -> bool:
    """Whether the output at the position moves."""
    return any(bool((move.select(time, position) != 0).any()) for move in moves)


def _seen(moves: Sequence[Tensor], time: int, position: int, counted: Tensor) -> tuple[float | None, int]:
    """How far outputs before the position move over how far those from it on do, and how many of them move."""
    before = later = torch.zeros(())
    reached: set[int] = set()
    for move in moves:
        by_position = move.movedim(time, 0).flatten(1).amax(1).cpu()
        earlier = by_position[:position][counted]
        later = torch.maximum(later, by_position[position:].max())
        before = torch.maximum(before, earlier.max())
        reached |= set(counted[earlier > ROUNDING * by_position.max()].tolist())
    influence = float(before / later) if later > 0 else (float("inf") if before > 0 else None)
    return influence, len(reached)


def _one_sequence(batch: Any, watched: Tensor, row: int, shift: Shift) -> tuple[Any, Tensor]:
    """The batch with one row of every tensor that has rows, and that of the watched one."""
    rows = watched.shape[shift.batch]
    others = [leaf for leaf in tensors(batch) if leaf.shape != watched.shape]
    if rows == watched.shape[shift.time] and any(list(leaf.shape).count(rows) > 1 for leaf in others):
        raise NotApplicable("sequences are as long as there are of them, so batch and time cannot be told apart")

    def narrow(leaf: Any) -> Any:
        if not isinstance(leaf, Tensor):
            return leaf
        if leaf.ndim > shift.batch and leaf.shape[shift.batch] == rows:
            return leaf.narrow(shift.batch, row, 1).clone()
        return leaf

    found = {id(leaf): narrow(leaf) for leaf in pytree.tree_leaves(batch) if isinstance(leaf, Tensor)}
    if id(watched) not in found:
        raise NotApplicable("the sequence is not part of the batch as it comes")
    return pytree.tree_map(lambda t: found.get(id(t), t), batch), found[id(watched)]


def _with(batch: Any, given: Tensor, value: Tensor) -> Any:
    return pytree.tree_map(lambda t: value if t is given else t, batch)


def _replaced(given: Tensor, time: int, position: int) -> list[Tensor]:
    """The sequence with one element replaced by another that occurs in it, so that it stays a valid one."""
    x = given.movedim(time, 0)
    others = [p for p in range(len(x)) if not torch.equal(x[p], x[position])]
    found = []
    for p in others[:: max(1, len(others) - 1)][:2]:
        twin = x.clone()
        twin[position] = x[p]
        found.append(twin.movedim(0, time).contiguous())
    return found


def _locate(
    model: nn.Module, forwards: Sequence[Callable[[], Any]], length: int, position: int
) -> MixingOperation | None:
    try:
        passes = [calls_of(model, forward) for forward in forwards]
    except Exception:  # noqa: BLE001  # that the future is seen is proved; where it is is a help
        return None

    def wrong(outputs: Any) -> bool:
        plain, *moved = outputs
        # Where there are as many channels as positions, it is wrong whichever of them is time.
        times = [dim for dim, size in enumerate(plain.shape) if size == length]
        return bool(times) and all(any(reaches_back(other - plain, time) for other in moved) for time in times)

    def reaches_back(change: Tensor, time: int) -> bool:
        by_position = change.abs().nan_to_num().movedim(time, 0).flatten(1)
        return by_position.numel() > 0 and bool(by_position[:position].max() > ROUNDING * by_position.max())

    def reduced(outputs: Any) -> bool:
        plain, *moved = outputs
        return length not in plain.shape and any(bool((other != plain).any()) for other in moved)

    return first_operation(model, passes, wrong=wrong, reduced=reduced)
