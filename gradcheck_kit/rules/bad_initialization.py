from __future__ import annotations

from collections.abc import Iterator, Sequence

from gradcheck_kit.facts import Initialization, InitialWeight, LearningRateResponse, RateTrial, Training
from gradcheck_kit.rule import Bar, Finding, Skip, listed, rule

SYMPTOMS = (
    "GK101", "GK102", "GK104", "GK105", "GK106", "GK107", "GK109", "GK110", "GK203", "GK204", "GK205",
    "GK206", "GK301", "GK507", "GK601", "GK606",
)  # fmt: skip


@rule("GK303", needs=(Initialization, Training), uses=(LearningRateResponse,), explains=SYMPTOMS)
def bad_initialization(
    initialization: Initialization, training: Training, response: LearningRateResponse | None, *, gain: float = 0.5
) -> Iterator[Finding]:
    """The first weights are far larger or smaller than He, Xavier or torch draw them, and such ones learn.

    An error where the run does not learn and the same run from weights that fit does; a warning where it learns and
    the other ends at `gain` times its loss or less, or where it starts confidently wrong and the other, a tenth lower
    in the end, is ahead at 19 of 20 steps. Without that proof a size is no fault.
    """
    odd = initialization.odd
    if not odd:
        return
    harm = training.harm
    sizes = _sizes(initialization, odd)
    if not initialization.twin_losses:
        raise Skip(f"{sizes}, and " + ("whether others help was not tried" if harm else "the run learns as it is"))
    if harm and response is not None and response.own.learned(training.constant_loss):
        raise Skip(f"{sizes}; {harm}, but in {len(response.own.losses)} steps from the same weights it does")
    again = RateTrial(1.0, initialization.twin_losses)
    reached = min(training.last_loss, response.own.end) if harm and response is not None else training.last_loss
    ahead = sum(other < own for other, own in zip(again.losses, training.losses, strict=False))
    always = training.confidently_wrong and ahead >= 0.95 * len(training.losses)
    limit = reached * (0.9 if harm or always else gain) if training.finite else float("inf")
    ratio = initialization.twin_gradient_ratio
    # Where the gradient vanishes from weights that fit as well, the activation is to blame and not the weights.
    healthy = ratio is None or ratio >= 1e-3
    if not (again.learned(training.constant_loss) and healthy and again.end <= limit):
        raise Skip(f"{sizes}, but the same run from weights that fit is not clearly better")
    at_start = initialization.gradient_ratio
    spread = f"; the gradient at the first outputs is {at_start:.2g} times that at the last" if at_start else ""
    why = harm or f"the loss went from {training.first_loss:.3g} to {training.last_loss:.3g}"
    steps = f" in {len(again.losses)} steps" if len(again.losses) > training.loss_steps else ""
    yield Finding(
        where=max(odd, key=_distance).layer,
        message=f"{sizes[0].upper()}{sizes[1:]}{spread}, and {why}. With only these weights drawn as below the same "
        f"run goes from {again.losses[0]:.3g} to {again.end:.3g}{steps}.",
        evidence={
            "gain": max(odd, key=_distance).gain,
            "product": initialization.product,
            "end": training.last_loss,
            "redrawn_end": again.end,
            "gradient_ratio": at_start,
            "redrawn_gradient_ratio": ratio,
            "limit": gain,
        },
        fixes=tuple(_fixes(odd)),
        severity="warning" if not harm or training.synthetic else None,
        profile=tuple(Bar(w.name, f"std / {w.proposed:.2g}", w.std / w.proposed) for w in initialization.weights),
        places=tuple(w.layer for w in odd),
    )


def _distance(weight: InitialWeight) -> float:
    return max(weight.gain, 1 / weight.gain) if weight.gain > 0 else float("inf")


def _sizes(initialization: Initialization, odd: Sequence[InitialWeight]) -> str:
    worst = max(odd, key=_distance, default=None)
    if worst is not None and worst.off:
        rest = listed(w.layer or w.name for w in odd if w.layer != worst.layer)
        others = f" (and of {rest})" if rest else ""
        side, bound = ("at most", worst.high) if worst.gain > 1 else ("at least", worst.low)
        return (
            f"the weights of {worst.layer or worst.name}{others} start with a root mean square of {worst.std:.2g}, "
            f"where usual initialisers give {side} {bound:.2g}"
        )
    names = listed(w.layer for w in odd) or "the layers"
    return (
        f"the weights of {names} multiply a signal by {initialization.product:.1e} in all; within a factor of 100 "
        "is healthy"
    )


def _fixes(odd: Sequence[InitialWeight]) -> Iterator[str]:
    calls: dict[str, list[InitialWeight]] = {}
    for weight in odd:
        calls.setdefault(weight.initializer, []).append(weight)
    for call, weights in calls.items():
        own = "torch.randn" in call
        names = listed(w.name if own else w.layer for w in weights)
        size = listed(f"{w.proposed:.2g}" for w in weights)
        if own:
            yield f"Start {names} from {call}: a root mean square of {size} instead of {weights[0].std:.2g}."
        elif call == "reset_parameters()":
            yield f"Call reset_parameters() of {names}, or leave torch's own weights: a root mean square of {size}."
        else:
            yield f"Initialise {names} with {call} and zero biases: a standard deviation of {size}."
