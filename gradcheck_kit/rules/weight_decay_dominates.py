from __future__ import annotations

from collections.abc import Iterator

from gradcheck_kit.facts import LearningRateResponse, RateTrial, Training, WeightDecay
from gradcheck_kit.rule import Finding, Skip, rule

SYMPTOMS = ("GK101", "GK104", "GK203", "GK204", "GK205", "GK507", "GK601", "GK606")


@rule("GK207", needs=(Training, WeightDecay), uses=(LearningRateResponse,), explains=SYMPTOMS)
def weight_decay_dominates(
    training: Training,
    decay: WeightDecay,
    response: LearningRateResponse | None,
    *,
    shrinkage: float = 0.5,
    ratio: float = 1.0,
) -> Iterator[Finding]:
    """The run does not learn under its weight decay, and the same run without any does.

    Looked at where decay shrinks the weights to `shrinkage` of their size or less, or makes `ratio` times as much of
    the first update as the gradient does. In a run that learns it is nothing: to fit less closely is what it is for.
    """
    if decay.shrinkage is None:
        raise Skip("no decayed weight was recorded over more than one step")
    share, harm = decay.share, training.harm
    if not harm or (decay.shrinkage > shrinkage and (share is None or share < ratio)):
        return
    what = f"weight_decay={decay.decay:g} shrinks the weights to {decay.shrinkage:.2g} of their size"
    if not decay.free_losses:
        raise Skip(f"{what}, and whether the run does better without it was not tried")
    free = RateTrial(1.0, decay.free_losses)
    if not free.learned(training.constant_loss) or (training.finite and not free.end < 0.9 * training.last_loss):
        raise Skip(f"{what}, but without it the run is not clearly better")
    late = response is not None and response.own.learned(training.constant_loss)  # in three times as many steps
    part = f" It makes {share:.2g} times as much of the first update as the gradient does." if share else ""
    yield Finding(
        where="optimizer",
        message=f"In {training.loss_steps} steps {what}, and {harm}.{part} Without it the same run goes from "
        f"{free.losses[0]:.3g} to {free.end:.3g}.",
        evidence={
            "weight_decay": decay.decay,
            "shrinkage": decay.shrinkage,
            "share": share,
            "limit": shrinkage,
            "end": training.last_loss,
            "end_without": free.end,
        },
        fixes=(
            f"Set weight_decay={decay.proposed:g} in place of {decay.decay:g}"
            + (
                "."
                if decay.decoupled
                else ", or use AdamW, where a decay of 0.01 means 0.01 times the learning rate in each step."
            ),
        ),
        severity="warning" if late or training.synthetic else None,
    )
