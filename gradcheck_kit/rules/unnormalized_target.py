from __future__ import annotations

from collections.abc import Iterator

from gradcheck_kit.facts import RateTrial, TargetScale, Training
from gradcheck_kit.rule import Finding, Skip, rule

FAR_BELOW = 0.5  # of a constant prediction's loss

SYMPTOMS = ("GK102", "GK104", "GK105", "GK106", "GK203", "GK204", "GK205", "GK206", "GK301", "GK606")


@rule("GK502", needs=(TargetScale, Training), explains=SYMPTOMS)
def unnormalized_target(scale: TargetScale, training: Training) -> Iterator[Finding]:
    """The numbers to predict are far from mean 0 and standard deviation 1, and on standardised ones the run learns.

    Without that proof a scale is no fault. A warning where the loss falls as it is, and is above a constant
    prediction's in the end: more steps may be enough.
    """
    if training.synthetic:
        raise Skip("the data is made up")
    if not scale.odd:
        return
    numbers = (
        f"{_name(scale)} has mean {scale.mean:.3g} and standard deviation {scale.std:.3g}"
        + (f" in column {scale.column}" if scale.columns > 1 else "")
        + f", and ranges from {scale.minimum:.3g} to {scale.maximum:.3g}"
        + (f"; {scale.marked:.1%} of it is {scale.marker:g}, far from all else" if scale.marker is not None else "")
    )
    harm, above = training.harm, training.above_chance
    if not (harm or above):
        raise Skip(f"{numbers}, and the run learns as it is")
    if not scale.standardized_losses:
        raise Skip(f"{numbers}, and whether standardising it helps was not tried")
    again = RateTrial(1.0, scale.standardized_losses)
    if not again.learned(scale.standardized_constant_loss):
        raise Skip(f"{numbers}, and the same run on standardised targets does not learn either")
    chance = scale.standardized_constant_loss
    # A loss that goes below zero has no scale: of counts, Poisson's is without a floor once they are standardised.
    if not harm and min((*training.losses, *again.losses)) < 0:
        raise Skip(f"{numbers}, and the loss becomes negative, so that how far it fell says nothing")
    if not harm and not (chance is not None and again.end < FAR_BELOW * chance):
        raise Skip(f"{numbers}, and the same run on standardised targets is not far below a constant prediction either")
    came = harm or (
        f"after {training.loss_steps} steps the loss, {training.last_loss:.3g}, is still above that of always "
        f"predicting {training.constant_prediction} ({training.constant_loss:.3g})"
    )
    how = "with it standardised" if scale.part else "on standardised targets"
    inputs = f" and inputs (of {scale.with_input_of})" if scale.with_input_of else ""
    yield Finding(
        where=f"batch{scale.part}" if scale.part else "target",
        message=f"{numbers[0].upper()}{numbers[1:]}, and {came}; {how}{inputs} the same run goes from "
        f"{again.losses[0]:.3g} to {again.end:.3g}{_of(chance)}.",
        evidence={"mean": scale.mean, "std": scale.std, "limit": 10, "standardized_end": again.end},
        fixes=(
            *(
                (
                    f"Leave out what is {scale.marker:g}, which seems to mark missing values: mask it in the loss, "
                    f"((prediction - y)[y != {scale.marker:g}] ** 2).mean(), or drop these samples.",
                )
                if scale.marker is not None
                else ()
            ),
            f"Standardise {'it' if scale.part else 'the target'} where the data is read, y = (y - {scale.mean:.3g}) / "
            f"{scale.std:.3g}, and undo it on predictions: y * {scale.std:.3g} + {scale.mean:.3g}."
            if scale.columns == 1
            else "Standardise each column of the target, y = (y - mean) / std with those of the training data, and "
            f"undo it on predictions (column {scale.column}: {scale.mean:.3g} and {scale.std:.3g}).",
            *(
                (f"Standardise what enters {scale.with_input_of}, too: neither alone is enough.",)
                if scale.with_input_of
                else ()
            ),
            *(
                ("Learn the logarithm, torch.log(y), if errors matter in per cent.",)
                if scale.minimum > 0 and scale.maximum > 100 * scale.minimum
                else ()
            ),
        ),
        severity=None if harm else "warning",
    )


def _name(scale: TargetScale) -> str:
    return f"what the loss takes of the batch, batch{scale.part}," if scale.part else "the target"


def _of(chance: float | None) -> str:
    return "" if chance is None else f" (a constant prediction: {chance:.3g})"
