from __future__ import annotations

import math
from collections.abc import Iterator

from gradcheck_kit.facts import GradientNoise, LearningRateResponse, RateTrial, Training
from gradcheck_kit.rule import Finding, Skip, rule

SYMPTOMS = ("GK203", "GK205", "GK507", "GK601")


@rule("GK108", needs=(GradientNoise, Training), uses=(LearningRateResponse,), explains=SYMPTOMS, severity="warning")
def noisy_gradient(
    noise: GradientNoise, training: Training, response: LearningRateResponse | None, *, scale: float = 1.0
) -> Iterator[Finding]:
    """The run does not learn, and the same samples in larger batches, at the same rate, do.

    Looked at where the gradient's noise scale is above `scale` times the batch: then most of a gradient is noise. In
    batches as they are the same samples must not be learned either, in as many more steps.
    """
    if not training.optimizer_given:
        raise Skip("the optimizer is the probe's own")
    known = [value for value in (noise.scale_at_start, noise.scale_at_end) if value is not None]
    if not known or any(map(math.isnan, known)):
        raise Skip("the noise of the gradient could not be measured")
    harm, largest = training.harm, max(known)
    if not harm or largest <= scale * noise.batch:
        return
    what = f"in batches of {noise.batch} " + (
        f"most of a gradient is noise (it equals the signal at about {largest:.2g} samples)"
        if math.isfinite(largest)
        else "a gradient is nothing but noise, as far as sixteen of them can tell"
    )
    if response is not None and response.own.learned(training.constant_loss):
        raise Skip(f"{what}; {harm}, but in {len(response.own.losses)} steps it does")
    if not noise.large_losses or noise.factor is None:
        raise Skip(f"{what}; {harm}, and larger batches were not tried")
    large, same = RateTrial(1.0, noise.large_losses), RateTrial(1.0, noise.same_losses or (math.nan,))
    joined = noise.batch * noise.factor
    if not large.learned(training.constant_loss):
        raise Skip(f"{what}; {harm}, but in batches of {joined} it does not learn either")
    if same.learned(training.constant_loss) or not large.end < 0.9 * same.end:
        raise Skip(f"{what}; {harm}, but the same samples are learned in batches of {noise.batch} too")
    reached = f"{same.end:.3g}" if math.isfinite(same.end) else "NaN or infinity"
    yield Finding(
        where="batch size",
        message=f"I{what[1:]}, and {harm}. {len(large.losses)} steps with batches of {joined} bring "
        f"the loss from {large.losses[0]:.3g} to {large.end:.3g}, and {noise.factor} times as many over the same "
        f"samples, in batches of {noise.batch}, to {reached}.",
        evidence={
            "batch": noise.batch,
            "scale_at_start": noise.scale_at_start,
            "scale_at_end": noise.scale_at_end,
            "limit": scale * noise.batch,
            "large_batch": joined,
            "large_end": large.end,
            "same_end": same.end,
        },
        fixes=(f"Use batches of {joined} (batch_size={joined}), or add up the gradients of {noise.factor} batches.",),
    )
