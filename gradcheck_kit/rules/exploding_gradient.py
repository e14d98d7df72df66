from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import median, quantiles

from gradcheck_kit.facts import TimeGradient, TimeGradients, Training
from gradcheck_kit.rule import Bar, Finding, Severity, Skip, listed, rule

EXPLODES = 1000.0  # from the last step of a sequence to the first: what a learning rate can no longer make good
SYMPTOMS = ("GK104", "GK106", "GK205", "GK301", "GK601", "GK606")


@rule("GK102", needs=(Training,), uses=(TimeGradients,), explains=SYMPTOMS)
def exploding_gradient(training: Training, time: TimeGradients | None, *, ratio: float = 70.0) -> Iterator[Finding]:
    """The gradient grows from the last layers to the first, or from step to step, and the run does not learn.

    Healthy networks with BatchNorm reach first/last ratios near 100, so that growth alone is no finding. Backwards
    through the steps of a recurrent layer it is told from `EXPLODES` times on.
    """
    longest = max(time.layers, key=lambda layer: layer.ratio) if time is not None else None
    if longest is not None and longest.ratio > EXPLODES and training.harm and training.long_enough:
        yield _through_time(longest, training)
        return
    totals = _totals(training)
    if not totals and training.gradient_ratio_at_start is None:
        raise Skip("no finite gradient was recorded (see non-finite)")
    if not training.long_enough:
        raise Skip(f"{training.loss_steps} steps are too few to tell whether it does harm; {training.at_least(10)}")
    harm = training.harm
    if not harm:
        return
    depth = training.gradient_ratio_at_start
    # The median of the last third: the gradients of single batches may differ a hundredfold.
    late = totals[-max(1, len(totals) // 3) :]
    growth = median(late) / totals[0] if totals and totals[0] > 0 else 0.0
    if not training.optimizer_given:
        growth = 0.0  # over steps it comes of a learning rate that nobody chose
    started_high = depth is not None and not depth <= ratio
    if not started_high and growth <= ratio and not (math.isinf(growth) or math.isnan(growth)):
        return
    profile = training.output_profile(start=True)
    if started_high:
        assert depth is not None
        message = (
            f"Before the first update the gradient at the first layers is {depth:.2g} times that at the last; "
            f"up to {ratio:g} is healthy. Every layer multiplies it, and {harm}."
        )
        where = profile[0][0].module
    else:
        message = (
            f"The norm of all gradients grew {growth:.2g}-fold over the recorded steps; up to {ratio:g} is healthy; "
            f"{harm}."
        )
        where = ""
    layers = [p.layer for p in training.weights_in_order()]
    fixes = [
        f"{_initialiser(training, layers)}: their weights make every layer enlarge what passes through it."
    ] if started_high else []  # fmt: skip
    fixes.append(_clip(totals))
    if not training.norm_layers:
        fixes.append(f"Or normalise between layers: LayerNorm or BatchNorm after {listed(layers[:-1] or layers)}.")
    evidence = {"ratio": depth, "growth": growth, "limit": ratio}
    bars = tuple(Bar(o.module, o.module_type, norm) for o, norm in profile) if started_high else ()
    # A rate that nobody chose may take its first steps too long: that the loss rose in a few of them proves nothing.
    early = training.finite and training.loss_steps < 20 and not training.optimizer_given
    severity: Severity | None = "warning" if early else None
    # Whether it grows over depth or over steps, it is the whole model's, and chance may decide which shows.
    yield Finding(where, message, evidence, tuple(fixes), severity, bars, places=("",))


def _through_time(layer: TimeGradient, training: Training) -> Finding:
    name, steps = layer.layer or "the model", len(layer.gradient_rms)
    chosen = sorted({round(k * (steps - 1) / 9) for k in range(10)})
    return Finding(
        where=layer.layer,
        message=f"Before the first update the gradient at the first of {steps} steps of {name} ({layer.layer_type}) is "
        f"{layer.ratio:.2g} times that at the last; up to {EXPLODES:g} is healthy. Every step multiplies it, and "
        f"{training.harm}.",
        evidence={"ratio": layer.ratio, "steps": steps, "limit": EXPLODES},
        fixes=(
            f"Start what multiplies the state of {name} with nn.init.orthogonal_(weight), which keeps its size."
            if layer.cell
            else f"Start with nn.init.orthogonal_({name}.weight_hh_l0), which keeps the size of what it multiplies.",
            _clip(_totals(training)),
        ),
        profile=tuple(Bar(f"step {i + 1}", layer.layer_type, layer.gradient_rms[i]) for i in chosen),
        places=("",),
    )


def _initialiser(training: Training, layers: list[str]) -> str:
    functions = {a.function for a in training.hidden_activations()}
    if functions & {"tanh", "sigmoid", "softsign", "hardtanh", "hardsigmoid"}:
        return f"Initialise {listed(layers)} with nn.init.xavier_normal_(weight)"
    if functions & {"relu", "relu6", "leaky_relu", "prelu", "elu", "gelu", "silu"}:
        return f"Initialise {listed(layers)} with nn.init.kaiming_normal_(weight) (std sqrt(2 / fan_in))"
    depth = max(1, len(layers) - 1)
    return f"Scale the weights of {listed(layers)} by {(training.gradient_ratio_at_start or 1.0) ** (-1 / depth):.2g}"


def _totals(training: Training) -> list[float]:
    """The norm of all gradients together, at every recorded step at which it was finite."""
    totals = []
    for step in range(len(training.recorded)):
        squares = [
            (g * g) * math.prod(p.shape)
            for p in training.parameters
            if (g := p.gradient_rms[step]) is not None and abs(g) < 1e150  # its square must stay a number
        ]
        if squares and math.isfinite(sum(squares)):
            totals.append(math.sqrt(sum(squares)))
    return totals


def _clip(totals: list[float]) -> str:
    usual = quantiles(totals, n=10)[-1] if len(totals) >= 10 else math.nan
    limit = float(f"{usual:.1g}")
    if not 1e-3 < limit < 100:
        return "Call torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0) before optimizer.step()."
    return (
        f"Call torch.nn.utils.clip_grad_norm_(model.parameters(), {limit:g}) before optimizer.step(): "
        f"nine in ten recorded norms are below {usual:.2g}."
    )
