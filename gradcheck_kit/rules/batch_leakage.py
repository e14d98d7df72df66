from __future__ import annotations

import re
from collections.abc import Iterator

from gradcheck_kit.facts import BatchMixing, MixingOperation
from gradcheck_kit.rule import Finding, Skip, rule

SEQUENTIAL = re.compile(r"lstm|gru|rnn|multi_head_attention|transformer", re.IGNORECASE)
REDUCTIONS = ("softmax", "log_softmax", "softmin", "mean", "sum", "std", "var", "max", "amax", "min", "amin", "median",
              "norm", "vector_norm", "normalize", "logsumexp", "cumsum", "sort")  # fmt: skip
STATISTICS = ("mean", "std", "var")


@rule("GK405", needs=(BatchMixing,), explains=("GK107", "GK205", "GK407", "GK507", "GK601", "GK606"))
def batch_leakage(mixing: BatchMixing, *, influence: float = 1e-3) -> Iterator[Finding]:
    """In evaluation mode a sample's output depends on the other samples of its batch.

    An error where the samples of a batch are drawn at random; a warning where they come in order and may be meant as
    one sequence, and where a BatchNorm was told to keep no running statistics.
    """
    operation = mixing.operation
    if mixing.influence is None and operation is None:
        raise Skip("a small change of a sample does not even change its own output")
    if mixing.influence is not None and mixing.influence <= influence:
        return
    if operation and re.search(r"mini_?batch", operation.module_type, re.IGNORECASE):
        raise Skip(f"{operation.module_type} compares the samples of a batch, as its name says")
    meant = bool(mixing.batch_statistics) or not mixing.shuffled
    fixes = [*_fixes(mixing)]
    if not mixing.shuffled:
        fixes.append("Leave this rule out (--ignore GK405) if the rows of a batch are one sequence on purpose.")
    yield Finding(
        where=(operation.module if operation else "") or "forward",
        message=f"In eval mode a change of other samples of the batch changes {_what(mixing)}; healthy is 0 (limit "
        f"{influence:g})." + (f" They first mix in {_place(operation)}." if operation else ""),
        evidence={
            "influence": mixing.influence,
            "limit": influence,
            "samples": mixing.samples,
            "operation": operation.operation if operation else "",
        },
        fixes=tuple(fixes),
        severity="warning" if meant else None,
    )


def _what(mixing: BatchMixing) -> str:
    if mixing.influence is None:
        return "what the model computes for a sample on the way, though not even its own change moves its output"
    times = "as much" if f"{mixing.influence:.2g}" == "1" else f"{mixing.influence:.2g} times as much"
    return f"a sample's output {times} as the same change of its own input"


def _place(operation: MixingOperation) -> str:
    inside = f"{operation.module} ({operation.module_type})" if operation.module else "the model's forward"
    return f"{_name(operation)} of {inside}" + (f", {operation.source}" if operation.source else "")


def _name(operation: MixingOperation) -> str:
    return operation.reduced_by or operation.operation


def _fixes(mixing: BatchMixing) -> Iterator[str]:
    operation = mixing.operation
    if operation is None:
        yield "Look in forward for a reshape, sort or index that moves rows along dimension 0."
        return
    place = operation.module or "the model's forward"
    if mixing.batch_statistics:
        yield f"Let {place} keep running statistics for evaluation: track_running_stats=True."
    elif "batch_norm" in operation.operation:
        yield f"Pass training=self.training to batch_norm in {place}, with running_mean and running_var."
    elif SEQUENTIAL.search(operation.operation):
        layer = place.removesuffix(".self_attn")
        yield (
            f"Make {layer} with batch_first=True: its input is (batch, time, features), and it takes dimension 0 for "
            "time. Or transpose the input to (time, batch, features)."
        )
    elif operation.reduced_by or operation.operation in REDUCTIONS:
        yield (
            f"Take {_name(operation)} in {place} over the features of each sample, dim=-1, and not over dimension 0, "
            "which is the batch."
        )
        if _name(operation) in STATISTICS:
            yield "Or use nn.BatchNorm1d, whose running statistics stand for the batch in eval mode."
    elif operation.operation in ("view", "reshape", "unflatten"):
        yield (
            f"Use transpose or permute and not {operation.operation} in {place} where dimensions swap, and "
            "x.flatten(1) where they merge: it moves elements of one sample into another's row."
        )
    else:
        yield (
            f"Keep dimension 0 for the batch up to {operation.operation} in {place}: reshape with "
            "x.flatten(1) or x.view(x.size(0), -1), swap dimensions with transpose or permute and not with view, and "
            "let attention run over another dimension."
        )
