from __future__ import annotations

import math
from collections.abc import Iterator

from gradcheck_kit.facts import LearningRateResponse, LowPrecision, NonFinite, Training
from gradcheck_kit.rule import Finding, rule

WORDS = {"nan": "NaN", "inf": "infinite", "nan and inf": "NaN and infinite"}


@rule(
    "GK106",
    needs=(Training,),
    uses=(LowPrecision, LearningRateResponse),
    explains=("GK104", "GK205", "GK601", "GK602", "GK606"),
)
def non_finite(
    training: Training, low: LowPrecision | None, response: LearningRateResponse | None
) -> Iterator[Finding]:
    """NaN or infinity in a tensor of the training run; names the first one in execution order, and its step."""
    if training.finite:
        return
    origin = training.non_finite
    if origin is None:
        bad = next((i for i, loss in enumerate(training.losses) if not math.isfinite(loss)), 0)
        since = bad * training.loss_window
        yield Finding(
            where="loss",
            message=f"The loss is not finite from step {since} on; where that began was not seen.",
            evidence={"step": since},
            fixes=("Lower the learning rate, and run with torch.autograd.set_detect_anomaly(True).",),
        )
        return
    place = {
        "input": "the input batch",
        "target": "the target batch",
        "loss": "the loss",
        "parameter": f"parameter {origin.where}",
        "output": f"what enters {_place(origin)}"
        if origin.inputs_finite is False
        else f"the output of {_place(origin)}",
        "gradient": f"the gradient at {_place(origin)}",
    }[origin.kind]
    step = f"at step {origin.step}"
    if origin.earliest < origin.step:
        step = f"between steps {origin.earliest} and {origin.step}"
    share = "it" if origin.share is None else f"{origin.share:.{'0%' if origin.share >= 0.01 else '1e'}} of it"
    guarded = _guarded(training, response)
    after = f" Everything up to {origin.after} was finite." if origin.after else ""
    yield Finding(
        where=origin.where or origin.kind,
        # Which layer overflows first in a run that diverges is chance.
        places=("loss",) if origin.step > 0 and origin.kind not in ("input", "target") else (),
        message=f"The first tensor that is not finite is {place}, {step}: {share} is {WORDS[origin.value]}.{after}"
        f"{guarded}",
        evidence={"step": origin.step, "kind": origin.kind, "value": origin.value, "share": origin.share},
        fixes=(*_of_float16(origin, training, low), *_fixes(origin, guarded=bool(guarded))),
    )


def _guarded(training: Training, response: LearningRateResponse | None) -> str:
    guarded = response.guarded if response is not None else None
    if guarded is None or not guarded.learned(training.constant_loss):
        return ""
    return (
        f" With what goes into log and sqrt kept from exactly 0 the same run goes from {guarded.losses[0]:.3g} to "
        f"{guarded.end:.3g}."
    )


def _of_float16(origin: NonFinite, training: Training, low: LowPrecision | None) -> Iterator[str]:
    """Adam divides by the root of what it keeps of the squared gradient, plus 1e-8; both are 0 in float16."""
    if low is not None and low.dtype == "float16" and origin.step > 0 and training.optimizer.startswith("Adam"):
        yield (
            "Give the optimizer eps=1e-4: its 1e-8 is 0 in float16, and a gradient of 0 is then divided by 0. Or keep "
            "the weights in float32 and use torch.autocast."
        )


def _place(origin: NonFinite) -> str:
    if not origin.where:
        return "the model's own forward"
    return f"{origin.where} ({origin.module_type})" if origin.module_type else origin.where


def _fixes(origin: NonFinite, *, guarded: bool) -> Iterator[str]:
    if origin.kind in ("input", "target"):
        yield (
            f"Clean the data: find such samples with torch.isfinite({'x' if origin.kind == 'input' else 'y'}).all() "
            "in the data set, and drop or fill them."
        )
    elif origin.kind == "parameter" and origin.step == 0:
        yield f"Initialise {origin.where}: it holds {WORDS[origin.value]} values before the first step."
    elif origin.kind == "loss":
        yield (
            "Compute the loss from logits (CrossEntropyLoss, BCEWithLogitsLoss), or clamp what goes into log, sqrt "
            "and division: x.clamp_min(1e-8)."
        )
    elif origin.kind == "output" and origin.inputs_finite is None:
        yield (
            f"Look into {_place(origin)} and what comes before it in forward: log(0), division by 0, sqrt of a "
            "negative number or exp of a large one; guard it, for example with clamp_min(1e-8)."
        )
    elif origin.kind == "output" and origin.inputs_finite:
        yield (
            f"Look into {_place(origin)}: its inputs were finite. Guard log(0), division by 0, sqrt of a negative "
            "number and exp of a large one, for example with clamp_min(1e-8)."
        )
    elif origin.kind == "output":
        between = f"between {origin.after} and {origin.where}" if origin.after else f"before {origin.where}"
        yield (
            f"Look {between} in forward: log(0), division by 0, sqrt of a negative number or exp of a large one; "
            "guard it, for example with clamp_min(1e-8)."
        )
    elif origin.kind == "gradient":
        yield (
            f"Look at what follows {_place(origin)}: sqrt, norm and pow have an infinite derivative at 0; add 1e-8 "
            "inside them."
        )
    if origin.step > 0 and origin.kind not in ("input", "target") and not guarded:
        yield (
            "Lower the learning rate, or call torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0) before "
            "optimizer.step()."
        )
