from __future__ import annotations

from collections.abc import Iterator

from gradcheck_kit import Finding, Skip, rule
from gradcheck_kit.facts import Training
from gradcheck_kit.rule import Bar, listed
from gradcheck_kit_transformers.facts import AttentionSite, AttentionUse


@rule("GKT107", needs=(AttentionUse, Training), explains=("GK205",), explained_by=("GK203",))
def attention_entropy_collapse(
    attention: AttentionUse, training: Training, *, entropy: float = 0.05, share: float = 0.5
) -> Iterator[Finding]:
    """Heads come to look at one key each while the loss does not fall: attention entropy has collapsed."""
    sites = [site for site in attention.sites if not site.keys < 2]
    if not sites:
        raise Skip("the model has no attention in which a query may choose between keys")
    if not training.harm:
        return  # heads that look at one key are what some tasks are solved by
    found = [(site, heads) for site in sites if (heads := _collapsed(site, entropy, share))]
    if not found:
        return
    site, heads = max(found, key=lambda pair: len(pair[1]) / len(pair[0].entropy))
    before = sum(site.entropy_before) / len(site.entropy_before)
    places = listed(other.place for other, _ in found)
    yield Finding(
        where=site.place,
        message=f"In {site.place} ({site.module_type}) {len(heads)} of {len(site.entropy)} heads look at one key: "
        f"their mean attention entropy is {max(site.entropy[h] for h in heads):.2g} nats after training, "
        f"{before:.2g} before; healthy is at least {entropy:g}. {training.harm[0].upper()}{training.harm[1:]}."
        + (f" It is so in {places}." if len(found) > 1 else ""),
        evidence={
            "entropy": max(site.entropy[h] for h in heads),
            "limit": entropy,
            "before": before,
            "heads": list(heads),
            "sites": len(found),
        },
        fixes=(
            f"Lower the learning rate ({', '.join(f'{r:g}' for r in training.learning_rates)}) or warm it up over the "
            "first steps.",
            f"Keep the logits small in {places}: qk-norm, nn.LayerNorm(head_dim) on queries and keys, or spectral "
            "reparametrisation of their projections.",
            "Put a LayerNorm before each attention (pre-norm), and check that the product of queries and keys is "
            "divided by sqrt(head_dim).",
        ),
        profile=tuple(Bar(s.place, s.module_type, sum(s.entropy) / len(s.entropy)) for s in sites if s.entropy),
    )


def _collapsed(site: AttentionSite, entropy: float, share: float) -> tuple[int, ...]:
    """The heads that fell to nearly no entropy from at least ten times as much, if they are most of the site's."""
    pairs = list(zip(site.entropy_before, site.entropy, strict=True))
    heads = [h for h, (before, after) in enumerate(pairs) if not (after >= entropy or before < 10 * entropy)]
    return tuple(heads) if heads and len(heads) >= share * len(pairs) else ()
