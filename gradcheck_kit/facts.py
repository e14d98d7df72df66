"""The kinds of evidence: one frozen dataclass each, made by an experiment, read by rules.

Facts hold numbers, never tensors. A list over "recorded steps" is aligned with `Training.recorded`.
`None` means "not looked at" or "there was none"; it is never written as 0.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean, median

Series = tuple[float | None, ...]
LARGE_UPDATE = 0.1  # of the weights in the first step (TheDeepChecker): other runs are tried, whatever the loss


def middle(values: Iterable[float | None]) -> float | None:
    """The median of what was recorded; None when nothing was, NaN when any of it is NaN."""
    present = [value for value in values if value is not None]
    if not present:
        return None
    return math.nan if any(map(math.isnan, present)) else median(present)


# ---- what belongs to what ----------------------------------------------------------------------------------------


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
    """A module that ran in forward and that `model.parameters()` does not see."""

    where: str  # how it was found, such as "hidden[0]", or the module in whose forward it ran
    type: str
    parameters: int
    trainable: bool
    optimized: bool


@dataclass(frozen=True, slots=True)
class Broadcast:
    """An operation of the loss that stretched prediction and target against each other."""

    operation: str
    prediction_shape: tuple[int, ...]
    target_shape: tuple[int, ...]
    result_shape: tuple[int, ...] | None


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


# ---- the training run --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ParameterRecord:
    """One parameter over the recorded steps: root mean squares over its elements, in the units of the loss."""

    name: str
    layer: str
    layer_type: str
    shape: tuple[int, ...]
    trainable: bool
    optimized: bool
    order: int | None  # of its layer in execution order; None when that never ran or is the whole model
    gradient_rms: Series  # over all elements, so 0 means that all are 0; None where autograd left no gradient
    weight_rms: Series  # before the step, over a sample of large ones
    update_rms: Series  # of what the step changed, likewise
    changed: bool | None  # whether any bit differs from the start, exact

    @property
    def is_weight(self) -> bool:
        """A matrix or kernel, as opposed to a bias, a norm's gain, or a scale of shape (1, C, 1, 1)."""
        return len(self.shape) == 2 or (len(self.shape) > 2 and math.prod(self.shape) > max(self.shape))

    def update_ratio(self) -> float | None:
        """Median over steps of update RMS / weight RMS (dimensionless; 1e-3 is usual, Karpathy, CS231n)."""
        pairs = zip(self.update_rms, self.weight_rms, strict=True)
        return middle(u / w for u, w in pairs if u is not None and w is not None and w > 0)


@dataclass(frozen=True, slots=True)
class OutputRecord:
    """The output of one module over the recorded steps (its first call in each)."""

    module: str
    module_type: str
    order: int
    shape: tuple[int, ...]
    output_rms: Series
    gradient_rms: Series  # of the loss with respect to that output; None where no gradient arrived


@dataclass(frozen=True, slots=True)
class ActivationRecord:
    """One activation function, as it was called: by a module or as a function in some forward."""

    module: str  # the module that is the activation, or the one in whose forward it was called
    function: str  # "relu", "sigmoid", ...
    name: str  # how a person would point at it: "body.1" or "tanh in encoder (model.py:31)"
    order: int  # position among the modules' outputs: the number of outputs before it
    is_output: bool  # the model's output is this activation's output
    units: int  # channels or features
    samples: int  # looked at, over all passes
    dead_share: float | None  # of units active in < 1 % of the samples of the last passes; None: cannot be dead
    dead_share_at_start: float | None
    saturated_share: float | None  # of elements at the flat ends in the last passes; None: has no flat ends
    saturated_share_at_start: float | None


@dataclass(frozen=True, slots=True)
class NonFinite:
    """The first tensor, in execution order, that held NaN or infinity."""

    step: int
    earliest: int  # it may have begun here, when the steps between were not looked at; else the same step
    kind: str  # "input", "target", "parameter", "output", "loss", "gradient"
    where: str  # module or parameter name; "" for the model's own forward, or none
    module_type: str
    value: str  # "nan", "inf" or "nan and inf"
    share: float | None  # of the tensor's elements
    after: str  # the last module whose output was still finite, "" when there was none
    inputs_finite: bool | None  # the place itself made it: what went in was finite


@dataclass(frozen=True, slots=True)
class Training:
    """A training run, probed or watched: the loss of every step, and the rest at the recorded steps."""

    planned_steps: int  # or, of a watched run, those that were seen
    losses: tuple[float, ...]  # of each step; of long watched runs the means over `loss_window` steps
    loss_window: int
    recorded: tuple[int, ...]
    accuracies: Series  # of the training batch before the update, on recorded steps; None when not classification
    samples_per_step: int
    parameters: tuple[ParameterRecord, ...]
    outputs: tuple[OutputRecord, ...]  # in execution order
    activations: tuple[ActivationRecord, ...]  # in execution order
    non_finite: NonFinite | None
    constant_loss: float | None  # the best an input-independent prediction reaches on these targets
    constant_loss_error: float | None  # its standard error over batches
    zero_loss: float | None  # of an all-zero output, as of an untrained model: ln C, ln 2, the target's mean square
    constant_prediction: str  # what that prediction is, in words: "class frequencies", "the target's mean"
    synthetic: bool  # inputs or targets were made up: there may be nothing to learn but by heart
    learning_rates: tuple[float, ...]  # of the optimizer's groups
    optimizer: str
    optimizer_given: bool  # by the user; else the probe's own rate may simply not suit the model
    norm_layers: int  # BatchNorm, LayerNorm and the like that ran
    watched: bool  # somebody's own loop, not a probe's
    competing: bool  # other losses are trained in turn with this one, as in a GAN: it need not fall

    # -- the loss --

    @property
    def finite(self) -> bool:
        return self.non_finite is None and all(map(math.isfinite, self.losses))

    @property
    def first_loss(self) -> float:
        """The loss before the first update: a rate that is far too high shows in the second one already."""
        return self.losses[0]

    @property
    def last_loss(self) -> float:
        """The median over the last fifth of the run: one odd batch says nothing."""
        return middle(self.losses[-max(1, len(self.losses) // 5) :]) or 0.0

    @property
    def loss_steps(self) -> int:
        """The steps whose loss is known."""
        return len(self.losses) * self.loss_window

    def at_least(self, steps: int) -> str:
        """What to do where the run was too short to tell, as the end of a sentence."""
        return f"watch {steps} or more" if self.watched else f"use --steps {steps} or more"

    @property
    def long_enough(self) -> bool:
        """Whether the run tells learning from not learning: it broke, or took ten steps."""
        return not self.finite or self.loss_steps >= 10

    def trend(self, start: float = 0.0) -> float:
        """The Mann-Kendall z of the losses from the given share of the run on: below -2.33 is falling at p < 0.01.

        Mann, H. B. (1945), "Nonparametric tests against trend", Econometrica 13. It asks only for order, so neither
        the loss's scale nor one spike decides. Long runs are averaged into 64 windows first.
        """
        return mann_kendall(_windows(self.losses[int(len(self.losses) * start) :], 64))

    @property
    def at_chance(self) -> bool | None:
        """Whether the run ended no better than an input-independent prediction; None when that is not known."""
        if self.constant_loss is None:
            return None
        return not self.last_loss < self.constant_loss - 0.1 * abs(self.constant_loss)

    @property
    def blow_up(self) -> float:
        """How far the loss went above its start (or chance) at worst, also where it came back; 1.0: never."""
        if not self.losses:
            return 1.0
        first = max(self.first_loss, self.constant_loss or 0.0)
        worst = max((math.inf if math.isnan(loss) else loss for loss in self.losses), default=first)
        return max(1.0, worst / first) if math.isfinite(first) and first > 0 else 1.0

    @property
    def _near_chance_from_the_start(self) -> bool:
        return self.constant_loss is not None and self.first_loss <= 1.2 * self.constant_loss

    @property
    def _came_down_in_few_steps(self) -> bool:
        """A tenth less than at the start, in too few steps for a trend among noisy batches to be significant.

        A first loss far above chance comes down to chance first.
        """
        down = self.loss_steps < 20 and self.last_loss < 0.9 * self.first_loss
        return down and not (self.at_chance and self._near_chance_from_the_start)

    @property
    def harm(self) -> str:
        """Why this run did not learn, as the end of a sentence; "" when it did.

        A symptom is an error only together with harm. A run that ends below half of a constant prediction's loss is
        well, whatever its trend; otherwise its loss must fall, below its start and on from a constant prediction's.
        """
        if not self.finite:
            return "the loss became " + ("NaN" if any(map(math.isnan, self.losses)) else "infinite or NaN")
        if not self.long_enough or self.competing:
            return ""
        falling = self.trend() < -2.33 or self._came_down_in_few_steps
        # One batch may have next to no loss, of rare positives say: chance is the least that a rise starts from.
        rise = self.last_loss - max(self.first_loss, self.constant_loss or -math.inf)
        chance = self.constant_loss
        # A trained model's loss may wander far below chance; giving up a good part of the way is harm.
        if chance is not None and self.last_loss < 0.5 * chance and (falling or rise <= 0.1 * chance):
            return ""
        if rise > (0.05 if falling else 0.5) * abs(self.first_loss):  # falling back from a peak is not learning
            return f"the loss rose from {self.first_loss:.3g} to {self.last_loss:.3g}"
        if not falling or (self.at_chance and rise > -0.01 * abs(self.first_loss)):
            return f"the loss did not fall: {self.first_loss:.3g} at the start, {self.last_loss:.3g} at the end"
        # Coming down to chance from far above is progress; wandering about it is none, whichever way it goes.
        never_left = chance is not None and self.last_loss >= 0.98 * chance and self._near_chance_from_the_start
        moving = self.trend(0.5) < -1.64 or self._came_down_in_few_steps
        if self.at_chance and (never_left or not moving):
            return (
                f"the loss stays at {self.last_loss:.3g}, no better than always predicting "
                f"{self.constant_prediction} ({self.constant_loss:.3g})"
            )
        return ""

    @property
    def first_update_ratio(self) -> float | None:
        """The median over optimized weights of update RMS / weight RMS in the first recorded step."""
        return middle(
            p.update_rms[0] / p.weight_rms[0]
            for p in self.parameters
            if p.is_weight and p.optimized and p.update_rms and p.update_rms[0] is not None and p.weight_rms[0]
        )

    @property
    def went_wrong(self) -> bool:
        """Whether it is worth trying anything else: it did not learn, broke out, or took first steps too long."""
        first = self.first_update_ratio
        return bool(self.harm) or self.blow_up > 10 or (first is not None and not first <= LARGE_UPDATE)

    # -- depth --

    def settled(self, series: Sequence[float | None]) -> list[float]:
        """The finite values after the first sixth of the run; all of them when there are fewer than three such.

        Zero-initialised heads, LayerScale and LoRA let almost nothing through at step 0, and are healthy.
        """
        kept = [(step, v) for step, v in zip(self.recorded, series, strict=True) if v is not None and math.isfinite(v)]
        late = [value for step, value in kept if step * 6 >= self.planned_steps]
        return late if len(late) >= 3 else [value for _, value in kept]

    def weights_in_order(self) -> list[ParameterRecord]:
        """The trainable weights of layers, in execution order; the largest of each layer stands for it."""
        largest: dict[str, ParameterRecord] = {}
        for parameter in self.parameters:
            if parameter.order is None or not parameter.trainable or not parameter.is_weight:
                continue
            known = largest.get(parameter.layer)
            if known is None or math.prod(parameter.shape) > math.prod(known.shape):
                largest[parameter.layer] = parameter
        return sorted(largest.values(), key=lambda parameter: parameter.order or 0)

    def weight_profile(self) -> list[tuple[ParameterRecord, float]]:
        """Each layer's weight-gradient norm, median over the settled steps, in execution order."""
        return [
            (p, median(values) * math.sqrt(math.prod(p.shape)))
            for p in self.weights_in_order()
            if (values := self.settled(p.gradient_rms))
        ]

    def output_profile(self, *, start: bool = False) -> list[tuple[OutputRecord, float]]:
        """The norm of the gradient that arrives at each output, in execution order.

        Median over the settled steps; with `start`, at the first recorded step.
        """
        profile = []
        for o in self.outputs:
            values = self.settled(o.gradient_rms)
            if start:
                values = [v for v in o.gradient_rms[:1] if v is not None and math.isfinite(v)]
            if values:
                profile.append((o, median(values) * math.sqrt(math.prod(o.shape))))
        return profile

    def hidden_activations(self) -> list[ActivationRecord]:
        """The activations that some layer with weights follows: what comes after the last one shapes the output.

        Outputs may saturate, and those of classes that never occur may die.
        """
        last = max((p.order for p in self.parameters if p.order is not None and len(p.shape) >= 2), default=-1)
        return [a for a in self.activations if a.order <= last and not a.is_output]

    @property
    def gradient_ratio_at_start(self) -> float | None:
        """The gradient at the first outputs over that at the last, before any update: above 1 it explodes."""
        ratio = end_to_end([norm for _, norm in self.output_profile(start=True)])
        return ratio if ratio is not None and math.isfinite(ratio) else None


def end_to_end(norms: Sequence[float]) -> float | None:
    """The largest norm among the first fifth over the largest among the last fifth; zeros do not count.

    A fifth and not one layer: one odd branch at either end is no profile. Exact zeros are a cut or dead units, which
    other rules name. None when fewer than three values are left.
    """
    present = [norm for norm in norms if norm > 0]
    if len(present) < 3:
        return None
    fifth = math.ceil(len(present) / 5)
    return max(present[:fifth]) / max(present[-fifth:])


def mann_kendall(values: Sequence[float]) -> float:
    """The Mann-Kendall trend statistic as a z-score: negative when the values fall (0.0 for fewer than four)."""
    n = len(values)
    if n < 4:
        return 0.0
    s = sum((b > a) - (b < a) for i, a in enumerate(values) for b in values[i + 1 :])
    ties = sum(t * (t - 1) * (2 * t + 5) for t in Counter(values).values() if t > 1)
    variance = (n * (n - 1) * (2 * n + 5) - ties) / 18
    if variance <= 0:
        return 0.0
    return (s - (s > 0) + (s < 0)) / math.sqrt(variance)


def binomial_tail(least: int, samples: int, chance: float) -> float:
    """P(X >= least) for X ~ Binomial(samples, chance)."""
    if chance <= 0:
        return 1.0 if least <= 0 else 0.0
    logs = [
        math.lgamma(samples + 1) - math.lgamma(k + 1) - math.lgamma(samples - k + 1)
        + k * math.log(chance) + (samples - k) * math.log1p(-chance)
        for k in range(least, samples + 1)
    ]  # fmt: skip
    return math.fsum(map(math.exp, logs))


def _windows(values: Sequence[float], count: int) -> list[float]:
    if len(values) <= count:
        return list(values)
    edges = [round(i * len(values) / count) for i in range(count + 1)]
    return [fmean(values[a:b]) for a, b in pairwise(edges)]


# ---- other experiments -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RateTrial:
    """The first steps again, from the same start, with the learning rate multiplied by `factor`.

    At factor 1 they go on for longer than the probe did.
    """

    factor: float
    losses: tuple[float, ...]

    @property
    def end(self) -> float:
        """The mean over the last quarter of the trial; infinite when it diverged."""
        tail = self.losses[-max(1, len(self.losses) // 4) :]
        return fmean(tail) if all(map(math.isfinite, self.losses)) else math.inf

    def learned(self, constant_loss: float | None) -> bool:
        """Whether the loss fell (Mann-Kendall, p < 0.01), by a tenth at least and below a constant prediction's."""
        if not math.isfinite(self.end) or not mann_kendall(_windows(self.losses, 64)) < -2.33:
            return False
        return self.end < 0.9 * self.losses[0] and (constant_loss is None or self.end < 0.95 * constant_loss)


@dataclass(frozen=True, slots=True)
class LearningRateResponse:
    """What other learning rates make of the same model and data; looked at only when the training run went wrong."""

    trials: tuple[
        RateTrial, ...
    ]  # by factor, ascending; factor 1.0 is the user's own, perhaps in two orders of batches

    @property
    def own(self) -> RateTrial:
        """The better run at the user's own rate."""
        return min((trial for trial in self.trials if trial.factor == 1.0), key=lambda trial: trial.end)

    @property
    def best(self) -> RateTrial:
        return min(self.trials, key=lambda trial: (trial.end, abs(math.log(trial.factor))))


@dataclass(frozen=True, slots=True)
class RandomOperation:
    """Something random that ran in evaluation mode."""

    operation: str  # "dropout", "randn_like", ...
    module: str  # in whose forward, "" for the model's own
    source: str  # "model.py:31" when it is in the user's code, else ""
    by_design: bool  # noise scaled by what the model computed (a VAE), or that it returns or predicts (diffusion)


@dataclass(frozen=True, slots=True)
class ClassAccuracy:
    label: int
    correct: int
    total: int


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The trained model on test data in evaluation mode, without gradients; one batch of it twice."""

    test_data_given: bool
    samples: int
    loss: float | None
    per_class: tuple[ClassAccuracy, ...]  # empty when this is no classification
    predicted: tuple[tuple[int, int], ...]  # (class, how often it was predicted)
    statistics_reestimated: bool  # BatchNorm's running averages were too young to judge by
    deterministic: bool | None
    largest_difference: float | None  # between the two evaluations of one batch
    parted_at: str | None  # the first module whose output differs; "" for the model's own forward
    parted_type: str
    parted_itself: bool  # what went into that module was still equal
    random_operations: tuple[RandomOperation, ...]

    @property
    def accuracy(self) -> float | None:
        total = sum(c.total for c in self.per_class)
        return sum(c.correct for c in self.per_class) / total if total else None


@dataclass(frozen=True, slots=True)
class ModeHolder:
    """A module that computes something else in training mode, and stays in it after `model.eval()`."""

    name: str  # or how it was found, such as "drops[0]"
    type: str
    registered: bool  # the model knows it
    own_statistics: bool  # it normalises by the batch, as BatchNorm does
    overridden: bool  # it, or what holds it, changes modes by a train() or eval() of its own
    by_forward: bool  # it was in evaluation mode before the model's forward


@dataclass(frozen=True, slots=True)
class EvalMode:
    """What `model.eval()` does to the modules, and what one forward pass after it finds."""

    differing: int  # registered modules that compute something else in training mode
    model_left: bool  # the model itself is in training mode after eval()
    model_left_after_forward: bool
    left: tuple[ModeHolder, ...]


@dataclass(frozen=True, slots=True)
class FitAttempt:
    """One attempt at learning one batch by heart."""

    optimizer: str
    losses: tuple[float, ...]
    accuracy: float | None  # at the end

    def fitted(self, constant_loss: float | None, error: float = 0.05, loss: float = 0.1) -> bool:
        """At most `error` of the samples wrong, or the loss at most `loss` of its start or of a constant's."""
        if self.accuracy is not None and self.accuracy >= 1 - error:
            return True
        end = fmean(self.losses[-3:])
        start = max(self.losses[0], constant_loss if constant_loss is not None else -math.inf)
        return end <= loss * start if start > 0 else False


@dataclass(frozen=True, slots=True)
class OneBatchFit:
    """Whether one small fixed batch can be learned by heart, dropout off: first as configured, then with Adam."""

    samples: int
    planned_steps: int
    attempts: tuple[FitAttempt, ...]  # the user's optimizer; then, if that failed, Adam at 1e-3 over all trainable
    constant_loss: float | None


@dataclass(frozen=True, slots=True)
class LossInput:
    """What one operation that judges predictions was given: the prediction, and what it was compared with.

    What is said of the values holds on every pass: of other batches, and with other weights.
    """

    operation: str  # "cross_entropy", "mse_loss", ...; or "log_softmax", "sigmoid", ... applied to the model's output
    source: str  # "train.py:31" when the user's own code calls it, else ""
    shape: tuple[int, ...]
    activation: str  # the function that made the prediction, whatever its weights: "softmax", "relu", ...; "": no known
    activation_at: str  # how a person would point at that: "5" or "softmax in forward (model.py:31)"
    classes: int | None  # the size of the dimension over which it is, or is to be, normalised
    normalized: bool  # no value is negative, and they sum to one over the classes
    log_normalized: bool  # their exponentials do
    minimum: float | None
    maximum: float | None
    target_minimum: float | None  # None where the target is class indices, or made up
    target_maximum: float | None
    unreachable: float | None  # best squared error within the activation's range / the target's variance
    weighted: bool  # by a tensor of weights, which may be zero


@dataclass(frozen=True, slots=True)
class LossInputs:
    """The operations that judge predictions in one training step, as far as the loss depends on them."""

    passes: int
    inputs: tuple[LossInput, ...]


@dataclass(frozen=True, slots=True)
class EqualUnits:
    """A layer whose units all start with the same weights, and what the first steps of training make of them."""

    layer: str
    layer_type: str
    units: int
    weights: int  # of each unit, without its bias
    zero: bool  # all of them are exactly zero
    biases_equal: bool  # or there are none: nothing tells the units apart
    hidden: bool  # what the layer returns goes into another layer with weights
    spread: float | None  # RMS of the units' deviation from their common movement / of the movement; None: none moved
    gradient_zero: bool  # exactly, of all of its parameters, in every step


@dataclass(frozen=True, slots=True)
class Symmetry:
    """Layers whose units are copies of each other at the start."""

    layers: int  # looked at: trainable, with at least two units
    steps: int  # of training, made only where there are such layers
    equal: tuple[EqualUnits, ...]


@dataclass(frozen=True, slots=True)
class InitialWeight:
    """One weight before training, and the sizes that usual initialisers give it, as root mean squares."""

    name: str
    layer: str
    layer_type: str
    std: float
    low: float  # the least of what torch itself, Xavier and He would draw
    high: float  # the most of it
    proposed: float
    initializer: str  # the call that draws `proposed`
    function: str  # the activation function that follows, "" when none does

    @property
    def gain(self) -> float:
        """How many times too large it is; below 1 too small; 1.0 within what is usual."""
        if self.low <= self.std <= self.high:
            return 1.0
        return self.std / (self.low if self.std < self.low else self.high)

    @property
    def off(self) -> bool:
        """Whether its variance is more than ten times off (SageMaker Debugger, PoorWeightInitialization)."""
        return not 0.1 <= self.gain**2 <= 10


@dataclass(frozen=True, slots=True)
class Initialization:
    """The weights before training, and the training run again from weights that fit, where these do not."""

    weights: tuple[InitialWeight, ...]  # of layers that were drawn at random
    norm_layers: int
    gradient_ratio: float | None  # of the gradient at the first outputs to that at the last, before any update
    twin_losses: tuple[float, ...]  # of that run; empty: not tried
    twin_gradient_ratio: float | None  # before the first update of that run

    @property
    def product(self) -> float:
        """Of what the layers before a ReLU multiply the signal by, in a network that nothing normalises."""
        if self.norm_layers:
            return 1.0
        return math.prod(w.std / w.proposed for w in self.weights if "kaiming" in w.initializer and w.function)

    @property
    def fits(self) -> bool:
        """Whether all layers together keep a signal and its gradient within a factor of 100, a variance within 1e4."""
        return 1e-2 <= self.product <= 1e2 or self.gradient_ratio is None or 1e-2 <= self.gradient_ratio <= 1e2

    @property
    def odd(self) -> tuple[InitialWeight, ...]:
        """Those to draw anew: where some are off, all that are twice too large or small; else all that multiply up."""
        if any(w.off for w in self.weights):
            return tuple(w for w in self.weights if not 0.5 <= w.gain <= 2)
        return () if self.fits else tuple(w for w in self.weights if w.function not in ("sigmoid", "hardsigmoid"))


@dataclass(frozen=True, slots=True)
class Linearity:
    """Whether the network is affine in its input: in evaluation mode, in float64, on random pairs of inputs."""

    affine: bool
    activations: int  # functions such as ReLU before the output, in the training run; with any, no pair is tried
    pairs: int
    deviation: float | None  # of f(ax + (1-a)y) from af(x) + (1-a)f(y) / largest difference of outputs; the largest
    link: str  # a function that is applied to the last layer's output and that is not counted: "softmax", ...; "": none
    chain: tuple[str, ...]  # trainable layers with weights that follow each other, in execution order
    widths: tuple[int, ...]  # numbers per sample, or features: into the first of them, then out of each


@dataclass(frozen=True, slots=True)
class TensorSummary:
    """One tensor of a batch over the batches looked at. `mean` and `std` are over finite elements."""

    name: str
    shape: tuple[int, ...]  # of one batch
    dtype: str
    minimum: float | None
    maximum: float | None
    mean: float | None
    std: float | None
    non_finite: int  # elements


@dataclass(frozen=True, slots=True)
class BadValues:
    """Where one tensor of the training data holds NaN or infinity, over the batches looked at."""

    tensor: str  # "input", "target 1", ...
    is_target: bool
    value: str  # "nan", "inf" or "nan and inf"
    elements: int
    samples: int  # that hold any
    batches: int
    first_batch: int
    first_sample: int  # in that batch
    axis: str  # what `features` counts along: "feature" or "channel"; "" when the tensor has one number per sample
    features: tuple[tuple[int, int], ...]  # (index, bad elements), the worst first


@dataclass(frozen=True, slots=True)
class DataSummary:
    """What the training data holds, over the first batches of one epoch."""

    source: str
    synthetic: bool
    batches: int
    samples: int
    inputs: tuple[TensorSummary, ...]
    targets: tuple[TensorSummary, ...]
    labels: tuple[tuple[int, int], ...]  # (class, count), when the target is class indices
    order: str  # by whom batches are chosen: "sequential", "shuffled", "weighted" or "own" sampler, "stream", "batches"
    dataset_size: int | None  # samples, of a data set with a length
    bad_values: tuple[BadValues, ...]
    sizes: tuple[int, ...]  # samples per batch
    same_as: tuple[int, ...]  # per batch: the first one that equals it to the last bit, which may be itself
    distinct: tuple[int, ...]  # per batch: samples that differ from the others in it
    same_chance: float  # that any two batches are equal by chance, were samples drawn from those that were seen
    label_batches: tuple[tuple[tuple[int, int], ...], ...]  # (class, count) per batch; empty unless one per sample
    spread_labels: tuple[tuple[int, int], ...]  # likewise, of samples from all over a data set read in its order
    workers_repeat: bool | None  # two workers of a stream yield the same samples; None: not a stream with workers

    def same_class_shares(self) -> tuple[float, float] | None:
        """The chance that two samples of one batch are of one class, and that of two samples of the whole data."""
        whole = _same(self.spread_labels or self.labels)
        within = [
            (share, sum(n for _, n in batch)) for batch in self.label_batches if (share := _same(batch)) is not None
        ]
        if whole is None or not within:
            return None
        return sum(share * n for share, n in within) / sum(n for _, n in within), whole


@dataclass(frozen=True, slots=True)
class MixingOperation:
    """The first operation whose result holds what it should not, in execution order."""

    operation: str  # "softmax", "lstm", ...
    module: str  # in whose forward, "" for the model's own
    module_type: str
    source: str  # "model.py:31" when it is in the user's code, else ""
    reduced_by: str = ""  # the operation that took the batch away from one of its operands, such as "mean"


@dataclass(frozen=True, slots=True)
class BatchMixing:
    """What a change of some samples does to the outputs of the other samples of their batch, in evaluation mode."""

    samples: int  # in the batch
    shuffled: bool  # the samples of a batch are drawn at random: they are no sequence
    influence: float | None  # RMS change of the others' outputs / of their own; None: not even their own changed
    batch_statistics: str  # a normalisation layer that was asked to keep no running statistics, "" when there is none
    operation: MixingOperation | None  # where the samples first mix


@dataclass(frozen=True, slots=True)
class FutureMixing:
    """What a change of one late element of a sequence does to the outputs before it, in evaluation mode.

    Looked at only where the target is the input shifted by one.
    """

    length: int
    position: int  # of the element that was changed, from 0
    influence: float | None  # largest change of an output before it / at or after it; None: nothing changed
    reached: int  # outputs before it that changed
    operation: MixingOperation | None  # where the future first arrives


@dataclass(frozen=True, slots=True)
class InputUse:
    """Whether any other input changes the output, in evaluation mode and in training mode, by a single bit."""

    changes: int  # other inputs that were tried
    ignored: bool  # none did, before training and after it, and the output has no gradient in the input
    inputs: tuple[tuple[int, ...], ...]  # the shapes of what was changed, of one batch; looked at where it is ignored
    operation: MixingOperation | None  # at which the last thing that is made of the input is lost
    unused: str  # or the module in which the last result was made that depends on the input, and goes nowhere
    unused_type: str
    targets_differ: bool | None  # between the samples of a batch; None: it has none, or they were not looked at


@dataclass(frozen=True, slots=True)
class FunctionCheck:
    """One custom autograd.Function: its backward against central differences, in float64, on what it was given."""

    function: str
    module: str  # in whose forward it ran; "" for the model's own, or the loss
    module_type: str
    source: str
    argument: str  # the input with the largest error
    relative_error: float | None  # of that input; None when it was not compared
    factor: float | None  # backward is so many times the derivative, when that is so
    ignores_upstream: bool  # backward returns the same whatever gradient arrives
    left_out: str  # why it was not compared, as a clause


@dataclass(frozen=True, slots=True)
class GradientCheck:
    """Backward against central differences along random directions."""

    loss_error: float | None  # relative, of the whole loss in the parameters; None where it could not be told
    functions: tuple[FunctionCheck, ...]


def _same(counts: Iterable[tuple[int, int]]) -> float | None:
    """The chance that two different samples are of one class."""
    numbers = [count for _, count in counts]
    n = sum(numbers)
    return sum(count * (count - 1) for count in numbers) / (n * (n - 1)) if n > 1 else None


@dataclass(frozen=True, slots=True)
class LossCall:
    """One call of a loss function of torch's, as it was made for one training batch."""

    function: str  # "cross_entropy", "binary_cross_entropy_with_logits", ...
    input_shape: tuple[int, ...]
    target_shape: tuple[int, ...]
    target_dtype: str
    target_minimum: float | None
    target_maximum: float | None
    target_sum: tuple[float, float] | None  # least and largest over classes, of class probabilities
    weighted: bool  # by class: weight or pos_weight
    reduction: str
    is_the_loss: bool  # what it returned is the loss itself: nothing was added or multiplied


@dataclass(frozen=True, slots=True)
class LossCalls:
    """Which loss functions of torch's a training step calls, and with what."""

    calls: tuple[LossCall, ...]


@dataclass(frozen=True, slots=True)
class FeatureScale:
    """One feature or channel of what enters a layer."""

    index: int
    mean: float
    std: float
    sparse: bool  # most of it is exactly 0
    binary: bool  # it is 0 or 1, or never changes

    @property
    def rms(self) -> float:
        return math.hypot(self.mean, self.std)

    @property
    def odd(self) -> bool:
        """Whether it is far from mean 0 and standard deviation 1; that it hurts is not said."""
        if self.binary:
            return False
        fine = self.rms <= 10 and abs(self.mean) <= 5 * self.std
        return not (fine and (self.rms >= 1e-2 or self.sparse))


@dataclass(frozen=True, slots=True)
class InputScale:
    """What enters the first layer with weights, where that is the input as it is and not the output of another."""

    layer: str
    layer_type: str
    axis: str  # "feature", "channel", or "" when all numbers have one scale
    features: int
    minimum: float
    maximum: float
    listed: tuple[FeatureScale, ...]  # all, when they are few
    worst: FeatureScale
    standardized_losses: tuple[float, ...]  # of the training run again on standardised input; empty: not tried

    @property
    def odd(self) -> bool:
        return self.worst.odd


@dataclass(frozen=True, slots=True)
class TargetScale:
    """What a regression is to predict: the column that is farthest from mean 0 and standard deviation 1."""

    columns: int
    column: int
    mean: float
    std: float
    minimum: float
    maximum: float
    standardized_losses: tuple[float, ...]  # of the training run again on standardised targets; empty: not tried
    standardized_constant_loss: float | None

    @property
    def odd(self) -> bool:
        return self.std != 0 and not (self.std <= 100 and abs(self.mean) <= 5 * self.std)


@dataclass(frozen=True, slots=True)
class BatchRepetition:
    """The loss of a batch beside the loss of the same samples two and three times; an average is the same each time."""

    samples: int  # in a batch of the training run
    losses: tuple[float, ...]  # of the samples once, twice and three times
    loss: str  # how a person would name it
    divisor: int | None  # that the loss was divided by to train again: numbers compared, or samples; None: not tried
    divided_losses: tuple[float, ...]  # of that run, from the same start on the same batches

    @property
    def share(self) -> float:
        """How much of the loss grows with the batch: 0.0 for an average, 1.0 for a sum, NaN when that is not known.

        What grows otherwise, as a sum over pairs does, or does not grow in proportion, counts as no sum.
        """
        once, twice, thrice = self.losses
        if once == 0 or not all(map(math.isfinite, self.losses)):
            return math.nan
        if not abs((thrice - twice) - (twice - once)) <= 1e-3 * abs(once):
            return 0.0
        return (thrice - once) / 2 / once


@dataclass(frozen=True, slots=True)
class ModeGap:
    """The trained model's loss on training batches, normalised in three ways; everything else in evaluation mode."""

    layers: tuple[str, ...]  # that normalise by the batch in training and by running statistics in evaluation
    layer_type: str
    samples: int  # per batch
    by_batch: tuple[float, ...]  # loss per training batch, normalised by that batch, as in training
    by_running: tuple[float, ...]  # by the running statistics that training left
    by_average: tuple[float, ...]  # by statistics averaged anew over training batches


@dataclass(frozen=True, slots=True)
class WeightDecay:
    """What the optimizers' weight decay does to the weights, and the training run again without it."""

    decay: float  # the largest of any group
    decoupled: bool  # subtracted from the weights themselves, as in AdamW, and not added to their gradient
    shares: tuple[float, ...]  # of each decayed weight: decay's part of the first update / the gradient's part
    shrinkage: float | None  # median over these weights of their size at the end / at the start
    proposed: float  # the decay whose part is a tenth of the gradient's, within what people choose
    free_losses: tuple[float, ...]  # of the run without any; empty: not tried

    @property
    def share(self) -> float | None:
        return middle(self.shares)


@dataclass(frozen=True, slots=True)
class TimeGradient:
    """How much the last output of a recurrent layer depends on each step of its input."""

    layer: str
    layer_type: str  # "RNN", "LSTM" or "GRU"
    gradient_rms: tuple[float, ...]  # by step, earliest first; in units of the last step's

    @property
    def ratio(self) -> float:
        """The largest over the first tenth of the steps: 1 is no loss."""
        return max(self.gradient_rms[: max(1, len(self.gradient_rms) // 10)])


@dataclass(frozen=True, slots=True)
class TimeGradients:
    """Recurrent layers before training, in execution order, and the run with time turned round at the worst of them."""

    layers: tuple[TimeGradient, ...]
    turned_losses: tuple[float, ...]  # of the run in which that layer reads the last step first; empty: not tried

    @property
    def worst(self) -> TimeGradient:
        """The layer that forgets most."""
        return min(self.layers, key=lambda layer: layer.ratio)


@dataclass(frozen=True, slots=True)
class LowPrecision:
    """What weights of float16 or bfloat16 lose in a first step: gradients that vanish, updates that round away."""

    dtype: str  # "float16" or "bfloat16"
    layers: tuple[str, ...]  # that hold such weights
    scale: float  # what the loss was multiplied by to bring vanished gradients back
    underflow: float | None  # share of gradient elements that are zero, and normal numbers when the loss is scaled
    underflow_layer: str  # where that share is largest
    lost_updates: float | None  # share of the elements with a gradient that the step left as they were, bit for bit
    lost_layer: str
    float32_losses: tuple[float, ...]  # of the run in float32; empty: not tried


FACTS: tuple[type, ...] = (
    Wiring, Training, LearningRateResponse, Evaluation, OneBatchFit, LossInputs, Symmetry, Initialization, Linearity,
    DataSummary, BatchMixing, FutureMixing, InputUse, GradientCheck, LossCalls, EvalMode, InputScale, TargetScale,
    ModeGap, BatchRepetition, WeightDecay, LowPrecision,
    TimeGradients,
)  # fmt: skip
