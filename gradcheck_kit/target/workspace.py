"""Lends model, loss and optimizers to one experiment at a time, and brings the user's own back untouched."""

from __future__ import annotations

import copy
import os
import random
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gradcheck_kit.target import ProbeSettings
from gradcheck_kit.target.batches import move
from gradcheck_kit.target.keep import keep_random_state, keep_state, kept_generators
from gradcheck_kit.target.resizing import limit_resizing
from gradcheck_kit.target.task import Task

OPTIMIZERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
DEFAULT_RATES = {"sgd": 0.01, "adam": 1e-3, "adamw": 1e-3}


@dataclass(frozen=True, slots=True)
class Prepared:
    """Everything an experiment needs, still the user's own objects: work on it through `workspace`."""

    name: str
    model: nn.Module
    task: Task
    train: Iterable[Any]
    test: Iterable[Any] | None
    optimizers: tuple[Optimizer, ...]  # empty: one is made over everything trainable
    settings: ProbeSettings
    device: torch.device
    synthetic: bool
    in_place: bool  # a copy would not be what the loss refers to, or cannot be made
    data: str
    test_data: str
    batch_size: int | None
    supplied: tuple[str, ...]
    image_side: int | None = None  # of made-up images: a model that enlarges images shall leave them so

    @property
    def optimizer_given(self) -> bool:
        """Whether the optimizer is the user's own object, with parameters of the user's choice."""
        return bool(self.optimizers) and self.settings.optimizer is None

    @property
    def optimizer_chosen(self) -> bool:
        """Whether the user chose optimizer or learning rate at all."""
        return bool(self.optimizers) or self.settings.optimizer is not None or self.settings.lr is not None


@dataclass(slots=True)
class Workspace:
    """Model, loss and optimizers that may be worked on until the workspace closes. The model is in training mode."""

    model: nn.Module
    task: Task
    optimizers: list[Optimizer]
    device: torch.device

    def to_device(self, batch: Any) -> Any:
        """The batch with its tensors on the device."""
        return move(batch, self.device)

    def clear_gradients(self) -> None:
        """Of every parameter, also of those that no optimizer owns: theirs would pile up over the steps."""
        for parameter in self.parameters():
            parameter.grad = None

    def parameters(self) -> list[nn.Parameter]:
        """The model's parameters and those of the loss, each once."""
        extra = self.task.loss_fn.parameters() if isinstance(self.task.loss_fn, nn.Module) else ()
        owned = [p for o in self.optimizers for g in o.param_groups for p in g["params"]]
        return list({id(p): p for p in (*self.model.parameters(), *extra, *owned)}.values())

    def step(self, batch: Any) -> tuple[Any, Tensor]:
        """One forward pass and loss on a batch that is on the device."""
        output = self.task.forward(self.model, batch)
        return output, self.task.loss(output, batch)

    def backward(self, loss: Tensor) -> None:
        """Backpropagate. A loss that depends on no parameter has nothing to do: every gradient stays None."""
        if loss.requires_grad:
            loss.backward()

    def update(self, batch: Any) -> None:
        """One step of every optimizer. LBFGS evaluates the model again, on the same batch."""

        def closure() -> Tensor:
            self.clear_gradients()
            _, loss = self.step(batch)
            self.backward(loss)
            return loss

        for optimizer in self.optimizers:
            optimizer.step(closure if isinstance(optimizer, torch.optim.LBFGS) else None)  # type: ignore[arg-type]

    def scale_learning_rate(self, factor: float) -> None:
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["lr"] * factor


@contextmanager
def workspace(prepared: Prepared, *, seed: int = 0, optimizer: Optimizer | str | None = None) -> Iterator[Workspace]:
    """Lend out model, loss and optimizers as the user has them, random numbers seeded; put everything back.

    `optimizer` names another one to use, over everything that is trainable.
    """
    with ExitStack() as stack:
        stack.enter_context(keep_random_state())
        stack.enter_context(kept_generators(prepared.train, prepared.test))
        # A forward that prints would do so hundreds of times; the file's own prints were shown when it was loaded.
        stack.enter_context(redirect_stdout(stack.enter_context(Path(os.devnull).open("w"))))
        stack.enter_context(warnings.catch_warnings())
        # The user's code may warn, at every step; what matters of it is a finding.
        warnings.simplefilter("ignore")
        model, loss_fn, optimizers = prepared.model, prepared.task.loss_fn, list(prepared.optimizers)
        if prepared.in_place:
            stack.enter_context(keep_state(model, loss_fn, prepared.optimizers))
        else:
            model, loss_fn, optimizers = copied(model, loss_fn, optimizers)
        stack.enter_context(torch.enable_grad())
        if prepared.image_side is not None:
            limit_resizing(model, prepared.image_side)
        model.to(prepared.device)
        if isinstance(loss_fn, nn.Module):
            loss_fn.to(prepared.device)
        work = Workspace(model, replace(prepared.task, loss_fn=loss_fn), optimizers, prepared.device)
        _configure_optimizers(work, prepared.settings, optimizer)
        model.train()
        _respect_frozen_norms(prepared.model, model)
        work.clear_gradients()
        seed_everything(seed)
        yield work


def _configure_optimizers(work: Workspace, settings: ProbeSettings, other: Optimizer | str | None) -> None:
    name = other or settings.optimizer
    if name is None and work.optimizers:
        for optimizer in work.optimizers:
            for state in optimizer.state.values():
                for key, value in state.items():
                    if isinstance(value, Tensor) and key != "step":
                        state[key] = value.to(work.device)
            for group in optimizer.param_groups:
                # A warm-up scheduler that has not run yet holds the rate down; nobody will call it here.
                if not optimizer.state and group["lr"] < group.get("initial_lr", 0.0):
                    group["lr"] = group["initial_lr"]
            if settings.lr is not None:
                for group in optimizer.param_groups:
                    group["lr"] = settings.lr
        return
    name = str(name or "adam")
    trainable = [p for p in work.parameters() if p.requires_grad]
    rate = settings.lr if settings.lr is not None and other is None else DEFAULT_RATES[name]
    work.optimizers[:] = [OPTIMIZERS[name](trainable, lr=rate)] if trainable else []


def _respect_frozen_norms(original: nn.Module, model: nn.Module) -> None:
    """Keep BatchNorm in evaluation mode where the user froze it inside a model that is otherwise in training mode."""
    if not original.training:
        return
    for mine, theirs in zip(model.modules(), original.modules(), strict=True):
        if not theirs.training:
            mine.training = False


def copied(model: nn.Module, loss_fn: Any, optimizers: Sequence[Optimizer]) -> tuple[nn.Module, Any, list[Optimizer]]:
    """Deep copies that belong together: one memo keeps the optimizers on the copied parameters.

    An optimizer pickles only its groups and state; what else it holds, as LBFGS does, is copied after that.
    """
    memo: dict[int, Any] = {}
    model, loss_fn = copy.deepcopy(model, memo), copy.deepcopy(loss_fn, memo)
    result = []
    for optimizer in optimizers:
        twin = copy.deepcopy(optimizer, memo)
        for name, value in optimizer.__dict__.items():
            # A scheduler hangs a `step` on the object that is bound to the original: the class's own is the twin's.
            if name not in twin.__dict__ and not callable(getattr(type(optimizer), name, None)):
                setattr(twin, name, copy.deepcopy(value, memo))
        result.append(twin)
    return model, loss_fn, result


def copyable(model: nn.Module, loss_fn: Any, optimizers: Sequence[Optimizer]) -> bool:
    """Whether a deep copy can be made; a cached graph tensor or a lazy module cannot be copied."""
    try:
        copied(model, loss_fn, optimizers)
    except Exception:  # noqa: BLE001  # whatever a user's __deepcopy__ raises, the model is then probed in place
        return False
    return True


def describe_optimizers(optimizers: Sequence[Optimizer]) -> str:
    """How the header names them: "SGD(lr=0.1, momentum=0.9)"."""
    return ", ".join(_describe_optimizer(o) for o in optimizers)


def _describe_optimizer(optimizer: Optimizer) -> str:
    group = optimizer.param_groups[0]
    rates = sorted({float(g["lr"]) for g in optimizer.param_groups if "lr" in g})
    parts = [f"lr={rates[0]:g}" if len(rates) == 1 else f"lr={rates[0]:g} to {rates[-1]:g}"] if rates else []
    defaults = {
        "momentum": 0,
        "weight_decay": 0.01 if isinstance(optimizer, torch.optim.AdamW) else 0,
        "nesterov": False,
    }
    for name, default in defaults.items():
        if name in group and group[name] != default:
            parts.append(f"{name}={group[name]:g}" if not isinstance(group[name], bool) else f"{name}={group[name]}")
    return f"{type(optimizer).__name__}({', '.join(parts)})"


def seed_everything(seed: int) -> None:
    random.seed(seed)
    torch.manual_seed(seed)
    try:
        import numpy as np
    except ImportError:
        return
    np.random.seed(seed % 2**32)  # noqa: NPY002  # users' data sets draw from the global generator
