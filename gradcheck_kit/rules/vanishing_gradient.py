from __future__ import annotations

import math
from collections.abc import Iterator

from gradcheck_kit.facts import OutputRecord, ParameterRecord, Training, end_to_end
from gradcheck_kit.rule import Bar, Finding, Skip, listed, rule

BOUNDED = {"sigmoid", "tanh", "softsign", "hardsigmoid", "hardtanh"}
MODULE_OF = {"sigmoid": "Sigmoid", "tanh": "Tanh", "softsign": "Softsign", "hardsigmoid": "Hardsigmoid",
             "hardtanh": "Hardtanh"}  # fmt: skip


@rule("GK101", needs=(Training,), explains=("GK103", "GK104", "GK202", "GK204", "GK205", "GK507", "GK601", "GK606"))
def vanishing_gradient(training: Training, *, ratio: float = 1e-3) -> Iterator[Finding]:
    """The gradient that reaches the first layers is a tiny fraction of the last layers'.

    Weight-gradient norms and the gradients at the outputs, median over the settled steps; the larger of the two
    first/last ratios counts. An error when the run did not learn, else a warning.
    """
    weights, outputs = training.weight_profile(), training.output_profile()
    if len(training.weights_in_order()) < 3:
        raise Skip("the model has fewer than three trainable layers with weights in a row")
    ratios = [end_to_end([norm for _, norm in profile]) for profile in (weights, outputs)]
    known = [r for r in ratios if r is not None]
    if not known:
        raise Skip("no finite gradient reaches three layers (see no-gradient and non-finite)")
    present = [(p, norm) for p, norm in weights if norm > 0]
    if len(present) < 2:
        raise Skip("the weight gradients are exactly zero (see no-gradient)")
    found = max(known)
    if found >= ratio:
        return
    harm = training.harm
    if not harm and not training.long_enough:
        # A zero-initialised head or a LayerScale of 1e-5 lets next to nothing through in its first steps.
        raise Skip(f"{training.loss_steps} steps are too few to tell; {training.at_least(10)}")
    first, last = present[0][0], present[-1][0]
    shrinkage = found ** (-1 / max(1, len(present) - 1))
    message = (
        f"The gradient at the first layers ({first.layer}) is {found:.1e} of that at the last ({last.layer}); "
        f"healthy is at least {ratio:.0e}. It shrinks about {shrinkage:.1f}x at every layer{_blame(training)}, so the "
        f"first layers hardly learn" + (f", and {harm}." if harm else "; the loss falls all the same.")
    )
    yield Finding(
        where=first.layer,
        message=message,
        evidence={"ratio": found, "limit": ratio, "shrinkage_per_layer": shrinkage, "layers": len(present)},
        fixes=tuple(_fixes(training, [p for p, _ in weights])),
        severity=None if harm else "warning",
        profile=tuple(Bar(p.layer, p.layer_type, norm) for p, norm in weights),
    )


def _blame(training: Training) -> str:
    functions = [a.function for a in training.hidden_activations() if a.function in BOUNDED]
    if not functions:
        return ""
    name = max(set(functions), key=functions.count)
    return f" with its {name}"


def _fixes(training: Training, weights: list[ParameterRecord]) -> Iterator[str]:
    bounded = [a for a in training.hidden_activations() if a.function in BOUNDED]
    weights = [p for p in weights if not p.layer_type.startswith("Embedding")] or weights
    layers = [p.layer for p in weights]
    inner = [p.layer for p in weights[1:-1] if p.shape[0] == p.shape[1]]  # what adds its input to its output
    kinds = listed(sorted({p.layer_type for p in weights}))
    if bounded:
        names = listed(sorted({MODULE_OF[a.function] for a in bounded}))
        yield (
            f"Replace {names} by ReLU in {listed(a.name for a in bounded)} and initialise the {kinds} layers with "
            'nn.init.kaiming_normal_(weight, nonlinearity="relu").'
        )
    else:
        yield (
            f"Initialise the weights of {listed(layers)} with nn.init.kaiming_normal_(weight, "
            'nonlinearity="relu") and their biases with zeros: the present spread shrinks the signal at every layer.'
        )
    if not training.norm_layers:
        norm = _norm_for(training, weights)
        before = f"before each {MODULE_OF[bounded[0].function]}" if bounded else f"after each of {listed(layers[:-1])}"
        yield f"Or put {norm} {before}."
    yield f"Or add a residual connection (x = x + block(x)) around each of {listed(inner or layers[1:-1] or layers)}."


def _norm_for(training: Training, weights: list[ParameterRecord]) -> str:
    inner = weights[len(weights) // 2]
    output = next((o for o in training.outputs if o.module == inner.layer), None)
    size = inner.shape[0]
    if output is not None and not inner.layer_type.startswith("Conv"):
        size = output.shape[-1]  # an LSTM has four rows of weights for each feature
    if inner.layer_type.startswith("Conv"):
        return f"nn.BatchNorm{inner.layer_type[4:]}({size})"
    return f"nn.LayerNorm({size})" if _is_sequence(output) else f"nn.BatchNorm1d({size})"


def _is_sequence(output: OutputRecord | None) -> bool:
    return output is not None and len(output.shape) > 2 and math.prod(output.shape[1:-1]) > 1
