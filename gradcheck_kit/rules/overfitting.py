from __future__ import annotations

import math
from collections.abc import Iterator

from gradcheck_kit.facts import Evaluation, Generalization, InputScale, Training, binomial_tail
from gradcheck_kit.rule import Bar, Finding, Skip, rule

FEW = 500  # training samples, of which a half tells nothing of the other whatever their labels depend on
SIGNIFICANT = 2.33  # a z-score: p < 0.01


@rule("GK605", needs=(Training, Generalization), uses=(Evaluation, InputScale), explains=("GK601",), severity="warning")
def overfitting(
    training: Training,
    generalization: Generalization,
    evaluation: Evaluation | None,
    scale: InputScale | None,
    *,
    rise: float = 0.1,
) -> Iterator[Finding]:
    """The test loss fell and rose again by `rise` of its lowest, while the training loss went on falling.

    Or few training samples are known by heart, and the test loss never came below a constant prediction's.

    Both are tested on the same samples each time (Wilcoxon, p < 0.01). A run that goes through its data less than
    twice, or does not learn, has nothing by heart.
    """
    if scale is not None and scale.apart is not None:
        raise Skip("test data is prepared otherwise than training data (see eval-accuracy)")
    if not generalization.epochs >= 2:
        raise Skip(f"the run goes through its data {generalization.epochs:.2g} times, too seldom to know it by heart")
    if not generalization.steps:
        raise Skip("the run does not learn") if training.harm else Skip("test and training loss are close together")
    losses, best = generalization.losses, generalization.best
    lowest, last, start = losses[best], losses[-1], losses[0]
    if _by_heart(training, generalization):
        yield _of_few(training, generalization)
        return
    if best == len(losses) - 1:
        return
    went = f"the test loss went from {start:.3g} to {lowest:.3g} and to {last:.3g}"
    if math.isnan(last - lowest):
        raise Skip("the test loss became NaN (see non-finite)")
    if not last - lowest >= rise * abs(lowest) or not last >= 0.1 * abs(start):
        return
    fell = generalization.change(0, best) < -SIGNIFICANT
    if best == 0 or not (fell or _tells_classes(generalization, evaluation, best)):
        raise Skip(f"{went}: nothing that was learned holds for test data (see eval-accuracy)")
    if not generalization.change(best, len(losses) - 1) > SIGNIFICANT:
        raise Skip(f"{went}, but not of enough of {generalization.samples} samples to be sure")
    fitted = generalization.training_losses
    if not fitted[-1] < 0.5 * fitted[best] or not fitted[-1] < 0.5 * last:
        raise Skip(f"{went}, but the training loss did not go on falling")
    surer = _more_accurate(generalization, best)
    chance = training.constant_loss
    if surer and (chance is None or last < chance):
        raise Skip(f"{went}, but accuracy still rises: it is only too certain of what it gets wrong")
    step, epochs = generalization.steps[best], generalization.epochs
    accuracy = _accuracy(generalization, best)
    yield Finding(
        where="test data",
        message=f"The loss on {generalization.samples} test samples is lowest after {step} updates, {lowest:.3g}, and "
        f"then rises to {last:.3g}, while the training loss falls from {fitted[best]:.3g} to {fitted[-1]:.3g}{accuracy}"
        f". The run goes through its {generalization.training_samples:,} training samples {epochs:.0f} times.",
        evidence={
            "lowest": lowest,
            "last": last,
            "rise": (last - lowest) / abs(lowest) if lowest else None,
            "limit": rise,
            "step": step,
            "epochs": epochs,
        },
        fixes=_fixes(step, surer=surer),
        profile=tuple(
            Bar(f"after {step} updates", "test loss", loss)
            for step, loss in zip(generalization.steps, losses, strict=True)
        ),
    )


def _by_heart(training: Training, generalization: Generalization) -> bool:
    """Whether nothing of what was learned of a few samples holds for others. Of many it would be their labels."""
    chance, few = training.constant_loss, generalization.training_samples <= FEW
    if not few or chance is None or not chance > 0 or _more_accurate(generalization, 0):
        return False
    if not all(map(math.isfinite, generalization.losses)):
        return False
    return generalization.training_losses[-1] < 0.1 * chance and min(generalization.losses) > 0.95 * chance


def _of_few(training: Training, generalization: Generalization) -> Finding:
    fitted, last = generalization.training_losses[-1], generalization.losses[-1]
    return Finding(
        where="test data",
        message=f"In {generalization.epochs:.0f} passes over its {generalization.training_samples:,} samples the "
        f"training loss comes to {fitted:.3g}, and the loss on {generalization.samples} test samples is {last:.3g}, no "
        f"better than always predicting {training.constant_prediction} ({training.constant_loss:.3g}): they are known "
        "by heart.",
        evidence={"training": fitted, "test": last, "limit": training.constant_loss, "epochs": generalization.epochs},
        fixes=(
            "Add training samples: so few hold too little of what their labels depend on, for a model that fits them "
            "all.",
            "Or make the model smaller, with more weight decay or dropout.",
        ),
    )


def _tells_classes(generalization: Generalization, evaluation: Evaluation | None, best: int) -> bool:
    """Whether accuracy on test data is above that of the commonest class (binomial, p < 0.01 for two looks)."""
    counts = [c.total for c in evaluation.per_class] if evaluation is not None else []
    if not counts or max(counts) == sum(counts):
        return False
    reached = [a for a in (generalization.accuracies[best], generalization.accuracies[-1]) if a is not None]
    n, commonest = generalization.samples, max(counts) / sum(counts)
    return any(a > commonest and binomial_tail(round(a * n), n, commonest) < 0.005 for a in reached)


def _more_accurate(generalization: Generalization, best: int) -> bool:
    """Whether accuracy rose by two standard errors since: it is only too certain of what it gets wrong."""
    before, after = generalization.accuracies[best], generalization.accuracies[-1]
    if before is None or after is None:
        return False
    return after > before + 2 * math.sqrt(max(before * (1 - before), 0.0) / max(1, generalization.samples))


def _fixes(step: int, *, surer: bool) -> tuple[str, str]:
    stop = f"top after about {step} updates (early stopping): keep the weights with the lowest test loss"
    more = "dd training samples, or vary those that there are (augmentation): these are known by heart."
    if surer:
        return f"A{more}", f"Or s{stop}, if probabilities matter more to you than accuracy."
    return f"S{stop}.", f"Or a{more}"


def _accuracy(generalization: Generalization, best: int) -> str:
    before, after = generalization.accuracies[best], generalization.accuracies[-1]
    return "" if before is None or after is None else f"; accuracy went from {before:.1%} to {after:.1%}"
