from __future__ import annotations

import math
from collections.abc import Iterator

from gradcheck_kit.facts import LossInput, LossInputs
from gradcheck_kit.rule import Finding, Skip, rule

SOFTMAX_INSIDE = ("cross_entropy", "log_softmax", "softmax")
SIGMOID_INSIDE = ("binary_cross_entropy_with_logits", "sigmoid", "logsigmoid")


@rule("GK402", needs=(LossInputs,), explains=("GK204", "GK205", "GK601", "GK606"))
def redundant_softmax(loss_inputs: LossInputs) -> Iterator[Finding]:
    """The model's output is already normalised, by softmax or sigmoid, and the loss normalises it again.

    Log-probabilities are left alone: a log_softmax of them changes nothing.
    """
    wanting_logits = [one for one in loss_inputs.inputs if one.operation in SOFTMAX_INSIDE + SIGMOID_INSIDE]
    if not wanting_logits:
        raise Skip("no operation of the loss was seen that applies a softmax or sigmoid to the output")
    for one in wanting_logits:
        if one.operation in SOFTMAX_INSIDE and one.normalized and (one.classes or 0) > 1:
            yield _softmax_twice(one, loss_inputs.passes)
            return
        if one.operation in SIGMOID_INSIDE and one.activation in ("sigmoid", "hardsigmoid", "softmax"):
            yield _sigmoid_twice(one)
            return


def _softmax_twice(one: LossInput, passes: int) -> Finding:
    classes = one.classes or 0
    # Of a one-hot output, the best there is: -log(e / (e + C - 1)).
    floor, chance = math.log(math.e + classes - 1) - 1, math.log(classes)
    made = f" ({_named(one)})" if one.activation == "softmax" else ""
    return Finding(
        where=_place(one),
        message=f"What {_call(one)} is given sums to 1 over the {classes} classes already{made}, in all {passes} "
        f"passes with other batches and weights. It applies a softmax of its own, so no output "
        f"brings a cross-entropy below {floor:.3g} (a guess has {chance:.3g}).",
        evidence={"classes": classes, "floor": floor, "chance": chance, "passes": passes, "activation": one.activation},
        fixes=(
            _remove(one),
            "Apply softmax where probabilities are read: output.softmax(dim) at evaluation.",
        ),
    )


def _sigmoid_twice(one: LossInput) -> Finding:
    return Finding(
        where=_place(one),
        message=f"What {_call(one)} is given comes out of {one.activation}, so it is between 0 and 1, and it applies a "
        f"sigmoid of its own: every probability ends between 0.5 and 0.731, and a sample of class 0 never costs less "
        f"than {math.log(2):.3g}.",
        evidence={"activation": one.activation, "minimum": one.minimum, "maximum": one.maximum, "limit": math.log(2)},
        fixes=(
            _remove(one),
            "Or keep it and use the loss that takes probabilities: nn.BCELoss.",
        ),
    )


def _place(one: LossInput) -> str:
    return one.activation_at or "model output"


def _call(one: LossInput) -> str:
    return one.operation + (f" ({one.source})" if one.source else "")


def _remove(one: LossInput) -> str:
    if not one.activation:
        return f"Return logits: leave out what normalises the model's output before {one.operation}."
    return f"Remove {_named(one)} from the model, so that it returns logits."


def _named(one: LossInput) -> str:
    return one.activation_at if one.activation in one.activation_at else f"{one.activation} in {one.activation_at}"
