from __future__ import annotations

import math
from collections.abc import Iterator

from gradcheck_kit.facts import LearningRateResponse, Oscillation, RateTrial, Training
from gradcheck_kit.rule import Finding, Skip, rule


@rule(
    "GK206",
    needs=(Training, Oscillation),
    uses=(LearningRateResponse,),
    explains=("GK108", "GK203", "GK507"),
    severity="warning",
)
def oscillating_loss(
    training: Training, oscillation: Oscillation, response: LearningRateResponse | None, *, gain: float = 0.5
) -> Iterator[Finding]:
    """The loss swings, and the same run with less momentum, or a smaller rate, swings less and ends far lower.

    Far lower is `gain` times the loss or less. A warning; an error where the run does not learn and, with a momentum
    of 0.9 at the same rate, it does. A swing alone is nothing: the losses of single batches differ.
    """
    if not training.optimizer_given:
        raise Skip("the optimizer is the probe's own")
    if not training.long_enough:
        raise Skip(f"{training.loss_steps} steps are too few to tell; {training.at_least(10)}")
    if math.isnan(oscillation.swing):
        raise Skip("the loss became NaN (see non-finite)")
    if not oscillation.calm_losses:
        return
    harm = training.harm
    if not harm and training.loss_steps < 20:
        raise Skip(f"{training.loss_steps} steps are too few to tell a swing from a start; {training.at_least(20)}")
    calm = RateTrial(1.0, oscillation.calm_losses)
    own = RateTrial(1.0, training.losses).end
    quieter = oscillation.calm_swing is not None and oscillation.calm_swing < 0.5 * oscillation.swing
    how = _how(oscillation)
    what = f"the loss swings by {oscillation.swing:.2g} about its trend"
    if not quieter:
        raise Skip(f"{what}, and no less {how}")
    chance = training.constant_loss
    usual = oscillation.calm_factor is not None  # momentum: any run takes a smaller rate
    if not harm and usual and chance is not None and 0 <= training.last_loss < 0.2 * chance:
        raise Skip(f"{what}, and the run learns all the same")
    if not calm.learned(training.constant_loss) or not own - calm.end >= (1 - gain) * abs(own):
        raise Skip(f"{what}, and less {how}, but without getting much lower")
    late = response is not None and response.own.learned(training.constant_loss)
    reached = f"ends at {own:.3g}" if math.isfinite(own) else "ends in NaN or infinity"
    why = harm or f"the loss went from {training.first_loss:.3g} to {training.last_loss:.3g}"
    yield Finding(
        where="optimizer",
        message=f"The loss swings by {oscillation.swing:.2g} (RMS) about its trend and {reached}; {why}. The same "
        f"{len(calm.losses)} steps {how} swing by {oscillation.calm_swing:.2g} and end at {calm.end:.3g}.",
        evidence={
            "swing": oscillation.swing,
            "calm_swing": oscillation.calm_swing,
            "end": own,
            "calm_end": calm.end,
            "limit": gain,
            "momentum": oscillation.momentum,
        },
        fixes=(_fix(oscillation, training),),
        severity="error" if harm and not late and not training.synthetic else None,
    )


def _how(oscillation: Oscillation) -> str:
    if oscillation.calm_momentum is not None:
        return f"with a momentum of {oscillation.calm_momentum:g} in place of {oscillation.momentum:g}"
    return f"at {oscillation.calm_factor:g} times the learning rate"


def _fix(oscillation: Oscillation, training: Training) -> str:
    """What was tried, and nothing else: with a high momentum a smaller rate may be too slow."""
    if oscillation.calm_momentum is not None:
        calm = f"{oscillation.calm_momentum:g}"
        setting = f"momentum={calm}" if oscillation.momentum_name == "momentum" else f"betas=({calm}, 0.999)"
        return f"Set {setting}: {oscillation.momentum:g} is too much at this learning rate."
    factor, rates = oscillation.calm_factor or 1.0, training.learning_rates
    return (
        f"Lower the learning rate from {rates[0]:g} to {rates[0] * factor:.2g}."
        if len(set(rates)) == 1
        else (f"Multiply the learning rates by {factor:g}.")
    )
