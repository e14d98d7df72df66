from __future__ import annotations

import math
from collections.abc import Iterator

from gradcheck_kit.facts import FeatureScale, InputScale, RateTrial, Training
from gradcheck_kit.rule import Bar, Finding, Severity, Skip, rule

SYMPTOMS = ("GK101", "GK102", "GK104", "GK105", "GK106", "GK203", "GK205", "GK206", "GK301", "GK601", "GK606")


@rule("GK501", needs=(InputScale, Training), explains=SYMPTOMS)
def unnormalized_input(scale: InputScale, training: Training, *, gain: float = 0.5) -> Iterator[Finding]:
    """What enters the first layer is far from mean 0 and standard deviation 1, and standardising it helps.

    An error where the run does not learn and the same run on standardised input does; a warning where it learns and
    the other ends at `gain` times its loss or less. Without that proof a scale is no fault.
    """
    if training.synthetic:
        raise Skip("the data is made up")
    if not scale.odd:
        return
    harm = training.harm
    again = RateTrial(1.0, scale.standardized_losses) if scale.standardized_losses else None
    if again is None:
        tried = "whether standardising it helps was not tried" if harm else "the run learns well as it is"
        raise Skip(f"{_numbers(scale)}, and {tried}")
    # What starts higher falls further: a loss that means nothing by itself, as a policy's, must end lower, too.
    better = again.learned(training.constant_loss) and not (training.finite and again.end >= training.last_loss)
    if not better or (not harm and not (0 < again.end <= gain * training.last_loss)):
        raise Skip(f"{_numbers(scale)}, and the same run on standardised input is not clearly better")
    why = f"{harm}" if harm else f"the loss went from {training.first_loss:.3g} to {training.last_loss:.3g}"
    yield _finding(
        scale,
        f"and {why}; on standardised input the same run goes from {again.losses[0]:.3g} to {again.end:.3g}",
        {"end": training.last_loss, "standardized_end": again.end, "limit": gain},
        None if harm else "warning",
    )


def _numbers(scale: InputScale) -> str:
    place = f"{scale.layer or 'the model'} ({scale.layer_type})"
    worst = f" in {scale.axis} {scale.worst.index}" if scale.axis and scale.features > 1 else ""
    return (
        f"what enters {place} has mean {scale.worst.mean:.3g} and standard deviation {scale.worst.std:.3g}{worst}, and "
        f"ranges from {scale.minimum:.3g} to {scale.maximum:.3g}"
    )


def _finding(scale: InputScale, why: str, evidence: dict[str, float], severity: Severity | None) -> Finding:
    text = _numbers(scale)
    return Finding(
        where=scale.layer or "model",
        message=f"{text[0].upper()}{text[1:]}, {why}.",
        evidence={"mean": scale.worst.mean, "std": scale.worst.std, **evidence},
        fixes=_fixes(scale),
        severity=severity,
        profile=tuple(Bar(f"{scale.axis or 'input'} {s.index}", f"mean {s.mean:.3g}", s.std) for s in scale.listed)
        if len(scale.listed) > 1
        else (),
    )


def _fixes(scale: InputScale) -> tuple[str, ...]:
    listed = scale.listed
    pixels = scale.minimum >= 0 and 1 < scale.maximum <= 255 and scale.axis != "feature"
    by = 255 if pixels else 1
    if scale.axis == "channel" and listed:
        means, stds = _tuple([s.mean / by for s in listed]), _tuple([s.std / by for s in listed])
        first = "Scale the pixels to 0 to 1 (x / 255) and then use" if pixels else "Use"
        return (f"{first} transforms.Normalize({means}, {stds}) on training and test data.",)
    if not scale.axis and listed:
        one = listed[0]
        return (f"Use x = (x - {one.mean:.3g}) / {one.std:.3g} on training and test data.",)
    if listed:
        means, stds = _plain(listed)
        return (
            f"Standardise the features, x = (x - mean) / std with mean = torch.tensor([{means}]) and std = "
            f"torch.tensor([{stds}]), on training and test data.",
        )
    return (
        f"Standardise each {scale.axis}, x = (x - mean) / std, with the mean and standard deviation of the training "
        f"data ({scale.axis} {scale.worst.index}: {scale.worst.mean:.3g} and {scale.worst.std:.3g}).",
        "Put nn.BatchNorm1d before the first layer where the statistics are not at hand.",
    )


def _plain(listed: tuple[FeatureScale, ...]) -> tuple[str, str]:
    """Means and deviations; what is 0 or 1 stays as it is."""
    means = ", ".join(f"{0 if s.binary else s.mean:.3g}" for s in listed)
    return means, ", ".join(f"{1 if s.binary or not s.std else s.std:.3g}" for s in listed)


def _tuple(values: list[float]) -> str:
    inside = ", ".join(f"{value:.3g}" if math.isfinite(value) else "nan" for value in values)
    return f"({inside},)" if len(values) == 1 else f"({inside})"
