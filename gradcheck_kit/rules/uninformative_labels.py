from __future__ import annotations

from collections.abc import Iterator

from gradcheck_kit.facts import LearningRateResponse, OneBatchFit, Training
from gradcheck_kit.rule import Finding, Skip, rule

FEW = 8  # samples: to tell one or two apart takes next to nothing of what the task takes


@rule("GK507", needs=(Training, OneBatchFit), uses=(LearningRateResponse,), explains=("GK601",), severity="warning")
def uninformative_labels(
    training: Training, fit: OneBatchFit, response: LearningRateResponse | None, *, steps: int = 60
) -> Iterator[Finding]:
    """The loss stays at that of a constant prediction at every learning rate, while one batch is learned by heart.

    Model, loss and optimizer work then; what is missing is anything in the inputs that tells the labels.
    """
    if training.synthetic:
        raise Skip("the data is random: there is nothing to learn but by heart")
    if training.constant_loss is None:
        raise Skip("the loss of a constant prediction is not known for this loss")
    if not training.finite:
        raise Skip("the loss is not finite (see non-finite)")
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
    if not own.end > 0.9 * training.constant_loss or own.end > 1.5 * training.constant_loss:
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
            "Look at some samples with their labels: inputs and labels may have been shuffled, sorted or filtered "
            "apart, or joined by the wrong key.",
            "Probe longer (--steps 500) if they belong together: then the task needs more steps than these.",
        ),
    )
