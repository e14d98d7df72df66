from __future__ import annotations

from collections.abc import Iterator
from math import isfinite

from gradcheck_kit import Finding, Skip, rule
from gradcheck_kit.facts import Training, binomial_tail
from gradcheck_kit_vision.facts import Normalization, PretrainedInput


@rule("GKV104", needs=(PretrainedInput,), uses=(Training,), explains=("GK501", "GK601"))
def pretrained_statistics(
    pretrained: PretrainedInput, training: Training | None, *, ratio: float = 2.0, nats: float = 0.05
) -> Iterator[Finding]:
    """A pretrained torchvision model is given images that are not normalised as its weights expect.

    Its first BatchNorm remembers the images that the weights were trained on. An error where the run does not learn,
    else a warning.
    """
    if pretrained.expected:
        return
    distance, other = pretrained.distance, pretrained.expected_distance
    if distance is None or other is None:
        raise Skip("how well the images fit was not measured")
    surely = binomial_tail(pretrained.nearer, pretrained.channels, 0.5) < 1e-3
    if not (isfinite(distance) and isfinite(other)):
        raise Skip("what enters the first BatchNorm is not finite (see non-finite-input)")
    if not surely or distance <= ratio * other or distance <= nats:
        return
    harm = "" if training is None else training.harm
    wanted = Normalization(pretrained.expected_mean, pretrained.expected_std, 0, False, None, None, (), ())
    used = Normalization(pretrained.used_mean, pretrained.used_std, 0, False, None, None, (), ())
    now = f"go through {used.called}" if pretrained.used_mean else "go through no Normalize"
    raw = pretrained.maximum > 1
    now += f" and are scaled to {pretrained.maximum:g}" if raw else ""
    yield Finding(
        where=pretrained.layer,
        message=f"{pretrained.family} has pretrained weights, for which torchvision records {wanted.called}; the "
        f"training images {now}. What enters {pretrained.layer} is {distance:.2g} nats per channel from what it "
        f"remembers, and {other:.2g} with the recorded one, closer in {pretrained.nearer} of {pretrained.channels} "
        f"channels (up to {ratio:g} times as far is healthy)" + (f", and {harm}." if harm else "."),
        evidence={"distance": distance, "expected_distance": other, "ratio": ratio, "nearer": pretrained.nearer},
        fixes=(
            f"Use {wanted.called} on training and test data, after the pixels are scaled to 0 to 1"
            + (f", in place of {used.called}." if pretrained.used_mean else "."),
            "Or use the transform that comes with the weights: weights.transforms().",
        ),
        severity=None if harm else "warning",
    )
