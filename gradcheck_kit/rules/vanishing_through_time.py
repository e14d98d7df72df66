from __future__ import annotations

from collections.abc import Iterator

from gradcheck_kit.facts import LearningRateResponse, RateTrial, TimeGradient, TimeGradients, Training
from gradcheck_kit.rule import Bar, Finding, Skip, rule

SYMPTOMS = ("GK101", "GK205", "GK507", "GK601", "GK606")


@rule("GK107", needs=(TimeGradients, Training), uses=(LearningRateResponse,), explains=SYMPTOMS)
def vanishing_through_time(
    time: TimeGradients, training: Training, response: LearningRateResponse | None, *, ratio: float = 1e-4
) -> Iterator[Finding]:
    """Next to nothing of the gradient reaches the first steps of a recurrent layer: read backwards, it learns.

    A run that learns as it is, at another rate or in more steps, is nothing: its signal comes late. A loop over a cell
    in which the gradient stops at every step is a warning even then.
    """
    cut = [layer for layer in time.layers if layer.cut]
    if cut:
        yield _cut(cut, training)
        return
    worst, harm = time.worst, training.harm
    if not harm or worst.ratio >= ratio:
        return
    length = len(worst.gradient_rms)
    what = (
        f"Before training {worst.ratio:.1e} of the gradient at the last of {length} steps reaches the first ones of "
        f"{worst.layer or 'the model'} ({worst.layer_type})"
    )
    if response is not None and any(trial.learned(training.constant_loss) for trial in response.trials):
        raise Skip(f"{what}; {harm}, but with another learning rate or more steps it learns")
    if not time.turned_losses:
        raise Skip(f"{what}, and {harm}; whether it learns with time turned round was not tried")
    turned = RateTrial(1.0, time.turned_losses)
    if not turned.learned(training.constant_loss):
        raise Skip(f"{what}, and {harm}, but with time turned round it does not learn either")
    name = worst.layer or "the model"
    yield Finding(
        where=worst.layer,
        message=f"{what}; healthy is at least {ratio:g}. So {harm}, while the same run goes from "
        f"{turned.losses[0]:.3g} to {turned.end:.3g} when {name} reads the last step first.",
        evidence={"ratio": worst.ratio, "limit": ratio, "steps": length, "turned_end": turned.end},
        fixes=tuple(_fixes(worst, name)),
        severity="warning" if training.synthetic else None,
        profile=_bars(worst),
        places=tuple(layer.layer for layer in time.layers if layer.ratio < ratio),
    )


def _cut(cells: list[TimeGradient], training: Training) -> Finding:
    """The gradient stops before the last step, and what came before it matters: something detaches the state."""
    first = cells[0]
    steps, harm = len(first.gradient_rms), training.harm
    stop = f". {harm[0].upper()}{harm[1:]}." if harm else "."
    return Finding(
        where=first.layer,
        message=f"{first.layer} ({first.layer_type}) runs {steps} times in a pass, and only the last call gets a "
        f"gradient, though what the one before returns changes the loss{stop}",
        evidence={"steps": steps},
        fixes=(
            f"Carry the state of {first.layer} from step to step as it is: no h.detach(), h.data or torch.tensor(h) "
            "between the steps. A state that is kept between batches is detached once, before each batch.",
        ),
        severity=None if harm and not training.synthetic else "warning",
        places=tuple(cell.layer for cell in cells),
    )


def _fixes(layer: TimeGradient, name: str) -> Iterator[str]:
    if layer.padded > len(layer.gradient_rms) / 4:
        yield (
            f"Leave out the padding: {layer.padded:.0f} of the {len(layer.gradient_rms)} steps that {name} reads last "
            "are the same. Use nn.utils.rnn.pack_padded_sequence, or read its output at the last step that is none."
        )
    if layer.cell:
        yield f"Make {name} carry its state: gates as in nn.GRUCell, or h + f(h, x) in place of f(h, x)."
        yield "Start what multiplies the state with nn.init.orthogonal_, which keeps its size."
    elif layer.layer_type == "RNN":
        yield f"Replace {name} by nn.GRU or nn.LSTM, whose gates carry a state and its gradient through time."
        yield f"Or start with nn.init.orthogonal_({name}.weight_hh_l0), which keeps the size of what it multiplies."
    else:
        gate = "forget gate" if layer.layer_type == "LSTM" else "update gate"
        yield f"Start {name} with an open gate: a bias of 1 to 2 for its {gate}."
    steps = len(layer.gradient_rms)
    yield f"Or shorten the way: read all {steps} outputs (their mean, or attention) in place of the last."


def _bars(layer: TimeGradient) -> tuple[Bar, ...]:
    count = len(layer.gradient_rms)
    chosen = sorted({round(k * (count - 1) / 9) for k in range(10)})
    return tuple(Bar(f"step {i + 1}", layer.layer_type, layer.gradient_rms[i]) for i in chosen)
