from __future__ import annotations

import math
from collections.abc import Iterator

from gradcheck_kit.facts import BatchRepetition, RateTrial, Training
from gradcheck_kit.rule import Finding, Skip, rule


@rule("GK210", needs=(Training, BatchRepetition), explains=("GK203", "GK206"), severity="warning")
def sum_reduction(training: Training, repetition: BatchRepetition, *, share: float = 0.5) -> Iterator[Finding]:
    """The loss is a sum over the batch, the run does not learn with it, and divided by what it sums over it does.

    A loss is a sum when more than `share` of it grows in proportion to the batch.
    """
    if math.isnan(repetition.share):
        raise Skip("the loss of the first batch is zero, or not finite (see non-finite)")
    if not repetition.share > share:
        return
    once, twice, _ = repetition.losses
    grows = f"the loss is a sum over the batch: from {once:.3g} it goes to {twice:.3g} when every sample is there twice"
    divisor = repetition.divisor
    if divisor is None or len(repetition.divided_losses) < 2:
        if training.harm:
            raise Skip(f"{grows}, and whether an average does better was not tried")
        raise Skip(f"{grows}, and the run learns with it")
    if _heedless(training, repetition.divided_losses, divisor):
        raise Skip(f"{grows}, and the optimizer takes the same steps whatever its scale")
    again = RateTrial(1.0, repetition.divided_losses)
    chance = training.constant_loss
    if not again.learned(None if chance is None else chance / divisor):
        raise Skip(f"{grows}, and divided by {divisor:,} it does not fall either")
    harm, better = training.harm, 0.8
    if not harm and training.blow_up > 10:
        harm = f"the loss went up to {training.blow_up:.2g} times its start"
    if not harm:
        # The first steps were longer than the weights bear (else no other run was made), and the run got over it.
        harm, better = f"the loss ends at {training.last_loss / divisor:.3g} times {divisor:,}", 0.5
    if training.finite and training.blow_up <= 10 and not again.end < better * training.last_loss / divisor:
        raise Skip(f"{grows}, and divided by {divisor:,} it ends no better")
    per_sample = divisor == repetition.samples
    rate = training.learning_rates[0] if training.learning_rates else 1.0
    what = f"{divisor:,} samples of a batch" if per_sample else f"{divisor:,} numbers that a batch compares"
    yield Finding(
        where="loss",
        message=f"{grows[0].upper()}{grows[1:]}, {twice / once:.3g} times as much (an average: 1). At learning rate "
        f"{rate:g} {harm}; divided by the {what}, the same run goes from {again.losses[0]:.3g} to {again.end:.3g}.",
        evidence={"ratio": twice / once, "share": repetition.share, "limit": share, "divisor": divisor},
        fixes=(
            f'Average in {repetition.loss}, reduction="mean" or .mean() instead of .sum(): that divides by the {what}.',
            f"Keep the sum and lower the learning rate from {rate:g} to {rate / divisor:.2g}, which goes for batches "
            f"of {repetition.samples} only.",
        ),
    )


def _heedless(training: Training, divided: tuple[float, ...], divisor: int) -> bool:
    """Whether the first update was the same: Adam and its like divide by the gradient's own scale."""
    if len(training.losses) < 2:
        return False
    return abs(divided[1] * divisor - training.losses[1]) <= 1e-3 * abs(training.losses[1])
