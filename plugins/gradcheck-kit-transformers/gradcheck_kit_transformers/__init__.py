"""Rules of gradcheck-kit for models with attention, of Hugging Face transformers or hand-written.

Listing the rules imports no torch; the experiments do, when a probe needs them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from gradcheck_kit import Remedy, Rule, hookimpl
from gradcheck_kit_transformers.attention_entropy_collapse import attention_entropy_collapse
from gradcheck_kit_transformers.attention_logit_growth import attention_logit_growth
from gradcheck_kit_transformers.loss_on_padding import loss_on_padding
from gradcheck_kit_transformers.padding_leakage import padding_leakage
from gradcheck_kit_transformers.padding_shifts_positions import padding_shifts_positions
from gradcheck_kit_transformers.untied_weights import scale_of_a_tied_head, untied_weights
from gradcheck_kit_transformers.untrained_positions import untrained_positions

if TYPE_CHECKING:
    from gradcheck_kit.experiments import Experiment


@hookimpl
def gradcheck_rules() -> Iterable[Rule]:
    return (
        padding_leakage,
        padding_shifts_positions,
        loss_on_padding,
        untied_weights,
        untrained_positions,
        attention_logit_growth,
        attention_entropy_collapse,
    )


@hookimpl
def gradcheck_remedies() -> Iterable[Remedy]:
    return (scale_of_a_tied_head,)


@hookimpl
def gradcheck_experiments() -> Iterable[Experiment]:
    from gradcheck_kit.experiments import Experiment
    from gradcheck_kit.facts import Training
    from gradcheck_kit_transformers.experiments.attention import look_at_attention
    from gradcheck_kit_transformers.experiments.padding import look_at_padding
    from gradcheck_kit_transformers.experiments.positions import look_at_positions
    from gradcheck_kit_transformers.experiments.ties import look_at_ties
    from gradcheck_kit_transformers.facts import AttentionUse, PaddingUse, PositionUse, Ties

    return (
        Experiment(PaddingUse, look_at_padding),
        Experiment(Ties, look_at_ties),
        Experiment(PositionUse, look_at_positions),
        Experiment(AttentionUse, look_at_attention, after=(Training,)),
    )
