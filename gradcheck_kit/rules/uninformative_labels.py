from __future__ import annotations

from collections.abc import Iterator

from gradcheck_kit.facts import (
    ConstantInput,
    DataSummary,
    HeldOut,
    LearningRateResponse,
    LossCalls,
    OneBatchFit,
    Training,
)
from gradcheck_kit.rule import Finding, Skip, rule

FEW = 8  # samples: to tell one or two apart takes next to nothing of what the task takes
LOOK = (
    "Look at some samples with their labels: inputs and labels may have been shuffled, sorted or filtered apart, or "
    "joined by the wrong key."
)
ENOUGH = 100  # labels, that all of them be one class is no chance
MANY = 8  # rows of an embedding, of which one is ever looked up


@rule(
    "GK507",
    needs=(Training, OneBatchFit),
    uses=(LearningRateResponse, DataSummary, HeldOut, LossCalls),
    explains=("GK205", "GK601", "GK606"),
    severity="warning",
)
def uninformative_labels(  # noqa: PLR0917  # one for each fact
    training: Training,
    fit: OneBatchFit,
    response: LearningRateResponse | None,
    data: DataSummary | None,
    held_out: HeldOut | None,
    loss_calls: LossCalls | None,
    *,
    steps: int = 60,
) -> Iterator[Finding]:
    """The loss stays at that of a constant prediction at every learning rate, while one batch is learned by heart.

    Model, loss and optimizer work then; what is missing is anything in the inputs that tells the labels. Or half of the
    batches are learned by heart, which says nothing of the other half. An error where all samples hold one and the same
    number, and the run does not learn. Or a cross-entropy is given one and the same class for all samples.
    """
    if training.synthetic:
        raise Skip("the data is random: there is nothing to learn but by heart")
    if data is not None and data.constant is not None and _tells_nothing(data.constant, data, training):
        yield _of_constant(data.constant, training)
        return
    if data is not None and loss_calls is not None and _one_class(data, loss_calls):
        yield _of_one_class(data)
        return
    if training.constant_loss is None:
        raise Skip("the loss of a constant prediction is not known for this loss")
    if not training.finite:
        raise Skip("the loss is not finite (see non-finite)")
    if held_out is not None and held_out.says_nothing(training.constant_loss):
        yield _of_halves(held_out, training)
        return
    harm = training.harm
    if not (harm and training.at_chance):
        return
    if training.loss_steps < steps:
        raise Skip(f"{training.loss_steps} steps are too few to tell; {training.at_least(steps)}")
    if not fit.attempts[0].fitted(fit.constant_loss):
        raise Skip(f"{harm}, but one batch is not learned by heart either: that need not be the labels")
    if fit.with_dropout is not None and not fit.with_dropout.fitted(fit.constant_loss):
        raise Skip(f"{harm}, but with dropout on one batch is not learned by heart either")
    if fit.samples < FEW:
        raise Skip(f"{harm}, and {fit.samples} samples are learned by heart, which are too few to tell by")
    if response is None:
        raise Skip(f"{harm}, but whether another learning rate or more steps help was not tried")
    if any(trial.learned(training.constant_loss) for trial in response.trials):
        raise Skip(f"{harm}, but with another learning rate or more steps it falls: the labels can be learned")
    own = response.own
    if not own.end > 0.95 * training.constant_loss or own.end > 1.5 * training.constant_loss:
        raise Skip(f"{harm}, but in {len(own.losses)} steps it does not stay where a constant prediction is")
    rates = sum(trial.factor != 1.0 for trial in response.trials)
    yield Finding(
        where="train_data",
        message=f"After {len(own.losses)} steps the loss is {own.end:.3g}, that of always predicting "
        f"{training.constant_prediction} ({training.constant_loss:.3g}), and so it is with {rates} other learning "
        f"rates, while {fit.samples} samples are learned by heart: the labels seem to have nothing to do with the "
        "inputs, or too little to show in so few steps.",
        evidence={
            "loss": own.end,
            "chance": training.constant_loss,
            "limit": 0.9 * training.constant_loss,
            "steps": len(own.losses),
        },
        fixes=(
            LOOK,
            "Probe longer (--steps 500) if they belong together: then the task needs more steps than these.",
        ),
    )


def _one_class(data: DataSummary, loss_calls: LossCalls) -> bool:
    """Whether all labels that count are one class, though samples are drawn from all over the data."""
    counted = {label: n for label, n in data.labels if label >= 0}
    if len(counted) != 1 or sum(counted.values()) < ENOUGH or data.order != "shuffled" or data.batches < 2:
        return False
    return any(call.is_the_loss and call.function in ("cross_entropy", "nll_loss") for call in loss_calls.calls)


def _of_one_class(data: DataSummary) -> Finding:
    ((label, count),) = ((label, n) for label, n in data.labels if label >= 0)
    return Finding(
        where="train_data",
        message=f"All {count:,} labels that count in the first {data.batches} batches, which are shuffled, are class "
        f"{label}: there is nothing to tell apart, and a constant output brings the loss to 0.",
        evidence={"classes": 1, "labels": count, "limit": 2},
        fixes=(
            "Look at where labels are made: from inputs before they are masked, scaled or cast, and from the column "
            "that holds the classes.",
        ),
    )


def _of_halves(held_out: HeldOut, training: Training) -> Finding:
    rate = "" if held_out.factor == 1 else f" at {held_out.factor:g} times the learning rate"
    right = f", {held_out.correct / held_out.samples:.1%} of them right" if held_out.samples else ""
    at = f"{held_out.commonest / held_out.samples:.1%}, {training.constant_loss:.3g}" if right else ""
    at = at or f"{training.constant_loss:.3g}"
    return Finding(
        where="train_data",
        message=f"In {held_out.steps} steps on every other training batch{rate} the loss on these comes down to "
        f"{held_out.trained_on:.3g}, and on the batches between it is {held_out.others:.3g}{right}: no better than "
        f"always predicting {training.constant_prediction} ({at}). What the inputs tell of one half of the labels says "
        "nothing of the other: they are learned by heart.",
        evidence={
            "trained_on": held_out.trained_on,
            "others": held_out.others,
            "limit": training.constant_loss,
            "steps": held_out.steps,
        },
        fixes=(LOOK,),
    )


def _tells_nothing(constant: ConstantInput, data: DataSummary, training: Training) -> bool:
    """Whether one value for all samples is a fault: many were expected, or targets differ and the run does not learn.

    A single number per sample may be there for a model that fits a constant or a distribution.
    """
    if constant.embedding:
        return constant.rows >= MANY
    differ = any(target.minimum != target.maximum for target in data.targets)
    return constant.width > 1 and differ and bool(training.harm)


def _of_constant(constant: ConstantInput, training: Training) -> Finding:
    value = f"{constant.value:g}"
    padded = f" (the rest is padding, {constant.padding:g})" if constant.padding is not None else ""
    if constant.embedding:
        what = (
            f"All {constant.elements:,} tokens of the {constant.samples:,} samples that were read are {value}{padded}; "
            f"the other rows of {constant.embedding}, which has {constant.rows:,}, are never looked up"
        )
        fix = (
            "Print one sample beside its text, and look words up in the vocabulary as it was made: in another case, or "
            f"split in another way, each of them is unknown, which {value} may stand for."
        )
    else:
        what = (
            f"All {constant.elements:,} numbers of the {constant.samples:,} samples that were read are {value}, while "
            "their targets differ"
        )
        fix = (
            "Look at one sample where it is read: scaled numbers that are cast to integers, an array that was never "
            "filled and a file that did not open come out all the same."
        )
    return Finding(
        where="train_data",
        message=f"{what}." + (f" So {training.harm}." if training.harm else ""),
        evidence={"value": constant.value, "elements": constant.elements, "rows": constant.rows, "limit": 1},
        fixes=(fix,),
        severity="error" if training.harm else None,
    )
