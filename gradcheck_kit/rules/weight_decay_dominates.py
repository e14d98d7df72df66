from __future__ import annotations

from collections.abc import Iterator

from gradcheck_kit.facts import LearningRateResponse, RateTrial, Training, WeightDecay
from gradcheck_kit.rule import Finding, Skip, rule

SYMPTOMS = ("GK101", "GK104", "GK203", "GK204", "GK205", "GK601", "GK606")


@rule("GK207", needs=(Training, WeightDecay), uses=(LearningRateResponse,), explains=SYMPTOMS)
def weight_decay_dominates(
    training: Training, decay: WeightDecay, response: LearningRateResponse | None, *, shrinkage: float = 0.5
) -> Iterator[Finding]:
    """Weight decay shrinks the weights to less than `shrinkage` of their size, and without it the run learns.

    An error where the run does not learn with it; a warning where it does, or does so later, and ends at half the
    loss without it.
    """
    if decay.shrinkage is None:
        raise Skip("no decayed weight was recorded over more than one step")
    if decay.shrinkage > shrinkage:
        return
    harm = training.harm
    what = f"weight_decay={decay.decay:g} shrinks the weights to {decay.shrinkage:.2g} of their size"
    if not decay.free_losses:
        raise Skip(f"{what}, and whether the run does better without it was not tried")
    free = RateTrial(1.0, decay.free_losses)
    late = response is not None and response.own.learned(training.constant_loss)  # in three times as many steps
    better = free.learned(training.constant_loss)
    if training.finite:
        better = better and free.end < (0.9 if harm and not late else 0.5) * training.last_loss
    if not better:
        raise Skip(f"{what}, but without it the run is not clearly better")
    share = decay.share
    part = f" It makes {share:.2g} times as much of the first update as the gradient does." if share else ""
    why = harm or f"the loss went from {training.first_loss:.3g} to {training.last_loss:.3g}"
    yield Finding(
        where="optimizer",
        message=f"In {training.loss_steps} steps {what}, and {why}.{part} Without it the same run goes from "
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
        severity=None if harm and not late and not training.synthetic else "warning",
    )
