from __future__ import annotations

from collections.abc import Iterator

from gradcheck_kit.facts import LowPrecision, Training
from gradcheck_kit.rule import Finding, Severity, Skip, listed, rule

SYMPTOMS = ("GK103", "GK202", "GK204", "GK205", "GK601", "GK606")


@rule("GK702", needs=(LowPrecision,), uses=(Training,), explains=SYMPTOMS)
def low_precision(
    low: LowPrecision, training: Training | None, *, underflow: float = 0.1, lost: float = 0.5
) -> Iterator[Finding]:
    """Of float16 or bfloat16 weights, gradients vanish below the smallest number, or updates round to nothing.

    More than `underflow` of the gradient's elements, or `lost` of the updates, in the first step of a run that does
    not learn. Many runs learn all the same: then it is nothing.
    """
    if low.underflow is None and low.lost_updates is None:
        raise Skip("neither gradients nor updates of low precision could be compared")
    harm = training.harm if training is not None else ""
    if training is not None and not harm:
        return
    severity: Severity | None = None if harm else "warning"
    also = f", and {harm}" if harm else ""
    names = listed(low.layers)
    if low.underflow is not None and not low.underflow <= underflow:
        yield Finding(
            where=low.underflow_layer,
            message=f"{low.underflow:.0%} of the {low.dtype} gradient is exactly zero, and a normal number when the "
            f"loss is multiplied by {low.scale:g} (limit {underflow:.0%}), most of all in {low.underflow_layer}{also}.",
            evidence={"underflow": low.underflow, "limit": underflow, "scale": low.scale},
            fixes=(
                "Keep the weights in float32 and train under torch.autocast with torch.amp.GradScaler, which "
                "multiplies the loss and divides the gradient.",
                "Use bfloat16 (model.to(torch.bfloat16)), which has the range of float32.",
            ),
            severity=severity,
        )
    if low.lost_updates is not None and not low.lost_updates <= lost:
        yield Finding(
            where=low.lost_layer,
            message=f"{low.lost_updates:.0%} of the {low.dtype} weights that have a gradient are the same to the last "
            f"bit after the first step: their update is below half a unit in the last place (limit {lost:.0%}), most "
            f"of all in {low.lost_layer}{also}.",
            evidence={"lost_updates": low.lost_updates, "limit": lost},
            fixes=(
                f"Keep {names} in float32 and compute in {low.dtype} under torch.autocast: then small updates add up.",
                "Raise the learning rate, or use an optimizer that keeps a float32 copy of the weights or rounds "
                "stochastically.",
            ),
            severity=severity,
        )
