from __future__ import annotations

import math
from collections.abc import Iterator

from gradcheck_kit.facts import LossCalls, Training
from gradcheck_kit.rule import Finding, Skip, rule


@rule("GK301", needs=(Training,), uses=(LossCalls,), severity="warning")
def initial_loss(training: Training, loss_calls: LossCalls | None, *, factor: float = 2.0) -> Iterator[Finding]:
    """Before training the loss is far above chance: the untrained model is confidently wrong.

    Chance is the loss of the best constant prediction, or of an all-zero output if that is larger (ln C). Above
    `factor` times it is a finding where the run does not get below it; above ten times `factor` always. Where chance is
    not known, that of the cross-entropies that the training step calls tells.
    """
    if training.constant_loss is None:
        yield from _by_its_calls(training, loss_calls, factor)
        return
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
    head = _head(training)
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


def _head(training: Training) -> str:
    last = training.weights_in_order()
    return last[-1].layer if last else "the last layer"


def _by_its_calls(training: Training, loss_calls: LossCalls | None, factor: float) -> Iterator[Finding]:
    """A finding where a cross-entropy within the first loss is far above what scores of zero get."""
    known = [
        (call.function, call.value, call.chance)
        for call in (loss_calls.calls if loss_calls is not None else ())
        if call.value is not None and call.chance is not None and math.isfinite(call.value) and call.chance > 0
    ]
    if not known:
        raise Skip("the loss of a constant prediction is not known for this loss")
    function, value, chance = max(known, key=lambda call: call[1] / call[2])
    limit = (factor if training.harm else 10 * factor) * chance
    if value <= limit:
        return
    head = _head(training)
    yield Finding(
        where=head,
        message=f"Before training {function} of the first batch is {value:.3g}, {value / chance:.1f} times the "
        f"{chance:.3g} of scores that say nothing; up to {factor:g} times is healthy.",
        evidence={"loss": value, "chance": chance, "limit": limit},
        fixes=(
            f"Scale down what {function} is given: the initial weights of {head}, or the factor (an inverse "
            "temperature, whose logarithm is what usually is a parameter) that the scores are multiplied by.",
        ),
    )
