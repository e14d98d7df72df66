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
    gain: float = 0.5,
) -> Iterator[Finding]:
    """The run does not learn under its weight decay, and the same run without any does.

    Looked at where decay shrinks the weights to `shrinkage` of their size or less, or makes `ratio` times as much of
    the first update as the gradient does. In a run that learns both must hold of a decay above what people choose, and
    it is a warning where the same run without any ends at `gain` times its loss: to fit less closely is what it is for.
    """
    if decay.shrinkage is None:
        raise Skip("no decayed weight was recorded over more than one step")
    share, harm = decay.share, training.harm
    shrunk, outweighs = not decay.shrinkage > shrinkage, share is not None and not share < ratio
    if not (shrunk or outweighs) or not (harm or (shrunk and outweighs and decay.unusual)):
        return
    what = f"weight_decay={decay.decay:g} shrinks the weights to {decay.shrinkage:.2g} of their size"
    if not decay.free_losses:
        raise Skip(f"{what}, and whether the run does better without it was not tried")
    free = RateTrial(1.0, decay.free_losses)
    # A run without decay that went on for longer is compared with one that did so with it.
    longer = response is not None and len(free.losses) > training.loss_steps
    own = response.own.end if response is not None and longer else training.last_loss
    limit = (0.9 if harm else gain) * own
    if not free.learned(training.constant_loss) or (training.finite and not 0 <= free.end < limit):
        raise Skip(f"{what}, but without it the run is not clearly better")
    late = response is not None and response.own.learned(training.constant_loss)  # in three times as many steps
    part = f" It makes {share:.2g} times as much of the first update as the gradient does." if share else ""
    yield Finding(
        where="optimizer",
        message=f"In {training.loss_steps} steps {what}, and {harm or _went(training)}.{part} Without it the same run "
        f"goes from {free.losses[0]:.3g} to {free.end:.3g}" + (f" in {len(free.losses)} steps." if longer else "."),
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
        severity="warning" if late or training.synthetic or not harm else None,
    )


def _went(training: Training) -> str:
    return f"the loss goes from {training.first_loss:.3g} to {training.last_loss:.3g}"
