from __future__ import annotations

from collections.abc import Iterator
from statistics import fmean

from gradcheck_kit.facts import IgnoredArgument, InputUse, MixingOperation, Training
from gradcheck_kit.rule import Finding, Skip, listed, rule

NORMS = ("layer_norm", "group_norm", "instance_norm")


@rule("GK407", needs=(InputUse,), uses=(Training,), explains=("GK103", "GK104", "GK205", "GK507", "GK601", "GK606"))
def input_ignored(use: InputUse, training: Training | None) -> Iterator[Finding]:
    """The output is the same to the last bit whatever the input is, or what was learned makes nothing of it.

    Or one argument of several is read and changes nothing: a warning.

    An error where the samples have targets that differ; without such targets a warning, and only with harm: a model
    may be a constant on purpose.
    """
    if use.worthless:
        if training is not None and training.untrained_weights:
            raise Skip(f"no gradient reaches {listed(training.untrained_weights)} (see no-gradient)")
        yield _worthless(use)
        return
    if use.arguments:
        yield _of_argument(use.arguments)
        return
    if not use.ignored:
        return
    if training is not None and use.operation is not None and use.operation.module in training.frozen_zeros:
        raise Skip(f"{use.operation.module} is frozen, with weights that are all zero (see no-gradient)")
    harm = training.harm if training is not None else ""
    if use.targets_differ is False:
        raise Skip("all targets of a batch are the same, which a constant output can learn")
    if use.targets_differ is None and not harm:
        raise Skip("the data has no targets, so the output may be a constant on purpose")
    shapes = " and ".join(f"({', '.join(map(str, shape))})" for shape in use.inputs[:3])
    at = use.operation
    exact = "apart from rounding" if at is not None and at.operation in NORMS else "to the last bit"
    yield Finding(
        where=(at.module if at is not None else use.unused) or "forward",
        message=f"With {use.changes} other inputs in the place of a batch of shape {shapes} the output stays the same "
        f"{exact}, in eval mode and in training mode: {_how(use)}" + (f". So {harm}." if harm else "."),
        evidence={"changes": use.changes, "operation": at.operation if at else "", "last": use.unused},
        fixes=_fixes(use),
        severity=None if use.targets_differ else "warning",
    )


def _of_argument(ignored: tuple[IgnoredArgument, ...]) -> Finding:
    first = ignored[0]
    reads = f"reads its argument {first.name} of shape {first.shape} ({first.source})"
    if first.twin:
        reads = f"takes {first.name}, of the shape and type of {first.twin} {first.shape}, and reads only {first.twin}"
    others = f" The same holds of {listed(one.name for one in ignored[1:])}." if ignored[1:] else ""
    return Finding(
        where=first.name,
        message=f"forward {reads}: with {first.changes} other values in its place the output stays the same to the "
        f"last bit, in eval mode and in training mode.{others}",
        evidence={"argument": first.name, "changes": first.changes, "source": first.source},
        fixes=(
            f"Look where {first.twin} is read twice in forward, and read {first.name} there; or take {first.name} out."
            if first.twin
            else f"Follow {first.name} from {first.source}: an integer division (t // n is 0 below n), a product with "
            "0, or a result that nothing uses takes its values away.",
        ),
        severity="warning",
        places=tuple(one.name for one in ignored),
    )


def _worthless(use: InputUse) -> Finding:
    own, others = fmean(use.own_losses), fmean(use.others_losses)
    return Finding(
        where="forward",
        message=f"After training the loss is {own:.4g}, and {others:.4g} with the input of another sample in the place "
        "of each sample's own: all that was learned is one answer for every input.",
        evidence={"own": own, "others": others, "limit": 1e-3},
        fixes=(
            "Look at the terms of the loss: one that wants all outputs alike, such as a KL divergence, outweighs the "
            "one that compares them with their samples. Take both as sums over a sample, F.mse_loss(reconstruction, x, "
            'reduction="sum") / len(x), or give that term a weight that grows from 0.',
        ),
        severity="warning",
    )


def _how(use: InputUse) -> str:
    if use.operation is not None:
        return f"the last thing that is made of the input ends at {_place(use.operation)}, whose result is constant"
    if use.unused:
        return f"what {use.unused} ({use.unused_type}) returns depends on it, and goes nowhere"
    return "no layer is given anything that depends on it"


def _place(at: MixingOperation) -> str:
    inside = f"{at.module} ({at.module_type})" if at.module else "the model's forward"
    return f"{at.operation} in {inside}" + (f", {at.source}" if at.source else "")


def _fixes(use: InputUse) -> tuple[str, ...]:
    at = use.operation
    if at is None and use.unused:
        return (f"Use the output of {use.unused} in what forward returns: something else is taken in its place.",)
    if at is None:
        return ("Look in forward for the argument that is overwritten or never used: give it to the first layer.",)
    place = at.module or "forward"
    if "softmax" in at.operation:
        return (
            f"Remove the {at.operation} in {place}, and use BCEWithLogitsLoss: over a dimension of size 1 it is always "
            f"{'0' if at.operation.startswith('log') else '1'}.",
        )
    if at.operation in NORMS:
        return (
            f"Give {place} more than one number to normalise over: minus its own mean a single number is 0. Use "
            "BatchNorm1d, fewer groups, or no norm there.",
        )
    return (f"Look at {_place(at)}: multiply by no zero there, and take no mean or slice that leaves a constant.",)
