from __future__ import annotations

from collections.abc import Iterator

from gradcheck_kit.facts import FutureMixing, MixingOperation
from gradcheck_kit.rule import Finding, Skip, rule

NORMS = ("layer_norm", "group_norm", "instance_norm", "batch_norm", "rms_norm")


@rule("GK406", needs=(FutureMixing,), explains=("GK601",))
def causal_leakage(future: FutureMixing, *, influence: float = 1e-3) -> Iterator[Finding]:
    """The target is the input shifted by one, and an output depends on later inputs: the model sees the answer.

    Or the model is given the target itself at each position, and nothing that it sees before tells more.
    """
    if future.answer_given:
        yield _of_answer(future)
        return
    if future.influence is None:
        raise Skip("the output does not depend on the element that was replaced")
    if future.influence <= influence:
        return
    operation = future.operation
    yield Finding(
        where=(operation.module if operation else "") or "forward",
        message=f"The target is the input shifted by one, and replacing input {future.position} of {future.length} "
        f"changes {future.reached} of the {future.position} outputs before it, by up to {future.influence:.2g} times "
        f"as much as those from it on; healthy is 0 (limit {influence:g})."
        + (f" The future first arrives in {_place(operation)}." if operation else ""),
        evidence={
            "influence": future.influence,
            "limit": influence,
            "position": future.position,
            "outputs": future.reached,
            "operation": operation.operation if operation else "",
        },
        fixes=(_fix(operation),),
    )


def _of_answer(future: FutureMixing) -> Finding:
    return Finding(
        where="forward",
        message=f"The model is given its target: at each position its input is the very element that it is to predict "
        f"there, and the output sees it (shown by replacing input {future.position} of {future.length}). It learns to "
        "copy, and at generation, where the answer is not there, it has learned nothing.",
        evidence={"position": future.position, "influence": future.influence, "limit": 0},
        fixes=(
            "Give the model what comes before what it predicts: sequence[:, :-1] as input (of a decoder) and "
            "sequence[:, 1:] as target.",
        ),
    )


def _place(operation: MixingOperation) -> str:
    inside = f"{operation.module} ({operation.module_type})" if operation.module else "the model's forward"
    return f"{operation.operation} of {inside}" + (f", {operation.source}" if operation.source else "")


def _fix(operation: MixingOperation | None) -> str:
    if operation is None:
        return "Let every position see only itself and what is before it: a causal mask in attention."
    name, place = operation.operation, operation.module or "the model's forward"
    if name in ("multi_head_attention_forward", "_transformer_encoder_layer_fwd"):
        return (
            f"Pass {place} a causal mask: attn_mask (of a TransformerEncoder: mask) = "
            "nn.Transformer.generate_square_subsequent_mask(x.size(1)), and is_causal=True."
        )
    if name == "scaled_dot_product_attention":
        return f"Pass is_causal=True to scaled_dot_product_attention in {place}."
    if name in ("lstm", "gru", "rnn_tanh", "rnn_relu"):
        return f"Make {place} with bidirectional=False: its second direction reads the sequence from its end."
    if "conv" in name:
        return f"Pad {place} on the left only: padding=0 and F.pad(x, ((kernel_size - 1) * dilation, 0)) before it."
    if name in NORMS:
        return f"Normalise each position by itself in {place}: nn.LayerNorm over the features, not over time."
    if name in ("matmul", "bmm", "einsum", "baddbmm"):
        return (
            f"Mask the scores in {place} before their softmax: scores.masked_fill("
            "torch.ones(T, T, dtype=torch.bool).triu(1), float('-inf'))."
        )
    by = operation.reduced_by or name
    return f"Let {by} in {place} run over the past only: a cumulative one, or a causal mask."
