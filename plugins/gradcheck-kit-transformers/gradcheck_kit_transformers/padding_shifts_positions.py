from __future__ import annotations

from collections.abc import Iterator

from gradcheck_kit import Finding, Skip, rule
from gradcheck_kit_transformers.facts import PaddingUse
from gradcheck_kit_transformers.padding_leakage import limit_of


@rule("GKT102", needs=(PaddingUse,), severity="warning")
def padding_shifts_positions(padding: PaddingUse, *, change: float = 1e-4) -> Iterator[Finding]:
    """A row gives other outputs with its padding than without: how much it is padded moves its positions."""
    if padding.shifted is None:
        raise Skip("no row could be given to the model without its padding")
    if padding.moved > limit_of(padding, 1e-6):
        raise Skip("what the padding holds changes the output already (see padding-leakage)")
    limit = limit_of(padding, change)
    if padding.shifted <= limit:
        return
    where = {"both": "on both sides"}.get(padding.side, f"on the {padding.side}")
    yield Finding(
        where=padding.content,
        message=f"A row of {padding.content}, padded {where} to {padding.length}, gives other {padding.output} "
        f"when it is given alone and without its padding: the same words differ by up to {padding.shifted:.2g} times "
        f"its size ({padding.precision}, evaluation mode); healthy is 0 (limit {limit:g}). What the padding holds does "
        "not matter, how much there is does: a sentence is read differently beside a longer one.",
        evidence={"change": padding.shifted, "limit": limit, "side": padding.side, "output": padding.output},
        fixes=_fixes(padding),
    )


def _fixes(padding: PaddingUse) -> tuple[str, ...]:
    if padding.side == "right":
        return (
            "Count words instead of positions in the forward: divide by mask.sum(1), not by "
            f"{padding.content}.size(1), and number positions from the first word.",
        )
    mask = padding.mask if padding.mask.endswith("attention_mask") else "attention_mask"
    return (
        f"Number positions from the first word: pass position_ids=({mask}.cumsum(1) - 1).clamp(min=0) beside "
        f"{padding.content}; generate() does so by itself, a call of the model does not.",
        "Or pad on the right for training and evaluation: tokenizer.padding_side = 'right'.",
    )
