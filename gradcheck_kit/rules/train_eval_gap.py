from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import fmean

from gradcheck_kit.facts import ModeGap, Training
from gradcheck_kit.facts.evaluation import EPOCHS
from gradcheck_kit.rule import Finding, Skip, listed, rule

LEFT = 0.1  # of where running statistics started, after some epochs


@rule("GK603", needs=(ModeGap, Training), explains=("GK601", "GK605"), severity="warning")
def train_eval_gap(gap: ModeGap, training: Training, *, ratio: float = 1.5) -> Iterator[Finding]:
    """On the same training batches the loss is far higher with BatchNorm in evaluation mode than in training mode.

    Running statistics are averaged anew first, since that they lag behind in a short run is no fault; where a momentum
    of 0 keeps them from ever moving, or one far below the usual for many epochs, they count as they are.
    """
    if training.synthetic:
        raise Skip("the data is made up")
    slow = gap.left_of_start > LEFT
    guilty = gap.still or (gap.slow if slow else gap.layers)
    evaluated = gap.by_running if gap.still or slow else gap.by_average
    values = (*gap.by_batch, *evaluated)
    if not values or not all(map(math.isfinite, values)):
        raise Skip("the loss is not finite (see non-finite)")
    if not training.long_enough or training.harm:
        raise Skip("the run did not learn, so there is nothing that evaluation could lose")
    before, after = fmean(gap.by_batch), fmean(evaluated)
    if before <= 0:
        raise Skip("the loss may be zero or negative, so it has no scale to compare with")
    scale = training.constant_loss if training.constant_loss is not None else training.first_loss
    if not before < scale:
        raise Skip("in training mode the loss is not below a constant prediction's yet: there is nothing to lose")
    # Next to nothing may well double; and every single batch must be worse, which has a chance of 1 in 256.
    worse = all(b < a for b, a in zip(gap.by_batch, evaluated, strict=True))
    if not (worse and after > ratio * before and after - before > 0.2 * scale):
        return
    places = listed((name or "the model" for name in guilty), 5)
    why = ", though the running statistics were averaged anew."
    if gap.still:
        keeps = "forward leaves its buffers" if gap.own else "momentum=0 keeps the running statistics"
        why = f": {keeps} where they started."
    elif slow:
        why = (
            f": with momentum={gap.momentum:g} the running statistics move so slowly that {EPOCHS} epochs of "
            f"{gap.epoch} batches leave {gap.left_of_start:.0%} of where they started."
        )
    yield Finding(
        where=guilty[0] or "model",
        places=tuple(name or "model" for name in guilty),
        message=f"On {len(gap.by_batch)} training batches of {gap.samples} the loss is {before:.3g} with {places} "
        f"({gap.layer_type}) in training mode and {after:.3g} in evaluation mode, {after / before:.1f} times as much "
        f"(up to {ratio:g} is healthy){why}",
        evidence={"train": before, "eval": after, "ratio": after / before, "limit": ratio, "samples": gap.samples},
        fixes=(_fix(gap, places),),
    )


def _fix(gap: ModeGap, places: str) -> str:
    if gap.own and gap.still:
        return (
            f"Move the statistics of {places} in forward while self.training is set: "
            "self.running_mean.lerp_(mean.detach(), 0.1), and the variance likewise."
        )
    if gap.own:
        return (
            f"Compare what the forward of {places} does while self.training is set and when it is not: both must "
            "normalise by the same quantities."
        )
    if gap.still:
        return f"Leave out momentum=0 in {places}: torch's default is 0.1, the share of the newest batch."
    if gap.left_of_start > LEFT:
        return (
            f"Leave out momentum={gap.momentum:g} in {places}: torch's default is 0.1. It is the share of the newest "
            "batch here, and of the old statistics in TensorFlow and Keras."
        )
    if gap.samples < 16:
        return (
            f"Use larger batches than {gap.samples}, or GroupNorm or LayerNorm in place of {gap.layer_type}: the "
            "statistics of so few samples are noise that the model has learned to use."
        )
    return (
        f"Look at what passes through {places}: inputs of different kinds, or batches of one kind each, need a norm of "
        "their own, or GroupNorm or LayerNorm, which do not mix samples."
    )
