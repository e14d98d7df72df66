from __future__ import annotations

from collections.abc import Iterator

from gradcheck_kit.facts import LearningRateResponse, Training, middle
from gradcheck_kit.rule import Finding, Skip, rule


@rule("GK204", needs=(Training,), uses=(LearningRateResponse,), explains=("GK202", "GK205", "GK601", "GK606"))
def learning_rate_too_low(
    training: Training, response: LearningRateResponse | None, *, ratio: float = 1e-4
) -> Iterator[Finding]:
    """The updates are tiny, the loss stays where it is, and the same steps with a larger learning rate learn.

    Where no other rate was tried: the updates are below a tenth of `ratio` of the weights and the loss is flat.
    """
    update = middle(p.update_ratio() for p in training.parameters if p.is_weight and p.optimized and p.trainable)
    if update is None:
        raise Skip("no weight is in an optimizer")
    if update != update:  # noqa: PLR0124
        raise Skip("the weights became NaN (see non-finite)")
    if update == 0:
        raise Skip("the weights do not change at all, at any rate (see no-gradient and parameter-unchanged)")
    harm = training.harm
    if not harm or not training.finite or update >= (ratio if response is not None else ratio / 10):
        return
    rates = training.learning_rates
    now = f"{rates[0]:g}" if rates else "unknown"
    if response is not None:
        higher = [t for t in response.trials if t.factor >= 10 and t.learned(training.constant_loss)]
        if not higher:
            return
        best = min(higher, key=lambda trial: trial.end)
        if not best.end < 0.9 * response.own.end:
            return
        factor = best.factor
        proof = (
            f"; the same first {len(best.losses)} steps at {rates[0] * factor if rates else factor:.2g} bring it from "
            f"{best.losses[0]:.3g} to {best.end:.3g}"
        )
    else:
        factor, proof = (1e-3 / update if update else 1e3), ""
    suggested = f"{rates[0] * factor:.2g}" if rates else f"{factor:.2g} times the present"
    yield Finding(
        where="optimizer",
        message=f"At learning rate {now} an update is {update:.1e} of the weight (median); at least {ratio:.0e} is "
        f"healthy and 1e-3 usual. So {harm}{proof}.",
        evidence={"update_ratio": update, "limit": ratio, "factor": factor},
        fixes=(f"Raise the learning rate from {now} to {suggested}.",),
    )
