from __future__ import annotations

from collections.abc import Iterator

from gradcheck_kit.facts import EqualLayers, EqualUnits, Symmetry, Training
from gradcheck_kit.rule import Finding, listed, rule

EXPLAINS = ("GK103", "GK104", "GK107", "GK204", "GK205", "GK601", "GK606")


@rule("GK302", needs=(Symmetry,), uses=(Training,), explains=EXPLAINS)
def symmetric_initialization(
    symmetry: Symmetry, training: Training | None, *, spread: float = 1e-3
) -> Iterator[Finding]:
    """All units of a hidden layer start with the same weights and move together, so they stay one unit.

    Together is: they deviate from their common movement by at most `spread` of it. So do layers that are copies of each
    other, such as experts that were copied from one. Where only biases tell the units
    apart it is a warning, and an error when the run does not learn.
    """
    harm = training.harm if training is not None else ""
    moving = [one for one in symmetry.equal if one.hidden and one.spread is not None]
    copies = [one for one in moving if one.biases_equal and not _spread(one) > spread]
    stuck = [one for one in symmetry.equal if one.zero and one.gradient_zero and harm]
    alike = [one for one in moving if not one.zero and not _spread(one) > 0.5 and one not in copies]
    if copies:
        yield _finding(
            copies,
            f"{_all_units(copies)} start with the same weights and after {symmetry.steps} steps of training they still "
            f"differ by {max(map(_spread, copies)):.1g} of what they moved; up to {spread:g} is rounding. They get "
            f"the same gradient, so the layer stays one unit" + (f", and {harm}." if harm else "."),
            spread,
        )
    elif cloned := [one for one in symmetry.copies if one.spread is not None and not one.spread > spread]:
        yield _of_copies(cloned[0], symmetry.steps, harm, spread)
    elif stuck:
        yield _finding(
            stuck,
            f"{listed(one.layer for one in stuck)}: all weights are 0 and their gradient is exactly 0 in each of "
            f"{symmetry.steps} steps, so they stay 0, and {harm}.",
            0.0,
        )
    elif alike:
        yield _finding(
            alike,
            f"{_all_units(alike)} start with the same weights; only their biases tell them apart. In "
            f"{symmetry.steps} steps they moved alike: they differ by {max(map(_spread, alike)):.0%} of the movement"
            + (f", and {harm}." if harm else "; the loss falls all the same."),
            0.5,
            warning=not harm,
        )


def _spread(one: EqualUnits) -> float:
    assert one.spread is not None
    return one.spread


def _all_units(layers: list[EqualUnits]) -> str:
    first, *others = layers
    also = f" (and of {listed(other.layer for other in others)})" if others else ""
    return f"All {first.units} units of {first.layer}{also}"


def _of_copies(copies: EqualLayers, steps: int, harm: str, limit: float) -> Finding:
    return Finding(
        where=copies.layers[0],
        message=f"{listed(copies.layers)} start with the same weights and after {steps} steps of training they still "
        f"differ by {copies.spread:.1g} of what they moved; up to {limit:g} is rounding. They get the same gradient, "
        f"so {len(copies.layers)} layers stay one" + (f", and {harm}." if harm else "."),
        evidence={"layers": list(copies.layers), "spread": copies.spread, "limit": limit},
        fixes=(
            "Make each with a call of its own, [Expert() for _ in range(n)], and not as a copy.deepcopy of one; or "
            "call reset_parameters() on the layers of each copy.",
        ),
        places=copies.layers,
    )


def _finding(layers: list[EqualUnits], message: str, limit: float, *, warning: bool = False) -> Finding:
    first, names = layers[0], [one.layer for one in layers]
    return Finding(
        where=first.layer,
        message=message,
        evidence={"units": first.units, "spread": first.spread, "limit": limit, "layers": names},
        fixes=(
            f"Initialise {listed(names)} at random: "
            + (
                "for example with nn.init.xavier_uniform_, which takes a matrix either way round."
                if first.bare
                else f"leave out the constant and keep {first.layer_type}'s default, or call "
                "nn.init.kaiming_normal_(weight)."
            ),
        ),
        severity="warning" if warning else None,
        places=tuple(names),
    )
