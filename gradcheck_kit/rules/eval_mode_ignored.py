from __future__ import annotations

from collections.abc import Iterator

from gradcheck_kit.facts import EvalMode, ModeHolder
from gradcheck_kit.rule import Finding, Skip, listed, rule


@rule(
    "GK604",
    needs=(EvalMode,),
    explains=(
        "GK405",
        "GK601",
        "GK602",
    ),
)
def eval_mode_ignored(eval_mode: EvalMode) -> Iterator[Finding]:
    """Evaluation mode does not reach modules that compute something else in training mode: Dropout, BatchNorm.

    A train() or eval() of the model's own that keeps Dropout on is Monte Carlo dropout, and meant.
    """
    if not eval_mode.left:
        if not eval_mode.differing:
            raise Skip("no module computes something else in training mode")
        return
    unknown = [holder for holder in eval_mode.left if not holder.registered]
    if unknown:
        yield _finding(
            unknown,
            eval_mode,
            f"which the model does not register: model.eval() does not reach {_them(unknown)}.",
            (
                f"Assign {listed(h.name for h in unknown if ' ' not in h.name)} to an attribute of the module in "
                "__init__, or keep them in an nn.ModuleList or nn.ModuleDict."
                if any(" " not in h.name for h in unknown)
                else "Make the module once in __init__ and assign it to an attribute, or call the function with "
                "training=self.training.",
            ),
        )
        return
    if eval_mode.model_left:
        overrides = any(holder.overridden for holder in eval_mode.left)
        yield _finding(
            eval_mode.left,
            eval_mode,
            "as is the model itself" + (": its own train() or eval() does not switch it." if overrides else "."),
            ("Call super().train(mode) in the model's train(), and return self; do not override eval().",),
        )
        return
    if eval_mode.model_left_after_forward:
        yield _finding(
            eval_mode.left,
            eval_mode,
            "because the model's forward switches back to it.",
            ("Take self.train() out of forward; switch modes in the training and evaluation loops.",),
        )
        return
    judged = [holder for holder in eval_mode.left if holder.own_statistics]
    if not judged:
        raise Skip("the model keeps Dropout on in evaluation mode by code of its own, as Monte Carlo dropout does")
    how = "forward" if any(holder.by_forward for holder in judged) else "train() or eval()"
    yield _finding(
        judged,
        eval_mode,
        f"by a {how} of the model's own: what it says of a sample depends on the others in its batch.",
        (f"Leave {listed(h.name for h in judged)} in evaluation mode unless adapting to each batch is meant.",),
        warn=True,
    )


def _them(holders: list[ModeHolder]) -> str:
    return "it" if len(holders) == 1 else "them"


def _finding(
    left: tuple[ModeHolder, ...] | list[ModeHolder],
    eval_mode: EvalMode,
    why: str,
    fixes: tuple[str, ...],
    *,
    warn: bool = False,
) -> Finding:
    places = [h.name if " " in h.name or not h.name else f"{h.name} ({h.type})" for h in left]
    are = "is" if len(places) == 1 else "are"
    return Finding(
        where=left[0].name or "model",
        message=f"{len(places)} of {max(eval_mode.differing, 0) + sum(not h.registered for h in left)} modules that "
        f"heed the mode {are} in training mode after model.eval(): {listed(p or 'the model' for p in places)}, {why}",
        evidence={"left": [h.name for h in left], "differing": eval_mode.differing, "limit": 0},
        fixes=fixes,
        severity="warning" if warn else None,
        places=tuple(h.name or "model" for h in left),
    )
