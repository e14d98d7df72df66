"""Puts a target together for the probe: supplies what is missing and checks once that everything fits.

`workspace` then lends model, loss and optimizers to one experiment at a time and brings the user's own back untouched.
"""

from __future__ import annotations

import copy
import inspect
import itertools
import math
import random
import traceback
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils import _pytree as pytree
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from gradcheck_kit.errors import DataError, ProbeError, TargetError, UsageError
from gradcheck_kit.target import ProbeSettings, Target
from gradcheck_kit.target.keep import keep_random_state, keep_state, kept_generators
from gradcheck_kit.target.task import (
    Form,
    Task,
    brings_loss,
    find_form,
    find_loss,
    infer_loss,
    prediction_of,
    tensors,
)

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
            loss.backward()  # type: ignore[no-untyped-call]

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
        stack.enter_context(warnings.catch_warnings())
        # The user's code may warn, at every step; what matters of it is a finding.
        warnings.simplefilter("ignore")
        model, loss_fn, optimizers = prepared.model, prepared.task.loss_fn, list(prepared.optimizers)
        if prepared.in_place:
            stack.enter_context(keep_state(model, loss_fn, prepared.optimizers))
        else:
            model, loss_fn, optimizers = copied(model, loss_fn, optimizers)
        stack.enter_context(torch.enable_grad())
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


def describe_optimizers(optimizers: Sequence[Optimizer]) -> str:
    """How the header names them: "SGD(lr=0.1, momentum=0.9)"."""
    return ", ".join(_describe_optimizer(o) for o in optimizers)


def _describe_optimizer(optimizer: Optimizer) -> str:
    group = optimizer.param_groups[0]
    rates = sorted({float(g["lr"]) for g in optimizer.param_groups if "lr" in g})
    parts = [f"lr={rates[0]:g}" if len(rates) == 1 else f"lr={rates[0]:g} to {rates[-1]:g}"] if rates else []
    defaults = {"momentum": 0, "weight_decay": 0.01 if isinstance(optimizer, torch.optim.AdamW) else 0, "nesterov": False}
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


def move(batch: Any, device: torch.device) -> Any:
    """A batch with its tensors on `device`; what pytree does not know is asked for its own `.to`."""

    def one(leaf: Any) -> Any:
        if isinstance(leaf, Tensor) or (not isinstance(leaf, nn.Module) and hasattr(leaf, "to")):
            return leaf.to(device)
        return leaf

    return pytree.tree_map(one, batch)


def endless(batches: Iterable[Any]) -> Iterator[Any]:
    """Batch after batch, from the start again when they run out. Raises DataError when there is none."""
    while True:
        empty = True
        for batch in batches:
            empty = False
            yield batch
        if empty:
            raise DataError("the training data yields no batch; check its length, batch_size and drop_last")


# ---- putting it together -----------------------------------------------------------------------------------------


def prepare(target: Target, settings: ProbeSettings) -> Prepared:
    """Supply what is missing and try one batch. Raises a sentence for whatever does not fit."""
    model = target.model
    if not isinstance(model, nn.Module):
        raise TargetError(f"{target.name or 'the model'} is a {type(model).__name__}, not a torch.nn.Module")
    device = find_device(settings.device, model)
    if any(t.is_meta for t in (*model.parameters(), *model.buffers())):
        raise TargetError(
            f"{target.name or 'the model'} is on the meta device and has no values; build it on the CPU, "
            "or call model.to_empty(device='cpu') and initialise it"
        )
    if any(nn.parameter.is_lazy(t) for t in (*model.parameters(), *model.buffers())):
        raise TargetError(
            f"{target.name or 'the model'} has lazy modules whose shapes are not known yet; "
            "run one batch through it where it is built, before the optimizer is made"
        )
    supplied: list[str] = []
    with keep_random_state(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        seed_everything(settings.seed)
        if settings.data or target.train_data is None:
            train, test, form, names, synthetic = _supply_data(target, settings, supplied)
        else:
            train = as_batches(target.train_data, target.train_name, settings, shuffle=True)
            test = (
                None
                if target.test_data is None
                else as_batches(target.test_data, target.test_name, settings, shuffle=False)
            )
            form, synthetic = None, False
            names = (describe(train, target.train_name), "" if test is None else describe(test, target.test_name))
        optimizers = _optimizers(target)
        task = Task(form or Form("positional"), target.loss_fn, training_step=target.training_step)
        prepared = Prepared(
            target.name or type(model).__name__, model, task, train, test, optimizers, settings, device, synthetic,
            not copyable(model, target.loss_fn, optimizers), *names, None, (),
        )  # fmt: skip
    with kept_generators(train, test):
        batch = first_batch(train, target.train_name)
    check_finite_labels(batch)
    prepared = replace(prepared, batch_size=batch_size_of(batch))
    with keep_state(model, target.loss_fn, optimizers):  # the loss may reach for the user's own objects
        prepared = _try_once(prepared, batch, form)
    if prepared.task.loss_fn is not None and target.loss_fn is None and target.training_step is None:
        supplied.append(f"no loss_fn found: {prepared.task.loss_name} fits the output")
    if not optimizers and settings.optimizer is None:
        rate = settings.lr if settings.lr is not None else DEFAULT_RATES["adam"]
        supplied.append(f"no optimizer found: Adam at {rate:g} over all trainable parameters")
    return replace(prepared, supplied=tuple(supplied))


def find_device(name: str | None, model: nn.Module) -> torch.device:
    """The device to probe on. Raises UsageError when it is absent here; None is where the model is."""
    if name is None:
        first = next(itertools.chain(model.parameters(), model.buffers()), None)
        return torch.device("cpu") if first is None or first.is_meta else first.device
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"{name!r} is no device; use cpu, cuda, cuda:0, mps or auto") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"--device {name}: no CUDA device is available here; use --device cpu")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"--device {name}: there are only {torch.cuda.device_count()} CUDA devices here")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UsageError("--device mps: no MPS device is available here; use --device cpu")
    if device.type not in ("cpu", "cuda", "mps"):
        raise UsageError(f"--device {name} is not supported; use cpu, cuda, cuda:0, mps or auto")
    return device


def copied(
    model: nn.Module, loss_fn: Any, optimizers: Sequence[Optimizer]
) -> tuple[nn.Module, Any, list[Optimizer]]:
    """Deep copies that belong together: one memo keeps the optimizers on the copied parameters.

    An optimizer pickles only its groups and state; what else it holds, as LBFGS does, is copied after that.
    """
    memo: dict[int, Any] = {}
    model, loss_fn = copy.deepcopy(model, memo), copy.deepcopy(loss_fn, memo)
    result = []
    for optimizer in optimizers:
        twin = copy.deepcopy(optimizer, memo)
        for name, value in optimizer.__dict__.items():
            if name not in twin.__dict__:
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


def _optimizers(target: Target) -> tuple[Optimizer, ...]:
    given = target.optimizer
    if given is None:
        return ()
    several = given if isinstance(given, list | tuple) else (given,)
    for optimizer in several:
        if not isinstance(optimizer, Optimizer):
            raise TargetError(
                f"{target.name}: optimizer is a {type(optimizer).__name__}, not a torch.optim.Optimizer; "
                "make it with torch.optim.SGD(model.parameters(), lr=...)"
            )
    return tuple(several)


def as_batches(data: Any, name: str, settings: ProbeSettings, *, shuffle: bool) -> Iterable[Any]:
    """The user's data as something that yields batches, each time anew."""
    size = settings.batch_size
    if isinstance(data, DataLoader):
        if size is None or size == data.batch_size:
            return data
        if data.batch_size is None or type(data.batch_sampler) is not torch.utils.data.BatchSampler:
            raise UsageError(f"--batch-size does not fit {name}, which makes its own batches; leave it out")
        return DataLoader(
            data.dataset,
            size,
            sampler=None if isinstance(data.dataset, IterableDataset) else data.sampler,
            collate_fn=data.collate_fn,
            drop_last=data.drop_last,
            num_workers=data.num_workers,
            generator=data.generator,
        )
    if isinstance(data, Tensor):
        data = TensorDataset(data)
    if isinstance(data, tuple) and data and all(isinstance(t, Tensor) and t.ndim for t in data):
        if len({len(t) for t in data}) == 1:
            data = TensorDataset(*data)
        else:
            raise DataError(f"{name} holds tensors of different lengths: {[len(t) for t in data]}")
    if isinstance(data, Dataset):
        count = None if isinstance(data, IterableDataset) else len(data)  # type: ignore[arg-type]
        if count == 0:
            raise DataError(f"{name} is empty: it holds no samples")
        return DataLoader(data, size or 64, shuffle=shuffle and count is not None)
    if size is not None:
        raise UsageError(f"--batch-size does not fit {name}, which already comes in batches; leave it out")
    if hasattr(data, "__next__"):
        return Remembered(data, math.ceil(settings.steps))
    if not hasattr(data, "__iter__") and not hasattr(data, "__getitem__"):
        raise DataError(f"{name} is a {type(data).__name__}, which cannot be iterated; use a DataLoader")
    return data  # type: ignore[no-any-return]


class Remembered:
    """The first batches of an iterator that cannot be restarted, read when first asked for."""

    def __init__(self, source: Iterator[Any], most: int) -> None:
        self._source = itertools.islice(source, most)
        self._seen: list[Any] = []

    def __iter__(self) -> Iterator[Any]:
        yield from list(self._seen)
        for batch in self._source:
            self._seen.append(batch)
            yield batch


def first_batch(data: Iterable[Any], name: str) -> Any:
    """The first batch. Raises DataError when there is none or when loading it raises."""
    try:
        for batch in data:
            return batch
    except Exception as error:
        raise DataError(f"{name} raised {located(error)} while its first batch was read") from error
    raise DataError(f"{name} yields no batch: it is empty; check its length, batch_size and drop_last")


def batch_size_of(batch: Any) -> int | None:
    return next((len(t) for t in tensors(batch) if t.ndim), None)


def describe(data: Iterable[Any], name: str) -> str:
    """How the header names the user's data: "train_loader: 2,048 samples in batches of 64"."""
    if isinstance(data, DataLoader):
        size = f"batches of {data.batch_size}" if data.batch_size else "its own batches"
        try:
            return f"{name}: {len(data.dataset):,} samples in {size}"  # type: ignore[arg-type]
        except TypeError:
            return f"{name}: samples in {size}"
    try:
        return f"{name}: {len(data):,} batches"  # type: ignore[arg-type]
    except TypeError:
        return f"{name}: batches"


def check_finite_labels(batch: Any) -> None:
    """Nothing may be empty: a batch of no samples trains nothing and crashes norms."""
    if batch_size_of(batch) == 0:
        raise DataError("the first batch of the training data holds no samples; check the loader's collate_fn")


def _supply_data(
    target: Target, settings: ProbeSettings, supplied: list[str]
) -> tuple[Iterable[Any], Iterable[Any] | None, Form | None, tuple[str, str], bool]:
    if settings.data:
        from gradcheck_kit.target.datasets import named_data

        shape = settings.input_shape[0] if settings.input_shape else None
        named = named_data(settings.data, settings.data_dir, target.model, shape)
        supplied.extend(named.supplied)
        size = settings.batch_size or 64
        train = DataLoader(named.train, size, shuffle=True)
        test = DataLoader(named.test, size)
        return train, test, None, (named.description, f"its {len(named.test):,} test images"), False  # type: ignore[arg-type]
    train, form, description = _synthesize(target, settings)
    supplied.append("no training data found: random inputs and targets, to be learned by heart")
    return train, None, form, (description, ""), True


def _synthesize(target: Target, settings: ProbeSettings) -> tuple[list[Any], Form, str]:
    from gradcheck_kit.target.inputs import call_model, synthesize_inputs

    size = settings.batch_size or 32
    generator = torch.Generator().manual_seed(settings.seed)
    count = 2 * size
    inputs = synthesize_inputs(target.model, count, shapes=settings.input_shape, generator=generator)
    model = target.model
    modes = [(m, m.training) for m in model.modules()]
    try:
        model.train()
        probe = copy.deepcopy(model) if copyable(model, None, ()) else model
        with torch.no_grad(), keep_state(model, None, []):
            output = call_model(probe, replace(inputs, values=_first(inputs.values, size)))
    finally:
        for module, mode in modes:
            module.training = mode
    values = inputs.values
    whole: list[Any] = list(values.values()) if isinstance(values, dict) else list(values)
    made = None if brings_own_loss(output) else make_targets(output, whole, count, settings.classes, generator)
    keys = tuple(values) if isinstance(values, dict) else ()
    form: Form
    if inputs.call == "positional":
        form = Form("positional", inputs=len(whole), target=None if made is None else len(whole))
    elif inputs.call == "keyword":
        form = Form("keyword", keys=keys, target=None if made is None else "__target__")
    else:
        form = Form("mapping", target=None if made is None else "__target__")
    batches: list[Any] = []
    for start in range(0, count, size):
        parts = [_rows(value, start, size) for value in whole]
        label = None if made is None else made[start : start + size]
        if inputs.call == "positional":
            batches.append((*parts, label) if label is not None else tuple(parts))
        else:
            named = dict(zip(keys, parts, strict=True))
            batches.append(named if label is None else {**named, "__target__": label})
    described = f"{count} random samples in batches of {size}: {inputs.description}"
    return batches, form, described


def _rows(value: Any, start: int, size: int) -> Any:
    return value[start : start + size] if isinstance(value, Tensor | list) else value


def _first(values: Any, size: int) -> Any:
    if isinstance(values, dict):
        return {key: _rows(value, 0, size) for key, value in values.items()}
    return tuple(_rows(value, 0, size) for value in values)


def brings_own_loss(output: Any) -> bool:
    """Whether the output holds a loss, also when no gradient was recorded."""
    return isinstance(output, Mapping) and "loss" in output or isinstance(getattr(output, "loss", None), Tensor)


def make_targets(
    output: Any, inputs: Sequence[Any], count: int, classes: int | None, generator: torch.Generator
) -> Tensor | None:
    """Random targets for an output: classes, one per sample, token or pixel; or numbers of its shape.

    None where the output has the input's shape: an autoencoder's target is its input.
    """
    prediction = prediction_of(output)
    if prediction is None:
        raise DataError("the model returns no floating-point tensor to learn from; define gradcheck_target()")
    if prediction.is_complex() or prediction.ndim == 0:
        raise DataError(
            f"targets cannot be made up for an output of shape {tuple(prediction.shape)} and {prediction.dtype}; "
            "define loss_fn and train_loader in the file"
        )
    first = inputs[0] if isinstance(inputs[0], Tensor) else None
    shape = (count, *prediction.shape[1:])
    if first is not None and first.is_floating_point() and first.shape[1:] == prediction.shape[1:] and classes is None:
        return None if prediction.ndim > 2 else torch.randn(shape, generator=generator).to(prediction)
    if first is not None and not first.is_floating_point() and prediction.shape[1:-1] == first.shape[1:]:
        return _labels(shape[:-1], classes or prediction.shape[-1], generator, prediction)  # one per token
    if prediction.ndim == 1 or prediction.shape[1:].numel() == 1:
        if _looks_like_probability(prediction) or classes == 2:
            return torch.randint(0, 2, shape, generator=generator).to(prediction)
        return torch.randn(shape, generator=generator).to(prediction)
    if prediction.ndim == 2 or prediction.ndim >= 4:
        return _labels((count, *prediction.shape[2:]), classes or prediction.shape[1], generator, prediction)
    return torch.randn(shape, generator=generator).to(prediction)


def _labels(shape: tuple[int, ...], classes: int, generator: torch.Generator, like: Tensor) -> Tensor:
    return torch.randint(0, classes, shape, generator=generator).to(like.device)


def _looks_like_probability(prediction: Tensor) -> bool:
    return bool(((prediction >= 0) & (prediction <= 1)).all())


# ---- trying it once ----------------------------------------------------------------------------------------------


def _try_once(prepared: Prepared, batch: Any, form: Form | None) -> Prepared:
    """The prepared target with batch form and loss settled by one forward and backward pass."""
    if prepared.task.training_step is not None:
        prepared = replace(prepared, task=replace(prepared.task, loss_name="training_step"))
        return _notice_shared_objects(prepared, batch)
    has_loss = prepared.task.loss_fn is not None
    forms = [form] if form else list(find_form(prepared.model, batch, has_loss=has_loss))
    if not forms:
        raise DataError(
            f"a batch of {_shape_of(batch)} does not fit {type(prepared.model).__name__}.forward"
            f"{_signature(prepared.model)}; yield one item per argument and then the target"
        )
    first: Exception | None = None
    for candidate in forms:
        attempt = replace(prepared, task=replace(prepared.task, form=candidate))
        try:
            with workspace(attempt, seed=prepared.settings.seed) as work:
                moved = work.to_device(batch)
                output = work.task.forward(work.model, moved)
        except Exception as error:  # noqa: BLE001  # another form may fit; else the first one's error is told
            first = first or error
            continue
        return _settle_loss(attempt, batch)
    assert first is not None
    raise _explain(first, "the model's forward", f"on a batch of {_shape_of(batch)}", prepared) from first


def _settle_loss(prepared: Prepared, batch: Any) -> Prepared:
    try:
        with workspace(prepared, seed=prepared.settings.seed) as work:
            moved = work.to_device(batch)
            output = work.task.forward(work.model, moved)
            _check_labels(work.task, output, moved)
            task = find_loss(work.task, output, moved).reading_classes(output, moved)
    except (DataError, ProbeError):
        raise
    except Exception as error:
        raise _explain(error, "the loss", _against(output, moved, prepared.task), prepared) from error
    # The loss that was found may be ours; the user's own stays the original object, not the workspace's copy.
    task = replace(task, loss_fn=prepared.task.loss_fn or task.loss_fn)
    settled = replace(prepared, task=task)
    return _notice_shared_objects(settled, batch)


def _run(prepared: Prepared, batch: Any) -> None:
    """One forward and backward pass, for what it raises."""
    stage = "training_step" if prepared.task.training_step else "the model's forward"
    try:
        with workspace(prepared, seed=prepared.settings.seed) as work:
            moved = work.to_device(batch)
            _, loss = work.step(moved)
            stage = "backward"
            if not any(p.requires_grad for p in work.parameters()):
                raise TargetError(
                    f"{prepared.name} has no trainable parameter: nothing can learn; "
                    "set requires_grad=True on those that should"
                )
            work.backward(loss)
    except (DataError, ProbeError, TargetError):
        raise
    except Exception as error:
        raise _explain(error, stage, f"on a batch of {_shape_of(batch)}", prepared) from error


def _notice_shared_objects(prepared: Prepared, batch: Any) -> Prepared:
    """Probe in place where the loss reaches for the user's own model: a copy would then train something else.

    A regulariser or a physics-informed loss that names the global `model` leaves its gradient there.
    """
    _run(prepared, batch)
    reached = any(p.grad is not None for p in prepared.model.parameters())
    return replace(prepared, in_place=True) if reached else prepared


def _check_labels(task: Task, output: Any, batch: Any) -> None:
    """Class indices must exist: found here, because on a GPU the failed assertion would poison the process."""
    target, prediction = task.form.split(batch)[2], prediction_of(output)
    if not isinstance(target, Tensor) or target.is_floating_point() or prediction is None or target.numel() == 0:
        return
    classes = None
    if prediction.ndim == target.ndim + 1 and prediction.shape[:1] == target.shape[:1]:
        if prediction.shape[2:] == target.shape[1:]:
            classes = prediction.shape[1]
        elif prediction.shape[1:-1] == target.shape[1:]:
            classes = prediction.shape[-1]
    largest, smallest = int(target.max()), int(target.min())
    if classes is not None and classes > 1 and largest >= classes and largest != 255:
        raise DataError(
            f"labels run from {smallest} to {largest}, but the model's output of shape {tuple(prediction.shape)} "
            f"has {classes} classes (0 to {classes - 1}); mend the labels or give the last layer {largest + 1} outputs"
        )


def _against(output: Any, batch: Any, task: Task) -> str:
    target = task.form.split(batch)[2]
    return f"on an output of {_shape_of(output)} and a target of {_shape_of(target)}"


def _shape_of(value: Any) -> str:
    found = [f"{tuple(t.shape)}" for t in tensors(value)]
    if not found:
        return type(value).__name__
    return ", ".join(found[:4]) + (f" and {len(found) - 4} more" if len(found) > 4 else "")


def _signature(model: nn.Module) -> str:
    try:
        return str(inspect.signature(model.forward))
    except (TypeError, ValueError):
        return ""


def _explain(error: Exception, stage: str, context: str, prepared: Prepared) -> ProbeError:
    return ProbeError(f"{prepared.name}: {stage} raised {located(error)} {context}")


def located(error: BaseException) -> str:
    """An exception as a person would report it: "ValueError: ... (model.py:31)", with the line in their own code."""
    package = str(Path(__file__).parent.parent)
    own = [
        f
        for f in traceback.extract_tb(error.__traceback__)
        if not f.filename.startswith(package) and "site-packages" not in f.filename and "<" not in f.filename
        and "/lib/python" not in f.filename
    ]  # fmt: skip
    text = " ".join(str(error).split())
    text = f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__
    return f"{text} ({Path(own[-1].filename).name}:{own[-1].lineno})" if own else text
