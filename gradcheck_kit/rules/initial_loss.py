from __future__ import annotations

import math
from collections.abc import Iterator

from gradcheck_kit.facts import Training
from gradcheck_kit.rule import Finding, Skip, rule


@rule("GK301", needs=(Training,), severity="warning")
def initial_loss(training: Training, *, factor: float = 2.0) -> Iterator[Finding]:
    """Before training the loss is far above chance: the untrained model is confidently wrong.

    Chance is the loss of the best constant prediction, or of an all-zero output if that is larger (ln C). Above
    `factor` times it is a finding where the run does not get below it; above ten times `factor` always.
    """
    if training.constant_loss is None:
        raise Skip("the loss of a constant prediction is not known for this loss")
    chance = training.chance
    if chance is None or chance <= 0:
        raise Skip("the loss may be zero or negative, so it has no scale to compare with")
    first = training.losses[0]
    if not math.isfinite(first):
        raise Skip("the first loss is not finite (see non-finite)")
    if first < 0.5 * chance:
        raise Skip("the model is already far better than chance: it was trained before")
    if min(training.losses) < 0:
        raise Skip("the loss becomes negative, so its distance from zero is no scale to compare with")
    error = 3 * (training.constant_loss_error or 0.0)
    recovered = training.finite and training.last_loss <= factor * chance
    limit = factor * chance if not recovered else 10 * factor * chance
    if first <= max(limit, chance + error):
        return
    last = training.weights_in_order()
    head = last[-1].layer if last else "the last layer"
    yield Finding(
        where=head,
        message=f"The first loss is {first:.3g}, {first / chance:.1f} times the {chance:.3g} of an output that says "
        f"nothing; up to {factor:g} times is healthy.",
        evidence={"loss": first, "chance": chance, "limit": limit},
        fixes=(
            f"Scale down the initial weights of {head} (for example weight.mul_(0.1)) and set its bias to what "
            f"predicts {training.constant_prediction}.",
            "Normalise inputs and, for regression, targets to mean 0 and standard deviation 1.",
        ),
    )
