from __future__ import annotations

from collections.abc import Iterator

from gradcheck_kit.facts import ActivationRecord, LearningRateResponse, OneBatchFit, Training, binomial_tail
from gradcheck_kit.rule import Bar, Finding, Skip, listed, rule

ENOUGH_SAMPLES = 64  # fewer cannot tell a rare unit from a dead one
NEARLY_ALL = 0.9  # of the units of a layer, in a run that learns with the others


SYMPTOMS = ("GK103", "GK204", "GK205", "GK507", "GK601", "GK606")


@rule("GK104", needs=(Training,), uses=(OneBatchFit, LearningRateResponse), explains=SYMPTOMS)
def dead_units(
    training: Training, fit: OneBatchFit | None, response: LearningRateResponse | None, *, share: float = 0.5
) -> Iterator[Finding]:
    """More than half of an activation's units are never active, so they get no gradient and cannot come back.

    A unit is dead when it is active in fewer than 1 % of the samples of the last looks; sparse batches are healthy.
    An error when the run did not learn; a warning when it did and nearly all of a layer's units are dead. Units that
    are dead from the start explain nothing where the same setup learns one batch by heart.
    """
    can_die = [a for a in training.hidden_activations() if a.dead_share is not None]
    if not can_die:
        raise Skip("no hidden activation ran that has units which can die, such as ReLU")
    judged = [a for a in can_die if a.samples >= ENOUGH_SAMPLES]
    if not judged:
        raise Skip(f"only {max(a.samples for a in can_die)} samples were seen; {ENOUGH_SAMPLES} are needed to judge")
    # What a layer of zeros puts out is zero; that is no gradient's way either, and no fault of the activation.
    dead = [a for a in judged if _mostly_dead(a, share) and not _after_zeros(training, a)]
    if not training.optimizer_given:
        # What dies under a learning rate that nobody chose is not the model's fault.
        dead = [a for a in dead if _dead_at_start(a, share)]
    harm = training.harm
    if dead and not harm:
        dead = [a for a in dead if not _share(a) < NEARLY_ALL]
        if training.learned_well or not dead:
            raise Skip("the run learns with the units that are left")
    if not dead:
        return
    worst = max(dead, key=_share)
    if harm and response is not None and response.own.learned(training.constant_loss):
        raise Skip(f"{harm}, but in {len(response.own.losses)} steps at the same learning rate it does")
    born_dead = _dead_at_start(worst, share)
    if harm and born_dead and training.finite and fit is not None and fit.attempts[0].fitted(fit.constant_loss):
        raise Skip(f"{_share(worst):.0%} of {worst.name} is dead from the start, but one batch is learned by heart")
    message = (
        f"{_share(worst):.0%} of the {worst.units} units of {worst.name} are active in less than 1 % of "
        f"{worst.samples} samples; up to {share:.0%} is healthy."
        + (f" The same in {listed(a.name for a in dead if a is not worst)}." if len(dead) > 1 else "")
        + (" They were dead before the first update" if born_dead else " They died during training")
        + (f", and {harm}." if harm else "; the loss falls all the same.")
    )
    yield Finding(
        where=worst.name,
        message=message,
        evidence={"dead_share": _share(worst), "limit": share, "units": worst.units, "samples": worst.samples},
        fixes=tuple(_fixes(training, dead, born_dead=born_dead)),
        severity=None if harm else "warning",
        profile=tuple(Bar(a.name, a.function, a.dead_share) for a in judged) if len(judged) > 1 else (),
        places=tuple(a.name for a in dead),
    )


def _dead_at_start(activation: ActivationRecord, share: float) -> bool:
    return activation.dead_share_at_start is not None and not activation.dead_share_at_start <= share


def _after_zeros(training: Training, activation: ActivationRecord) -> bool:
    """The weights of the layer before were all zero and stayed so."""
    before = [p for p in training.weights_in_order() if p.order is not None and p.order < activation.order]
    return bool(before) and before[-1].changed is False and not any(before[-1].weight_rms)


def _mostly_dead(activation: ActivationRecord, share: float) -> bool:
    """All of its units, or significantly more than `share` of them (binomial, p < 0.01): three of four tell nothing."""
    found = _share(activation)
    if not found < 1:
        return True
    return found > share and binomial_tail(round(found * activation.units), activation.units, share) < 0.01


def _share(activation: ActivationRecord) -> float:
    assert activation.dead_share is not None
    return activation.dead_share


def _fixes(training: Training, dead: list[ActivationRecord], *, born_dead: bool) -> Iterator[str]:
    before = listed(_layer_before(training, a) for a in dead)
    if born_dead:
        yield (
            f'Initialise {before} with nn.init.kaiming_normal_(weight, nonlinearity="relu") and zero biases: their '
            "present values keep the units below zero for every sample."
        )
    else:
        rates = training.learning_rates
        lower = f" (now {rates[0]:g}; try {rates[0] / 10:g})" if rates else ""
        yield f"Lower the learning rate{lower}: an update threw the units below zero for every sample."
    yield f"Or use LeakyReLU or GELU in {listed(a.name for a in dead)}: they let a gradient through below zero."
    if not training.norm_layers:
        yield f"Or put BatchNorm between {before} and the activation."


def _layer_before(training: Training, activation: ActivationRecord) -> str:
    layers = [p.layer for p in training.weights_in_order() if p.order is not None and p.order < activation.order]
    return layers[-1] if layers else f"the layer before {activation.name}"
