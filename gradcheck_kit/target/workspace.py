"""Lends model, loss and optimizers to one experiment at a time, and brings the user's own back untouched."""

from __future__ import annotations

import copy
import os
import random
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from gradcheck_kit.target import ProbeSettings
from gradcheck_kit.target.batches import move
from gradcheck_kit.target.clipping import Clipping
from gradcheck_kit.target.closures import needs_closure, step
from gradcheck_kit.target.eager import compiling_nothing, make_eager
from gradcheck_kit.target.keep import keep_random_state, keep_state, kept_generators
from gradcheck_kit.target.keep_settings import keep_settings
from gradcheck_kit.target.precision import LossScale, autocast
from gradcheck_kit.target.resizing import limit_resizing
from gradcheck_kit.target.schedulers import keep_schedulers
from gradcheck_kit.target.task import Task
from gradcheck_kit.trace import SourceLine

OPTIMIZERS = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
DEFAULT_RATES = {"sgd": 0.01, "adam": 1e-3, "adamw": 1e-3}


@dataclass(frozen=True, slots=True, kw_only=True)
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
    batch_size: int | None = None
    supplied: tuple[str, ...] = ()  # notes on what the target lacked and the probe put in its place
    image_side: int | None = None  # of made-up images: a model that enlarges images shall leave them so
    rates: tuple[tuple[float, ...], ...] = ()  # of the optimizers' groups, to train at; empty: as they are
    clipping: Clipping | None = None  # that the user's loop does
    loss_supplied: bool = False  # nobody chose the loss: it is one that fits the output
    sources: tuple[SourceLine, ...] = ()  # where the user's program makes what is probed

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
    scaler: LossScale | None = None  # of float16 mixed precision
    stepped: set[int] = field(default_factory=set)  # optimizers that have stepped without a closure
    clipping: Clipping | None = None

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

    def inputs(self, batch: Any) -> Any:
        """What the model is called with: its positional arguments, or those and its keyword arguments."""
        return self.task.inputs(batch)

    def step(self, batch: Any) -> tuple[Any, Tensor]:
        """One forward pass and loss on a batch that is on the device."""
        output = self.task.forward(self.model, batch)
        return output, self.task.loss(output, batch)

    def autocast(self) -> AbstractContextManager[object]:
        """The context that forward and loss run in; the task's own calls enter it by themselves."""
        return autocast(self.task.precision)

    @property
    def loss_scale(self) -> float:
        """What gradients seen during backward are multiplied by; read it before `update`, which adapts it."""
        return 1.0 if self.scaler is None else self.scaler.factor()

    @property
    def skipped(self) -> bool:
        """Whether the last `update` left out a step because a scaled gradient was not finite: no fault by itself."""
        return self.scaler is not None and self.scaler.skipped

    def backward(self, loss: Tensor) -> None:
        """Backpropagate. A loss that depends on no parameter has nothing to do: every gradient stays None."""
        if not loss.requires_grad:
            return
        if self.scaler is None:
            loss.backward()
        else:
            self.scaler.backward(loss)

    def unscale(self) -> None:
        """Bring gradients to the units of the loss, after backward and before anybody reads them."""
        if self.scaler is not None:
            self.scaler.unscale(self.optimizers, self.parameters())

    def update(self, batch: Any) -> None:
        """One step of every optimizer. LBFGS and its like evaluate the model again, on the same batch."""

        def closure() -> Tensor:
            with torch.enable_grad():
                self.clear_gradients()
                _, loss = self.step(batch)
                if loss.requires_grad:
                    loss.backward()
                if self.clipping is not None:
                    self.clipping(self.parameters())
            return loss

        self.unscale()
        if self.clipping is not None:
            self.clipping(self.parameters())
        for optimizer in self.optimizers:
            if self.scaler is not None and not needs_closure(optimizer):  # GradScaler takes no closure
                self.scaler.step(optimizer)
            else:
                step(optimizer, closure, tried=self.stepped)
        if self.scaler is not None:
            self.scaler.update()

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
        stack.enter_context(keep_settings())
        stack.enter_context(kept_generators(prepared.train, prepared.test))
        # A forward that prints would do so hundreds of times; the file's own prints were shown when it was loaded.
        stack.enter_context(redirect_stdout(stack.enter_context(Path(os.devnull).open("w"))))
        stack.enter_context(warnings.catch_warnings())
        # The user's code may warn, at every step; what matters of it is a finding.
        warnings.simplefilter("ignore")
        model, loss_fn, optimizers = prepared.model, prepared.task.loss_fn, list(prepared.optimizers)
        if prepared.in_place:
            stack.enter_context(keep_schedulers(prepared.optimizers))
            stack.enter_context(keep_state(model, loss_fn, prepared.optimizers))
        else:
            model, loss_fn, optimizers = copied(model, loss_fn, optimizers)
        make_eager(model)
        stack.enter_context(torch.enable_grad())
        stack.enter_context(compiling_nothing())
        if prepared.image_side is not None:
            limit_resizing(model, prepared.image_side)
        model.to(prepared.device)
        if isinstance(loss_fn, nn.Module):
            loss_fn.to(prepared.device)
        work = Workspace(model, prepared.task.lent(loss_fn), optimizers, prepared.device)
        if prepared.settings.amp == "fp16":
            work.scaler = LossScale(prepared.device.type)
        _configure_optimizers(work, prepared, optimizer)
        _train(model)
        work.clear_gradients()
        seed_everything(seed)
        yield work


def _configure_optimizers(work: Workspace, prepared: Prepared, other: Optimizer | str | None) -> None:
    settings = prepared.settings
    name = other or settings.optimizer
    if name is None and work.optimizers:
        work.clipping = prepared.clipping
        for place, optimizer in enumerate(work.optimizers):
            for state in optimizer.state.values():
                for key, value in state.items():
                    if isinstance(value, Tensor) and key != "step":
                        state[key] = value.to(work.device)
            for group, rate in zip(
                optimizer.param_groups, prepared.rates[place] if prepared.rates else (), strict=False
            ):
                if "lr" in group and float(group["lr"]) != rate:
                    group["lr"] = rate
            if settings.lr is not None:
                for group in optimizer.param_groups:
                    group["lr"] = settings.lr
        return
    name = str(name or "adam")
    trainable = [p for p in work.parameters() if p.requires_grad]
    rate = settings.lr if settings.lr is not None and other is None else DEFAULT_RATES[name]
    # Adam's usual epsilon of 1e-8 is 0 in float16, and its first step then 0 / 0.
    half = name != "sgd" and any(p.dtype is torch.float16 for p in trainable)
    options = {"eps": 1e-4} if half else {}
    sparse = [p for p in trainable if id(p) in _with_sparse_gradients(work.model)] if name != "sgd" else []
    dense = [p for p in trainable if not any(p is other for other in sparse)]
    work.optimizers[:] = [OPTIMIZERS[name](dense, lr=rate, **options)] if dense else []
    work.optimizers += [torch.optim.SparseAdam(sparse, lr=rate)] if sparse else []


def _with_sparse_gradients(model: nn.Module) -> set[int]:
    """Parameters of embeddings that say so; where a dense layer shares one, the gradient is dense."""
    owners: dict[int, list[bool]] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            owners.setdefault(id(parameter), []).append(getattr(module, "sparse", False) is True)
    return {key for key, sparse in owners.items() if all(sparse)}


def _train(model: nn.Module) -> None:
    """Training mode, but for what the user froze inside a model that is otherwise in training mode: BatchNorms."""
    frozen = [module for module in model.modules() if not module.training] if model.training else []
    model.train()
    for module in frozen:
        module.training = False


def copied(
    model: nn.Module, loss_fn: Any, optimizers: Sequence[Optimizer], memo: dict[int, Any] | None = None
) -> tuple[nn.Module, Any, list[Optimizer]]:
    """Deep copies that belong together: one memo keeps the optimizers on the copied parameters.

    An optimizer pickles only its groups and state; what else it holds, as LBFGS does, is copied after that.
    """
    memo = {} if memo is None else memo
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
        twin, _, twins = copied(model, loss_fn, optimizers)
    except Exception:  # noqa: BLE001  # whatever a user's __deepcopy__ raises, the model is then probed in place
        return False
    return all(p.is_leaf for p in twin.parameters()) and _owned(twin, twins) == _owned(model, optimizers)


def _owned(model: nn.Module, optimizers: Sequence[Optimizer]) -> list[bool]:
    """Which of the model's parameters are in an optimizer. A ScriptModule's copy has lost them."""
    owned = {id(p) for o in optimizers for g in o.param_groups for p in g["params"]}
    return [id(p) in owned for p in model.parameters()]


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
