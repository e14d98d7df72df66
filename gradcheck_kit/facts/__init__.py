"""The kinds of evidence: one frozen dataclass each, made by an experiment, read by rules.

Facts hold numbers, never tensors. A list over "recorded steps" is aligned with `Training.recorded`.
`None` means "not looked at" or "there was none"; it is never written as 0.
"""

from __future__ import annotations

from gradcheck_kit.facts.data import BadValues, ConstantInput, DataSummary, TensorSummary
from gradcheck_kit.facts.depth import ActivationGrowth, LayerOutput, PositionSpread, RankCollapse
from gradcheck_kit.facts.dynamics import GradientNoise, Oscillation, Schedule
from gradcheck_kit.facts.evaluation import (
    ClassAccuracy,
    EvalMode,
    Evaluation,
    Generalization,
    ModeGap,
    ModeHolder,
    RandomOperation,
)
from gradcheck_kit.facts.model import (
    BatchMixing,
    EqualUnits,
    FunctionCheck,
    FutureMixing,
    GradientCheck,
    InputUse,
    Linearity,
    LossCall,
    LossCalls,
    LossInput,
    LossInputs,
    MixingOperation,
    Symmetry,
)
from gradcheck_kit.facts.second_runs import (
    BatchRepetition,
    FeatureScale,
    FitAttempt,
    HeldOut,
    Initialization,
    InitialWeight,
    InputScale,
    LearningRateResponse,
    LowPrecision,
    OneBatchFit,
    RateTrial,
    TargetScale,
    TimeGradient,
    TimeGradients,
    WeightDecay,
)
from gradcheck_kit.facts.statistics import Series, binomial_tail, end_to_end, mann_kendall, middle, signed_rank, swing
from gradcheck_kit.facts.training import ActivationRecord, NonFinite, OutputRecord, ParameterRecord, Training
from gradcheck_kit.facts.wiring import Broadcast, UnregisteredModule, WiredModule, WiredParameter, Wiring

__all__ = [
    "FACTS",
    "ActivationGrowth",
    "ActivationRecord",
    "BadValues",
    "BatchMixing",
    "BatchRepetition",
    "Broadcast",
    "ClassAccuracy",
    "ConstantInput",
    "DataSummary",
    "EqualUnits",
    "EvalMode",
    "Evaluation",
    "FeatureScale",
    "FitAttempt",
    "FunctionCheck",
    "FutureMixing",
    "Generalization",
    "GradientCheck",
    "GradientNoise",
    "HeldOut",
    "InitialWeight",
    "Initialization",
    "InputScale",
    "InputUse",
    "LayerOutput",
    "LearningRateResponse",
    "Linearity",
    "LossCall",
    "LossCalls",
    "LossInput",
    "LossInputs",
    "LowPrecision",
    "MixingOperation",
    "ModeGap",
    "ModeHolder",
    "NonFinite",
    "OneBatchFit",
    "Oscillation",
    "OutputRecord",
    "ParameterRecord",
    "PositionSpread",
    "RandomOperation",
    "RankCollapse",
    "RateTrial",
    "Schedule",
    "Series",
    "Symmetry",
    "TargetScale",
    "TensorSummary",
    "TimeGradient",
    "TimeGradients",
    "Training",
    "UnregisteredModule",
    "WeightDecay",
    "WiredModule",
    "WiredParameter",
    "Wiring",
    "binomial_tail",
    "end_to_end",
    "mann_kendall",
    "middle",
    "signed_rank",
    "swing",
]

FACTS: tuple[type, ...] = (
    Wiring, Training, LearningRateResponse, Evaluation, OneBatchFit, LossInputs, Symmetry, Initialization, Linearity,
    DataSummary, BatchMixing, FutureMixing, InputUse, GradientCheck, LossCalls, EvalMode, InputScale, TargetScale,
    ModeGap, BatchRepetition, WeightDecay, LowPrecision,
    TimeGradients,
    Oscillation, Generalization, ActivationGrowth,
    GradientNoise, RankCollapse, Schedule, HeldOut,
)  # fmt: skip
