from __future__ import annotations

from collections.abc import Iterator

from gradcheck_kit.facts import LearningRateResponse, OneBatchFit, RateTrial, Training, mann_kendall
from gradcheck_kit.facts.statistics import windows
from gradcheck_kit.rule import Finding, Skip, rule

SURE = -4.0  # a z-score
USUAL = 60  # steps of a probe


@rule("GK205", needs=(Training,), uses=(OneBatchFit, LearningRateResponse), explains=("GK601",), severity="warning")
def loss_not_decreasing(
    training: Training, fit: OneBatchFit | None, response: LearningRateResponse | None, *, steps: int = 20
) -> Iterator[Finding]:
    """The loss shows no significant decrease over the probe (Mann-Kendall, p > 0.01), or stays at chance.

    Where the same setup learns one batch by heart, the probe may be too short for the task, and nothing is said.
    """
    if training.synthetic:
        raise Skip("the data is random: there may be nothing to learn")
    # At a rate that nobody chose a network may take its time: there the usual length is asked for.
    least = max(steps, 10) if training.optimizer_given else max(steps, USUAL)
    if training.finite and training.loss_steps < least:
        raise Skip(f"{training.loss_steps} steps are too few to see a trend; {training.at_least(least)}")
    if training.competing and training.finite:
        raise Skip("other losses are trained in turn with this one, which need not fall then")
    harm = training.harm
    if not harm:
        return
    if training.finite and fit is not None and any(attempt.at_odds for attempt in fit.attempts):
        raise Skip(f"{harm}, but what is backpropagated is not its gradient: parts of it are trained against others")
    if training.finite and fit is not None and fit.attempts[0].fitted(fit.constant_loss):
        raise Skip(f"{harm}, but one batch is learned by heart: {training.loss_steps} steps may be too few to tell")
    if response is not None and response.own.learned(training.constant_loss):
        raise Skip(f"{harm}, but in {len(response.own.losses)} steps it does: probe longer with --steps")
    if training.finite and response is not None and _falls_slowly(training, response.own):
        raise Skip(f"{harm}, but in {len(response.own.losses)} steps it comes to {response.own.end:.3g}, if slowly")
    if not training.optimizer_given and response is not None:
        suited = [t.factor for t in response.trials if t.learned(training.constant_loss)]
        if suited and training.learning_rates:
            rate = training.learning_rates[0] * suited[0]
            raise Skip(f"{harm} with the probe's own optimizer, which does not suit the model; --lr {rate:.1g} does")
    yield Finding(
        where="loss",
        message=f"Over {training.loss_steps} step{'s' * (training.loss_steps != 1)} {harm}.",
        evidence={"trend": training.trend(), "limit": -2.33, "first": training.first_loss, "last": training.last_loss},
        fixes=(
            "Look at the other findings first: they name causes.",
            f"With no other finding: {'train' if training.watched else 'probe'} longer"
            f"{'' if training.watched else ' (--steps 300)'}, and check that labels belong to their inputs.",
        ),
    )


def _falls_slowly(training: Training, own: RateTrial) -> bool:
    """Whether the run goes on falling when it is made longer, to below what it came to and a constant prediction's."""
    chance = training.constant_loss
    if chance is None or not mann_kendall(windows(own.losses, 64)) < SURE:
        return False
    return own.end < 0.98 * min(chance, training.last_loss)
