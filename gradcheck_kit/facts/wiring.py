"""What belongs to what: parameters, modules, optimizers, and what the loss compares."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WiredParameter:
    """One parameter of the model; a tied parameter is listed once, under its first name."""

    name: str
    layer: str  # the module that owns it, "" for the model itself
    layer_type: str
    shape: tuple[int, ...]
    trainable: bool
    optimized: bool  # some optimizer owns it
    gradient: str  # after one backward pass: "none", "zero" (exactly, everywhere), "nonzero" or "nonfinite"
    matters: bool | None = None  # where it got none, or zero: whether other values of its layer change the loss


@dataclass(frozen=True, slots=True)
class WiredModule:
    """One module without children, or with parameters of its own."""

    name: str
    type: str
    calls: int  # how often its forward ran in one forward pass of the model
    parameters: int
    order: int | None  # position in execution order, by the end of its first call


@dataclass(frozen=True, slots=True)
class UnregisteredModule:
    """A module that ran, or a bare tensor that got a gradient, and that `model.parameters()` does not see."""

    where: str  # how it was found, such as "hidden[0]", or the module in whose forward it ran
    type: str  # "Parameter" or "Tensor" of a bare one
    parameters: int
    trainable: bool
    optimized: bool


@dataclass(frozen=True, slots=True)
class Broadcast:
    """An operation of the loss that stretched prediction and target, or a column and a row, against each other."""

    operation: str
    prediction_shape: tuple[int, ...]  # or that of the column
    target_shape: tuple[int, ...]  # or that of the row
    result_shape: tuple[int, ...] | None
    known: bool = True  # that the two are the prediction and the target


@dataclass(frozen=True, slots=True)
class Wiring:
    """What is connected to what, from one forward and backward pass."""

    parameters: tuple[WiredParameter, ...]
    modules: tuple[WiredModule, ...]
    unregistered: tuple[UnregisteredModule, ...]
    foreign_parameters: int  # parameters the optimizer owns that the model does not have
    optimizer_given: bool  # by the user; False when the probe made one over everything trainable
    prediction_shape: tuple[int, ...] | None
    target_shape: tuple[int, ...] | None
    broadcasts: tuple[Broadcast, ...]
    loss_parameters: tuple[WiredParameter, ...] = ()  # that the loss itself registers, not a module within it
