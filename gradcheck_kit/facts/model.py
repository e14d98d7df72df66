"""What the model computes and how its output meets the loss, without training."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LossInput:
    """What one operation that judges predictions was given: the prediction, and what it was compared with.

    What is said of the values holds on every pass: of other batches, and with other weights.
    """

    operation: str  # "cross_entropy", "mse_loss", ...; or "log_softmax", "sigmoid", ... applied to the model's output
    source: str  # "train.py:31" when the user's own code calls it, else ""
    shape: tuple[int, ...]
    activation: str  # what made the prediction, whatever its weights: "softmax", "relu", "cosine", ...; "": no known
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
    target_sum: float | None = None  # of binary cross-entropy: the most that a sample's targets add up to over classes


@dataclass(frozen=True, slots=True)
class LossInputs:
    """The operations that judge predictions in one training step, as far as the loss depends on them."""

    passes: int
    inputs: tuple[LossInput, ...]


@dataclass(frozen=True, slots=True)
class Transcripts:
    """What a CTC loss was given for targets, within their lengths."""

    symbols: int
    blanks: int  # symbols that are the blank's index, which stands for no symbol
    outside: int  # symbols that no output stands for
    samples: int
    too_long: int  # samples whose target needs more steps than the output has: their loss is infinite, or set to 0


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
    value: float | None = None  # what it returned, if that is one number
    chance: float | None = None  # what it returns for scores of zero, which say nothing
    transcripts: Transcripts | None = None  # of ctc_loss


@dataclass(frozen=True, slots=True)
class LossTerm:
    """Something that the loss adds, which changes with the parameters and is a constant to autograd."""

    source: str  # "model.py:31" when it is in the user's code, else ""
    value: float
    differentiated: bool  # something was differentiated by torch.autograd.grad without create_graph=True


@dataclass(frozen=True, slots=True)
class LossTerms:
    """The loss of one batch, and what of it nothing is trained by."""

    loss: float
    untrained: tuple[LossTerm, ...]


@dataclass(frozen=True, slots=True)
class LossCalls:
    """Which loss functions of torch's a training step calls, and with what."""

    calls: tuple[LossCall, ...]
    refused: str = ""  # why a loss did not take the labels at all, in words
    remedy: str = ""


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
    bare: bool = False  # a parameter that a module of the user's own multiplies with


@dataclass(frozen=True, slots=True)
class EqualLayers:
    """Layers that start with the very same weights, as copies do, and are no one layer."""

    layers: tuple[str, ...]
    layer_type: str
    spread: float | None  # RMS deviation of the movements of corresponding weights over their RMS; None: none moved


@dataclass(frozen=True, slots=True)
class Symmetry:
    """Layers whose units are copies of each other at the start, and layers that are."""

    layers: int  # looked at: trainable, with at least two units
    steps: int  # of training, made only where there are such layers
    equal: tuple[EqualUnits, ...]
    copies: tuple[EqualLayers, ...] = ()


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

    Looked at only where the target is the input shifted by one, or is the input itself.
    """

    length: int
    position: int  # of the element that was changed, from 0
    influence: float | None  # largest change of an output before it / at or after it; None: nothing changed
    reached: int  # outputs before it that changed
    operation: MixingOperation | None  # where the future first arrives
    answer_given: bool = False  # the model is given the target itself, position by position, and sees it where it is


@dataclass(frozen=True, slots=True)
class IgnoredArgument:
    """An argument of the model beside others that changes no output by a bit, though forward reads it or its like."""

    name: str
    shape: tuple[int, ...]
    source: str  # where forward reads it first: "model.py:31"; "" where it does not
    changes: int  # other values that were tried
    twin: str = ""  # an argument of the same shape and type that forward reads, where it does not read this one


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
    own_losses: tuple[float, ...] = ()  # per batch, after training; empty: not looked at
    others_losses: tuple[float, ...] = ()  # ... with the inputs of other samples in the place of each sample's own
    arguments: tuple[IgnoredArgument, ...] = ()

    @property
    def worthless(self) -> bool:
        """Whether its own input brings a sample's loss no lower than another's: by less than a thousandth of it."""
        own, others = self.own_losses, self.others_losses
        if not own or not math.isfinite(math.fsum(own) + math.fsum(others)):
            return False
        return math.fsum(others) - math.fsum(own) < 1e-3 * math.fsum(map(abs, own))


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
