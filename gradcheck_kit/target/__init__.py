"""What the user wants examined, and how to get there from a TARGET.

load.py finds model, data, loss and optimizer as the user wrote them; inputs.py makes up inputs for a model that comes
without data; datasets.py reads the named data sets; task.py knows how a batch goes through the model into a loss;
prepare.py puts them together and supplies what is missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch
    from torch import nn
    from torch.optim import Optimizer


@dataclass(slots=True)
class Target:
    """A model and what belongs to it. Everything but the model may be missing and is then supplied.

    `train_data` and `test_data` yield batches (tensor, tuple, list or dict), each time anew when iterated again;
    a `Dataset` is put into batches. `loss_fn(output, target)` returns a scalar; `training_step(model, batch)` replaces
    model call and loss where they do not fit that form. `optimizer` was made on the model's parameters.
    """

    model: nn.Module
    train_data: Iterable[Any] | None = None
    test_data: Iterable[Any] | None = None
    loss_fn: Callable[..., torch.Tensor] | None = None
    optimizer: Optimizer | Sequence[Optimizer] | None = None
    training_step: Callable[[nn.Module, Any], torch.Tensor] | None = None
    name: str = ""
    train_name: str = "train_data"  # how the user called them, for the report's header
    test_name: str = "test_data"
    file: Path | None = None  # the program that it was found in
    notes: tuple[str, ...] = ()  # of what was found there and is not used


@dataclass(frozen=True, slots=True)
class ProbeSettings:
    """How to probe. None means: as the target has it, or a default that fits."""

    steps: int = 60
    batch_size: int | None = None
    seed: int = 0
    device: str | None = "cpu"  # None: where the model is
    lr: float | None = None
    optimizer: str | None = None  # "sgd", "adam" or "adamw"
    data: str | None = None  # a data set's name or a folder of images, in place of the target's own data
    data_dir: str | None = None
    input_shape: tuple[tuple[int, ...], ...] | None = None  # without the batch dimension, one per input
    classes: int | None = None
    quick: bool = False
    amp: Literal["bf16", "fp16"] | None = None  # forward and loss under autocast; fp16 with a GradScaler
