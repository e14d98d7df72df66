from __future__ import annotations

from collections.abc import Iterator

from gradcheck_kit.facts import Wiring
from gradcheck_kit.rule import Finding, Skip, listed, rule


@rule("GK201", needs=(Wiring,), explains=("GK103", "GK205", "GK601", "GK606"))
def not_optimized(wiring: Wiring) -> Iterator[Finding]:
    """A parameter receives a gradient, and no optimizer owns it: it never changes."""
    if not wiring.optimizer_given:
        raise Skip("no optimizer was given; the probe's own has every trainable parameter")
    forgotten = [
        p for p in wiring.parameters if p.trainable and not p.optimized and p.gradient in ("nonzero", "nonfinite")
    ]
    if not forgotten:
        return
    layers = listed(p.layer or p.name for p in forgotten)
    owned = sum(p.optimized for p in wiring.parameters)
    foreign = (
        f" The optimizer owns {wiring.foreign_parameters} parameters that are not this model's: it was made for "
        "another object."
        if wiring.foreign_parameters
        else ""
    )
    fixes = [
        "Make the optimizer from all of them, after the last change to the model: "
        "torch.optim.X(model.parameters(), ...)."
    ]
    if not foreign:
        fixes.append(f"If that is on purpose, say so: set requires_grad_(False) on {layers}.")
    yield Finding(
        where=forgotten[0].layer or forgotten[0].name,
        message=f"{len(forgotten)} of {len(wiring.parameters)} parameters receive a gradient but are in no optimizer, "
        f"which owns {owned}: those of {layers}.{foreign}",
        evidence={"parameters": [p.name for p in forgotten], "foreign_parameters": wiring.foreign_parameters},
        fixes=tuple(fixes),
        places=tuple(dict.fromkeys(p.layer or p.name for p in forgotten)),
    )
