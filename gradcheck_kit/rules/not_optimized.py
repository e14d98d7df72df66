from __future__ import annotations

from collections.abc import Iterator

from gradcheck_kit.facts import WiredParameter, Wiring
from gradcheck_kit.rule import Finding, Skip, listed, rule


@rule("GK201", needs=(Wiring,), explains=("GK103", "GK205", "GK601", "GK606"))
def not_optimized(wiring: Wiring) -> Iterator[Finding]:
    """A parameter of the model or the loss receives a gradient, and no optimizer owns it: it never changes."""
    if not wiring.optimizer_given:
        raise Skip("no optimizer was given; the probe's own has every trainable parameter")
    forgotten = [p for p in wiring.parameters if _is_forgotten(p)]
    of_loss = [p for p in wiring.loss_parameters if _is_forgotten(p)]
    if forgotten:
        yield _of_model(wiring, forgotten)
    if of_loss:
        yield _of_loss(of_loss)


def _is_forgotten(parameter: WiredParameter) -> bool:
    return parameter.trainable and not parameter.optimized and parameter.gradient in ("nonzero", "nonfinite")


def _of_model(wiring: Wiring, forgotten: list[WiredParameter]) -> Finding:
    layers = listed(p.layer or p.name for p in forgotten)
    owned = sum(p.optimized for p in wiring.parameters)
    foreign = (
        f" It owns {wiring.foreign_parameters} parameters that are not this model's: it was made for another object."
        if wiring.foreign_parameters
        else ""
    )
    fixes = [
        "Make the optimizer from all of them, after the last change to the model: "
        "torch.optim.X(model.parameters(), ...)."
    ]
    if not foreign:
        fixes.append(f"If that is on purpose, say so: set requires_grad_(False) on {layers}.")
    return Finding(
        where=forgotten[0].layer or forgotten[0].name,
        message=f"{len(forgotten)} of {len(wiring.parameters)} parameters receive a gradient but are in no optimizer: "
        f"those of {layers}. The optimizer owns {owned or 'none'} of this model's.{foreign}",
        evidence={"parameters": [p.name for p in forgotten], "foreign_parameters": wiring.foreign_parameters},
        fixes=tuple(fixes),
        places=tuple(dict.fromkeys(p.layer or p.name for p in forgotten)),
    )


def _of_loss(forgotten: list[WiredParameter]) -> Finding:
    names = [f"loss.{p.name}" for p in forgotten]
    receives, it = ("receives a gradient but is", "it") if len(names) == 1 else ("receive a gradient but are", "them")
    return Finding(
        where="loss",
        message=f"{listed(names)} {receives} in no optimizer: the loss has parameters of its own, which never change.",
        evidence={"parameters": names},
        fixes=(
            "Make the optimizer from both: torch.optim.X([*model.parameters(), *loss_fn.parameters()], ...).",
            f"If that is on purpose, keep {it} with register_buffer.",
        ),
    )
