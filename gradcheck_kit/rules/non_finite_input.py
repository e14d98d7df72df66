from __future__ import annotations

from collections.abc import Iterator

from gradcheck_kit.facts import BadValues, DataSummary, Training
from gradcheck_kit.rule import Finding, Skip, rule

WORDS = {"nan": "NaN", "inf": "infinite", "nan and inf": "NaN or infinite"}


@rule("GK503", needs=(DataSummary,), uses=(Training,), explains=("GK104", "GK105", "GK106"))
def non_finite_input(data: DataSummary, training: Training | None) -> Iterator[Finding]:
    """The training data holds NaN or infinity, and the loss became so too; names tensor, feature, count and batch.

    Where the loss stays finite the model or its loss leaves such values out, as masked losses do.
    """
    if data.synthetic:
        raise Skip("the data is made up")
    origin = training.non_finite if training is not None else None
    if training is not None and training.finite:
        if data.bad_values:
            raise Skip(f"{data.bad_values[0].tensor} holds such values, and the loss stays finite: they are left out")
        return
    if training is not None and (origin is None or origin.kind not in ("input", "target")):
        raise Skip("the loss is not finite, and that did not begin in the data (see non-finite)")
    found = next((b for b in data.bad_values if origin is None or b.is_target == (origin.kind == "target")), None)
    if found is None:
        if origin is not None:
            yield Finding(
                where=f"the training data's {origin.kind}s",
                message=f"The {origin.kind} of batch {origin.step} holds {WORDS[origin.value]} values; the first "
                f"{data.batches} batches hold none.",
                evidence={"tensor": origin.kind, "batch": origin.step, "share": origin.share, "limit": 0},
                fixes=_fixes(origin.kind, ""),
            )
        return
    if origin is not None and found.first_batch < origin.step and found.first_batch < data.batches - 1:
        raise Skip(f"batch {found.first_batch} holds such values too, and its loss was finite: they are left out")
    yield Finding(
        where=found.tensor,
        message=f"The {found.tensor} is {WORDS[found.value]} in {found.elements:,} {_plural('element', found.elements)}"
        f" of {found.samples:,} of {data.samples:,} samples{_along(found)}, first in batch {found.first_batch}, sample "
        f"{found.first_sample}.",
        evidence={
            "tensor": found.tensor,
            "elements": found.elements,
            "samples": found.samples,
            "features": [list(pair) for pair in found.features],
            "batch": found.first_batch,
            "limit": 0,
        },
        fixes=_fixes("target" if found.is_target else "input", _index(found)),
        severity=None if training is not None else "warning",
    )


def _plural(word: str, count: int) -> str:
    return word if count == 1 else word + "s"


def _along(found: BadValues) -> str:
    if not found.axis or not found.features:
        return ""
    worst = ", ".join(str(index) for index, _ in found.features[:5])
    more = ", ..." if len(found.features) > 5 else ""
    return f", in {_plural(found.axis, len(found.features))} {worst}{more}"


def _index(found: BadValues) -> str:
    if not found.axis or len(found.features) != 1:
        return ""
    return f"[:, {found.features[0][0]}]" if found.axis == "channel" else f"[..., {found.features[0][0]}]"


def _fixes(kind: str, index: str) -> tuple[str, ...]:
    name = "y" if kind == "target" else "x"
    return (
        f"Find what makes {name}{index} NaN where the data is read: missing values, 0 / 0, the log of 0, a constant "
        "feature divided by its standard deviation.",
        f"Drop or fill those samples before training, and assert torch.isfinite({name}).all() in the data set.",
    )
