from __future__ import annotations

import math
from collections.abc import Iterator

from gradcheck_kit.facts import LossInput, LossInputs, Training
from gradcheck_kit.rule import Finding, Skip, rule

LARGEST_GAP = {"sigmoid": 1.0, "hardsigmoid": 1.0, "tanh": 2.0, "cosine": 2.0}  # between two outputs
RANGE = {
    "sigmoid": "between 0 and 1", "hardsigmoid": "between 0 and 1", "softmax": "between 0 and 1",
    "tanh": "between -1 and 1", "relu": "never negative", "softplus": "never negative",
    "log_softmax": "never positive", "cosine": "between -1 and 1",
}  # fmt: skip


@rule(
    "GK403", needs=(LossInputs,), uses=(Training,),
    explains=("GK103", "GK106", "GK204", "GK205", "GK407", "GK601", "GK606"),
)  # fmt: skip
def wrong_output_activation(
    loss_inputs: LossInputs, training: Training | None, *, unreachable: float = 0.1
) -> Iterator[Finding]:
    """The last activation does not fit the loss: its range excludes what the loss wants or what the targets are.

    Bounded outputs as logits, probabilities in the place of log-probabilities, targets of which more than `unreachable`
    of the variance lies outside of the activation's range, targets that make the loss negative.
    """
    if not loss_inputs.inputs:
        raise Skip("no operation of the loss was seen that judges an output")
    harm = training.harm if training is not None else ""
    for one in loss_inputs.inputs:
        finding = (
            _constant(one) or _one_of_several(one) or _no_log_probabilities(one) or _targets_of_no_probability(one)
            or _no_logits(one, harm) or _out_of_reach(one, unreachable)
        )  # fmt: skip
        if finding is not None:
            yield finding
            return


def _constant(one: LossInput) -> Finding | None:
    if one.activation not in ("softmax", "log_softmax") or one.classes != 1:
        return None
    value = 1 if one.activation == "softmax" else 0
    return _finding(
        one,
        f"{_named(one)} normalises over a dimension of size 1, so the output is {value} for every input.",
        {"classes": 1, "output": value},
        f"Replace {_named(one)} by a sigmoid, or return two outputs per sample; for logits, remove it.",
    )


def _one_of_several(one: LossInput) -> Finding | None:
    """A softmax makes outputs compete: they add up to one, and targets of several classes at once do not."""
    if one.operation != "binary_cross_entropy" or one.activation != "softmax" or not one.normalized:
        return None
    if one.weighted or one.target_sum is None or one.target_sum <= 1 + 1e-3:
        return None
    return _finding(
        one,
        f"After {_named(one)} the {one.classes} outputs of a sample add up to 1, and {_call(one)} is given targets "
        f"that add up to {one.target_sum:g}: where several classes are true at once, no output can say so.",
        {"target_sum": one.target_sum, "limit": 1.0, "classes": one.classes},
        f"Remove {_named(one)} and use nn.BCEWithLogitsLoss, which takes each class for itself; or put a sigmoid in "
        "its place.",
    )


def _no_log_probabilities(one: LossInput) -> Finding | None:
    """These average minus what they are given: of anything but log-probabilities that has no bound."""
    if one.operation not in ("nll_loss", "kl_div", "ctc_loss") or one.log_normalized:
        return None
    probabilities = one.normalized or one.activation in ("softmax", "sigmoid", "hardsigmoid")
    # Log-densities may be positive, and kl_div may be given some; classes have none.
    above = one.operation != "kl_div" and one.maximum is not None and not one.maximum <= 0.01
    if not probabilities and not above:
        return None
    given = "probabilities" if probabilities else "raw outputs"
    ctc = one.operation == "ctc_loss"
    end = f"Put nn.LogSoftmax(dim={-1 if ctc else 1}) at the model's end"
    made = f"Replace {_named(one)} by log_softmax" if one.activation else end
    return _finding(
        one,
        f"{_call(one)} wants log-probabilities, which are at most 0, and is given {given} (up to {one.maximum:.3g}): "
        "it takes no logarithm, so the loss goes below zero and measures no likelihood.",
        {"maximum": one.maximum, "limit": 0.0, "normalized": one.normalized},
        f"{made}." if ctc else f"{made}, or return logits and use nn.CrossEntropyLoss.",
    )


def _targets_of_no_probability(one: LossInput) -> Finding | None:
    """Binary cross-entropy is bounded only for targets that are probabilities."""
    low, high = one.target_minimum, one.target_maximum
    if not one.operation.startswith("binary_cross_entropy") or one.weighted or low is None or high is None:
        return None
    if low >= -1e-3 and high <= 1 + 1e-3:
        return None
    return _finding(
        one,
        f"{_call(one)} wants targets between 0 and 1 and is given {low:.3g} to {high:.3g}: beyond them the loss has no "
        "lowest value and goes below zero.",
        {"target_minimum": low, "target_maximum": high, "limit": 1.0},
        "Map the targets to 0 and 1 (for -1 and 1: (y + 1) / 2), or use nn.MSELoss without a sigmoid for real values.",
    )


def _no_logits(one: LossInput, harm: str) -> Finding | None:
    if one.operation == "binary_cross_entropy_with_logits" and one.activation in ("relu", "softplus", "tanh"):
        least, most = ("0.5", "1") if one.activation != "tanh" else ("0.269", "0.731")
        return _finding(
            one,
            f"{_call(one)} takes logits of any sign and is given the output of {_named(one)}, which is "
            f"{RANGE[one.activation]}: "
            f"every probability ends between {least} and {most}.",
            {"activation": one.activation, "minimum": one.minimum, "maximum": one.maximum},
            f"Remove {_named(one)} from the model, so that it returns logits.",
        )
    if one.operation != "cross_entropy" or (one.classes or 0) < 2:
        return None
    gap, classes = LARGEST_GAP.get(one.activation), one.classes or 0
    if gap is not None:
        floor, chance = math.log1p((classes - 1) * math.exp(-gap)), math.log(classes)
        cosines = one.activation == "cosine"
        given = f"cosines ({one.activation_at})" if cosines else f"the output of {_named(one)}"
        return _finding(
            one,
            f"{_call(one)} takes logits of any size and is given {given}, {'which are' if cosines else 'which is'} "
            f"{RANGE[one.activation]}: "
            f"with {classes} classes no output brings the loss below {floor:.3g} (a guess has {chance:.3g}).",
            {"activation": one.activation, "classes": classes, "floor": floor, "chance": chance},
            "Multiply the cosines by 10 to 30, or by a learned scale: logits = cosines * log_scale.exp()."
            if cosines
            else f"Remove {_named(one)} from the model, so that it returns logits.",
            warning=cosines and not harm,  # which is the largest they tell all the same
        )
    if one.activation == "relu":
        return _finding(
            one,
            f"{_call(one)} takes logits and is given the output of {_named(one)}: what is below 0 becomes 0 and "
            f"gets no gradient, so each of the {classes} classes stops learning once its output is 0 for all samples"
            + (f", and {harm}." if harm else "; the loss falls all the same."),
            {"activation": one.activation, "minimum": one.minimum, "classes": classes},
            f"Remove {_named(one)} from the model, so that it returns logits.",
            warning=not harm,
        )
    return None


def _out_of_reach(one: LossInput, limit: float) -> Finding | None:
    if one.unreachable is None or one.unreachable <= limit:
        return None
    return _finding(
        one,
        f"After {_named(one)} the output is {RANGE[one.activation]}, and the targets go from {one.target_minimum:.3g} "
        f"to {one.target_maximum:.3g}: {one.unreachable:.0%} of their variance is out of its reach; up to {limit:.0%} "
        "is healthy.",
        {"unreachable": one.unreachable, "limit": limit, "target_minimum": one.target_minimum,
         "target_maximum": one.target_maximum},
        f"Remove {_named(one)}, or scale the targets into its range ({RANGE[one.activation]}).",
    )  # fmt: skip


def _finding(one: LossInput, message: str, evidence: dict[str, object], fix: str, *, warning: bool = False) -> Finding:
    return Finding(
        where=one.activation_at or "model output",
        message=message,
        evidence=evidence,
        fixes=(fix,),
        severity="warning" if warning else None,
    )


def _named(one: LossInput) -> str:
    return one.activation_at if one.activation in one.activation_at else f"{one.activation} in {one.activation_at}"


def _call(one: LossInput) -> str:
    return one.operation + (f" ({one.source})" if one.source else "")
