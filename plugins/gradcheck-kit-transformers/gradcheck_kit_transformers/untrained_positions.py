from __future__ import annotations

from collections.abc import Iterator

from gradcheck_kit import Finding, Skip, rule
from gradcheck_kit_transformers.facts import PositionTable, PositionUse


@rule("GKT105", needs=(PositionUse,))
def untrained_positions(use: PositionUse, *, share: float = 0.05) -> Iterator[Finding]:
    """Test data reaches positions that no training batch reaches: their embeddings are as they were initialised."""
    if not use.tables and use.limit is None:
        raise Skip("the model has no learned embedding of positions, and states no limit")
    beyond = list(_beyond(use))
    found = [table for table in use.tables if table.untrained and not table.pretrained]
    if not beyond and not found and any(table.untrained for table in use.tables):
        raise Skip("the embedding of positions was trained before: its rows are no independent draws")
    for table in found:
        often = not table.batches <= share * use.test_batches
        yield _untrained(table, use, "error" if often else "warning")
    yield from beyond


def _untrained(table: PositionTable, use: PositionUse, severity: str) -> Finding:
    first, last, count = table.untrained[0], table.untrained[-1], len(table.untrained)
    rows = f"row {first}" if count == 1 else f"{count} rows ({first} to {last})"
    return Finding(
        where=table.name,
        message=f"The test loss depends on {rows} of {table.name}, which the loss of no training batch does: nothing "
        f"trains them, and they stay as they were drawn. Training reaches {table.trained} of its {table.rows} rows, "
        f"test data {table.tested}; {table.batches} of {use.test_batches} test batches are touched. Healthy is none.",
        evidence={
            "untrained": count,
            "first": first,
            "trained": table.trained,
            "tested": table.tested,
            "batches": table.batches,
        },
        fixes=(
            f"Train on sequences as long as those of the test data, or cut these to {table.trained} positions.",
            "Or use positions that carry on beyond what was seen: rotary, ALiBi, or a relative bias.",
        ),
        severity="error" if severity == "error" else "warning",
    )


def _beyond(use: PositionUse) -> Iterator[Finding]:
    if use.limit is not None and use.longest is not None and not use.longest <= use.limit:
        yield Finding(
            where=use.limit_name,
            message=f"The {use.longest_in} data has sequences of {use.longest} tokens; "
            f"config.{use.limit_name} is {use.limit}.",
            evidence={"longest": use.longest, "limit": use.limit},
            fixes=(
                f"Cut sequences to {use.limit} tokens, or set config.{use.limit_name} to {use.longest} or more, for a "
                "pretrained model with the rope scaling that its makers recommend.",
            ),
            severity="warning",
        )
