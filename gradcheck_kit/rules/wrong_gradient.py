from __future__ import annotations

from collections.abc import Iterator

from gradcheck_kit.facts import FunctionCheck, GradientCheck
from gradcheck_kit.rule import Finding, Skip, listed, rule

RIGHT = 1e-4


@rule(
    "GK701",
    needs=(GradientCheck,),
    explains=("GK101", "GK102", "GK103", "GK106", "GK203", "GK204", "GK205", "GK206", "GK601", "GK606"),
)
def wrong_gradient(check: GradientCheck, *, error: float = 1e-2) -> Iterator[Finding]:
    """A custom autograd.Function returns a gradient that is not the derivative of its forward."""
    compared = [f for f in check.functions if f.relative_error is not None]
    if not compared:
        raise Skip("; ".join(f"{f.function}: {f.left_out}" for f in check.functions) or "no function was compared")
    # An error that does not show in the gradient of the loss does no harm.
    harmless = check.loss_error is not None and check.loss_error < RIGHT
    if check.loss_error is None:  # what ignores the gradient that arrives is right where that is 1: losses do so
        compared = [f for f in compared if not f.ignores_upstream]
    wrong = [f for f in compared if f.relative_error is not None and not f.relative_error <= error]
    for function in wrong if not harmless else []:
        yield _finding(function, check.loss_error, error)
    if not wrong and any(not f.relative_error < RIGHT for f in compared if f.relative_error is not None):
        unsure = [f.function for f in compared if f.relative_error is not None and not f.relative_error < RIGHT]
        raise Skip(
            f"the error of {listed(unsure)} is between {RIGHT:g} and {error:g}: right or wrong, it cannot be told"
        )


def _finding(function: FunctionCheck, loss_error: float | None, error: float) -> Finding:
    where = f"{function.module} ({function.module_type})" if function.module else "the model's forward"
    where = "the loss" if function.module == "loss" and not function.module_type else where
    source = f", {function.source}" if function.source else ""
    return Finding(
        where=function.module or "forward",
        message=f"{function.function}, run in {where}{source}, has a wrong backward: for {function.argument} it "
        f"differs from central differences of the forward by {function.relative_error:.2g} (relative error; limit "
        f"{error:g}, right is below 1e-04)."
        + (f" The gradient of the loss is off by {loss_error:.2g}." if loss_error is not None else ""),
        evidence={
            "relative_error": function.relative_error,
            "limit": error,
            "argument": function.argument,
            "factor": function.factor,
            "loss_error": loss_error,
        },
        fixes=(
            _fix(function),
            f"Check it with torch.autograd.gradcheck({function.function}.apply, inputs) on float64 inputs; or drop "
            f"{function.function} and let autograd differentiate its forward.",
        ),
    )


def _fix(function: FunctionCheck) -> str:
    place = f"{function.function}.backward"
    if function.ignores_upstream:
        return f"Multiply what {place} returns by its grad_output: it is the same whatever gradient arrives."
    if function.factor is not None and abs(function.factor + 1) < RIGHT:
        return f"Change the sign of what {place} returns for {function.argument}."
    if function.factor is not None and function.factor != 0:
        return (
            f"Divide what {place} returns for {function.argument} by {function.factor:.4g}: it is so many times the "
            "derivative."
        )
    return f"Correct what {place} returns for {function.argument}: grad_output times the derivative of the forward."
