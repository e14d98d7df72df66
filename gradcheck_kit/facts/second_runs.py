"""The training run again with one thing changed, and what decides whether that is worth trying."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import fmean

from gradcheck_kit.facts.statistics import binomial_tail, mann_kendall, middle, windows


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
        if not math.isfinite(self.end) or not mann_kendall(windows(self.losses, 64)) < -2.33:
            return False
        return self.end < 0.9 * self.losses[0] and (constant_loss is None or self.end < 0.95 * constant_loss)


@dataclass(frozen=True, slots=True)
class LearningRateResponse:
    """What other learning rates make of the same model and data; looked at only when the training run went wrong."""

    trials: tuple[
        RateTrial, ...
    ]  # by factor, ascending; factor 1.0 is the user's own, perhaps in two orders of batches
    guarded: RateTrial | None = None  # at the user's own rate, with log and sqrt kept from 0; where that ever mattered

    @property
    def own(self) -> RateTrial:
        """The better run at the user's own rate."""
        return min((trial for trial in self.trials if trial.factor == 1.0), key=lambda trial: trial.end)

    @property
    def best(self) -> RateTrial:
        return min(self.trials, key=lambda trial: (trial.end, abs(math.log(trial.factor))))


ENOUGH = 250  # samples to be told, after as many to learn from: fewer need not show what their labels depend on


@dataclass(frozen=True, slots=True)
class HeldOut:
    """The model trained on every other training batch, and the loss on these and on the batches between."""

    steps: int
    factor: float  # of the user's learning rate
    lowest: float  # loss on the others on the way there, in training mode
    trained_on: float  # mean loss over the batches that were trained on, at the end
    others: float  # over the others
    correct: int  # of the others' samples, where they are classes
    commonest: int  # how many the commonest class would get
    samples: int  # 0: no classes
    others_samples: int = 0  # or tokens of a text, classes or not

    def says_nothing(self, constant_loss: float | None) -> bool:
        """Whether the one half was learned, and the other is no better than a constant prediction, at p < 0.01.

        And got worse on the way: what starts far above a constant prediction and falls may yet go below it.
        """
        if constant_loss is None or not self.trained_on < 0.9 * constant_loss or self.others < constant_loss:
            return False
        if not self.others - self.lowest > 0.02 * abs(constant_loss):
            return False
        if self.others_samples < ENOUGH:
            return False
        return not self.samples or not (
            self.correct > self.commonest
            and binomial_tail(self.correct, self.samples, self.commonest / self.samples) < 0.01
        )


@dataclass(frozen=True, slots=True)
class FitAttempt:
    """One attempt at learning one batch by heart."""

    optimizer: str
    losses: tuple[float, ...]
    accuracy: float | None  # at the end
    slope: float | None = None  # at the end: of the loss, over what its gradient says it is; None: not looked at

    @property
    def at_odds(self) -> bool:
        """The loss has another slope than its gradient says: parts of it are trained against each other, as in a GAN.

        Where autograd's gradient is that of the loss, the slope is 1 up to rounding.
        """
        return self.slope is not None and not abs(self.slope - 1) <= 0.1

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
    dropout: str = ""  # the layer that drops most, where that is more than four of five values
    dropout_share: float = 0.0  # of values that it drops
    with_dropout: FitAttempt | None = None  # where the batch was learned: the same with dropout on


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
    # Where most features of the test data have another scale: the one that differs most, in training and in test data.
    apart: tuple[FeatureScale, FeatureScale] | None = None

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
    with_input_of: str = ""  # the layer whose input was standardised as well, where the target alone did not help
    part: str = ""  # which of several things that the loss takes: "['age']"; "" where there is one target
    marker: float | None = None  # one number that comes again and again, far from all others, as -999 for missing ones
    marked: float = 0.0  # its share

    @property
    def odd(self) -> bool:
        """Whether it is far from mean 0 and standard deviation 1; that it hurts is not said."""
        return self.std != 0 and not (self.std <= 10 and abs(self.mean) <= 3 * self.std)


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

    @property
    def unusual(self) -> bool:
        """Whether it is beyond what people choose: 0.1 is the most that is usual, with AdamW."""
        return self.decay > 0.1


@dataclass(frozen=True, slots=True)
class TimeGradient:
    """How much of the gradient at the last step of a recurrent layer, or a cell, arrives at each step."""

    layer: str
    layer_type: str  # "RNN", "LSTM", "GRU", or the type of a cell
    gradient_rms: tuple[float, ...]  # by step, earliest first; in units of the last step's
    cell: bool = False  # a module that the model calls step by step
    padded: float = 0.0  # how many of a sequence's last steps are equal, over the first batch
    cut: bool = (
        False  # no gradient at all arrives before the last call, though what the first returned changes the loss
    )

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
    vanished: tuple[str, ...]  # parameters of whose gradient nothing is left, and is there when the loss is scaled
    lost_updates: float | None  # share of the elements with a gradient that the step left as they were, bit for bit
    lost_layer: str
    float32_losses: tuple[float, ...]  # of the run in float32; empty: not tried
