"""Puts a target together for the probe: supplies what is missing and tries one batch, so that everything fits."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from gradcheck_kit.errors import DataError, GradcheckKitError, LabelError, ProbeError, TargetError, UsageError
from gradcheck_kit.rule import listed
from gradcheck_kit.target import ProbeSettings, Target
from gradcheck_kit.target.batches import as_batches, batch_size_of, describe, first_batch, with_workers
from gradcheck_kit.target.blame import located, shape_of, signature_of
from gradcheck_kit.target.clipping import find_clipping
from gradcheck_kit.target.eager import compiled_parts, eager, inside
from gradcheck_kit.target.forms import Form, find_form
from gradcheck_kit.target.keep import keep_random_state, keep_state, kept_generators
from gradcheck_kit.target.labels import check_classes, why_refused
from gradcheck_kit.target.lazy_modules import is_lazy, materialized
from gradcheck_kit.target.precision import find_precision
from gradcheck_kit.target.schedulers import has_step_hooks, rates_to_train_at, scheduled
from gradcheck_kit.target.source_lines import Program, source_lines
from gradcheck_kit.target.synthesis import MadeUp, synthesize_data
from gradcheck_kit.target.take_apart import refused_labels, taken_apart
from gradcheck_kit.target.task import Task, find_loss
from gradcheck_kit.target.workspace import DEFAULT_RATES, Prepared, copyable, seed_everything, workspace


def prepare(target: Target, settings: ProbeSettings) -> Prepared:
    """Supply what is missing and try one batch. Raises a sentence for whatever does not fit."""
    model = target.model
    if not isinstance(model, nn.Module):
        raise TargetError(f"{target.name or 'the model'} is a {type(model).__name__}, not a torch.nn.Module")
    supplied: list[str] = list(target.notes)
    model = _look_inside(target, supplied)
    loss_fn = target.loss_fn
    loss_fn = inside(loss_fn, parallel=False) if isinstance(loss_fn, nn.Module) else loss_fn
    target = replace(target, model=model, loss_fn=loss_fn)
    device = find_device(settings.device, model)
    if any(t.is_meta for t in (*model.parameters(), *model.buffers())):
        raise TargetError(
            f"{target.name or 'the model'} is on the meta device and has no values; build it on the CPU, "
            "or call model.to_empty(device='cpu') and initialise it"
        )
    made: MadeUp | None = None
    with keep_random_state(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        seed_everything(settings.seed)
        if is_lazy(model):
            target = _with_shapes(target, settings, supplied)
            model = target.model
        if settings.data or target.train_data is None:
            with keep_state(model, target.loss_fn, ()):  # a model that cannot be copied is tried itself
                train, test, form, names, made = _supply_data(replace(target, model=eager(model)), settings, supplied)
        else:
            train, test = _own_batches(target, settings)
            form = None
            names = (describe(train, target.train_name), "" if test is None else describe(test, target.test_name))
        optimizers = _optimizers(target)
        task = Task(
            form or Form("positional"), target.loss_fn or (made.loss_fn if made else None),
            training_step=target.training_step, precision=find_precision(settings.amp, device, model),
        )  # fmt: skip
        prepared = Prepared(
            name=target.name or type(model).__name__,
            model=model,
            task=task,
            train=train,
            test=test,
            optimizers=optimizers,
            settings=settings,
            device=device,
            synthetic=made is not None,
            in_place=any(map(has_step_hooks, optimizers)) or not copyable(model, target.loss_fn, optimizers),
            data=names[0],
            test_data=names[1],
            image_side=made.image_side if made else None,
            rates=rates_to_train_at(optimizers),
            clipping=find_clipping(target.file),
        )
    with keep_random_state(), kept_generators(train, test), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        seed_everything(settings.seed)  # an iterated DataLoader draws from the global generator
        batch = first_batch(train, target.train_name)
    _refuse_empty(batch)
    prepared = replace(prepared, batch_size=batch_size_of(batch))
    with keep_state(model, target.loss_fn, optimizers):  # the loss may reach for the user's own objects
        prepared = _try_once(prepared, batch, form)
    if settings.input_shape and not settings.data and target.train_data is not None:
        supplied.append(f"--input is not used: the file brings its own {target.train_name}")
    if prepared.task.loss_fn is not None and target.loss_fn is None and target.training_step is None:
        supplied.append(f"no loss_fn found: {prepared.task.loss_name} fits the output")
        prepared = replace(prepared, loss_supplied=True)
    if not optimizers and settings.optimizer is None:
        rate = settings.lr if settings.lr is not None else DEFAULT_RATES["adam"]
        supplied.append(f"no optimizer found: Adam at {rate:g} over all trainable parameters")
    if optimizers and settings.optimizer is None and settings.lr is None:
        supplied += _schedules(optimizers, prepared.rates)
    if prepared.clipping is not None and prepared.optimizer_given:
        clipped = "values" if prepared.clipping.by_value else "their norm"
        supplied.append(
            f"gradients are clipped, {clipped} at {prepared.clipping.limit:g}, as in line {prepared.clipping.line}"
        )
    return replace(prepared, supplied=tuple(supplied), sources=source_lines(prepared.model, _program(target, settings)))


def _schedules(optimizers: Sequence[Optimizer], rates: Sequence[Sequence[float]]) -> list[str]:
    """A note where a scheduler has the optimizer's rate in its hands: it leaves its mark, `initial_lr`."""
    if not scheduled(optimizers) or any(map(has_step_hooks, optimizers)):
        return []
    chosen = sorted({rate for groups in rates for rate in groups})
    span = f"{chosen[0]:g}" if len(chosen) == 1 else f"{chosen[0]:g} to {chosen[-1]:g}"
    return [f"the learning-rate scheduler is not stepped: the probe trains at {span} throughout"]


def _program(target: Target, settings: ProbeSettings) -> Program | None:
    """Where to read what the user wrote, without what the settings replace."""
    if target.file is None:
        return None
    return Program(
        target.file,
        target.name.rpartition(":")[2],
        loss=target.loss_fn is not None,
        optimizer=target.optimizer is not None and settings.optimizer is None,
        train_name=target.train_name if target.train_data is not None and not settings.data else "",
    )


def _look_inside(target: Target, supplied: list[str]) -> nn.Module:
    """The model without what is wrapped around it, and a note that says so."""
    # A training step of the user's may reach for `model.module`, and has to find it.
    model = inside(target.model, parallel=target.training_step is None)
    compiled = compiled_parts(target.model)
    if compiled:
        where = "the model" if "" in compiled else listed(compiled)
        supplied.append(f"{where} is compiled: the probe ran the eager modules, whose insides can be seen")
    elif model is not target.model:
        supplied.append(f"the probe ran the module inside {type(target.model).__name__}, on one device")
    return model


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


def _own_batches(target: Target, settings: ProbeSettings) -> tuple[Iterable[Any], Iterable[Any] | None]:
    """The user's training and test data. A loader's workers are done without, unless its data set needs them."""
    train, test = (
        None if data is None else as_batches(data, name, settings, shuffle=shuffle)
        for data, name, shuffle in (
            (target.train_data, target.train_name, True),
            (target.test_data, target.test_name, False),
        )
    )
    assert train is not None
    given = target.train_data
    if train is not given and isinstance(given, DataLoader) and given.num_workers and settings.batch_size is None:
        try:
            with kept_generators(train):
                first_batch(train, target.train_name)
        except DataError:
            train = with_workers(given)
            test = with_workers(target.test_data) if isinstance(target.test_data, DataLoader) else test
    return train, test


def _with_shapes(target: Target, settings: ProbeSettings, supplied: list[str]) -> Target:
    """The target with the shapes of its lazy modules taken from the first batch of its own data."""
    if target.train_data is not None and not settings.data:
        train, _ = _own_batches(target, settings)
        target = replace(target, train_data=train if hasattr(target.train_data, "__next__") else target.train_data)
        with kept_generators(train):
            found = materialized(target, first_batch(train, target.train_name), _optimizers(target))
        if found is not None:
            supplied.append("the model has lazy modules: the probe's copy took their shapes from the first batch")
            return found
    raise TargetError(
        f"{target.name or 'the model'} has lazy modules whose shapes are not known yet; "
        "run one batch through it where it is built, before the optimizer is made"
    )


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


def _refuse_empty(batch: Any) -> None:
    """Nothing may be empty: a batch of no samples trains nothing and crashes norms."""
    if batch_size_of(batch) == 0:
        raise DataError("the first batch of the training data holds no samples; check the loader's collate_fn")


def _supply_data(
    target: Target, settings: ProbeSettings, supplied: list[str]
) -> tuple[Iterable[Any], Iterable[Any] | None, Form | None, tuple[str, str], MadeUp | None]:
    """Data for training and testing, its form, what the header says of both, and what was made up of it."""
    if settings.data:
        from gradcheck_kit.target.datasets import named_data

        shape = settings.input_shape[0] if settings.input_shape else None
        named = named_data(settings.data, settings.data_dir, target.model, shape)
        supplied.extend(named.supplied)
        size = settings.batch_size or 64
        train = DataLoader(named.train, size, shuffle=True)
        test = DataLoader(named.test, size)
        names = (named.description, f"its {len(named.test):,} test images")  # type: ignore[arg-type]
        return train, test, None, names, None
    made = synthesize_data(target, settings)
    supplied.append("no training data found: random inputs and targets, to be learned by heart")
    supplied.extend(filter(None, [made.changed]))
    return made.batches, None, made.form, (made.description, ""), made


# ---- trying it once ----------------------------------------------------------------------------------------------


def _try_once(prepared: Prepared, batch: Any, form: Form | None) -> Prepared:
    """The prepared target with batch form and loss settled by one forward and backward pass."""
    if prepared.task.training_step is not None:
        return _with_step(replace(prepared, task=replace(prepared.task, loss_name="training_step")), batch)
    has_loss = prepared.task.loss_fn is not None
    forms = [form] if form else list(find_form(prepared.model, batch, has_loss=has_loss))
    if not forms:
        raise DataError(
            f"a batch of {shape_of(batch)} does not fit {type(prepared.model).__name__}.forward"
            f"{signature_of(prepared.model)}; yield one item per argument and then the target"
        )
    told: GradcheckKitError | None = None
    for candidate in forms:
        try:
            return _settle(replace(prepared, task=replace(prepared.task, form=candidate)), batch)
        except GradcheckKitError as error:  # noqa: PERF203  # another form may fit; else the first one's error is told
            told = told or error
    assert told is not None
    raise told


def _with_step(prepared: Prepared, batch: Any) -> Prepared:
    """The target with its training step taken apart, where that can be done."""
    try:
        prepared = _notice_shared_objects(prepared, batch)
    except ProbeError as error:
        refusal = None if prepared.synthetic else refused_labels(prepared, batch)
        if refusal is None:
            raise
        refusal.prepared = prepared
        raise refusal from error
    return taken_apart(prepared, batch) or prepared


def _settle(prepared: Prepared, batch: Any) -> Prepared:
    """The target with the way its loss is called, if this form of the batch fits both model and loss."""
    stage, context = "the model's forward", f"on a batch of {shape_of(batch)}"
    try:
        with workspace(prepared, seed=prepared.settings.seed) as work:
            moved = work.to_device(batch)
            output = work.task.forward(work.model, moved)
            stage, context = "the loss", _against(output, moved, prepared.task)
            check_classes(work.task, output, moved)
            try:
                task = find_loss(work.task, output, moved).reading_classes(output, moved)
            except GradcheckKitError:
                raise
            except Exception as error:
                if prepared.synthetic or (refusal := why_refused(work.task, output, moved, error)) is None:
                    raise
                raise refusal from error
    except LabelError as refusal:
        refusal.prepared = prepared
        raise
    except GradcheckKitError:
        raise
    except Exception as error:
        raise _explain(error, stage, context, prepared) from error
    # The loss that was found may be ours; the user's own stays the original object, not the workspace's copy.
    task = replace(task, loss_fn=prepared.task.loss_fn or task.loss_fn)
    return _notice_shared_objects(replace(prepared, task=task), batch)


def _run(prepared: Prepared, batch: Any) -> None:
    """One forward and backward pass, for what it raises."""
    stage = "training_step" if prepared.task.training_step else "the model's forward"
    try:
        with workspace(prepared, seed=prepared.settings.seed) as work:
            moved = work.to_device(batch)
            _, loss = work.step(moved)
            stage = "backward"
            if not any(p.requires_grad for p in work.parameters()):
                raise TargetError(f"{prepared.name} has no trainable parameter: {_why_untrainable(prepared.model)}")
            work.backward(loss)
    except (DataError, ProbeError, TargetError):
        raise
    except Exception as error:
        raise _explain(error, stage, f"on a batch of {shape_of(batch)}", prepared) from error


def _why_untrainable(model: nn.Module) -> str:
    if any(".quantized." in f".{type(module).__module__}." for module in model.modules()):
        return "its layers are quantized to integers; scan the float model, as it is before it is converted"
    return "nothing can learn; set requires_grad=True on those that should"


def _notice_shared_objects(prepared: Prepared, batch: Any) -> Prepared:
    """Probe in place where the loss reaches for the user's own model: a copy would then train something else.

    A regulariser or a physics-informed loss that names the global `model` leaves its gradient there.
    """
    _run(prepared, batch)
    reached = any(p.grad is not None for p in prepared.model.parameters())
    return replace(prepared, in_place=True) if reached else prepared


def _against(output: Any, batch: Any, task: Task) -> str:
    target = task.form.split(batch)[2]
    return f"on an output of {shape_of(output)} and a target of {shape_of(target)}"


def _explain(error: Exception, stage: str, context: str, prepared: Prepared) -> ProbeError:
    amp = prepared.settings.amp
    under = f" under --amp {amp}; leave that out where the model is not trained so" if amp else ""
    return ProbeError(f"{prepared.name}: {stage} raised {located(error)} {context}{under}")
