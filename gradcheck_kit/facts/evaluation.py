"""The model in evaluation mode."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gradcheck_kit.facts.statistics import signed_rank


@dataclass(frozen=True, slots=True)
class RandomOperation:
    """Something random that ran in evaluation mode."""

    operation: str  # "dropout", "randn_like", ...
    module: str  # in whose forward, "" for the model's own
    source: str  # "model.py:31" when it is in the user's code, else ""
    by_design: bool  # noise scaled by what the model computed (a VAE), or that it returns or predicts (diffusion)
    in_training_mode: bool = False  # the module is one of torch's, and was set back to training mode


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
    nan_samples: int = 0  # of the test samples, those for which the output holds NaN
    # Likewise of training batches, where the test data has few samples of a class that is rare:
    trained_per_class: tuple[ClassAccuracy, ...] = ()
    trained_predicted: tuple[tuple[int, int], ...] = ()

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


SLOW = 0.01  # a tenth of torch's default momentum, and the default of others
EPOCHS = 5


@dataclass(frozen=True, slots=True)
class ModeGap:
    """The trained model's loss on training batches, normalised in three ways; everything else in evaluation mode."""

    layers: tuple[str, ...]  # that normalise by the batch in training and by running statistics in evaluation
    layer_type: str
    samples: int  # per batch
    by_batch: tuple[float, ...]  # loss per training batch, normalised by that batch, as in training
    by_running: tuple[float, ...]  # by the running statistics that training left
    by_average: tuple[float, ...]  # by statistics averaged anew over training batches
    still: tuple[str, ...] = ()  # of the layers, those whose running statistics never move, as with a momentum of 0
    own: bool = False  # the layers are of the user's own making
    slow: tuple[str, ...] = ()  # of the layers, those of the smallest momentum below SLOW
    momentum: float | None = None  # theirs: the newest batch's share
    epoch: int | None = None  # batches of one; None: not known

    @property
    def left_of_start(self) -> float:
        """The share of where they started that is left in the slowest running statistics after `EPOCHS`."""
        if self.momentum is None or self.epoch is None:
            return 0.0
        return float((1 - self.momentum) ** (EPOCHS * self.epoch))


@dataclass(frozen=True, slots=True)
class Generalization:
    """The training run once more, with a look at the same test samples at some of its steps, in evaluation mode."""

    epochs: float  # over the training data
    samples: int  # of test data looked at
    training_samples: int  # of one epoch
    steps: tuple[int, ...]  # updates made before each look, ascending; empty: the run was not made again
    chunk_losses: tuple[tuple[float, ...], ...]  # at each look: the mean loss of each handful of test samples
    accuracies: tuple[float | None, ...]  # at each look; None where this is no classification
    training_losses: tuple[float, ...]  # at each look: the mean over the updates since the look before

    @property
    def losses(self) -> tuple[float, ...]:
        """The mean test loss at each look."""
        return tuple(math.fsum(look) / len(look) for look in self.chunk_losses)

    @property
    def best(self) -> int:
        """The look at which the test loss was lowest; NaN is never the lowest."""
        return min(range(len(self.steps)), key=lambda i: (math.isnan(self.losses[i]), self.losses[i]))

    def change(self, before: int, after: int) -> float:
        """The z-score of the change of the test loss between two looks, handful by handful (Wilcoxon)."""
        pairs = zip(self.chunk_losses[before], self.chunk_losses[after], strict=True)
        return signed_rank(b - a for a, b in pairs)
