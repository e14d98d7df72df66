from __future__ import annotations

from collections.abc import Iterator

from gradcheck_kit.facts import EqualUnits, Symmetry, Training
from gradcheck_kit.rule import Finding, listed, rule

EXPLAINS = ("GK103", "GK104", "GK107", "GK204", "GK205", "GK601", "GK606")


@rule("GK302", needs=(Symmetry,), uses=(Training,), explains=EXPLAINS)
def symmetric_initialization(
    symmetry: Symmetry, training: Training | None, *, spread: float = 1e-3
) -> Iterator[Finding]:
    """All units of a hidden layer start with the same weights and move together, so they stay one unit.

    Together is: they deviate from their common movement by at most `spread` of it. Where only biases tell the units
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
