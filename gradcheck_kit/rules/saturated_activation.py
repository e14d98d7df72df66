from __future__ import annotations

from collections.abc import Iterator

from gradcheck_kit.facts import ActivationRecord, Training
from gradcheck_kit.rule import Bar, Finding, Skip, listed, rule


@rule("GK105", needs=(Training,), explains=("GK101", "GK102", "GK103", "GK204", "GK205", "GK507", "GK601", "GK606"))
def saturated_activation(training: Training, *, share: float = 0.5) -> Iterator[Finding]:
    """Most of a bounded activation's values sit at its flat ends, where its derivative is below 5 % of its largest.

    An output may saturate: a trained classifier's should. A hidden activation that starts and stays saturated is a
    warning, and with a run that does not learn an error.
    """
    bounded = [a for a in training.hidden_activations() if a.saturated_share is not None]
    if not bounded:
        raise Skip("no hidden activation with flat ends ran, such as sigmoid or tanh")
    harm = training.harm
    # Where the gradient vanished before the first update, what saturates later is a symptom of that.
    ratio = training.gradient_ratio_at_start
    later_too = harm and not (ratio is not None and ratio < 1e-3)
    flat = [a for a in bounded if not _end(a) <= share and (later_too or not _start(a) <= share)]
    if not flat:
        return
    worst = max(flat, key=_end)
    from_start = not _start(worst) <= share
    message = (
        f"{_end(worst):.0%} of the values of {worst.name} are where {worst.function} is flat; up to {share:.0%} is "
        "healthy."
        + (f" The same in {listed(a.name for a in flat if a is not worst)}." if len(flat) > 1 else "")
        + (f" Before the first update it was {_start(worst):.0%}" if from_start else " It came so during training")
        + (f", and {harm}." if harm else "; hardly any gradient passes it.")
    )
    yield Finding(
        where=worst.name,
        message=message,
        evidence={"saturated_share": _end(worst), "at_start": _start(worst), "limit": share},
        fixes=tuple(_fixes(training, worst, flat, from_start=from_start)),
        severity=None if harm else "warning",
        profile=tuple(Bar(a.name, a.function, a.saturated_share) for a in bounded) if len(bounded) > 1 else (),
        places=tuple(a.name for a in flat),
    )


def _end(activation: ActivationRecord) -> float:
    assert activation.saturated_share is not None
    return activation.saturated_share


def _start(activation: ActivationRecord) -> float:
    start = activation.saturated_share_at_start
    return _end(activation) if start is None else start


def _fixes(
    training: Training, worst: ActivationRecord, flat: list[ActivationRecord], *, from_start: bool
) -> Iterator[str]:
    layers = [p for p in training.weights_in_order() if p.order is not None and p.order < worst.order]
    if from_start:
        if len(layers) <= 1:
            yield (
                "Normalise the inputs to mean 0 and standard deviation 1: what reaches "
                f"{layers[-1].layer if layers else 'the first layer'} is too large."
            )
        names = listed(p.layer for p in layers) or "the layers before it"
        gain = "tanh" if worst.function == "tanh" else "sigmoid"
        yield (
            f"Initialise {names} with nn.init.xavier_normal_(weight, gain=nn.init.calculate_gain({gain!r})): their "
            "present weights are too large."
        )
    else:
        rates = training.learning_rates
        yield f"Lower the learning rate{f' (now {rates[0]:g}; try {rates[0] / 10:g})' if rates else ''}."
    yield f"Or put BatchNorm or LayerNorm before {listed(a.name for a in flat)}."
    yield f"Or use ReLU or GELU in {listed(a.name for a in flat)}."
