from __future__ import annotations

import math
from collections.abc import Iterator

from gradcheck_kit.facts import Broadcast, Wiring
from gradcheck_kit.rule import Finding, Skip, rule


@rule("GK404", needs=(Wiring,), explains=("GK205", "GK601", "GK606"))
def loss_broadcast(wiring: Wiring) -> Iterator[Finding]:
    """The loss compares prediction and target of different shapes, which broadcasts one against all of the other.

    So it does with any column of shape (n, 1) that a layer or the data gave, and a row of shape (n,).
    """
    if not wiring.broadcasts and (wiring.prediction_shape is None or wiring.target_shape is None):
        raise Skip("prediction and target are not seen by the loss as two tensors")
    for found in wiring.broadcasts:
        outer = found.result_shape is not None and math.prod(found.result_shape) > max(
            math.prod(found.prediction_shape), math.prod(found.target_shape)
        )
        compares = found.operation.endswith("_loss") or "cross_entropy" in found.operation
        if not outer and not compares:
            continue  # one target for several predictions, as in quantile regression, is somebody's intent
        if not found.known:
            yield _column_and_row(found)
            return
        yield Finding(
            where="loss",
            message=f"{found.operation} compares a prediction of shape {_text(found.prediction_shape)} with a target "
            f"of shape {_text(found.target_shape)}"
            + (f", which makes {_text(found.result_shape)}: every prediction against every target." if outer else "."),
            evidence={
                "prediction_shape": list(found.prediction_shape),
                "target_shape": list(found.target_shape),
                "result_shape": list(found.result_shape or ()),
            },
            fixes=(_fix(found),),
            severity=None if outer else "warning",
        )
        return


def _column_and_row(found: Broadcast) -> Finding:
    column, row, result = map(_text, (found.prediction_shape, found.target_shape, found.result_shape))
    return Finding(
        where="loss",
        message=f"{found.operation} combines a column of shape {column} with a row of shape {row}, which makes "
        f"{result}: every sample with every other.",
        evidence={
            "column_shape": list(found.prediction_shape),
            "row_shape": list(found.target_shape),
            "result_shape": list(found.result_shape or ()),
        },
        fixes=("Squeeze the column where it comes from, value.squeeze(-1), or write row.unsqueeze(-1).",),
    )


def _text(shape: tuple[int, ...] | None) -> str:
    return str(shape or ()).replace(" ", "")


def _fix(found: Broadcast) -> str:
    prediction, target = found.prediction_shape, found.target_shape
    if prediction == (*target, 1):
        return "Squeeze the prediction, loss_fn(output.squeeze(-1), target), or use target.unsqueeze(-1)."
    if target == (*prediction, 1):
        return "Squeeze the target, loss_fn(output, target.squeeze(-1)), or use output.unsqueeze(-1)."
    return "Bring both to the same shape before the loss, for example target.view_as(output)."
