from __future__ import annotations

from collections.abc import Iterator

from gradcheck_kit.facts import HeldOut, LearningRateResponse, RateTrial, Schedule, Training, middle
from gradcheck_kit.rule import Finding, Skip, rule

PASSES = 100  # over the training data: most trainings are over before
FEW_BATCHES = 8  # of an epoch: of full-batch training nobody counts epochs


@rule(
    "GK204",
    needs=(Training,),
    uses=(LearningRateResponse, Schedule, HeldOut),
    explains=("GK202", "GK205", "GK601", "GK606"),
)
def learning_rate_too_low(
    training: Training,
    response: LearningRateResponse | None,
    schedule: Schedule | None,
    held_out: HeldOut | None,
    *,
    ratio: float = 1e-4,
) -> Iterator[Finding]:
    """The updates are tiny, the loss stays where it is, and the same steps with a larger learning rate learn.

    Below a tenth of `ratio` no trial need succeed: such updates would take thousands of steps to change anything.
    A scheduler that keeps the rate at exactly 0 in all of its first steps is a finding by itself, and one whose warm-up
    takes a hundred passes over the data is a warning.
    """
    if schedule is not None and schedule.rates and not any(schedule.rates):
        yield _of_schedule(schedule)
        return
    if schedule is not None and schedule.passes >= PASSES and (schedule.batches or 0) >= FEW_BATCHES:
        yield _of_warm_up(schedule)
        return
    if not training.optimizer_given:
        raise Skip("the learning rate is the probe's own; choose one with --lr")
    if held_out is not None and held_out.says_nothing(training.constant_loss):
        raise Skip("at other rates the labels are only learned by heart (see uninformative-labels)")
    if not training.long_enough:
        raise Skip(f"{training.loss_steps} steps are too few to tell; {training.at_least(10)}")
    update = _update_ratio(training)
    if update is None:
        raise Skip("no weight is in an optimizer")
    if update != update:  # noqa: PLR0124
        raise Skip("the weights became NaN (see non-finite)")
    if update == 0:
        raise Skip("the weights do not change at all, at any rate (see no-gradient and parameter-unchanged)")
    harm = training.harm or training.crawls
    # Of a loss that falls, if hardly, a larger rate must make far more; usual updates are the limit of that.
    limit = ratio * (10 if training.crawls else 1)
    first = training.first_update_ratio
    if first is not None and first > limit:
        return  # the weights blew up, and so the updates look small beside them
    if not harm or not training.finite or update >= limit:
        return
    rates = training.learning_rates
    now = f"{rates[0]:g}" if rates else "unknown"
    if response is not None and response.own.learned(training.constant_loss):
        raise Skip(f"{harm}, but in {len(response.own.losses)} steps at the same learning rate it does")
    best = _better(response, training) if response is not None else None
    if training.crawls and best is None:
        return
    if best is not None:
        factor = best.factor
        proof = (
            f"; the same first {len(best.losses)} steps at {rates[0] * factor if rates else factor:.2g} bring it from "
            f"{best.losses[0]:.3g} to {best.end:.3g}"
        )
    elif update < ratio / 10:
        factor, proof = 1e-3 / update, ""
    else:
        return
    # One digit is what such an estimate is worth.
    suggested = f"{rates[0] * factor:.1g}" if rates else f"{factor:.1g} times the present"
    yield Finding(
        where="optimizer",
        message=f"At learning rate {now} an update is {update:.1e} of the weight (median); at least {ratio:.0e} is "
        f"healthy and 1e-3 usual. {'And' if update >= ratio else 'So'} {harm}{proof}.",
        evidence={"update_ratio": update, "limit": ratio, "factor": factor},
        fixes=(f"Raise the learning rate from {now} to {suggested}.",),
    )


def _update_ratio(training: Training) -> float | None:
    """The median over weights. What starts at zero has no scale of its own: its first updates are all there is."""
    weights = [p for p in training.parameters if p.is_weight and p.optimized and p.trainable]
    scaled = [p for p in weights if p.weight_rms and p.weight_rms[0] != 0]
    return middle(p.update_ratio() for p in scaled or weights)


def _of_schedule(schedule: Schedule) -> Finding:
    steps = len(schedule.rates) - 1
    if not schedule.scheduler:
        return Finding(
            where="optimizer",
            message="The learning rate is 0: a scheduler set it, and nothing holds that scheduler any more, so that "
            "nobody can step it. Nothing is learned.",
            evidence={"steps": steps, "limit": 0.0},
            fixes=(
                "Keep the scheduler, scheduler = LambdaLR(optimizer, ...), and call scheduler.step() in the loop.",
                "Let its function not be 0 at step 0: with step // n it is for n steps, (step + 1) / n is not.",
            ),
        )
    return Finding(
        where="optimizer",
        message=f"{schedule.scheduler} keeps the learning rate at 0 in all of its first {steps} steps, be they batches "
        "or epochs: nothing is learned in them. The probe does not step it.",
        evidence={"steps": steps, "limit": 0.0},
        fixes=(
            "Look for an integer division in its function, step // n, which is 0 for n steps, and write step / n.",
            "Print optimizer.param_groups[0]['lr'] in the loop.",
        ),
    )


def _of_warm_up(schedule: Schedule) -> Finding:
    steps = len(schedule.rates) - 1
    return Finding(
        where="optimizer",
        message=f"{schedule.scheduler} warms the learning rate up for {schedule.warm_up:,} steps or more. Stepped with "
        f"every batch that is {schedule.passes:,.0f} passes over the training data, which has {schedule.batches:,} "
        f"batches. In its first {steps} steps the rate is at most {max(schedule.rates):.1e}, and it goes up to "
        f"{schedule.highest:.1e}, at which the probe trains.",
        evidence={"warm_up": schedule.warm_up, "batches": schedule.batches, "passes": schedule.passes, "limit": PASSES},
        fixes=("Make the warm-up a part of the first epochs: a twentieth of all steps that are planned is usual.",),
        severity="warning",
    )


def _better(response: LearningRateResponse, training: Training) -> RateTrial | None:
    """The best of the much larger rates, when it learns and ends clearly below the user's own."""
    crawls = bool(training.crawls)
    # What crawls to a constant prediction's loss from above need not pass it in a trial: it must come half the way.
    higher = [t for t in response.trials if t.factor >= 10 and t.learned(None if crawls else training.constant_loss)]
    best = min(higher, key=lambda trial: trial.end, default=None)
    return best if best is not None and best.end < (0.5 if crawls else 0.9) * response.own.end else None
