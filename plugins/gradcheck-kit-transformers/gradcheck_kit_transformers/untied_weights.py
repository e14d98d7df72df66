from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from gradcheck_kit import Finding, Skip, remedy, rule
from gradcheck_kit_transformers.facts import Pair, Ties


@rule("GKT104", needs=(Ties,))
def untied_weights(ties: Ties) -> Iterator[Finding]:
    """The configuration says that two weights are one, and they are two; or one is a copy of the other."""
    if not ties.pairs:
        raise Skip("no configuration ties weights, and no head holds the values of an embedding")
    for pair in ties.pairs:
        if not pair.tied:
            yield Finding(
                where=pair.other,
                message=f"{_stated(pair)}{_differ(pair)}{_trained(pair)}",
                evidence={
                    "parameter": pair.name,
                    "other": pair.other,
                    "stated": pair.stated,
                    "equal": pair.equal,
                    "shapes": [list(pair.shape), list(pair.other_shape)],
                },
                fixes=_fixes(pair),
                severity=None if pair.stated and not pair.loaded_apart else "warning",
            )


def _stated(pair: Pair) -> str:
    if pair.stated:
        loaded = ", loaded so from a checkpoint that holds both" if pair.loaded_apart else ""
        return f"{pair.stated} is True, but {pair.other} and {pair.name} are two parameters{loaded}"
    return f"{pair.other} and {pair.name} are two parameters"


def _differ(pair: Pair) -> str:
    if pair.shape != pair.other_shape:
        return f", of shapes {pair.other_shape} and {pair.shape}."
    if pair.equal:
        return " with the same values to the last bit: one is a copy of the other, and training parts them."
    return " with different values."


def _trained(pair: Pair) -> str:
    if pair.optimized == pair.other_optimized:
        return ""
    trained, other = (pair.name, pair.other) if pair.optimized else (pair.other, pair.name)
    return f" Only {trained} is in an optimizer; {other} stays as it is."


def _fixes(pair: Pair) -> tuple[str, ...]:
    if not pair.stated:
        return (
            f"Tie them where the model is built, if they are meant to be one: assign the parameter itself, "
            f"{pair.other} = {pair.name}, and no clone, deepcopy or .data of it.",
        )
    if pair.loaded_apart:
        return (f"Set {pair.stated} = False before loading: they are two, and the configuration shall say so.",)
    apart = f"Or set {pair.stated} = False, if two are meant: who loads the saved model is told otherwise."
    if pair.shape != pair.other_shape:
        rows = max(pair.shape[:1] + pair.other_shape[:1], default=0)
        return (
            f"Change the vocabulary with model.resize_token_embeddings({rows}), which changes both, instead of "
            "assigning a new module, and make the optimizer after it.",
            apart,
        )
    return (
        "Call model.tie_weights() after the last assignment to either, and make the optimizer after it.",
        apart,
    )


@remedy("GK301")
def scale_of_a_tied_head(_finding: Finding, trace: Any) -> str | None:
    """A head that is the embedding's weight has that weight's scale: nn.Embedding draws from N(0, 1)."""
    ties = trace.facts.get(Ties)
    large = [p for p in ties.pairs if p.tied and p.width and p.scale * p.width**0.5 > 2] if ties else []
    if not large:
        return None
    pair = large[0]
    return (
        f"{pair.other} is {pair.name} too, whose values have a root mean square of {pair.scale:.2g}: initialise it for "
        f"a head, nn.init.normal_({pair.name}, std={pair.width**-0.5:.2g})."
    )
