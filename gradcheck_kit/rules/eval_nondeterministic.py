from __future__ import annotations

from collections.abc import Iterator

from gradcheck_kit.facts import Evaluation, RandomOperation
from gradcheck_kit.rule import Finding, Skip, listed, rule

REGULARISERS = ("dropout", "bernoulli", "rrelu", "scaled_dot_product_attention")


@rule("GK602", needs=(Evaluation,))
def eval_nondeterministic(evaluation: Evaluation) -> Iterator[Finding]:
    """Two evaluations of the same batch in evaluation mode differ: something random ignores model.eval().

    Dropout and its like are an error, other random numbers a warning; sampling a distribution whose spread the model
    computes, as a variational autoencoder does, is meant to be random.
    """
    if evaluation.deterministic is None:
        raise Skip("the model's output holds no tensor to compare")
    if evaluation.deterministic:
        return
    operations = evaluation.random_operations
    if operations and all(o.by_design for o in operations):
        raise Skip("the model samples, or predicts the noise it drew, as it is meant to")
    guilty = [o for o in operations if not o.by_design]
    regularisers = [o for o in guilty if any(name in o.operation for name in REGULARISERS)]
    blamed = regularisers or guilty
    places = list(dict.fromkeys(_place(o) for o in blamed))
    draw = "draws" if len(places) == 1 else "draw"
    what = f"{listed(places)} {draw} random numbers" if places else _where(evaluation)
    yield Finding(
        where=(blamed[0].module if blamed else evaluation.parted_at) or "forward",
        message=f"Two evaluations of the same batch in eval mode differ by up to {evaluation.largest_difference:.2g}: "
        f"{what}." + (f" {_where(evaluation)}." if blamed and evaluation.parted_at else ""),
        evidence={"difference": evaluation.largest_difference, "limit": 0.0, "operations": [_place(o) for o in blamed]},
        fixes=tuple(_fixes(blamed, evaluation)),
        severity=None if regularisers or not guilty else "warning",
    )


def _place(operation: RandomOperation) -> str:
    inside = f" in {operation.module}" if operation.module else " in the model's forward"
    return f"{operation.operation}{inside}" + (f" ({operation.source})" if operation.source else "")


def _where(evaluation: Evaluation) -> str:
    if not evaluation.parted_at:
        return "They part in the model's own forward"
    place = f"{evaluation.parted_at} ({evaluation.parted_type})"
    return f"They part in {place}" if evaluation.parted_itself else f"They part before {place}"


def _fixes(blamed: list[RandomOperation], evaluation: Evaluation) -> Iterator[str]:
    switched = list(dict.fromkeys(o.module for o in blamed if o.in_training_mode))
    if switched:
        yield (
            f"Leave {listed(switched, 3)} in evaluation mode: something sets it back to training mode, such as "
            "self.train() in forward."
        )
    for operation in [o for o in blamed if not o.in_training_mode][:3]:
        place = _place(operation)
        if "dropout" in operation.operation:
            yield f"Pass training=self.training to {place}, or use an nn.Dropout module: F.dropout is on by default."
        elif "attention" in operation.operation:
            yield f"Pass dropout_p=p if self.training else 0.0 to {place}."
        else:
            yield f"If {place} is augmentation or regularisation, guard it with `if self.training:`."
    if not blamed:
        place = evaluation.parted_at or "the model's forward"
        yield (
            f"Look in {place} for state that changes from call to call, or random numbers, and guard it with "
            "`if self.training:`."
        )
