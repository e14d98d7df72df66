from __future__ import annotations

from collections.abc import Iterator

from gradcheck_kit import Finding, rule
from gradcheck_kit_transformers.facts import PaddingUse

ROUNDING = {"float64": 0.0, "float32": 1e-3}


def limit_of(padding: PaddingUse, change: float) -> float:
    """Below it a change is rounding, in the precision that the model was run in."""
    return max(change, ROUNDING.get(padding.precision, 0.0))


@rule("GKT101", needs=(PaddingUse,), explains=("GKT102", "GKT103"))
def padding_leakage(padding: PaddingUse, *, change: float = 1e-6) -> Iterator[Finding]:
    """The outputs of words depend on what the padding beside them holds: a mask is missing, inverted or lost."""
    limit = limit_of(padding, change)
    if padding.moved <= limit:
        return
    what = f"{padding.output} at what is no padding" if padding.per_position else padding.output
    first = f" It is first seen in {padding.module} ({padding.module_type})." if padding.module else ""
    yield Finding(
        where=padding.module or padding.mask or padding.content,
        message=f"Changing what the padding of {padding.content} holds moves {what}, in {padding.moved_rows} of "
        f"{padding.rows} rows and by up to {padding.moved:.2g} times its size ({padding.precision}, evaluation mode); "
        f"healthy is 0 (limit {limit:g}). {_told(padding)}{first}",
        evidence={
            "change": padding.moved,
            "limit": limit,
            "rows": padding.moved_rows,
            "output": padding.output,
            "padding": padding.source,
            "mask": padding.mask,
            "mask_inverted": padding.mask_inverted,
        },
        fixes=_fixes(padding),
    )


def _told(padding: PaddingUse) -> str:
    """What is known of the padding and its mask, as a sentence."""
    rows = f"{padding.padded_rows} rows of length {padding.length} are padded on the {padding.side}".replace(
        "on the both", "on both sides"
    )
    if padding.mask_inverted:
        return f"{padding.mask} is upside down: it keeps the padding and hides everything else ({rows})."
    if not padding.mask:
        return f"No mask hides it ({rows}, told by {padding.source})."
    if padding.source != padding.mask:
        return f"{padding.mask} does not hide it ({rows}, told by {padding.source})."
    return f"{padding.mask} says where it is ({rows})."


def _fixes(padding: PaddingUse) -> tuple[str, ...]:
    mask, content = padding.mask, padding.content
    torchs = "key_padding_mask" in mask or "pad_mask" in mask or "padding_mask" in mask
    if padding.mask_inverted:
        if torchs:
            return (f"Invert {mask}: torch ignores what is True, so give it ({content} == padding token).",)
        return (f"Invert {mask}: 1 is for words and 0 for padding: ({content} != padding token).long().",)
    if not mask and padding.takes_mask:
        return (
            f"Pass {padding.takes_mask} to the model beside {content}, 1 at words and 0 at padding; tokenizers and "
            "their collators return it.",
        )
    if mask and padding.source != mask:
        return (f"Let {mask} hide the padding: make it from the lengths or from ({content} != padding token).",)
    if mask and not padding.per_position and not padding.module:
        return (
            f"Pool over words only where the forward makes {padding.output} of all positions: "
            "(h * mask[..., None]).sum(1) / mask.sum(1, keepdim=True), with a mask that is 1 at words.",
        )
    place = padding.module or "the model's forward"
    return (
        f"Hide the padding in {place}: key_padding_mask=({content} == padding token) for nn.MultiheadAttention and "
        "its kin, a boolean attn_mask of shape (batch, 1, 1, length) for F.scaled_dot_product_attention, "
        "scores.masked_fill(..., float('-inf')) before a softmax of your own.",
    )
