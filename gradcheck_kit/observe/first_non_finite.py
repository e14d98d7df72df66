"""Where the numbers of a recorded step first stop being finite."""

from __future__ import annotations

import math

from gradcheck_kit.facts import NonFinite
from gradcheck_kit.observe.recorder import Recorder


def first_non_finite(recorder: Recorder, loss: float | None, step: int, *, earliest: int) -> NonFinite | None:
    """The first place in the order of execution at which the last row is not finite; None when all of it is.

    It may have begun at any step from `earliest` on: those between were not recorded. Parameters come first: a bad one
    was there before the step began.
    """

    def made(kind: str, where: str, value: float, module_type: str = "", after: str = "") -> NonFinite:
        word = "nan" if math.isnan(value) else "inf"
        return NonFinite(step, earliest, kind, where, module_type, word, None, after, None)

    parameters, outputs = recorder.latest_parameters(), recorder.latest_outputs()
    for name, _, weight in parameters:
        if _bad(weight):
            return made("parameter", name, weight or 0.0)
    after = ""
    for name, kind, output, _ in outputs:
        if _bad(output):
            return made("output", name, output or 0.0, kind, after)
        after = name
    if _bad(loss):
        return made("loss", "", loss or 0.0)
    after = ""
    for name, kind, _, gradient in reversed(outputs):
        if _bad(gradient):
            return made("gradient", name, gradient or 0.0, kind, after)
        after = name
    for name, gradient, _ in reversed(parameters):
        if _bad(gradient):
            return made("gradient", name, gradient or 0.0)
    return None


def _bad(value: float | None) -> bool:
    return value is not None and not math.isfinite(value)
