"""Builders of facts and traces for the tests of rules: healthy unless told otherwise.

    from gradcheck_kit.testing import apply, stack, training

    def test_it_names_the_first_layer():
        (finding,) = apply(vanishing_gradient, training(**stack([1e-9, 1e-6, 1e-3])))
        assert finding.where == "0"

A number given for a series stands for every recorded step. Standard library only.
"""

from __future__ import annotations

import itertools
import math
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass, replace
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from gradcheck_kit.facts import (
    ActivationGrowth,
    ActivationRecord,
    BadValues,
    BatchMixing,
    BatchRepetition,
    ClassAccuracy,
    ConstantInput,
    DataSummary,
    EqualUnits,
    EvalMode,
    Evaluation,
    FeatureScale,
    FitAttempt,
    FunctionCheck,
    FutureMixing,
    Generalization,
    GradientCheck,
    GradientNoise,
    HeldOut,
    Initialization,
    InitialWeight,
    InputScale,
    InputUse,
    LayerOutput,
    LearningRateResponse,
    Linearity,
    LossCall,
    LossCalls,
    LossInput,
    LossInputs,
    LossTerms,
    LowPrecision,
    MixingOperation,
    ModeGap,
    ModeHolder,
    NonFinite,
    OneBatchFit,
    Oscillation,
    OutputRecord,
    ParameterRecord,
    PositionSpread,
    RankCollapse,
    RateTrial,
    Symmetry,
    TargetScale,
    TensorSummary,
    TimeGradient,
    TimeGradients,
    Training,
    WeightDecay,
    WiredModule,
    WiredParameter,
    Wiring,
)
from gradcheck_kit.report import Outcome, check
from gradcheck_kit.rule import Finding, OptionValue, Rule
from gradcheck_kit.trace import Header, Trace

STEPS = 60
RECORDED = 20  # steps of which everything but the loss is kept, unless told otherwise
CHANCE = math.log(10)  # the loss of guessing among ten classes

Fact = TypeVar("Fact")


# ---- facts -------------------------------------------------------------------------------------------------------


def header(**changes: Any) -> Header:
    healthy = {
        "name": "model.py:model",
        "model": "Sequential",
        "parameters": 31_044,
        "weight_layers": 3,
        "data": "train_loader: 2,048 samples in batches of 64",
        "test_data": "test_loader: 512 samples",
        "optimizer": "SGD(lr=0.1, momentum=0.9)",
        "loss": "CrossEntropyLoss",
        "device": "cpu",
        "threads": 2,
        "steps": STEPS,
        "batch_size": 64,
        "seed": 0,
        "torch_version": "2.15.0",
        "tool_version": "0.1.0",
    }
    return _build(Header, healthy, changes)


def falling(start: float = CHANCE, end: float = 0.3, steps: int = STEPS) -> tuple[float, ...]:
    """Losses that fall geometrically, with a small regular wobble."""
    return tuple(start * (end / start) ** (i / max(1, steps - 1)) * (1 + 0.02 * (-1) ** i) for i in range(steps))


def flat(value: float = CHANCE, steps: int = STEPS) -> tuple[float, ...]:
    """Losses that wobble about one value and go nowhere."""
    return tuple(value * (1 + 0.01 * ((i * 7) % 5 - 2)) for i in range(steps))


def parameter(name: str = "0.weight", **changes: Any) -> ParameterRecord:
    """A weight of a Linear layer in healthy motion: its updates are a thousandth of it."""
    layer, _, own = name.rpartition(".")
    healthy = {
        "name": name,
        "layer": layer,
        "layer_type": "Linear",
        "shape": (32, 32) if own == "weight" else (32,),
        "trainable": True,
        "optimized": True,
        "order": 0,
        "gradient_rms": 1e-3,
        "weight_rms": 0.1,
        "update_rms": 1e-4,
        "changed": True,
    }
    return _build(ParameterRecord, healthy, changes)


def output(module: str = "0", **changes: Any) -> OutputRecord:
    healthy = {
        "module": module,
        "module_type": "Linear",
        "order": 0,
        "shape": (64, 32),
        "output_rms": 1.0,
        "gradient_rms": 1e-3,
    }
    return _build(OutputRecord, healthy, changes)


def activation(name: str = "1", function: str = "relu", **changes: Any) -> ActivationRecord:
    """An activation with few dead or saturated units, whichever of them its function can have."""
    bounded = function in ("sigmoid", "tanh", "hardsigmoid", "hardtanh", "softsign")
    healthy = {
        "module": name,
        "function": function,
        "name": name,
        "order": 1,
        "is_output": False,
        "units": 32,
        "samples": 640,
        "dead_share": None if bounded else 0.0,
        "dead_share_at_start": None if bounded else 0.0,
        "saturated_share": 0.02 if bounded else None,
        "saturated_share_at_start": 0.02 if bounded else None,
    }
    return _build(ActivationRecord, healthy, changes)


def stack(gradients: Sequence[float | Sequence[float | None] | None], function: str = "relu") -> dict[str, Any]:
    """The records of Linear layers with the given gradient RMS, an activation after each but the last.

    They are named as in a Sequential: layers "0", "2", "4", activations "1", "3". For `training(**stack(...))`.
    """
    parameters, outputs, activations = [], [], []
    for i, gradient in enumerate(gradients):
        order, layer = 2 * i, str(2 * i)
        parameters += [
            parameter(f"{layer}.weight", order=order, gradient_rms=gradient),
            parameter(f"{layer}.bias", order=order, gradient_rms=gradient),
        ]
        outputs.append(output(layer, order=order, gradient_rms=gradient))
        if i < len(gradients) - 1:
            outputs.append(output(str(order + 1), module_type=function.title(), order=order + 1, gradient_rms=gradient))
            activations.append(activation(str(order + 1), function, order=order + 1))
    return {"parameters": tuple(parameters), "outputs": tuple(outputs), "activations": tuple(activations)}


def training(**changes: Any) -> Training:
    """Sixty steps of three Linear layers with ReLU whose loss falls from chance to 0.3.

    Other `losses` change the planned and the recorded steps with them; series that are too long are cut.
    """
    losses = tuple(changes.get("losses", falling()))
    kept = min(RECORDED, len(losses))
    recorded = tuple(changes.get("recorded", (i * len(losses) // kept for i in range(kept))))
    healthy = {
        "planned_steps": len(losses),
        "losses": losses,
        "loss_window": 1,
        "recorded": recorded,
        "accuracies": tuple(0.1 + 0.8 * i / max(1, len(recorded) - 1) for i in range(len(recorded))),
        "samples_per_step": 64,
        "non_finite": None,
        "constant_loss": CHANCE,
        "constant_loss_error": 0.01,
        "constant_prediction": "class frequencies",
        "synthetic": False,
        "learning_rates": (0.1,),
        "optimizer": "SGD(lr=0.1, momentum=0.9)",
        "optimizer_given": True,
        "norm_layers": 0,
        "watched": False,
        "competing": False,
        **stack([9e-4, 1e-3, 1.1e-3]),
    }
    made = _build(Training, healthy, {**changes, "losses": losses, "recorded": recorded})
    return replace(
        made,
        accuracies=made.accuracies[: len(recorded)],
        parameters=tuple(_cut(record, len(recorded)) for record in made.parameters),
        outputs=tuple(_cut(record, len(recorded)) for record in made.outputs),
    )


def non_finite(**changes: Any) -> NonFinite:
    """A NaN that the module "2" made of finite inputs in step 3."""
    first = {
        "step": 3,
        "earliest": 3,
        "kind": "output",
        "where": "2",
        "module_type": "Linear",
        "value": "nan",
        "share": 1.0,
        "after": "1",
        "inputs_finite": True,
    }
    made = _build(NonFinite, first, changes)
    return made if "earliest" in changes else replace(made, earliest=made.step)


def wired_parameter(name: str = "0.weight", **changes: Any) -> WiredParameter:
    layer, _, own = name.rpartition(".")
    healthy = {
        "name": name,
        "layer": layer,
        "layer_type": "Linear",
        "shape": (32, 32) if own == "weight" else (32,),
        "trainable": True,
        "optimized": True,
        "gradient": "nonzero",
    }
    return _build(WiredParameter, healthy, changes)


def wired_module(name: str = "0", **changes: Any) -> WiredModule:
    healthy = {"name": name, "type": "Linear", "calls": 1, "parameters": 1056, "order": 0}
    return _build(WiredModule, healthy, changes)


def wiring(**changes: Any) -> Wiring:
    """Three Linear layers with ReLU, everything connected and optimized."""
    linear = [wired_module(str(i), order=i) for i in (0, 2, 4)]
    relu = [wired_module(str(i), type="ReLU", parameters=0, order=i) for i in (1, 3)]
    healthy = {
        "parameters": tuple(wired_parameter(f"{m.name}.{own}") for m in linear for own in ("weight", "bias")),
        "modules": tuple(sorted(linear + relu, key=lambda m: m.order or 0)),
        "optimizer_given": True,
        "prediction_shape": (64, 10),
        "target_shape": (64,),
    }
    return _build(Wiring, healthy, changes)


def evaluation(**changes: Any) -> Evaluation:
    """Ten classes of fifty samples, nine in ten right, and twice the same."""
    healthy = {
        "test_data_given": True,
        "samples": 500,
        "loss": 0.35,
        "per_class": tuple(ClassAccuracy(label, 45, 50) for label in range(10)),
        "predicted": tuple((label, 50) for label in range(10)),
        "deterministic": True,
        "largest_difference": 0.0,
    }
    return _build(Evaluation, healthy, changes)


def generalization(test: Sequence[float] = (), **changes: Any) -> Generalization:
    """Thirty passes over 128 samples, with these mean test losses at even intervals; as a default falling ones."""
    looks = tuple(test or falling(end=0.4, steps=7))
    handfuls = tuple(1 + 0.01 * (i % 5 - 2) for i in range(20))  # whose mean is 1
    healthy = {
        "epochs": 30.0,
        "samples": 320,
        "training_samples": 128,
        "steps": tuple(i * 10 for i in range(len(looks))),
        "chunk_losses": tuple(tuple(loss * factor for factor in handfuls) for loss in looks),
        "accuracies": (0.7,) * len(looks),
        "training_losses": falling(end=0.01, steps=len(looks)),
    }
    return _build(Generalization, healthy, changes)


def batch_repetition(**changes: Any) -> BatchRepetition:
    """An average over batches of 64: repeating the samples changes nothing."""
    healthy = {"samples": 64, "losses": (CHANCE,) * 3, "loss": "CrossEntropyLoss"}
    return _build(BatchRepetition, healthy, changes)


def mode_holder(name: str = "1", **changes: Any) -> ModeHolder:
    """A Dropout that the model knows and that stays in training mode."""
    return _build(ModeHolder, {"name": name, "type": "Dropout", "registered": True}, changes)


def eval_mode(*left: ModeHolder, **changes: Any) -> EvalMode:
    """Two modules that heed the mode, and do."""
    return _build(EvalMode, {"differing": 2, "left": left}, changes)


def mode_gap(**changes: Any) -> ModeGap:
    """Two BatchNorms and eight batches of 64, whose loss does not depend on how it is normalised."""
    healthy = {
        "layers": ("1", "4"),
        "layer_type": "BatchNorm1d",
        "samples": 64,
        "by_batch": tuple(0.30 + 0.01 * i for i in range(8)),
        "by_running": tuple(0.33 + 0.01 * i for i in range(8)),
        "by_average": tuple(0.31 + 0.01 * i for i in range(8)),
    }
    return _build(ModeGap, healthy, changes)


def fit_attempt(**changes: Any) -> FitAttempt:
    healthy = {"optimizer": "SGD(lr=0.1, momentum=0.9)", "losses": falling(end=0.01, steps=50), "accuracy": 1.0}
    return _build(FitAttempt, healthy, changes)


def one_batch_fit(**changes: Any) -> OneBatchFit:
    """Sixteen samples, learned by heart at the first attempt."""
    healthy = {"samples": 16, "planned_steps": 200, "attempts": (fit_attempt(),), "constant_loss": CHANCE}
    return _build(OneBatchFit, healthy, changes)


def loss_input(operation: str = "cross_entropy", **changes: Any) -> LossInput:
    """Logits for ten classes, as they leave a Linear layer, given to the loss that wants them."""
    healthy = {
        "operation": operation,
        "shape": (64, 10),
        "classes": 10,
        "minimum": -2.5,
        "maximum": 2.5,
    }
    return _build(LossInput, healthy, changes)


def loss_inputs(*inputs: LossInput, **changes: Any) -> LossInputs:
    """One step whose loss is a cross-entropy of logits, unless told otherwise."""
    return _build(LossInputs, {"passes": 3, "inputs": inputs or (loss_input(),)}, changes)


def equal_units(layer: str = "0", **changes: Any) -> EqualUnits:
    """A layer of zeros whose units part in the first step, as in a zero-initialised residual branch."""
    healthy = {
        "layer": layer,
        "layer_type": "Linear",
        "units": 32,
        "weights": 32,
        "zero": True,
        "biases_equal": True,
        "hidden": True,
        "spread": 0.98,
        "gradient_zero": False,
    }
    return _build(EqualUnits, healthy, changes)


def symmetry(*equal: EqualUnits, **changes: Any) -> Symmetry:
    """Three layers, of which those given start with equal units."""
    return _build(Symmetry, {"layers": 3, "steps": 5 if equal else 0, "equal": equal}, changes)


def weight_decay(**changes: Any) -> WeightDecay:
    """AdamW's usual decay, which takes next to nothing off the weights."""
    healthy = {
        "decay": 0.01, "decoupled": True, "shares": (1e-3, 2e-3), "shrinkage": 0.99, "proposed": 1e-3
    }  # fmt: skip
    return _build(WeightDecay, healthy, changes)


def activation_growth(outputs: Sequence[float] = (0.6, 0.7, 0.8), **changes: Any) -> ActivationGrowth:
    """Linear layers "0", "2", "4" that return signals of these sizes; nothing else was tried."""
    layers = tuple(LayerOutput(str(2 * i), "Linear", rms) for i, rms in enumerate(outputs))
    largest = max(layers, key=lambda layer: layer.output_rms)
    healthy = {"layers": layers, "largest": largest.output_rms, "largest_at": largest.name}
    return _build(ActivationGrowth, healthy, changes)


def loss_terms(**changes: Any) -> LossTerms:
    """A loss that adds nothing but what it is trained by."""
    return _build(LossTerms, {"loss": 2.0, "untrained": ()}, changes)


def held_out(**changes: Any) -> HeldOut:
    """Three hundred samples that were not trained on, of which most are told."""
    healthy = {"steps": 40, "factor": 1.0, "trained_on": 0.5 * CHANCE, "others": 0.6 * CHANCE, "lowest": 0.6 * CHANCE}
    return _build(HeldOut, {**healthy, "correct": 240, "commonest": 40, "samples": 300, "others_samples": 300}, changes)


def gradient_noise(**changes: Any) -> GradientNoise:
    """A batch of 64 in which the signal is twice the noise."""
    return _build(GradientNoise, {"batch": 64, "scale_at_start": 32.0, "scale_at_end": 32.0}, changes)


def collapse(spreads: Sequence[float] = (0.9, 0.8, 0.8), **changes: Any) -> RankCollapse:
    """Blocks over twenty positions, which differ by the first number before them and by the others after each."""
    blocks = tuple(
        PositionSpread(f"blocks.{i}", "Block", before, after)
        for i, (before, after) in enumerate(itertools.pairwise(spreads))
    )
    return _build(RankCollapse, {"layers": blocks, "positions": 20}, changes)


def oscillation(**changes: Any) -> Oscillation:
    """A usual momentum, and a loss that swings by two hundredths: no calmer run was tried."""
    return _build(Oscillation, {"swing": 0.02, "momentum": 0.9, "momentum_name": "momentum"}, changes)


def time_gradient(layer: str = "rnn", first: float = 0.3, steps: int = 20, **changes: Any) -> TimeGradient:
    """A recurrent layer at whose first step `first` of the gradient at the last one arrives."""
    profile = tuple(first ** ((steps - 1 - i) / (steps - 1)) for i in range(steps))
    return _build(TimeGradient, {"layer": layer, "layer_type": "RNN", "gradient_rms": profile}, changes)


def time_gradients(*layers: TimeGradient, **changes: Any) -> TimeGradients:
    return _build(TimeGradients, {"layers": layers or (time_gradient(),)}, changes)


def low_precision(**changes: Any) -> LowPrecision:
    """A bfloat16 model whose gradients and updates survive."""
    healthy = {
        "dtype": "bfloat16",
        "layers": ("0", "2"),
        "scale": 4096.0,
        "underflow": 0.0,
        "underflow_layer": "0",
        "lost_updates": 0.02,
        "lost_layer": "0",
    }
    return _build(LowPrecision, healthy, changes)


def initial_weight(layer: str = "0", **changes: Any) -> InitialWeight:
    """A Linear layer of 64 inputs and 64 outputs before a ReLU, as torch draws it."""
    healthy = {
        "name": f"{layer}.weight",
        "layer": layer,
        "layer_type": "Linear",
        "std": 0.072,
        "low": 0.072,
        "high": 0.208,
        "proposed": 0.177,
        "initializer": 'nn.init.kaiming_normal_(weight, nonlinearity="relu")',
        "function": "relu",
    }
    return _build(InitialWeight, healthy, changes)


def initialization(*weights: InitialWeight, **changes: Any) -> Initialization:
    """Weights before training, of usual size unless given, in a run for which no others were tried."""
    weights = weights or (initial_weight("0"), initial_weight("2"))
    return _build(Initialization, {"weights": weights, "gradient_ratio": 1.0}, changes)


def linearity(**changes: Any) -> Linearity:
    """A network in whose training run two activation functions were seen."""
    return _build(Linearity, {"activations": 2}, changes)


def tensor_summary(name: str = "input", **changes: Any) -> TensorSummary:
    healthy = {
        "name": name,
        "shape": (64, 32),
        "dtype": "float32",
        "minimum": -3.1,
        "maximum": 3.2,
        "mean": 0.01,
        "std": 1.0,
        "non_finite": 0,
    }
    return _build(TensorSummary, healthy, changes)


def data_summary(**changes: Any) -> DataSummary:
    """Standardised inputs and ten balanced classes."""
    target = tensor_summary("target", shape=(64,), dtype="int64", minimum=0.0, maximum=9.0, mean=4.5, std=2.9)
    healthy = {
        "source": "train_loader",
        "batches": 32,
        "samples": 2048,
        "inputs": (tensor_summary(),),
        "targets": (target,),
        "labels": tuple((label, 205) for label in range(10)),
        "order": "shuffled",
        "dataset_size": 2048,
        "sizes": (64,) * 32,
        "same_as": tuple(range(32)),
        "distinct": (64,) * 32,
        "label_batches": (tuple((label, 6 + (label < 4)) for label in range(10)),) * 32,
    }
    return _build(DataSummary, healthy, changes)


def constant_input(**changes: Any) -> ConstantInput:
    """Sentences whose every word is 1, padded with 0, that an embedding of 33 rows looks up."""
    words = {"tensor": "input", "value": 1.0, "padding": 0.0, "elements": 20_000, "samples": 2048, "width": 14}
    return _build(ConstantInput, {**words, "embedding": "embed", "rows": 33, **changes}, {})


def bad_values(tensor: str = "input", **changes: Any) -> BadValues:
    """NaN in feature 3 of five samples, in two batches."""
    found = {
        "tensor": tensor,
        "is_target": tensor.startswith("target"),
        "value": "nan",
        "elements": 5,
        "samples": 5,
        "batches": 2,
        "first_batch": 1,
        "first_sample": 17,
        "axis": "feature",
        "features": ((3, 5),),
    }
    return _build(BadValues, found, changes)


def feature_scale(index: int = 0, **changes: Any) -> FeatureScale:
    return _build(FeatureScale, {"index": index, "mean": 0.01, "std": 1.0}, changes)


def input_scale(**changes: Any) -> InputScale:
    """Three standardised channels that enter a Conv2d."""
    channels = tuple(feature_scale(i) for i in range(3))
    healthy = {
        "layer": "0",
        "layer_type": "Conv2d",
        "axis": "channel",
        "features": 3,
        "minimum": -2.1,
        "maximum": 2.6,
        "listed": channels,
        "worst": channels[0],
    }
    return _build(InputScale, healthy, changes)


def target_scale(**changes: Any) -> TargetScale:
    """One standardised number."""
    healthy = {"columns": 1, "column": 0, "mean": 0.01, "std": 1.0, "minimum": -2.9, "maximum": 3.1}
    return _build(TargetScale, healthy, changes)


def loss_call(function: str = "cross_entropy", **changes: Any) -> LossCall:
    """Ten classes and 64 class indices, averaged."""
    healthy = {
        "function": function,
        "input_shape": (64, 10),
        "target_shape": (64,),
        "target_dtype": "int64",
        "target_minimum": 0.0,
        "target_maximum": 9.0,
        "reduction": "mean",
        "is_the_loss": True,
    }
    return _build(LossCall, healthy, changes)


def loss_calls(*calls: LossCall) -> LossCalls:
    return LossCalls(calls or (loss_call(),))


def learning_rate_response(ends: Mapping[float, float] | None = None, **changes: Any) -> LearningRateResponse:
    """Trials by factor that end at the given losses; by default the user's own learning rate is the best."""
    ends = ends or {0.01: 2.2, 0.1: 1.5, 1.0: 0.8, 10.0: 2.4, 100.0: math.inf}
    trials = tuple(RateTrial(factor, falling(end=ends[factor], steps=20)) for factor in sorted(ends))
    return _build(LearningRateResponse, {"trials": trials}, changes)


def mixing_operation(operation: str = "softmax", module: str = "2", **changes: Any) -> MixingOperation:
    healthy = {"operation": operation, "module": module, "module_type": "Attention", "source": "model.py:31"}
    return _build(MixingOperation, healthy, changes)


def batch_mixing(**changes: Any) -> BatchMixing:
    """Eleven samples drawn at random that do not see each other."""
    return _build(BatchMixing, {"samples": 11, "shuffled": True, "influence": 0.0}, changes)


def future_mixing(**changes: Any) -> FutureMixing:
    """Sixteen tokens of which the last was replaced, and no output before it moved."""
    return _build(FutureMixing, {"length": 16, "position": 15, "influence": 0.0}, changes)


def input_use(**changes: Any) -> InputUse:
    """An input whose first change changes the output."""
    return _build(InputUse, {"changes": 1, "ignored": False}, changes)


def function_check(function: str = "Swish", **changes: Any) -> FunctionCheck:
    """A custom function whose backward is right."""
    healthy = {
        "function": function,
        "module": "1",
        "module_type": "Act",
        "source": "model.py:31",
        "argument": "x",
        "relative_error": 1e-9,
        "factor": 1.0,
    }
    return _build(FunctionCheck, healthy, changes)


def gradient_check(**changes: Any) -> GradientCheck:
    return _build(GradientCheck, {"functions": (function_check(),)}, changes)


def fact(kind: type[Fact], **values: Any) -> Fact:
    """A fact of any type, also of your own: what is not given is neutral, and a number stands for a whole series."""
    return _build(kind, {}, values)


def trace(*facts: Any, absent: Mapping[str, str] | None = None, **changes: Any) -> Trace:
    """A trace of the given facts; `changes` are the header's."""
    return Trace(header(**changes), {type(fact): fact for fact in facts}, dict(absent or {}))


# ---- rules -------------------------------------------------------------------------------------------------------


def apply(rule: Rule, *facts: Any, **options: OptionValue) -> tuple[Finding, ...]:
    """What the rule finds in the facts, in any order; its exceptions, Skip too, come through."""
    by_type = {type(fact): fact for fact in facts}
    needed = [by_type[need] for need in rule.needs] + [by_type.get(use) for use in rule.uses]
    return tuple(rule.check(*needed, **options))


def judge(rule: Rule, *facts: Any, **options: OptionValue) -> Outcome:
    """The rule's outcome on a trace of the facts: skips and crashes are outcomes too."""
    (outcome,) = check(trace(*facts), [rule], options={rule.name: options}).outcomes
    return outcome


def poisoned(fact: Fact) -> Fact:
    """A copy in which every float is NaN. A rule states what is healthy and negates it, so it must not pass this."""
    copy: Fact = _poison(fact)
    return copy


def _poison(value: Any) -> Any:
    if isinstance(value, float):
        return math.nan
    if isinstance(value, tuple):
        return tuple(map(_poison, value))
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{f.name: _poison(getattr(value, f.name)) for f in fields(value)})
    return value


# ---- how the builders build --------------------------------------------------------------------------------------


def _build(kind: type[Fact], healthy: Mapping[str, Any], changes: Mapping[str, Any]) -> Fact:
    """The fact with these values; a field that neither names is neutral: absent, empty, no or nothing."""
    hints = get_type_hints(kind)
    if unknown := changes.keys() - hints.keys():
        raise TypeError(f"{kind.__name__} has no field {min(unknown)}; its fields: {', '.join(hints)}")
    values = {**healthy, **changes}
    for f in fields(kind):  # type: ignore[arg-type]  # every caller passes a dataclass
        if f.name not in values and f.default is MISSING:
            values[f.name] = _neutral(hints[f.name])
        elif f.name in values:
            values[f.name] = _spread(hints[f.name], values[f.name])
    return kind(**values)


def _neutral(hint: Any) -> Any:
    if get_origin(hint) in (Union, types.UnionType) and type(None) in get_args(hint):
        return None
    return (get_origin(hint) or hint)()


def _spread(hint: Any, value: Any) -> Any:
    """A single number (or None) where a series belongs stands for every recorded step; other sequences are tuples."""
    if get_origin(hint) is not tuple:
        return value
    if value is None or isinstance(value, int | float):
        return (value,) * RECORDED
    return tuple(value)


def _cut(record: Fact, length: int) -> Fact:
    """The record with its series no longer than `length`."""
    series = [name for name, hint in get_type_hints(type(record)).items() if hint == tuple[float | None, ...]]
    cut: Fact = replace(record, **{name: getattr(record, name)[:length] for name in series})  # type: ignore[type-var]
    return cut
