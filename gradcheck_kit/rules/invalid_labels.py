from __future__ import annotations

import math
from collections.abc import Iterator

from gradcheck_kit.facts import LossCall, LossCalls, Training, Transcripts
from gradcheck_kit.rule import Finding, Skip, rule

SLACK = 1e-2  # of a sum of probabilities: half precision has three digits


@rule(
    "GK508",
    needs=(LossCalls,),
    uses=(Training,),
    explains=(
        "GK103",
        "GK106",
        "GK203",
        "GK205",
        "GK403",
        "GK601",
        "GK606",
    ),
)
def invalid_labels(loss_calls: LossCalls, training: Training | None) -> Iterator[Finding]:
    """A loss is given labels that it refuses, or that it takes and that mean something else.

    Class indices that no output stands for, the wrong type or shape; values outside 0 to 1, no probabilities, one
    class. Labels that are refused end the probe, and nothing else is judged.
    """
    if loss_calls.refused:
        message = f"The {loss_calls.refused.removeprefix('the ')}."
        yield Finding("labels", message, {"taken": False}, (loss_calls.remedy,))
        return
    if training is not None and training.synthetic:
        raise Skip("the data is made up")
    judged = [call for call in loss_calls.calls if call.reduction != "none" and not call.weighted]
    if not judged:
        raise Skip("the losses are weighted or not averaged by torch: what their labels mean is not known")
    for call in judged:
        if _not_known(call):
            raise Skip("the labels hold NaN (see non-finite-input)")
        if call.transcripts is not None:
            found = _symbols(call, call.transcripts)
        else:
            found = _binary(call) if "binary" in call.function else _classes(call)
        if found is not None:
            yield found
            return


def _not_known(call: LossCall) -> bool:
    bounds = (call.target_minimum, call.target_maximum)
    return any(bound is not None and math.isnan(bound) for bound in bounds)


def _evidence(call: LossCall, **more: object) -> dict[str, object]:
    return {
        "function": call.function,
        "input_shape": list(call.input_shape),
        "target_shape": list(call.target_shape),
        **more,
    }


def _binary(call: LossCall) -> Finding | None:
    low, high = call.target_minimum, call.target_maximum
    if low is None or high is None or (low >= -1e-3 and high <= 1 + 1e-3):
        return None
    mend = "(y + 1) / 2" if (low, high) == (-1, 1) else "y - 1" if (low, high) == (1, 2) else ""
    mend = "y / 255" if low >= 0 and high == 255 else mend
    return Finding(
        where="labels",
        message=f"{call.function} is given labels from {low:g} to {high:g}; it wants 0 to 1, and has no lowest value "
        "outside of that: the loss sinks for ever and the model learns to be confident, not right.",
        evidence=_evidence(call, minimum=low, maximum=high, limit=[0, 1]),
        fixes=(
            f"Give it {mend}, which is 0 to 1." if mend else "Make the labels 0 and 1, for example (y > 0).float().",
            "Use CrossEntropyLoss with one output per class if these are indices of more than two classes.",
        ),
    )


def _classes(call: LossCall) -> Finding | None:
    if call.function != "cross_entropy":
        return None
    sums = call.target_sum
    low, high = sums if sums is not None else (1.0, 1.0)
    adds_up = high <= 1 + SLACK
    if (
        len(call.input_shape) == 1
        and sums is not None
        and call.input_shape[0] > 1
        and not (adds_up and low > 1 - SLACK)
    ):
        n = call.input_shape[0]
        return Finding(
            where="labels",
            message=f"cross_entropy is given scores of shape ({n},) and labels of shape ({n},): it takes them for 1 "
            f"sample with {n} classes, and not for {n} samples.",
            evidence=_evidence(call, limit=2),
            fixes=("Use BCEWithLogitsLoss for one score per sample, or give the last layer one output per class.",),
        )
    if len(call.input_shape) > 1 and call.input_shape[1] == 1:
        return Finding(
            where="labels",
            message=f"cross_entropy is given scores of shape {_text(call.input_shape)}, which is 1 class: the softmax "
            "is always 1, the loss does not depend on the model, and no gradient arrives.",
            evidence=_evidence(call, classes=1, limit=2),
            fixes=("Use BCEWithLogitsLoss for one score per sample, or give the last layer 2 outputs.",),
            severity=None if call.is_the_loss else "warning",
        )
    if sums is None or call.target_minimum is None:
        return None
    if call.target_minimum < 0 or not adds_up:
        return Finding(
            where="labels",
            message=f"cross_entropy is given class probabilities that are as low as {call.target_minimum:g} and add up "
            f"to {high:g} in a sample; they must be 0 or more and add up to 1.",
            evidence=_evidence(call, minimum=call.target_minimum, sum=high, limit=1.0),
            fixes=(
                "Use BCEWithLogitsLoss if a sample may have several classes, or divide the labels by their sum.",
                "Give class indices as integers of shape (N,) if a sample has one class.",
            ),
            severity=None if call.target_minimum < 0 else "warning",
        )
    return None


def _symbols(call: LossCall, found: Transcripts) -> Finding | None:
    """A CTC loss checks next to nothing of its targets."""
    outputs = call.input_shape[-1]
    if found.outside:
        what = f"{found.outside} of {found.symbols} symbols for which its {outputs} outputs have none"
        fix = "Give the last layer an output for each symbol and one for the blank, and number them from 0."
    elif found.blanks:
        what = (
            f"the blank itself for {found.blanks} of {found.symbols} symbols: a blank stands for no symbol, so that no "
            "output can be read as one"
        )
        fix = (
            "Number the symbols from 1 where blank=0 (y + 1, and one output more), or set blank to an index of its own."
        )
    elif found.too_long:
        what = (
            f"{found.too_long} of {found.samples} targets that need more steps than the output has, one for each "
            "symbol and one between two that are equal: their loss is infinite, or with zero_infinity nothing"
        )
        fix = "Let the model shorten time less (fewer strides or pools), or leave these samples out."
    else:
        return None
    return Finding(
        where="labels",
        message=f"ctc_loss is given {what}.",
        evidence=_evidence(call, outside=found.outside, blanks=found.blanks, too_long=found.too_long, limit=0),
        fixes=(fix,),
        severity="warning" if not found.outside and not found.blanks and 2 * found.too_long < found.samples else None,
    )


def _text(shape: tuple[int, ...]) -> str:
    return str(shape).replace(" ", "")
