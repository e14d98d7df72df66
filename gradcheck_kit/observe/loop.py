"""Follows a training loop that somebody else runs, step by step, and records some of its steps.

Nothing is hung on the model. Steps are told by the hooks that torch calls around every optimizer's step, losses by
`Tensor.backward`.
"""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from torch.utils.hooks import RemovableHandle

from gradcheck_kit.errors import UsageError
from gradcheck_kit.facts import NonFinite
from gradcheck_kit.observe.backward import listen_to_backward, stop_listening_to_backward
from gradcheck_kit.observe.first_non_finite import first_non_finite
from gradcheck_kit.observe.loss_history import LossHistory
from gradcheck_kit.observe.module_stack import compiled_frames
from gradcheck_kit.observe.recorder import Recorder
from gradcheck_kit.observe.statistics import read
from gradcheck_kit.target.eager import compiled_parts
from gradcheck_kit.target.workspace import describe_optimizers

MOST_ROWS = 256  # recorded steps that are kept; where `every` makes more, every second one is dropped
EVERYTHING_EVERY = 4  # recorded steps; counting dead and saturated units costs as much as all the rest
PER_OCTAVE = 4  # steps recorded each time that the number of steps doubles
MOST_PENDING = 256  # losses that wait for the optimizer's step one by one
FRAMES = 16  # callers of an optimizer's step among which a GradScaler is looked for


def owned_by(optimizers: Iterable[Optimizer]) -> set[int]:
    """The ids of the parameters in the optimizers' groups."""
    return {id(p) for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}


class LoopWatch:
    """What is seen of a loop while it runs: see `Monitor`, which makes facts of it.

    A failure in here ends the watching and never the training.
    """

    def __init__(
        self, model: nn.Module, name: str, optimizers: Sequence[Optimizer], *, every: int | None, activations: bool
    ) -> None:
        self.model = model
        self.name = name
        self.steps = 0  # updates so far; one of several optimizers counts once in each round
        self.optimizers = list(optimizers)
        self.losses = LossHistory()
        self.competing = False  # another loss was minimised in between
        self.recorder: Recorder | None = None
        self.bad: NonFinite | None = None
        self.rates: tuple[float, ...] = ()  # of each group at the recorded step in which they were highest
        self.description = ""  # of the optimizers, then
        self._every = every
        self._activations = activations
        self._scaler: torch.amp.GradScaler | None = None
        self._handles: list[RemovableHandle] = []
        self._attached = False
        self._broken = False
        self._warned = False
        self._last_finite = -1  # the last recorded step in which everything was finite
        self._scale_version: tuple[int, int] | None = None
        self._saw_backward = self._guarded(self._keep_loss)
        self._round()

    def _round(self) -> None:
        """Nothing of the next step has been seen yet."""
        self._stepped: list[Optimizer] = []
        self._inside: Optimizer | None = None  # the outermost optimizer whose step is running
        self._pending: list[Tensor] = []  # losses of backward passes since the last step
        self._others = 0  # how many of them came before another model's optimizer stepped
        self._seen = 0  # how many of them came before our latest optimizer stepped
        self._unknown_scale = True  # of the pending losses: no scaler was known when they were seen
        self._scale: Tensor | None = None  # what the loss was multiplied by, on its device
        self._fused: dict[str, Tensor] = {}  # what a scaler hands to an optimizer that unscales by itself
        self._closure = False

    # -- life --

    def start(self) -> None:
        if self._handles:
            raise UsageError(f"the monitor of {self.name} is watching already; stop it first")
        self._handles = [
            register_optimizer_step_pre_hook(self._guarded(self._before_step)),
            register_optimizer_step_post_hook(self._guarded(self._after_step)),
        ]
        listen_to_backward(self._saw_backward)
        self._guarded(self._prepare)()

    def stop(self) -> None:
        if not self._handles:
            return
        for handle in self._handles:
            handle.remove()
        self._handles = []
        stop_listening_to_backward(self._saw_backward)
        if self.recorder is not None:
            self.recorder.detach()
            self.recorder.begin()
        self._guarded(self.read_losses)()
        self._round()

    def _guarded(self, action: Callable[..., None]) -> Callable[..., None]:
        """The action, which can fail once and then does nothing any more: somebody's training must go on."""

        @functools.wraps(action)
        def guarded(*args: Any, **kwargs: Any) -> None:
            if self._broken or torch.compiler.is_compiling():
                return
            try:
                action(*args, **kwargs)
            except Exception as error:  # noqa: BLE001  # whatever it is, it is ours and not the user's
                self._broken = True
                if self.recorder is not None:
                    self.recorder.detach()
                self._warn(f"watching {self.name} ended at step {self.steps}", error)

        return guarded

    def _warn(self, what: str, error: Exception) -> None:
        """Once, and never as an exception, also where warnings are errors."""
        if self._warned:
            return
        self._warned = True
        message = f"gradcheck-kit: {what} ({type(error).__name__}: {error}); the training is not affected"
        try:
            warnings.warn(message, RuntimeWarning, stacklevel=3)
        except Warning:
            print(message, file=sys.stderr)  # noqa: T201  # all that is left

    def _lost(self, place: str, error: Exception) -> None:
        self._warn(f"watching {place or self.name} ended", error)

    # -- steps --

    def _prepare(self) -> None:
        """Attach for the step that comes, if it is to be recorded. A lazy model first has to get its shapes."""
        if self.recorder is None:
            if any(nn.parameter.is_lazy(t) for t in (*self.model.parameters(), *self.model.buffers())):
                return
            self.recorder = Recorder(self.model, self._lost)
        due = self._due(self.steps)
        # Compiled code depends on which hooks and modes there are, and is compiled anew where they come or go.
        stay = compiled_frames() > 0
        if due or (stay and not self._attached):
            everything = self._activations and len(self.recorder.steps) % EVERYTHING_EVERY == 0
            self.recorder.attach(
                everything=everything, activations=everything and not stay, outputs=not self.compiled()
            )
            self._attached = True
        if not due and self._attached:
            if stay:
                self.recorder.pause()
            else:
                self.recorder.detach()
                self._attached = False

    def _due(self, step: int) -> bool:
        if self._every is not None:
            return step % self._every == 0
        return step % max(1, (1 << step.bit_length()) // (2 * PER_OCTAVE)) == 0

    def compiled(self) -> bool:
        """Whether any part runs as compiled code, which calls no hook, and is compiled anew where one appears."""
        return bool(compiled_parts(self.model))

    def _ours(self, optimizer: Optimizer) -> bool:
        if any(optimizer is known for known in self.optimizers):
            return True
        own = {id(p) for p in self.model.parameters()}
        if any(id(p) in own for group in optimizer.param_groups for p in group["params"]):
            self.optimizers.append(optimizer)
            return True
        return False

    def _keep_loss(self, loss: Tensor) -> None:
        """A backward pass begins."""
        if loss.numel() == 1 and not loss.is_complex():
            scale = self._scaler_scale()
            value = loss.detach().reshape(()) if loss.ndim else loss.detach()
            self._unknown_scale = scale is None
            if scale is not None:
                # The scaler's update writes in place; losses from before it are of a step that it has skipped.
                version = (id(scale), scale._version)  # noqa: SLF001  # no public name, and no need to wait
                if version != self._scale_version:
                    self._pending, self._others, self._scale_version = [], 0, version
                self._scale = scale.detach().clone()
                value = value / self._scale
            self._pending.append(value)
            if len(self._pending) > MOST_PENDING:  # backward passes that no step of an optimizer follows
                self._pending, self._others = [torch.stack(self._pending).mean()], 0

    def _scaler_scale(self) -> Tensor | None:
        return None if self._scaler is None else getattr(self._scaler, "_scale", None)

    def _before_step(self, optimizer: Optimizer, _args: Any, _kwargs: Any) -> None:
        if self._inside is not None and self._inside is not optimizer:
            return  # an optimizer that works through another one is one step
        if not self._ours(optimizer):
            self._others = len(self._pending)
            self.competing = True
            return
        if self._stepped and len(self._pending) > self._seen:
            self.competing = True  # each optimizer has a loss of its own
        self._seen = len(self._pending)
        if any(optimizer is one for one in self._stepped):
            self._finish()
        self._inside = optimizer
        # A closure's backward pass comes within the step.
        self._closure = not self._pending
        recording = self._due(self.steps)
        if recording or self.steps < 3:
            self._find_scaler(optimizer)
        if recording and self.recorder is not None:
            self.recorder.parameters.before(self._indices(optimizer), gradients=not self._closure)

    def _after_step(self, optimizer: Optimizer, _args: Any, _kwargs: Any) -> None:
        if self._inside is not optimizer:
            return
        self._inside = None
        if self.recorder is not None and self._due(self.steps):
            if self._closure:
                self.recorder.parameters.gradients(self._indices(optimizer))
            self.recorder.parameters.after()
        self._stepped.append(optimizer)
        if len(self._stepped) >= len(self.optimizers):
            self._finish()

    def _indices(self, optimizer: Optimizer) -> list[int]:
        """The optimizer's parameters; those that none of the optimizers owns go with the first one."""
        assert self.recorder is not None
        own, first = owned_by([optimizer]), not self._stepped
        owned = owned_by(self.optimizers) if first else set()
        named = enumerate(self.recorder.parameters.named)
        return [i for i, (_, p) in named if id(p) in own or (first and id(p) not in owned)]

    def _find_scaler(self, optimizer: Optimizer) -> None:
        """A GradScaler calls `step` itself: it is found among the callers, so that nobody has to pass it."""
        for name in ("grad_scale", "found_inf"):
            value = getattr(optimizer, name, None)
            if isinstance(value, Tensor):
                self._fused[name] = value.detach().reshape(())
        if self._scaler is not None or (self.steps > 2 and not self._fused):
            return
        frame: FrameType | None = sys._getframe(1)  # noqa: SLF001  # as inspect does, without reading files
        for _ in range(FRAMES):
            if frame is None:
                return
            caller = frame.f_locals.get("self")
            if isinstance(caller, torch.amp.GradScaler):
                self._scaler = caller
                scale = self._scaler_scale()
                if scale is not None and self._unknown_scale and self._pending:
                    # Losses of steps that were skipped before this one had other scales.
                    self._scale = scale.detach().clone()
                    self._pending = [self._pending[-1] / self._scale]
                return
            frame = frame.f_back

    def _finish(self) -> None:
        """The step is over: keep its loss and, if it was recorded, its numbers."""
        losses = self._pending[self._others :] or self._pending
        if losses:
            # A closure is evaluated many times in a step, and accumulation averages parts of a batch.
            self.losses.add(losses[0] if self._closure or len(losses) == 1 else torch.stack(losses).mean())
        if self.recorder is None:
            self._prepare()
        elif self._due(self.steps):
            self._record(self.recorder)
        self._round()
        self.steps += 1
        self._prepare()

    def _record(self, recorder: Recorder) -> None:
        waiting = self.losses.unread
        scales = [s for s in (self._scale, *self._fused.values()) if s is not None]
        values = recorder.read([*waiting, *scales])
        self.losses.fill(values[: len(waiting)])
        names = [*(["scale"] if self._scale is not None else []), *self._fused]
        found = dict(zip(names, values[len(waiting) :], strict=True))
        if found.get("found_inf"):  # a fused optimizer skips such a step by itself
            return
        fused_scale = found.get("grad_scale", 1.0)
        recorder.keep(
            self.steps, output_scale=found.get("scale", fused_scale) or 1.0, parameter_scale=fused_scale or 1.0
        )
        # A schedule begins or ends at 0: the rate that people speak of is the highest.
        rates = tuple(float(g["lr"]) for o in self.optimizers for g in o.param_groups if "lr" in g)
        if not self.description or sum(rates) > sum(self.rates):
            self.rates, self.description = rates, describe_optimizers(self.optimizers)
        if len(recorder.steps) >= MOST_ROWS and self._every is not None:
            recorder.thin()
            self._every *= 2
        self._judge(recorder)

    def _judge(self, recorder: Recorder) -> None:
        """Note where the first recorded step that is not finite went wrong."""
        if self.bad is not None:
            return
        self.bad = first_non_finite(recorder, self.losses.latest, self.steps, earliest=self._last_finite + 1)
        if self.bad is None:
            self._last_finite = self.steps

    def read_losses(self) -> None:
        """Bring over the losses that still wait on the device."""
        unread = self.losses.unread
        if unread:
            self.losses.fill(read(unread))
