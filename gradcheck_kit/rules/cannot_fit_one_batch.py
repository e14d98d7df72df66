from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import fmean

from gradcheck_kit.facts import FitAttempt, OneBatchFit, Training, mann_kendall
from gradcheck_kit.rule import Finding, Skip, rule

USUAL_STEPS = 200


@rule("GK606", needs=(OneBatchFit,), uses=(Training,), explains=("GK205", "GK601"))
def cannot_fit_one_batch(
    fit: OneBatchFit, training: Training | None, *, error: float = 0.05, loss: float = 0.1
) -> Iterator[Finding]:
    """A fixed batch of 16 samples cannot be learned by heart in 200 steps, neither as configured nor with Adam at 1e-3.

    Or only with dropout off, where a layer drops more than four of five values and the run does not learn.

    Fitted is at most `error` of the samples wrong, or the loss at most `loss` of its start. The strongest sign of a
    bug, and a symptom: it points at the other findings.
    """
    if any(a.fitted(fit.constant_loss, error, loss) for a in fit.attempts):
        again, harm = fit.with_dropout, _harm(training)
        if again is not None and harm and not again.fitted(fit.constant_loss, error, loss):
            yield _of_dropout(fit, again, harm)
        return
    if any(a.at_odds for a in fit.attempts):
        raise Skip("what is backpropagated is not the gradient of the loss: parts of it are trained against each other")
    best = min(fit.attempts, key=_end)
    if math.isfinite(_end(best)):
        _skip_unless_stuck(fit, best)
    if not math.isfinite(fit.attempts[0].losses[0]):
        raise Skip("the first loss is not finite (see non-finite)")
    how = " or ".join(a.optimizer for a in fit.attempts)
    reached = f"{best.accuracy:.0%} of them right, " if best.accuracy is not None else ""
    yield Finding(
        where="model",
        message=f"{fit.samples} samples cannot be learned by heart in {len(best.losses)} steps with {how}: {reached}"
        + (
            f"the loss went from {best.losses[0]:.3g} to {_end(best):.3g}."
            if math.isfinite(_end(best))
            else "the loss became NaN or infinite."
        ),
        evidence={"accuracy": best.accuracy, "start": best.losses[0], "end": _end(best), "limit": loss},
        fixes=(
            "Look at the other findings first: this one says that something is broken, they say what.",
            "With no other finding: check that output and target are compared as you mean, and that labels are right.",
        ),
    )


def _harm(training: Training | None) -> str:
    """Why the run is not well: it does not learn, or what it has learned is not worth more than a constant yet."""
    if training is None or training.harm or not training.above_chance:
        return training.harm if training is not None else ""
    return (
        f"the loss ends at {training.last_loss:.3g}, no better than always predicting {training.constant_prediction} "
        f"({training.constant_loss:.3g})"
    )


def _of_dropout(fit: OneBatchFit, again: FitAttempt, harm: str) -> Finding:
    reached = f"{again.accuracy:.0%} of them right, " if again.accuracy is not None else ""
    return Finding(
        where=fit.dropout,
        message=f"{fit.samples} samples are learned by heart with dropout off, and not with {fit.dropout} dropping "
        f"{fit.dropout_share:.0%} of its values ({reached}a loss of {_end(again):.3g}); {harm}.",
        evidence={"p": fit.dropout_share, "accuracy": again.accuracy, "end": _end(again), "limit": 0.8},
        fixes=(
            f"Lower p of {fit.dropout} to 0.1 to 0.5: it is the share that is dropped. What keeps "
            f"{fit.dropout_share:.0%} is p={1 - fit.dropout_share:.2g}.",
        ),
    )


def _skip_unless_stuck(fit: OneBatchFit, best: FitAttempt) -> None:
    """Stuck is: no longer falling, and next to nothing gained on a prediction that ignores the input.

    A bottleneck, a contrastive loss or a noisy likelihood has a floor above a tenth of its start, and is healthy.
    """
    went = f"the loss fell from {best.losses[0]:.3g} to {_end(best):.3g}"
    if len(best.losses) < USUAL_STEPS:
        raise Skip(f"not fitted in {len(best.losses)} steps, which are too few to tell; use --steps 60 or more")
    if _still_falling(best):
        raise Skip(f"{went} and is still falling")
    limit = 0.9 * fit.constant_loss if fit.constant_loss is not None else 0.95 * best.losses[0]
    if not _end(best) > limit:
        raise Skip(f"{went}, which may be all that it can")


def _end(attempt: FitAttempt) -> float:
    end = fmean(attempt.losses[-3:])
    return end if math.isfinite(end) else math.inf


def _still_falling(attempt: FitAttempt) -> bool:
    """The last quarter falls, by at least a hundredth: slow is not stuck."""
    tail = attempt.losses[-len(attempt.losses) // 4 :]
    return mann_kendall(tail[:: max(1, len(tail) // 32)]) < -2.33 and tail[-1] < 0.99 * tail[0]
