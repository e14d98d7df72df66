"""Which modules are running, and from which line of the user's code: hooks on all modules that leave nothing on any."""

from __future__ import annotations

import linecache
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import get_ident
from types import FrameType
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils.hooks import RemovableHandle

from gradcheck_kit.observe.names import named_modules

_TORCH = str(Path(torch.__file__).parent)
_OURS = str(Path(__file__).parent.parent)


def source_line() -> str:
    """Where in the user's code the running call comes from: "model.py:31", or "" when it is all torch's."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001  # inspect.stack() reads every file on the way
    while frame is not None:
        name = frame.f_code.co_filename
        if not name.startswith((_TORCH, _OURS)) and linecache.getline(name, frame.f_lineno):
            return f"{Path(name).name}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


def recomputing() -> bool:
    """Whether a backward pass is running: activation checkpointing then calls forward a second time."""
    return bool(torch._C._current_graph_task_id() != -1)  # noqa: SLF001


def compiled_frames() -> int:
    """How many functions torch.compile has compiled in this process."""
    dynamo = sys.modules.get("torch._dynamo.utils")
    return 0 if dynamo is None else int(dynamo.counters["frames"]["total"])


class Listener(Protocol):
    """Is told what a `ModuleStack` sees. A call is outermost when no other module of the model is running."""

    def began(self, module: nn.Module) -> None:
        """An outermost call begins."""

    def returned(self, module: nn.Module, output: Any, *, again: bool = False) -> None:
        """A call of any module returned; `output` is None after an exception. `again`: within the backward pass."""

    def ended(self, module: nn.Module, output: Any) -> None:
        """An outermost call is over."""


class ModuleStack:
    """Which modules' forward is running now, innermost last. Sees modules that the model does not register.

    The hooks are global ones: nothing is hung on the model, so it can be copied, pickled and compiled meanwhile.
    Modules are looked at only while one of the model's own is running, and in the thread that attached.
    """

    def __init__(self, model: nn.Module) -> None:
        self.names = {id(module): name for name, module in named_modules(model)}
        self.running: list[nn.Module] = []
        self.calls: dict[int, int] = {}
        self.finished: list[nn.Module] = []  # by the end of their first call
        self.callers: dict[int, nn.Module | None] = {}
        self._model = model  # while it lives, no other module gets one of these ids
        self._listener: Listener | None = None
        self._handles: list[RemovableHandle] = []
        self._thread = 0
        self._paused = True

    def attach(self, listener: Listener | None = None) -> None:
        """Look from now on. Hooks that are there already, because it was paused, stay the same."""
        self.reset()
        self._listener, self._thread, self._paused = listener, get_ident(), False
        if not self._handles:
            self._handles.append(register_module_forward_pre_hook(self._enter))
            self._handles.append(register_module_forward_hook(self._leave, always_call=True))

    def pause(self) -> None:
        """Look no more, but leave the hooks: compiled code is compiled anew whenever hooks come or go."""
        self.reset()
        self._paused = True

    def detach(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self.pause()

    def reset(self) -> None:
        """Forget calls that never returned: KeyboardInterrupt passes torch's hooks by."""
        if self.running:
            outermost = self.running[0]
            self.running.clear()
            if self._listener is not None:
                self._listener.ended(outermost, None)

    @contextmanager
    def watch(self, listener: Listener | None = None) -> Iterator[None]:
        self.attach(listener)
        try:
            yield
        finally:
            self.detach()

    def _elsewhere(self) -> bool:
        """Whether this call is not ours to see: being traced, or in a thread of nn.DataParallel."""
        return get_ident() != self._thread or torch._C._get_tracing_state() is not None  # noqa: SLF001

    def _enter(self, module: nn.Module, _args: Any) -> None:
        # What is compiled must not depend on anything but the first of these.
        if torch.compiler.is_compiling() or self._paused or self._elsewhere() or recomputing():
            return
        if not self.running:
            if id(module) not in self.names:
                return
            if self._listener is not None:
                self._listener.began(module)
        if id(module) not in self.callers:
            self.callers[id(module)] = self.running[-1] if self.running else None
        self.running.append(module)

    def _leave(self, module: nn.Module, _args: Any, output: Any) -> None:
        if torch.compiler.is_compiling() or self._paused or self._elsewhere():
            return
        if recomputing():
            if self._listener is not None:
                self._listener.returned(module, output, again=True)
            return
        if not self.running or self.running[-1] is not module:
            return
        self.running.pop()
        if id(module) not in self.calls:
            self.finished.append(module)
        self.calls[id(module)] = self.calls.get(id(module), 0) + 1
        if self._listener is not None:
            self._listener.returned(module, output)
            if not self.running:
                self._listener.ended(module, output)

    def name(self) -> str:
        """The innermost running module that has a name in the model; "" for the model itself."""
        return next((self.names[id(m)] for m in reversed(self.running) if id(m) in self.names), "")

    def leaf(self) -> nn.Module | None:
        return self.running[-1] if self.running else None
