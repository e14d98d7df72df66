"""Measures every attention before the training run and after it, over the same batches."""

from __future__ import annotations

import itertools
import math

from gradcheck_kit.experiments import NotApplicable, Probe
from gradcheck_kit_transformers.experiments.attention_watch import Seen, watching_attention
from gradcheck_kit_transformers.experiments.calls import evaluated, in_evaluation_mode
from gradcheck_kit_transformers.facts import AttentionSite, AttentionUse

BATCHES = 2


def look_at_attention(probe: Probe) -> AttentionUse:
    """Entropy and the largest logit of every head, in evaluation mode."""
    before = _measured(probe, trained=False)
    if not before:
        raise NotApplicable("the model has no attention")
    after = _measured(probe, trained=True)
    if not all(math.isfinite(value) for seen in after.values() for value in (*seen.entropy, *seen.logit)):
        raise NotApplicable("the attention of the trained model is not finite (see non-finite)")
    return AttentionUse(
        tuple(
            AttentionSite(
                site.module, site.module_type, site.call, site.keys,
                site.entropy, after[place].entropy, site.logit, after[place].logit,
            )
            for place, site in before.items()
            if place in after and len(after[place].entropy) == len(site.entropy)
        )
    )  # fmt: skip


def _measured(probe: Probe, *, trained: bool) -> dict[tuple[str, int], Seen]:
    """By place, the mean entropy and the largest logit over the batches."""
    passes: list[dict[tuple[str, int], Seen]] = []
    with probe.workspace(trained=trained) as work:
        in_evaluation_mode(work.model)
        for batch in itertools.islice(probe.batches(work), BATCHES):
            with watching_attention(work.model) as watch:
                evaluated(work, batch)
            passes.append({(seen.module, seen.call): seen for seen in watch.seen})
    return {place: _joined([seen[place] for seen in passes if place in seen]) for place in passes[0]}


def _joined(seen: list[Seen]) -> Seen:
    first = seen[0]
    return Seen(
        first.module,
        first.module_type,
        first.call,
        sum(s.keys for s in seen) / len(seen),
        tuple(sum(values) / len(values) for values in zip(*(s.entropy for s in seen), strict=False)),
        tuple(max(values) for values in zip(*(s.logit for s in seen), strict=False)),
    )
