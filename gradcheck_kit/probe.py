"""From a target to a report: runs the experiments that the selected rules need, each once, then the rules."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn
from torch.optim import Optimizer

from gradcheck_kit import plugins, shared_traces
from gradcheck_kit.errors import GradcheckKitError, LabelError, PluginError, UsageError
from gradcheck_kit.experiments import Experiment, NotApplicable, Probe, built_in, in_order
from gradcheck_kit.facts import LossCalls
from gradcheck_kit.report import Report, check
from gradcheck_kit.rule import OptionValue, Rule, Severity
from gradcheck_kit.target import ProbeSettings, Target
from gradcheck_kit.target.fingerprint import fingerprint
from gradcheck_kit.target.keep import keep_random_state, kept_generators
from gradcheck_kit.target.load import load_target, spec_key
from gradcheck_kit.target.prepare import prepare
from gradcheck_kit.target.workspace import Prepared, describe_optimizers, seed_everything, workspace
from gradcheck_kit.trace import Header, Trace, decode, encode

Progress = Callable[[str, int, int], None]


def scan(
    model: nn.Module | Target,
    train_data: Iterable[Any] | None = None,
    *,
    loss_fn: Callable[..., torch.Tensor] | None = None,
    optimizer: Optimizer | Sequence[Optimizer] | None = None,
    test_data: Iterable[Any] | None = None,
    training_step: Callable[[nn.Module, Any], torch.Tensor] | None = None,
    steps: int = 60,
    batch_size: int | None = None,
    device: str | None = None,
    seed: int = 0,
    lr: float | None = None,
    data: str | None = None,
    input_shape: Sequence[int] | Sequence[Sequence[int]] | None = None,
    classes: int | None = None,
    min_accuracy: float | None = None,
    select: Sequence[str] | None = None,
    ignore: Sequence[str] | None = None,
    options: Mapping[str, Mapping[str, OptionValue]] | None = None,
    fail_on: Severity = "error",
    quick: bool = False,
    amp: Literal["bf16", "fp16"] | None = None,
    name: str = "",
) -> Report:
    """Return the report on a model: a short training run, experiments, rules. The model comes back as it was.

    `train_data` and `test_data` yield batches, or are data sets; everything after the model is optional, and what is
    missing is made up. `device` is where the model is, unless given. `select` and `ignore` are codes, their beginnings,
    or rule names. `options` are rule options by rule name. `amp` trains in mixed precision, as torch.autocast does;
    "fp16" scales the loss with torch.amp.GradScaler.

    Raises a GradcheckKitError when there is no verdict: the target does not load, its code raises, a selector matches
    no rule.
    """
    if isinstance(model, Target):
        target = model
    else:
        target = Target(model, train_data, test_data, loss_fn, optimizer, training_step)
    target.name = name or target.name or type(target.model).__name__
    if steps < 1:
        raise UsageError(f"steps is {steps}; use at least 1")
    if amp not in (None, "bf16", "fp16"):
        raise UsageError(f"amp is {amp!r}; use 'bf16' or 'fp16', or leave it out")
    shapes = _shapes(input_shape)
    settings = ProbeSettings(
        steps=steps, batch_size=batch_size, seed=seed, device=device, lr=lr, data=data, input_shape=shapes,
        classes=classes, quick=quick, amp=amp,
    )  # fmt: skip
    known = plugins.all_rules()
    chosen = plugins.select(known, select, ignore or ())
    all_options = {plugins.find_rule(known, rule).name: dict(values) for rule, values in (options or {}).items()}
    if min_accuracy is not None:
        all_options.setdefault("eval-accuracy", {})["min-accuracy"] = min_accuracy
    return examine(target, settings, rules=chosen, options=all_options, fail_on=fail_on)


def _shapes(given: Sequence[int] | Sequence[Sequence[int]] | None) -> tuple[tuple[int, ...], ...] | None:
    if given is None:
        return None
    if all(isinstance(size, int) for size in given):
        return (tuple(size for size in given if isinstance(size, int)),)
    return tuple(tuple(int(size) for size in shape) for shape in given if not isinstance(shape, int))


def scan_target(
    spec: str,
    settings: ProbeSettings,
    *,
    rules: Sequence[Rule],
    options: Mapping[str, Mapping[str, OptionValue]] | None = None,
    fail_on: Severity = "error",
    progress: Progress | None = None,
) -> Report:
    """Load a TARGET and examine it. Random numbers drawn while the file is loaded are seeded too."""

    def load() -> Target:
        seed_everything(settings.seed)
        return load_target(spec)

    with keep_random_state():
        start = time.perf_counter()
        trace = _trace(lambda: spec_key(spec), load, settings, rules, progress)
        return check(trace, rules, options=options, fail_on=fail_on, seconds=time.perf_counter() - start)


def examine(
    target: Target,
    settings: ProbeSettings,
    *,
    rules: Sequence[Rule],
    options: Mapping[str, Mapping[str, OptionValue]] | None = None,
    fail_on: Severity = "error",
    progress: Progress | None = None,
) -> Report:
    """Probe a target and apply the rules."""
    start = time.perf_counter()
    trace = _trace(lambda: fingerprint(target), lambda: target, settings, rules, progress)
    return check(trace, rules, options=options, fail_on=fail_on, seconds=time.perf_counter() - start)


def _trace(
    key: Callable[[], Hashable | None],
    load: Callable[[], Target],
    settings: ProbeSettings,
    rules: Sequence[Rule],
    progress: Progress | None,
) -> Trace:
    """What a probe of the target sees, or one saw that other scans share: `key` equals where targets do."""

    def make() -> Trace:
        try:
            return probe(prepare(load(), settings), rules, progress=progress)
        except LabelError as refusal:
            if not any(LossCalls in rule.needs for rule in rules):
                raise
            return _of_refused_labels(refusal)

    shared = shared_traces.current()
    same = None if shared is None else key()
    if shared is None or same is None:
        return make()
    return shared.trace((same, settings), frozenset(experiment.fact for experiment in _plan(rules)), make)


def measure(
    experiment: Experiment,
    model: nn.Module | Target,
    train_data: Iterable[Any] | None = None,
    *,
    loss_fn: Callable[..., torch.Tensor] | None = None,
    optimizer: Optimizer | Sequence[Optimizer] | None = None,
    test_data: Iterable[Any] | None = None,
    steps: int = 60,
    seed: int = 0,
    others: Iterable[Experiment] = (),
) -> Any:
    """Return the fact that an experiment makes of a model, as a probe would make it: for tests of experiments.

    The facts that it is `after` are made first; `others` are experiments of the same plugin that make some of them.
    Raises NotApplicable where the experiment does.
    """
    target = model if isinstance(model, Target) else Target(model, train_data, test_data, loss_fn, optimizer)
    facts: dict[type, Any] = {}
    work = Probe(prepare(target, ProbeSettings(steps=steps, seed=seed)), facts)
    for one in _wanted(in_order([*built_in(), *others, experiment]), {experiment.fact}):
        facts[one.fact] = decode(one.fact, encode(one.run(work)))
    return facts[experiment.fact]


def probe(prepared: Prepared, rules: Sequence[Rule], *, progress: Progress | None = None) -> Trace:
    """Run exactly the experiments that the rules need or use, each once."""
    facts: dict[type, Any] = {}
    absent: dict[str, str] = {}
    crashed: dict[str, str] = {}
    work = Probe(prepared, facts)
    for experiment in _plan(rules):
        name = experiment.fact.__name__
        if progress is not None:
            work.tick = _ticking(progress, name)
        try:
            # Whatever an experiment draws, the next one and the user find random numbers where they were.
            with keep_random_state(), kept_generators(prepared.train, prepared.test):
                fact = experiment.run(work)
            # As a saved trace would hold it: typed values only, and one NaN that equals itself.
            facts[experiment.fact] = decode(experiment.fact, encode(fact))
        except NotApplicable as reason:
            absent[name] = str(reason)
        except GradcheckKitError:  # the target's fault, in a sentence
            raise
        except Exception as error:  # noqa: BLE001  # as with rules: the rules on other facts still report
            crashed[name] = f"experiment {_name(experiment.run)} of {experiment.plugin} crashed: {_told(error)}"
    return Trace(_header(prepared), facts, absent, crashed)


def _of_refused_labels(refusal: LabelError) -> Trace:
    """What there is to judge where no training can be done: the labels."""
    absent = {e.fact.__name__: "the loss refuses the labels (see invalid-labels)" for e in built_in()}
    facts: dict[type, Any] = {LossCalls: LossCalls((), refused=refusal.message, remedy=refusal.fix)}
    return Trace(_header(refusal.prepared), facts, absent)


def _name(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__name__", type(function).__name__))


def _told(error: Exception) -> str:
    """The exception with the line that raised it, be it ours, a plugin's or torch's."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(last.filename).name}:{last.lineno})"


def _ticking(progress: Progress, name: str) -> Callable[[int, int], None]:
    words = "".join(f" {c.lower()}" if c.isupper() else c for c in name).strip()
    return lambda done, total: progress(words, done, total)


def _plan(rules: Sequence[Rule]) -> list[Experiment]:
    """The experiments whose facts the rules want, in order. Raises PluginError for a fact that none makes."""
    sources = {rule.plugin: rule.experiments for rule in rules if rule.plugin != plugins.BUILT_IN}
    experiments = in_order([*built_in(), *(e for source in sources.values() for e in source())])
    made = {experiment.fact for experiment in experiments}
    for rule in rules:
        for need in rule.needs:
            if need not in made:
                raise PluginError(
                    f"plugin {rule.plugin}: rule {rule.name} needs {need.__name__}, which no experiment makes; "
                    "return one from gradcheck_experiments",
                    rule.plugin,
                )
    return _wanted(experiments, {kind for rule in rules for kind in (*rule.needs, *rule.uses)})


def _wanted(experiments: Sequence[Experiment], facts: Iterable[type]) -> list[Experiment]:
    """Those of the experiments, which are in order, that make these facts or what is looked at on the way."""
    wanted = set(facts)
    for experiment in reversed(experiments):
        if experiment.fact in wanted:
            wanted |= set(experiment.after)
    return [experiment for experiment in experiments if experiment.fact in wanted]


def _header(prepared: Prepared) -> Header:
    from gradcheck_kit import __version__

    settings = prepared.settings
    with workspace(prepared) as work:
        optimizer = describe_optimizers(work.optimizers)
    layers = {name.rpartition(".")[0] for name, p in prepared.model.named_parameters() if p.ndim >= 2}
    return Header(
        name=prepared.name,
        model=type(prepared.model).__name__,
        parameters=sum(p.numel() for p in prepared.model.parameters()),
        weight_layers=len(layers),
        data=prepared.data,
        test_data=prepared.test_data,
        optimizer=optimizer,
        loss=prepared.task.loss_name + (f", {settings.amp} autocast" if settings.amp else ""),
        device=str(prepared.device),
        threads=torch.get_num_threads(),
        steps=settings.steps,
        batch_size=prepared.batch_size,
        seed=settings.seed,
        torch_version=torch.__version__,
        tool_version=__version__,
        supplied=prepared.supplied,
        sources=prepared.sources,
    )
