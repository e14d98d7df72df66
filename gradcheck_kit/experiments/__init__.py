"""Experiments: each runs the target in one way and returns facts; none knows of rules.

An experiment is a function `(probe) -> fact`. It may raise `NotApplicable` with a reason. Each works in a workspace of
its own and leaves the user's objects as they are. Plugins bring theirs with `gradcheck_experiments`; what they may rely
on is `Experiment`, `NotApplicable`, and of `Probe` what its docstring names.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, is_dataclass
from typing import TYPE_CHECKING, Any

from gradcheck_kit.errors import PluginError
from gradcheck_kit.facts import (
    ActivationGrowth,
    BatchMixing,
    BatchRepetition,
    DataSummary,
    EvalMode,
    Evaluation,
    FutureMixing,
    Generalization,
    GradientCheck,
    GradientNoise,
    HeldOut,
    Initialization,
    InputScale,
    InputUse,
    LearningRateResponse,
    Linearity,
    LossCalls,
    LossInputs,
    LossTerms,
    LowPrecision,
    ModeGap,
    OneBatchFit,
    Oscillation,
    RankCollapse,
    SampleCollapse,
    Schedule,
    Symmetry,
    TargetScale,
    TimeGradients,
    Training,
    WeightDecay,
    Wiring,
)

if TYPE_CHECKING:
    from torch import Tensor

    from gradcheck_kit.target.workspace import Prepared, Workspace


# A training step that could not be taken apart into an output and its loss, see target/take_apart.py.
WHOLE_STEP = "the training step is more than one call of the model and a loss"


class NotApplicable(Exception):  # noqa: N818  # it is no error: it is how an experiment says that it does not apply
    """Raised by an experiment that has nothing to look at, with the reason as a clause."""


def _silent(_done: int, _total: int) -> None:
    pass


@dataclass(slots=True)
class Probe:
    """What an experiment works with: the target, the facts made before it, and somebody to tell how far it is.

    `workspace()` lends out the model, `batches(work)` and `test_batches(work)` are its data, `train_data` and
    `test_data` what they come from, `facts` are what earlier experiments saw, by type, and `tick(done, total)` moves
    the progress line.
    """

    prepared: Prepared
    facts: Mapping[type, Any] = field(default_factory=dict)
    tick: Callable[[int, int], None] = _silent
    trained: dict[str, Tensor] | None = None  # parameters and buffers that the training run left

    @contextmanager
    def workspace(self, *, trained: bool = False) -> Iterator[Workspace]:
        """Lend out model, loss and optimizers, in training mode and seeded; everything is put back in the end.

        `work.model` may be changed at will; `work.step(batch)` returns output and loss, `work.inputs(batch)` what the
        model is called with. With `trained`, parameters and buffers are those that the training run left. Raises
        NotApplicable where there was none: name Training in the experiment's `after`, or in the rule's `needs`.
        """
        from gradcheck_kit.experiments.evaluation import load_trained
        from gradcheck_kit.target.workspace import workspace

        if trained and self.trained is None:
            raise NotApplicable("the model was not trained first")
        with workspace(self.prepared, seed=self.prepared.settings.seed) as work:
            if trained:
                load_trained(work, self)
            yield work

    def batches(self, work: Workspace) -> Iterator[Any]:
        """The training batches on the workspace's device, from the first on, over and over."""
        from gradcheck_kit.target.batches import endless

        return map(work.to_device, endless(self.prepared.train))

    def test_batches(self, work: Workspace) -> Iterator[Any]:
        """The test batches on the workspace's device, once. Raises NotApplicable where the target has no test data."""
        if self.prepared.test is None:
            raise NotApplicable("there is no test data")
        return map(work.to_device, self.prepared.test)

    @property
    def train_data(self) -> Iterable[Any]:
        """What yields the training batches: the target's own loader, its data set and sampler as they are.

        Workers are left out where its data set can do without. Draw from it inside `workspace()`, which seeds random
        numbers and puts them back, generators of loaders too. No promise that it is a DataLoader: any iterable may be.
        """
        return self.prepared.train

    @property
    def test_data(self) -> Iterable[Any] | None:
        """Likewise what yields the test batches; None where the target has no test data."""
        return self.prepared.test


@dataclass(frozen=True, slots=True)
class Experiment:
    """How to make one kind of fact; `after` are facts that it looks at when they were made."""

    fact: type
    run: Callable[[Probe], Any]
    after: tuple[type, ...] = ()
    plugin: str = "gradcheck-kit"

    def validate(self) -> None:
        """Raise PluginError, naming the plugin, if this cannot be run or its fact cannot be kept in a trace."""

        def refuse(reason: str) -> None:
            name = getattr(self.run, "__name__", repr(self.run))
            raise PluginError(f"plugin {self.plugin}: experiment {name} {reason}", self.plugin)

        if not isinstance(self.fact, type) or not is_dataclass(self.fact):
            refuse(f"makes {self.fact!r}, which is no fact; use a @dataclass(frozen=True, slots=True) of plain values")
        if not self.fact.__dataclass_params__.frozen:  # type: ignore[attr-defined]  # every dataclass has it
            refuse(f"makes {self.fact.__name__}, which can be changed; use @dataclass(frozen=True, slots=True)")
        if not callable(self.run) or len(inspect.signature(self.run).parameters) != 1:
            refuse("is no function of the probe alone; write def measure(probe): ...")


def in_order(experiments: Iterable[Experiment]) -> list[Experiment]:
    """Each after those that it looks at, otherwise as they come. Raises PluginError for a circle, or a fact made twice.

    Facts are told apart by their names, as in a saved trace.
    """
    makers: dict[str, Experiment] = {}
    for experiment in experiments:
        name = experiment.fact.__name__
        known = makers.setdefault(name, experiment)
        if known is not experiment:
            raise PluginError(
                f"plugin {experiment.plugin}: its fact {name} is made by {known.plugin} already; rename it",
                experiment.plugin,
            )
    waiting, ordered = list(makers), []
    while waiting:
        free = [n for n in waiting if not any(a.__name__ in waiting for a in makers[n].after)]
        if not free:
            plugin = makers[waiting[0]].plugin
            raise PluginError(f"plugin {plugin}: these facts are made after each other: {', '.join(waiting)}", plugin)
        waiting.remove(free[0])
        ordered.append(makers[free[0]])
    return ordered


def built_in() -> tuple[Experiment, ...]:
    """The experiments, in the order in which they run."""
    from gradcheck_kit.experiments.activation_growth import look_at_activation_growth
    from gradcheck_kit.experiments.batch_mixing import mix_batches
    from gradcheck_kit.experiments.batch_repetition import repeat_batch
    from gradcheck_kit.experiments.data_summary import summarize_data
    from gradcheck_kit.experiments.eval_mode import look_at_eval_mode
    from gradcheck_kit.experiments.evaluation import evaluate
    from gradcheck_kit.experiments.future_mixing import mix_future
    from gradcheck_kit.experiments.generalization import look_at_generalization
    from gradcheck_kit.experiments.gradient_check import check_gradients
    from gradcheck_kit.experiments.gradient_noise import look_at_gradient_noise
    from gradcheck_kit.experiments.held_out import look_at_held_out
    from gradcheck_kit.experiments.initialization import look_at_initialization
    from gradcheck_kit.experiments.input_scale import measure_input_scale
    from gradcheck_kit.experiments.input_use import look_at_input_use
    from gradcheck_kit.experiments.learning_rate_response import respond_to_learning_rates
    from gradcheck_kit.experiments.linearity import look_at_linearity
    from gradcheck_kit.experiments.loss_calls import watch_loss_calls
    from gradcheck_kit.experiments.loss_inputs import look_at_loss_inputs
    from gradcheck_kit.experiments.loss_terms import look_at_loss_terms
    from gradcheck_kit.experiments.mode_gap import compare_modes
    from gradcheck_kit.experiments.one_batch_fit import fit_one_batch
    from gradcheck_kit.experiments.oscillation import look_at_oscillation
    from gradcheck_kit.experiments.precision_loss import look_at_precision_loss
    from gradcheck_kit.experiments.rank_collapse import look_at_rank_collapse
    from gradcheck_kit.experiments.sample_collapse import look_at_sample_collapse
    from gradcheck_kit.experiments.schedule import look_at_schedule
    from gradcheck_kit.experiments.symmetry import look_at_symmetry
    from gradcheck_kit.experiments.target_scale import measure_target_scale
    from gradcheck_kit.experiments.time_gradients import look_through_time
    from gradcheck_kit.experiments.training import train
    from gradcheck_kit.experiments.weight_decay import look_at_weight_decay
    from gradcheck_kit.experiments.wiring import look_at_wiring

    return (
        Experiment(DataSummary, summarize_data),
        Experiment(Wiring, look_at_wiring),
        Experiment(LossInputs, look_at_loss_inputs),
        Experiment(LossTerms, look_at_loss_terms),
        Experiment(Symmetry, look_at_symmetry),
        Experiment(LossCalls, watch_loss_calls),
        Experiment(Schedule, look_at_schedule),
        Experiment(Training, train),
        Experiment(BatchRepetition, repeat_batch, after=(Training,)),
        Experiment(Initialization, look_at_initialization, after=(Training,)),
        Experiment(ActivationGrowth, look_at_activation_growth, after=(Training,)),
        Experiment(RankCollapse, look_at_rank_collapse, after=(Training,)),
        Experiment(SampleCollapse, look_at_sample_collapse, after=(Training,)),
        Experiment(WeightDecay, look_at_weight_decay, after=(Training,)),
        Experiment(Oscillation, look_at_oscillation, after=(Training,)),
        Experiment(TimeGradients, look_through_time, after=(Training,)),
        Experiment(Linearity, look_at_linearity, after=(Training,)),
        Experiment(InputScale, measure_input_scale, after=(Training,)),
        Experiment(TargetScale, measure_target_scale, after=(Training, InputScale)),
        Experiment(ModeGap, compare_modes, after=(Training,)),
        Experiment(EvalMode, look_at_eval_mode),
        Experiment(Evaluation, evaluate, after=(Training, DataSummary)),
        Experiment(Generalization, look_at_generalization, after=(Training, Evaluation)),
        Experiment(LearningRateResponse, respond_to_learning_rates, after=(Training,)),
        Experiment(GradientNoise, look_at_gradient_noise, after=(Training, LearningRateResponse)),
        Experiment(HeldOut, look_at_held_out, after=(Training, Evaluation, LearningRateResponse)),
        Experiment(OneBatchFit, fit_one_batch),
        Experiment(BatchMixing, mix_batches),
        Experiment(FutureMixing, mix_future),
        Experiment(InputUse, look_at_input_use, after=(Training,)),
        Experiment(GradientCheck, check_gradients),
        Experiment(LowPrecision, look_at_precision_loss, after=(Training,)),
    )
