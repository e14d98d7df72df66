from __future__ import annotations

import math
from collections.abc import Iterator

from gradcheck_kit.facts import LossTerms, ParameterRecord, Training, Wiring
from gradcheck_kit.rule import Finding, Skip, listed, rule


@rule("GK103", needs=(Training,), uses=(Wiring, LossTerms), explains=("GK202", "GK204", "GK205", "GK601", "GK606"))
def no_gradient(training: Training, wiring: Wiring | None, terms: LossTerms | None) -> Iterator[Finding]:
    """A parameter, or a term of the loss, gets no gradient: exactly zero, or none, at every recorded step.

    Layers that never ran, or whose output changes nothing, are a warning, and so is a gradient of zero that flows
    around them in a run that learns; idle experts (layers that did not run beside equal ones that did), and biases that
    the loss does not depend on, are nothing.
    """
    trainable = [p for p in training.parameters if p.trainable]
    if not trainable:
        raise Skip("no parameter requires a gradient")
    if not training.recorded:
        raise Skip("no step was recorded")
    if all(math.isnan(g) for p in trainable for g in p.gradient_rms if g is not None) and any(
        g is not None for p in trainable for g in p.gradient_rms
    ):
        raise Skip("every gradient is NaN (see non-finite)")
    without = [p for p in trainable if all(g is None or g == 0 for g in p.gradient_rms)]
    ran = {o.module for o in training.outputs}
    resting = [p for p in without if _rests(p, training)]
    useless = {p.name for p in wiring.parameters if p.matters is False} if wiring is not None else set()
    loose = [p for p in without if p not in resting and p.name in useless and not _beside_a_used_weight(p, training)]
    ends = {p.name for p in loose if _ends_its_series(p, training)}
    loose = [p for p in loose if p.name not in ends]
    zero = [p for p in loose if any(g is not None for g in p.gradient_rms)]
    if not _flows_around(training, zero):  # all that comes before them is cut off as well
        loose = [p for p in loose if p not in zero]
        useless -= {p.name for p in zero}
    weights = {p.layer for p in without if p.is_weight}
    # A loss that compares outputs with each other does not depend on a bias that they share.
    cut = [
        p
        for p in without
        if p not in resting and p.name not in useless and (p.is_weight or not _only_bias(p, weights, training))
    ]
    if len(training.recorded) < 3:
        # A zero-initialised head lets exactly nothing through in the first step, and is healthy.
        cut = [p for p in cut if all(g is None for g in p.gradient_rms)]
    yield from _cut_off(training, cut)
    if terms is not None and terms.untrained:
        yield _of_terms(terms, training)
    if loose:
        layers = listed(p.layer or p.name for p in loose)
        yield Finding(
            where=loose[0].layer or loose[0].name,
            message=f"{layers}: the loss is the same whatever values {_count(loose)} has, so none of them learns: "
            "what they compute does not reach the loss.",
            evidence={"parameters": [p.name for p in loose]},
            fixes=(f"Use the output of {layers}, or remove {layers}.",),
            severity="warning",
            places=tuple(dict.fromkeys(p.layer or p.name for p in loose)),
        )
    busy = [p for p in trainable if p.layer in ran]
    unused = [p for p in resting if not _has_busy_twin(p, busy)]
    if unused:
        layers = listed(p.layer for p in unused)
        yield Finding(
            where=unused[0].layer,
            message=f"{layers} never ran in forward, so {_count(unused)} never learns.",
            evidence={"parameters": [p.name for p in unused]},
            fixes=(
                f"Call {layers} in forward, or remove it from the model; if it is kept for later, freeze it with "
                "requires_grad_(False).",
            ),
            severity="warning",
            places=tuple(dict.fromkeys(p.layer for p in unused)),
        )


def _of_terms(terms: LossTerms, training: Training) -> Finding:
    values = listed(f"{t.value:.3g}" + (f" ({t.source})" if t.source else "") for t in terms.untrained)
    one = len(terms.untrained) == 1
    return Finding(
        where=terms.untrained[0].source or "loss",
        message=f"The loss of {terms.loss:.3g} adds {values}, which {'changes' if one else 'change'} with the "
        f"parameters and {'is' if one else 'are'} constant to autograd: nothing trains "
        f"{'it' if one else 'them'}" + (f", and {training.harm}." if training.harm else "."),
        evidence={"loss": terms.loss, "terms": [t.value for t in terms.untrained]},
        fixes=(
            "Pass create_graph=True to torch.autograd.grad: without it a derivative has no graph of its own."
            if any(t.differentiated for t in terms.untrained)
            else "Remove the .item(), .detach(), .data, float() or torch.no_grad() on the way from the parameters to "
            "that term.",
        ),
    )


def _rests(parameter: ParameterRecord, training: Training) -> bool:
    """Its layer never ran, or only on empty inputs. nn.MultiheadAttention uses the weights of its out_proj itself."""
    parent = parameter.layer.rpartition(".")[0]
    if any(o.module == parent and o.module_type == "MultiheadAttention" for o in training.outputs):
        return False
    own = [o for o in training.outputs if o.module == parameter.layer]
    return (
        bool(parameter.layer and training.outputs)
        and not own
        and all(g is None or g == 0 for g in parameter.gradient_rms)
    )


def _only_bias(parameter: ParameterRecord, cut_weights: set[str], training: Training) -> bool:
    """Its gradient is exactly zero while the weight of its own layer gets one."""
    return (
        parameter.layer not in cut_weights
        and any(p.layer == parameter.layer and p.is_weight and p.trainable for p in training.parameters)
        and all(g is not None for g in parameter.gradient_rms)
    )


def _beside_a_used_weight(parameter: ParameterRecord, training: Training) -> bool:
    """A bias of a layer whose weight does learn: the derivative of a network, as a force, does not depend on it."""
    return not parameter.is_weight and any(
        p.layer == parameter.layer and p.is_weight and any(p.gradient_rms) for p in training.parameters
    )


def _ends_its_series(parameter: ParameterRecord, training: Training) -> bool:
    """It hands on to a next block, and this is the last: the blocks before learn it, and others of this block do.

    The last backcast of N-BEATS and the last residual convolution of WaveNet are so. Blocks may be kept in several
    lists, `residual.3` and `skip.3`: then they run in turn.
    """
    named = {p.name: p for p in training.parameters}
    live = {name: p for name, p in named.items() if p.trainable and any(p.gradient_rms)}
    for prefix, index, own in _numbered(parameter.name):
        before = live.get(f"{prefix}{index - 1}{own}")
        if before is None or f"{prefix}{index + 1}{own}" in named:
            continue
        if any(name.startswith(f"{prefix}{index}.") for name in live):
            return True
        for name, other in live.items():
            for beside, number, rest in _numbered(name):
                previous = live.get(f"{beside}{index - 1}{rest}")
                orders = [
                    p.order for p in (before, previous, parameter, other) if p is not None and p.order is not None
                ]
                if number == index and len(orders) == 4 and max(orders[:2]) < min(orders[2:]):
                    return True
    return False


def _numbered(name: str) -> Iterator[tuple[str, int, str]]:
    """For each number in a dotted name what comes before it, the number, and what comes after it."""
    parts = name.split(".")
    for place, part in enumerate(parts):
        if part.isdigit():
            yield "".join(f"{p}." for p in parts[:place]), int(part), "".join(f".{p}" for p in parts[place + 1 :])


def _has_busy_twin(parameter: ParameterRecord, busy: list[ParameterRecord]) -> bool:
    """A parameter of the same shape and name under another index of the same list did get to run."""
    mine = _without_indices(parameter.name)
    return any(_without_indices(p.name) == mine and p.shape == parameter.shape for p in busy)


def _without_indices(name: str) -> str:
    return ".".join("#" if part.isdigit() else part for part in name.split("."))


def _cut_off(training: Training, cut: list[ParameterRecord]) -> Iterator[Finding]:
    if not cut:
        return
    layers = listed(p.layer or p.name for p in cut)
    exactly_zero = any(g is not None for p in cut for g in p.gradient_rms)
    border = _border(training, cut)
    steps = len(training.recorded)
    harmless = not training.harm and _flows_around(training, cut)
    no_weight = all(not p.is_weight for p in cut)
    kind = "a gradient of exactly zero" if exactly_zero else "no gradient"
    yield Finding(
        where=cut[0].layer or cut[0].name,
        message=f"{layers}: {_count(cut)} gets {kind} at all {steps} recorded steps"
        + (f"; {border}." if border else "."),
        evidence={"parameters": [p.name for p in cut], "exactly_zero": exactly_zero},
        fixes=tuple(_fixes(training, cut, border, exactly_zero=exactly_zero)),
        # Where no output was seen (a compiled model), a layer that never ran cannot be told from one that is cut off.
        severity="warning" if not training.outputs or (exactly_zero and (harmless or no_weight)) else None,
        places=tuple(dict.fromkeys(p.layer or p.name for p in cut)),
    )


def _flows_around(training: Training, cut: list[ParameterRecord]) -> bool:
    """Weights before and after those without a gradient get one, so they are on no way that all others depend on.

    A parameter that a module holds beside its layers has no place of its own: these layers get one instead.
    """
    live = [p for p in training.parameters if p.trainable and p.is_weight and any(g for g in p.gradient_rms)]
    orders = [p.order for p in live if p.order is not None]
    places = [p.order for p in cut if p.order is not None]
    held = [f"{p.layer}." if p.layer else "" for p in cut if p.order is None]
    beside = all(any(other.layer.startswith(prefix) for other in live) for prefix in held)
    return beside and (not places or (any(o < min(places) for o in orders) and any(o > max(places) for o in orders)))


def _count(parameters: list[ParameterRecord]) -> str:
    return f"parameter {parameters[0].name}" if len(parameters) == 1 else f"each of {len(parameters)} parameters"


def _border(training: Training, cut: list[ParameterRecord]) -> str:
    """Between which outputs the gradient is lost, looked for from the last of the layers without one on.

    Outputs further on may have none for a reason of their own: of an LSTM's all but the last state may be unused.
    """
    orders = [p.order for p in cut if p.order is not None]
    later = [o for o in training.outputs if orders and o.order > max(orders)]
    end = next((o.order for o in later if any(o.gradient_rms)), math.inf)
    last_without = None
    for output in training.outputs:
        if output.order < end and not any(output.gradient_rms):
            last_without = output
    if last_without is None:
        return ""
    following = next((o for o in training.outputs if o.order > last_without.order), None)
    place = f"after {last_without.module} ({last_without.module_type})"
    if following is None:
        return f"the gradient is lost {place}"
    return f"the gradient is lost {place} and before the output of {following.module} ({following.module_type})"


def _fixes(training: Training, cut: list[ParameterRecord], border: str, *, exactly_zero: bool) -> Iterator[str]:
    layers = listed(p.layer or p.name for p in cut)
    if exactly_zero:
        zeros = [p.layer for p in cut if p.is_weight and p.layer and not any(p.weight_rms)]
        if len(zeros) > 1:
            yield (
                f"Initialise {listed(zeros)} at random, for example with nn.init.kaiming_normal_(weight): their "
                "weights are all zero, and behind a zero no other weight gets a gradient."
            )
        if training.frozen_zeros:
            frozen = listed(training.frozen_zeros)
            yield (
                f"Train {frozen}, whose weight is all zero and has requires_grad=False, so that nothing passes: set "
                "requires_grad=True and give it to the optimizer."
            )
        dead = [a.name for a in training.activations if a.dead_share is not None and a.dead_share > 0.99]
        if dead:
            yield f"Bring {listed(dead)} back to life: no unit of it is active, so it passes no gradient."
        yield (
            f"Look for a factor of exactly zero between {layers} and the loss: a mask, a zero-initialised pair of "
            "layers, a function that is flat for every input, such as sign, round or a comparison (for which "
            "x + (x.sign() - x).detach() passes the gradient straight through)."
        )
        return
    place = border.removeprefix("the gradient is lost ") if border else f"between {layers} and the loss"
    yield (
        f"Remove the detach(), .data, torch.no_grad(), argmax, .item() or NumPy conversion {place}: autograd does not "
        "see through it."
    )
    if len(cut) < sum(p.trainable for p in training.parameters):
        yield f"If that is on purpose, say so: set requires_grad_(False) on {layers}."
