"""Experiments: each runs the target in one way and returns facts; none knows of rules.

An experiment is a function `(probe) -> fact`. It may raise `NotApplicable` with a reason. Each works in a workspace of
its own and leaves the user's objects as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

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
    Initialization,
    InputScale,
    InputUse,
    LearningRateResponse,
    Linearity,
    LossCalls,
    LossInputs,
    LowPrecision,
    ModeGap,
    OneBatchFit,
    Oscillation,
    RankCollapse,
    Symmetry,
    TargetScale,
    TimeGradients,
    Training,
    WeightDecay,
    Wiring,
)

if TYPE_CHECKING:
    from torch import Tensor

    from gradcheck_kit.target.workspace import Prepared


class NotApplicable(Exception):  # noqa: N818  # it is no error: it is how an experiment says that it does not apply
    """Raised by an experiment that has nothing to look at, with the reason as a clause."""


def _silent(_done: int, _total: int) -> None:
    pass


@dataclass(slots=True)
class Probe:
    """What an experiment works with: the target, the facts made before it, and somebody to tell how far it is."""

    prepared: Prepared
    facts: Mapping[type, Any] = field(default_factory=dict)
    tick: Callable[[int, int], None] = _silent
    trained: dict[str, Tensor] | None = None  # parameters and buffers that the training run left


@dataclass(frozen=True, slots=True)
class Experiment:
    """How to make one kind of fact; `after` are facts that it looks at when they were made."""

    fact: type
    run: Callable[[Probe], Any]
    after: tuple[type, ...] = ()


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
    from gradcheck_kit.experiments.initialization import look_at_initialization
    from gradcheck_kit.experiments.input_scale import measure_input_scale
    from gradcheck_kit.experiments.input_use import look_at_input_use
    from gradcheck_kit.experiments.learning_rate_response import respond_to_learning_rates
    from gradcheck_kit.experiments.linearity import look_at_linearity
    from gradcheck_kit.experiments.loss_calls import watch_loss_calls
    from gradcheck_kit.experiments.loss_inputs import look_at_loss_inputs
    from gradcheck_kit.experiments.mode_gap import compare_modes
    from gradcheck_kit.experiments.one_batch_fit import fit_one_batch
    from gradcheck_kit.experiments.oscillation import look_at_oscillation
    from gradcheck_kit.experiments.precision_loss import look_at_precision_loss
    from gradcheck_kit.experiments.rank_collapse import look_at_rank_collapse
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
        Experiment(Symmetry, look_at_symmetry),
        Experiment(LossCalls, watch_loss_calls),
        Experiment(Training, train),
        Experiment(BatchRepetition, repeat_batch, after=(Training,)),
        Experiment(Initialization, look_at_initialization, after=(Training,)),
        Experiment(ActivationGrowth, look_at_activation_growth, after=(Training,)),
        Experiment(RankCollapse, look_at_rank_collapse, after=(Training,)),
        Experiment(WeightDecay, look_at_weight_decay, after=(Training,)),
        Experiment(Oscillation, look_at_oscillation, after=(Training,)),
        Experiment(TimeGradients, look_through_time, after=(Training,)),
        Experiment(Linearity, look_at_linearity, after=(Training,)),
        Experiment(InputScale, measure_input_scale, after=(Training,)),
        Experiment(TargetScale, measure_target_scale, after=(Training,)),
        Experiment(ModeGap, compare_modes, after=(Training,)),
        Experiment(EvalMode, look_at_eval_mode),
        Experiment(Evaluation, evaluate, after=(Training,)),
        Experiment(Generalization, look_at_generalization, after=(Training, Evaluation)),
        Experiment(LearningRateResponse, respond_to_learning_rates, after=(Training,)),
        Experiment(GradientNoise, look_at_gradient_noise, after=(Training, LearningRateResponse)),
        Experiment(OneBatchFit, fit_one_batch),
        Experiment(BatchMixing, mix_batches),
        Experiment(FutureMixing, mix_future),
        Experiment(InputUse, look_at_input_use, after=(Training,)),
        Experiment(GradientCheck, check_gradients),
        Experiment(LowPrecision, look_at_precision_loss, after=(Training,)),
    )
