from __future__ import annotations

from collections.abc import Iterator

from gradcheck_kit.facts import LearningRateResponse, LowPrecision, RateTrial, Training
from gradcheck_kit.rule import Finding, Skip, listed, rule

SYMPTOMS = ("GK103", "GK202", "GK204", "GK205", "GK601", "GK606")


@rule("GK702", needs=(LowPrecision, Training), uses=(LearningRateResponse,), explains=SYMPTOMS)
def low_precision(
    low: LowPrecision,
    training: Training,
    response: LearningRateResponse | None,
    *,
    underflow: float = 0.1,
    lost: float = 0.5,
) -> Iterator[Finding]:
    """Of float16 or bfloat16 weights, gradients vanish or updates round to nothing, and in float32 the run learns.

    Looked at is the first step: more than `underflow` of the gradient's elements, or `lost` of the updates. A run that
    learns all the same, or does so in more steps where float32 needs more as well, and one that does not learn in
    float32 either, are nothing, unless of the gradient of a whole
    parameter no element is left, at any recorded step.
    """
    if low.underflow is None and low.lost_updates is None:
        raise Skip("neither gradients nor updates of low precision could be compared")
    vanishes = low.underflow is not None and not low.underflow <= underflow
    rounds = low.lost_updates is not None and not low.lost_updates <= lost
    harm = training.harm
    if not harm or not (vanishes or rounds):
        return
    never = {p.name for p in training.parameters if not any(p.gradient_rms)}  # had one, at any recorded step
    vanished = tuple(name for name in low.vanished if name in never)
    if vanished and vanishes:
        yield _vanished(low, vanished, harm)
        return
    if not low.float32_losses:
        raise Skip(f"the weights are {low.dtype}, and {harm}; whether float32 does better was not tried")
    wide = RateTrial(1.0, low.float32_losses)
    late = response.own if response is not None and response.own.learned(training.constant_loss) else None
    if late is not None and len(wide.losses) > training.loss_steps:  # as many are too few in float32, too
        raise Skip(f"{harm}, but in {len(late.losses)} steps it does, in {low.dtype}")
    if not wide.learned(training.constant_loss):
        raise Skip(f"{harm}, and in float32 it does not learn either")
    proof = f"{harm}; in float32 the same run goes from {wide.losses[0]:.3g} to {wide.end:.3g}."
    if vanishes:
        yield Finding(
            where=low.underflow_layer,
            message=f"{low.underflow:.0%} of the {low.dtype} gradient is exactly zero, and a normal number when the "
            f"loss is multiplied by {low.scale:g} (limit {underflow:.0%}), most of all in {low.underflow_layer}: "
            f"{proof}",
            evidence={"underflow": low.underflow, "limit": underflow, "scale": low.scale, "float32_end": wide.end},
            fixes=_fixes(low),
            severity="warning" if late else None,
            places=low.layers,
        )
    if rounds:
        yield Finding(
            where=low.lost_layer,
            message=f"{low.lost_updates:.0%} of the {low.dtype} weights that have a gradient are the same to the last "
            f"bit after the first step: their update is below half a unit in the last place (limit {lost:.0%}), most "
            f"of all in {low.lost_layer}: {proof}",
            evidence={"lost_updates": low.lost_updates, "limit": lost, "float32_end": wide.end},
            fixes=(
                f"Keep {listed(low.layers)} in float32 and compute in {low.dtype} under torch.autocast: then small "
                "updates add up.",
                "Use an optimizer that keeps a float32 copy of the weights or rounds stochastically.",
            ),
            severity="warning" if late else None,
            places=low.layers,
        )


def _vanished(low: LowPrecision, vanished: tuple[str, ...], harm: str) -> Finding:
    return Finding(
        where=vanished[0],
        message=f"In {low.dtype} the gradient of {listed(vanished)} is zero in every element, and is not when the "
        f"loss is multiplied by {low.scale:g}: it is smaller than the smallest number there is. So {harm}.",
        evidence={"underflow": low.underflow, "parameters": len(vanished), "scale": low.scale},
        fixes=_fixes(low),
        places=low.layers,
    )


def _fixes(low: LowPrecision) -> tuple[str, ...]:
    return (
        f"Keep {listed(low.layers)} in float32 and train under torch.autocast with torch.amp.GradScaler, which "
        "multiplies the loss and divides the gradient.",
        "Use bfloat16 (model.to(torch.bfloat16)), which has the range of float32.",
    )
