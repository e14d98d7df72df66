from __future__ import annotations

import math
from collections.abc import Iterator

from gradcheck_kit.facts import LearningRateResponse, RankCollapse, RateTrial, SampleCollapse, Training
from gradcheck_kit.rule import Bar, Finding, Skip, listed, rule

SYMPTOMS = ("GK101", "GK104", "GK204", "GK205", "GK507", "GK601", "GK606")


@rule(
    "GK109",
    needs=(Training,),
    uses=(RankCollapse, SampleCollapse, LearningRateResponse),
    explains=SYMPTOMS,
    severity="warning",
)
def rank_collapse(
    training: Training,
    collapse: RankCollapse | None,
    samples: SampleCollapse | None,
    response: LearningRateResponse | None,
    *,
    spread: float = 1e-2,
) -> Iterator[Finding]:
    """All positions of a sequence hold the same vector after the layers, and with residual connections it learns.

    Same is a deviation from their mean below `spread` of their size, before training. An error where the run does not
    learn; a warning where it does, and the other ends at half its loss or less. Or, a warning, all samples come out the
    same after a training without targets, whose loss asks for nothing else.
    """
    if samples is not None and samples.collapsed:
        yield _of_samples(samples)
        return
    if collapse is None:
        raise Skip("no layers draw positions together, and no loss without targets draws samples together")
    first, last, harm = collapse.layers[0], collapse.layers[-1], training.harm
    if last.after > spread and not math.isnan(first.before):
        return
    what = (
        f"the {collapse.positions} positions of a sequence differ by {first.before:.2g} of their size before "
        f"{first.layer} and by {last.after:.2g} after {last.layer}"
    )
    if not first.before > 0.1:
        raise Skip(f"{what}: they are much alike from the start")
    if not collapse.residual_losses:
        raise Skip(f"{what}, and " + ("residual connections were not tried" if harm else "the run learns as it is"))
    if harm and response is not None and response.own.learned(training.constant_loss):
        raise Skip(f"{what}; {harm}, but in {len(response.own.losses)} steps it does")
    added = RateTrial(1.0, collapse.residual_losses)
    own = RateTrial(1.0, training.losses).end if training.finite else math.inf
    if not added.learned(training.constant_loss) or not own - added.end >= (0.1 if harm else 0.5) * abs(own):
        raise Skip(f"{what}, but with residual connections the run is not clearly better")
    names = listed(layer.layer for layer in collapse.layers)
    why = harm or f"the loss went from {training.first_loss:.3g} to {training.last_loss:.3g}"
    steps = f" in {len(added.losses)} steps" if len(added.losses) > training.loss_steps else ""
    yield Finding(
        where=last.layer,
        message=f"Before training {what}; {why}. With a residual connection around each of {names} the same run goes "
        f"from {added.losses[0]:.3g} to {added.end:.3g}{steps}.",
        evidence={
            "before": first.before,
            "after": last.after,
            "limit": spread,
            "after_with_residuals": collapse.residual_after,
            "end": own,
            "end_with_residuals": added.end,
        },
        fixes=(f"Add what goes in to what comes out (x = x + layer(x)) of {names}.",),
        severity="error" if harm and not training.synthetic else None,
        profile=tuple(Bar(layer.layer, layer.layer_type, layer.after) for layer in collapse.layers),
    )


def _of_samples(samples: SampleCollapse) -> Finding:
    return Finding(
        where="model output",
        message=f"What the model makes of different samples differs by {samples.end:.2g} of its size after training "
        f"({samples.start:.2g} before), and the loss, {samples.loss:.3g}, is {samples.equal_loss:.3g} where all come "
        "out the same: it asks for nothing else, and the model collapses to one answer.",
        evidence={"before": samples.start, "after": samples.end, "equal_loss": samples.equal_loss},
        fixes=(
            "Stop the gradient on one side, z.detach(), or let that side come from a slowly moving copy of the model.",
            "Or add a term that keeps samples apart: negatives, as in InfoNCE, or the variance term of VICReg.",
        ),
    )
