from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import median

from gradcheck_kit.facts import HeldOut, LearningRateResponse, LossTerms, RateTrial, TimeGradients, Training
from gradcheck_kit.rule import Finding, Skip, rule

SOARED = 100  # times the loss's start
CLEARLY_LOWER = 0.5  # of the user's rate: what four fifths of it does better is chance


@rule(
    "GK203",
    needs=(Training,),
    uses=(LearningRateResponse, TimeGradients, HeldOut, LossTerms),
    explains=("GK101", "GK102", "GK104", "GK105", "GK106", "GK202", "GK205", "GK601", "GK606"),
)
def learning_rate_too_high(
    training: Training,
    response: LearningRateResponse | None,
    time: TimeGradients | None,
    held_out: HeldOut | None,
    terms: LossTerms | None,
    *,
    ratio: float = 0.1,
) -> Iterator[Finding]:
    """The run does not learn, and the same steps with a smaller learning rate do.

    Where no other rate was tried: the updates are above `ratio` of the weights and the loss rises or is not finite.
    Where the first update was that large, a loss that went above ten times its start is a finding even if it came back
    to a constant prediction's; and a run that learns is a warning if a smaller rate gets to half of its loss; below it,
    where the first update was larger than the weights themselves.
    """
    if not training.optimizer_given:
        raise Skip("the learning rate is the probe's own; choose one with --lr")
    if held_out is not None and held_out.says_nothing(training.constant_loss):
        raise Skip("at other rates the labels are only learned by heart (see uninformative-labels)")
    if terms is not None and terms.untrained:
        raise Skip("nothing trains a term of the loss, which then rises at any rate (see no-gradient)")
    if not training.long_enough:
        raise Skip(f"{training.loss_steps} steps are too few to tell; {training.at_least(10)}")
    update = _update_ratio(training)
    harm = training.harm
    first = training.first_update_ratio
    soared = not harm and training.blow_up > 10 and first is not None and not first <= ratio
    if soared and training.at_chance is not False:
        harm, update = f"the loss went up to {training.blow_up:.2g} times its start", first
    if not harm:
        if response is not None and first is not None and not first <= ratio:
            found = [*_far_from_best(training, response, first, ratio)]
            yield from found or _overwritten(training, response, ratio)
        return
    through_time = max((layer.ratio for layer in time.layers), default=0.0) if time is not None else 0.0
    if (training.gradient_ratio_at_start or 0.0) > 1000 or through_time > 1000:
        raise Skip("the gradient explodes before the first update (see exploding-gradient)")
    if training.non_finite is not None and training.non_finite.step == 0:
        raise Skip("the first step is not finite before any update (see non-finite)")
    rates = training.learning_rates
    size = f" An update is {update:.1e} of the weight (median); 1e-3 is usual." if update is not None else ""
    now = f"{rates[0]:g}" if rates else "unknown"
    if response is not None:
        if response.guarded is not None and response.guarded.learned(training.constant_loss):
            raise Skip("with log and sqrt kept from 0 the run learns at this rate (see non-finite)")
        if not any(math.isfinite(trial.end) for trial in response.trials):
            raise Skip("the loss is not finite at any learning rate (see non-finite)")
        if response.own.learned(training.constant_loss) and training.blow_up <= 10:
            raise Skip(f"{harm}, but in {len(response.own.losses)} steps at the same learning rate it does")
        better = _better(response, training)
        if better is None:
            yield from _overwritten(training, response, ratio)
            return
        suggested = f"{rates[0] * better.factor:.2g}" if rates else f"{better.factor:g} times the present"
        yield Finding(
            where="optimizer",
            message=f"At learning rate {now} {harm}; the same first {len(better.losses)} steps at {suggested} bring it "
            f"from {better.losses[0]:.3g} to {better.end:.3g}.{size}",
            evidence={"update_ratio": update, "limit": ratio, "factor": better.factor, "loss": better.end},
            fixes=(f"Lower the learning rate from {now} to {suggested}.",),
        )
        return
    if update is None:
        raise Skip("no finite update was recorded and no other rate was tried")
    rising = not training.finite or training.last_loss > training.first_loss or training.blow_up > 10
    if rising and not update <= ratio:
        factor = 1e-3 / update if math.isfinite(update) else 0.01
        suggested = f"{rates[0] * factor:.1g}" if rates else f"{factor:.1g} times the present"
        yield Finding(
            where="optimizer",
            message=f"At learning rate {now} {harm}.{size}",
            evidence={"update_ratio": update, "limit": ratio},
            fixes=(f"Lower the learning rate from {now} to about {suggested}: updates are then 1e-3 of the weights.",),
        )


def _overwritten(training: Training, response: LearningRateResponse, ratio: float) -> Iterator[Finding]:
    """A finding where the first update was larger than the weights and the loss soared, as at no smaller rate.

    That none of these learns in a short trial, of batches of two say, does not make good what was overwritten. A
    warning where the run has learned all the same.
    """
    first, rates = training.first_update_ratio, training.learning_rates
    ceiling = 10 * max(training.first_loss, training.constant_loss or 0.0)
    calm = [t for t in response.trials if t.factor < 1 and all(loss <= ceiling for loss in t.losses)]
    if first is None or not first > 1 or not SOARED < training.blow_up < math.inf or not calm:
        return
    best = max(calm, key=lambda trial: trial.factor)
    now = f"{rates[0]:g}" if rates else "unknown"
    suggested = f"{rates[0] * best.factor:.2g}" if rates else f"{best.factor:g} times the present"
    came = f", and {training.harm}" if training.harm else f" before it came to {training.last_loss:.3g}"
    yield Finding(
        where="optimizer",
        message=f"The first update at learning rate {now} is {first:.1e} of the weight (median); up to {ratio:g} is "
        f"healthy. The loss went up to {training.blow_up:.2g} times its start{came}; at {suggested} it does not go up "
        f"in {len(best.losses)} steps.",
        evidence={"update_ratio": first, "limit": ratio, "factor": best.factor, "blow_up": training.blow_up},
        fixes=(f"Lower the learning rate from {now} to {suggested}.",),
        severity=None if training.harm else "warning",
    )


def _far_from_best(training: Training, response: LearningRateResponse, first: float, ratio: float) -> Iterator[Finding]:
    """A warning where the run learns, but a short trial at a smaller rate ends below half of the whole run's loss.

    Below all of it, where the first update left nothing of the weights that the model started with.
    """
    lower = [t for t in response.trials if t.factor < 1 and t.learned(training.constant_loss)]
    best = min(lower, key=lambda trial: trial.end, default=None)
    if best is None or not best.end < (1.0 if first > 1 else 0.5) * training.last_loss:
        return
    rate = training.learning_rates[0] if training.learning_rates else 1.0
    yield Finding(
        where="optimizer",
        message=f"The first update at learning rate {rate:g} is {first:.1e} of the weight (median); up to {ratio:g} is "
        f"healthy. The run ends at a loss of {training.last_loss:.3g}; {len(best.losses)} steps at "
        f"{rate * best.factor:.2g} bring it to {best.end:.3g}.",
        evidence={"update_ratio": first, "limit": ratio, "factor": best.factor, "loss": best.end},
        fixes=(f"Lower the learning rate from {rate:g} to {rate * best.factor:.2g}.",),
        severity="warning",
    )


def _better(response: LearningRateResponse, training: Training) -> RateTrial | None:
    """The best smaller rate, when it learns and the user's own ends clearly above it."""
    lower = [t for t in response.trials if t.factor <= CLEARLY_LOWER and t.learned(training.constant_loss)]
    if not lower:
        return None
    best = min(lower, key=lambda trial: trial.end)
    own = max(response.own.end, training.last_loss if training.finite else math.inf)
    if not best.end < 0.8 * own and training.blow_up <= 10:
        return None
    # Of the rates that do as well as the best, the largest: it is the one that people would choose.
    return max((t for t in lower if t.end <= best.end + 0.1 * abs(best.end)), key=lambda trial: trial.factor)


def _update_ratio(training: Training) -> float | None:
    """The median over weights of the median over steps of update / weight; 0 and absent ones do not count."""
    ratios = [
        r
        for p in training.parameters
        if p.is_weight and p.optimized and (r := _finite_ratio(p.update_rms, p.weight_rms))
    ]
    return median(ratios) if ratios else None


def _finite_ratio(updates: tuple[float | None, ...], weights: tuple[float | None, ...]) -> float | None:
    found = [u / w for u, w in zip(updates, weights, strict=True) if u and w and math.isfinite(u) and math.isfinite(w)]
    return median(found) if found else None
