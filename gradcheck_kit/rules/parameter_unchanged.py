from __future__ import annotations

import math
from collections.abc import Iterator

from gradcheck_kit.facts import ParameterRecord, Training
from gradcheck_kit.rule import Finding, Skip, listed, rule


@rule("GK202", needs=(Training,), explains=("GK205", "GK601", "GK606"))
def parameter_unchanged(training: Training) -> Iterator[Finding]:
    """A parameter gets gradients and belongs to an optimizer, and is bit for bit the same after the whole run."""
    # A bias before BatchNorm has a gradient of rounding errors, and first layers may get next to none
    # (vanishing-gradient says so): what is a millionth of the largest gradient need not move anything.
    strongest = max((g for p in training.parameters if (g := _strength(p)) is not None), default=0.0)
    pushed = [
        p
        for p in training.parameters
        if p.trainable and p.optimized and (g := _strength(p)) is not None and g > 1e-6 * strongest
    ]
    if not pushed:
        raise Skip("no parameter of an optimizer receives a gradient")
    if any(p.changed is None for p in pushed):
        raise Skip("it is not known whether the parameters changed")
    still = [p for p in pushed if not p.changed]
    harm = training.harm
    if not harm and 0.0 not in training.learning_rates:
        still = [p for p in still if p.is_weight]  # a norm's gain in bfloat16 stays at 1 and does no harm
    if not still:
        return
    rates = training.learning_rates
    idle = 0.0 in rates
    reason = "the learning rate is 0" if idle else f"{training.optimizer} does not move it"
    what = f"parameter {still[0].name}" if len(still) == 1 else f"{len(still)} parameters"
    yield Finding(
        where=still[0].layer or still[0].name,
        message=f"{listed(p.layer or p.name for p in still)}: {what} got gradients and did not change by "
        f"one bit in {training.loss_steps} steps: {reason}.",
        evidence={"parameters": [p.name for p in still], "learning_rates": list(rates)},
        fixes=(
            "Set a learning rate above 0 for every parameter group of the optimizer."
            if idle
            else "Raise the learning rate until an update is more than a rounding error of the weight, or keep the "
            "weights in float32: in half precision small updates are rounded away.",
        ),
        places=tuple(dict.fromkeys(p.layer or p.name for p in still)),
    )


def _strength(parameter: ParameterRecord) -> float | None:
    """The largest finite gradient RMS of any recorded step."""
    return max((g for g in parameter.gradient_rms if g is not None and math.isfinite(g)), default=None)
