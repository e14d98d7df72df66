from __future__ import annotations

from collections.abc import Iterator

from gradcheck_kit import Finding, Skip, rule
from gradcheck_kit_transformers.facts import PaddingUse
from gradcheck_kit_transformers.padding_leakage import limit_of


@rule("GKT103", needs=(PaddingUse,), severity="warning")
def loss_on_padding(padding: PaddingUse, *, change: float = 1e-6) -> Iterator[Finding]:
    """The loss counts the outputs at padding: the model is trained to predict padding from padding."""
    if padding.loss_moved is None:
        raise Skip("no target lies beside the padding, or it is on the left, where it predicts the first word")
    limit = limit_of(padding, change)
    if padding.moved > limit:
        raise Skip("the outputs of words depend on the padding already (see padding-leakage)")
    if padding.loss_moved <= limit:
        return
    mask = f"{padding.mask} == 0" if padding.mask.endswith("attention_mask") else f"{padding.content} == padding token"
    yield Finding(
        where="loss",
        message=f"Changing what the padding of {padding.content} holds moves the loss by {padding.loss_moved:.2g} of "
        f"itself, although no output at what is no padding moves ({padding.precision}, evaluation mode); healthy is 0 "
        f"(limit {limit:g}). {padding.padded_rows} of {padding.rows} rows are padded, and their padding is among the "
        "targets.",
        evidence={"change": padding.loss_moved, "limit": limit, "padding": padding.source},
        fixes=(
            f"Leave padding out of the loss: labels.masked_fill({mask}, -100), which cross entropy ignores, or average "
            "a loss with reduction='none' over words only.",
        ),
    )
