"""A training run, probed or watched: its losses, and gradients, weights and activations at the recorded steps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from gradcheck_kit.facts.statistics import Series, end_to_end, mann_kendall, middle, windows

LARGE_UPDATE = 0.1  # of the weights in the first step (TheDeepChecker): other runs are tried, whatever the loss


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
        return mann_kendall(windows(self.losses[int(len(self.losses) * start) :], 64))

    @property
    def at_chance(self) -> bool | None:
        """Whether the run ended no better than an input-independent prediction; None when that is not known."""
        if self.constant_loss is None:
            return None
        return not self.last_loss < self.constant_loss - 0.1 * abs(self.constant_loss)

    @property
    def above_chance(self) -> bool:
        """Whether the run ended above a constant prediction's loss, however far it fell to there."""
        if self.constant_loss is None or not self.finite or not self.long_enough or self.competing:
            return False
        return not self.last_loss < self.constant_loss

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
    def _falls_on(self) -> bool:
        """The second half of the run still falls, by more than what draws ever nearer to a constant prediction's."""
        late = self.losses[len(self.losses) // 2 :]
        fall = (middle(late[: max(1, len(late) // 2)]) or 0.0) - self.last_loss
        return self.trend(0.5) < -1.64 and not fall < 0.01 * abs(self.constant_loss or 0.0)

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
            did = "did not fall" if self.last_loss > 0.9 * self.first_loss else "does not go on falling"
            return f"the loss {did}: {self.first_loss:.3g} at the start, {self.last_loss:.3g} at the end"
        # Coming down to chance from far above is progress; wandering about it is none, whichever way it goes.
        never_left = chance is not None and self.last_loss >= 0.98 * chance and self._near_chance_from_the_start
        moving = self._falls_on or self._came_down_in_few_steps
        if self.at_chance and (never_left or not moving):
            return (
                f"the loss stays at {self.last_loss:.3g}, no better than always predicting "
                f"{self.constant_prediction} ({self.constant_loss:.3g})"
            )
        return ""

    @property
    def learned_well(self) -> bool:
        """Whether nothing is to be gained any more: the loss ended at a tenth of a constant prediction's."""
        return not self.harm and self.constant_loss is not None and 0 <= self.last_loss < 0.1 * self.constant_loss

    @property
    def chance(self) -> float | None:
        """The loss of an output that says nothing: of the best constant prediction, or of zeros if that is larger."""
        return None if self.constant_loss is None else max(self.constant_loss, self.zero_loss or 0.0)

    @property
    def confidently_wrong(self) -> bool:
        """Whether the first loss is above twice that of an output that says nothing."""
        chance = self.chance
        return chance is not None and chance > 0 and self.first_loss > 2 * chance

    @property
    def first_update_ratio(self) -> float | None:
        """The median over optimized weights of update RMS / weight RMS in the first recorded step."""
        return middle(
            p.update_rms[0] / p.weight_rms[0]
            for p in self.parameters
            if p.is_weight and p.optimized and p.update_rms and p.update_rms[0] is not None and p.weight_rms[0]
        )

    @property
    def crawls(self) -> str:
        """Why a loss that falls is on its way nowhere, as the end of a sentence; "" where it gets along.

        Above a constant prediction's loss any bias falls; a tenth of the way there is the least of progress.
        """
        chance = self.constant_loss
        if chance is None or self.harm or not self.above_chance:
            return ""
        if self.first_loss - self.last_loss > 0.1 * (self.first_loss - chance):
            return ""
        return (
            f"the loss only crawls from {self.first_loss:.3g} to {self.last_loss:.3g}, and always predicting "
            f"{self.constant_prediction} gets {chance:.3g}"
        )

    @property
    def went_wrong(self) -> bool:
        """Whether it is worth trying anything else: it did not learn, broke out, or took first steps too long."""
        first = self.first_update_ratio
        return bool(self.harm or self.crawls) or self.blow_up > 10 or (first is not None and not first <= LARGE_UPDATE)

    # -- depth --

    def settled(self, series: Sequence[float | None]) -> list[float]:
        """The finite values after the first sixth of the run; all of them when there are fewer than three such.

        Zero-initialised heads, LayerScale and LoRA let almost nothing through at step 0, and are healthy.
        """
        kept = [(step, v) for step, v in zip(self.recorded, series, strict=True) if v is not None and math.isfinite(v)]
        late = [value for step, value in kept if step * 6 >= self.planned_steps]
        return late if len(late) >= 3 else [value for _, value in kept]

    @property
    def untrained_weights(self) -> tuple[str, ...]:
        """Layers whose trainable weight got no gradient, or exactly zero, at any recorded step."""
        return tuple(p.layer for p in self.parameters if p.is_weight and p.trainable and not any(p.gradient_rms))

    @property
    def frozen_zeros(self) -> tuple[str, ...]:
        """Layers whose weight nobody trains and that is exactly zero: they pass on neither signal nor gradient."""
        return tuple(
            p.layer
            for p in self.parameters
            if p.is_weight and not p.trainable and p.layer and p.weight_rms and not any(p.weight_rms)
        )

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
