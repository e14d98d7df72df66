from __future__ import annotations

from collections.abc import Iterator

from gradcheck_kit.facts import Linearity, Training
from gradcheck_kit.rule import Finding, listed, rule


@rule("GK408", needs=(Linearity,), uses=(Training,), explains=("GK205", "GK507", "GK601", "GK606"), severity="warning")
def no_nonlinearity(linearity: Linearity, training: Training | None) -> Iterator[Finding]:
    """The network is affine in its input, so its layers compute together what a single one could.

    Only where two or more trainable layers follow each other and none between them is narrower than both ends: a
    bottleneck is a factorisation on purpose.
    """
    if not linearity.affine or len(linearity.chain) < 2:
        return
    widths = linearity.widths
    if min(widths[1:-1]) < min(widths[0], widths[-1]):
        return
    layers = listed(linearity.chain)
    before = f" before its final {linearity.link}" if linearity.link else ""
    harm = training.harm if training is not None else ""
    yield Finding(
        where=linearity.chain[0],
        message=f"The layers {layers} follow each other without an activation: on {linearity.pairs} random pairs of "
        f"inputs the network{before} is affine to {linearity.deviation:.0e} of its outputs, so one layer of "
        f"{widths[0]} to {widths[-1]} computes all that its {len(linearity.chain)} can"
        + (f", and {harm}." if harm else "."),
        evidence={"deviation": linearity.deviation, "pairs": linearity.pairs, "layers": list(linearity.chain),
                  "widths": list(widths)},
        fixes=(
            f"Put an activation such as nn.ReLU() after {'each of ' if len(linearity.chain) > 2 else ''}"
            f"{listed(linearity.chain[:-1])}.",
            f"Or replace {layers} by one layer: a linear model is what this is.",
        ),
    )  # fmt: skip
