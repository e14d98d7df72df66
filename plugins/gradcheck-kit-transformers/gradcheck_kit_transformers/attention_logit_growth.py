from __future__ import annotations

from collections.abc import Iterator

from gradcheck_kit import Finding, Skip, rule
from gradcheck_kit.facts import Training
from gradcheck_kit.rule import Bar, listed
from gradcheck_kit_transformers.facts import AttentionSite, AttentionUse


@rule("GKT106", needs=(AttentionUse, Training), explains=("GKT107", "GK205"), explained_by=("GK203",))
def attention_logit_growth(
    attention: AttentionUse, training: Training, *, logit: float = 50.0, growth: float = 2.0
) -> Iterator[Finding]:
    """Attention logits grow beyond what a softmax can resolve: attention becomes one-hot and stops learning."""
    if not attention.sites:
        raise Skip("the model has no attention")
    grown = [site for site in attention.sites if _worst(site, logit, growth) is not None]
    if not grown:
        return
    harm = training.harm
    worst = max(grown, key=lambda site: _order(max(site.logit, key=_order)))
    top, before = max(worst.logit, key=_order), max(worst.logit_before, key=_order)
    yield Finding(
        where=worst.place,
        message=f"The largest attention logit of {worst.place} ({worst.module_type}) is {top:.3g} after "
        f"{training.loss_steps} steps, {before:.3g} before; healthy is at most {logit:g}, or less than {growth:g} "
        "times the start. A softmax over such logits puts everything on one key"
        + (f", and {harm}." if harm else "; the loss falls all the same.")
        + (f" It is so in {listed(site.place for site in grown)}." if len(grown) > 1 else ""),
        evidence={"logit": top, "limit": logit, "before": before, "sites": len(grown)},
        fixes=(
            f"Normalise queries and keys before their product in {listed(site.place for site in grown)}: "
            "nn.LayerNorm(head_dim) or nn.RMSNorm(head_dim) on each (qk-norm).",
            f"Or lower the learning rate ({', '.join(f'{r:g}' for r in training.learning_rates)}) or warm it up; "
            "check that the product is divided by sqrt(head_dim).",
        ),
        severity="error" if harm else "warning",
        profile=tuple(Bar(s.place, s.module_type, max(s.logit, key=_order)) for s in attention.sites if s.logit),
    )


def _order(value: float) -> float:
    return value if value == value else float("inf")  # noqa: PLR0124  # NaN is the worst


def _worst(site: AttentionSite, logit: float, growth: float) -> float | None:
    """The largest logit of a head that is both large and larger than it was; None where no head is."""
    pairs = zip(site.logit, site.logit_before, strict=True)
    found = [after for after, before in pairs if not (after <= logit or after < growth * before)]
    return max(found, key=_order, default=None)
