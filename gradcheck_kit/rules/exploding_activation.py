from __future__ import annotations

import math
from collections.abc import Iterator

from gradcheck_kit.facts import ActivationGrowth, LearningRateResponse, RateTrial, Training
from gradcheck_kit.rule import Bar, Finding, Skip, listed, rule

SYMPTOMS = ("GK102", "GK104", "GK106", "GK203", "GK205", "GK206", "GK301", "GK601", "GK606")


@rule("GK110", needs=(ActivationGrowth, Training), uses=(LearningRateResponse,), explains=SYMPTOMS)
def exploding_activation(
    activations: ActivationGrowth, training: Training, response: LearningRateResponse | None, *, growth: float = 100.0
) -> Iterator[Finding]:
    """Signals grow more than `growth`-fold over depth before training, and the run with normalised signals learns.

    An error where the run does not learn; a warning where it comes down, but is not near a constant prediction's loss.
    """
    grown, harm = activations.growth, training.harm
    if grown <= growth:
        return
    first = activations.layers[0]
    what = (
        f"the output of {activations.largest_at} is {grown:.2g} times that of {first.name} before training "
        f"({activations.largest:.2g} and {first.output_rms:.2g}, RMS)"
    )
    if not activations.norm_losses:
        raise Skip(f"{what}, and " + ("the run with norms was not tried" if harm else "the run learns as it is"))
    if harm and response is not None and response.own.learned(training.constant_loss):
        raise Skip(f"{what}; {harm}, but in {len(response.own.losses)} steps it does")
    normed = RateTrial(1.0, activations.norm_losses)
    own = training.last_loss if training.finite else math.inf
    if not normed.learned(training.constant_loss) or not own - normed.end >= 0.5 * abs(own):
        raise Skip(f"{what}, but with a norm before each layer the run is not clearly better")
    layers = [layer.name for layer in activations.layers if layer.name != first.name]
    why = harm or f"the loss is still at {own:.3g} after {training.loss_steps} steps"
    steps = f" in {len(normed.losses)} steps" if len(normed.losses) > training.loss_steps else ""
    yield Finding(
        where=activations.largest_at,
        message=f"{what[0].upper()}{what[1:]}; up to {growth:g} times is healthy. So {why}. With what enters each "
        f"layer after the first divided by its root mean square the same run goes from {normed.losses[0]:.3g} to "
        f"{normed.end:.3g}{steps}.",
        evidence={
            "growth": grown,
            "limit": growth,
            "largest": activations.largest,
            "largest_with_norms": activations.norm_largest,
            "end": own,
            "end_with_norms": normed.end,
        },
        fixes=(f"Put {_norms(activations)} before {listed(layers) or 'each layer'}, to normalise what enters.",),
        severity=None if harm and not training.synthetic else "warning",
        profile=tuple(Bar(layer.name, layer.layer_type, layer.output_rms) for layer in activations.layers),
    )


def _norms(activations: ActivationGrowth) -> str:
    kinds = {"nn.LayerNorm" if layer.layer_type == "Linear" else "nn.GroupNorm" for layer in activations.layers[1:]}
    return " or ".join(sorted(kinds)) or "nn.LayerNorm"
