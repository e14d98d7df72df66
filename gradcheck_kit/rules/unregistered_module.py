from __future__ import annotations

from collections.abc import Iterator

from gradcheck_kit.facts import UnregisteredModule, Wiring
from gradcheck_kit.rule import Finding, listed, rule

BARE = ("Parameter", "Tensor")


@rule("GK401", needs=(Wiring,), explains=("GK201", "GK205", "GK405", "GK601", "GK604", "GK606"))
def unregistered_module(wiring: Wiring) -> Iterator[Finding]:
    """A module runs in forward, or a bare tensor gets a gradient, that is not part of the model: not trained or saved.

    What an optimizer owns all the same, and what is frozen, is a warning.
    """
    untrained = [m for m in wiring.unregistered if m.trainable and not m.optimized]
    for chosen in (untrained, () if untrained else wiring.unregistered):
        modules = [m for m in chosen if m.type not in BARE]
        tensors = [m for m in chosen if m.type in BARE]
        if modules:
            yield _finding(modules, _of_modules(modules, trained=not untrained), trained=not untrained)
        if tensors:
            yield _finding(tensors, _of_tensors(tensors, trained=not untrained), trained=not untrained)


def _of_modules(modules: list[UnregisteredModule], *, trained: bool) -> str:
    harm = (
        "are not in model.state_dict() and do not follow model.to() and model.eval()"
        if trained
        else "are not in model.parameters(), so no optimizer made from it trains them"
    )
    return (
        f"{listed(m.where for m in modules)} ({listed(m.type for m in modules)}) "
        f"{'runs' if len(modules) == 1 else 'run'} in forward, but {sum(m.parameters for m in modules)} parameters of "
        f"theirs {harm}."
    )


def _of_tensors(tensors: list[UnregisteredModule], *, trained: bool) -> str:
    gets, it = ("gets", "it") if len(tensors) == 1 else ("get", "them")
    harm = (
        f"and model.state_dict() does not save {it}"
        if trained
        else f"and no optimizer made from model.parameters() changes {it}"
    )
    return (
        f"{listed(m.where for m in tensors)} {gets} a gradient, {harm}: the model has only the nn.Parameters that are "
        "attributes of its modules."
    )


def _finding(found: list[UnregisteredModule], message: str, *, trained: bool) -> Finding:
    return Finding(
        where=found[0].where,
        message=message,
        evidence={"modules": [m.where for m in found], "parameters": sum(m.parameters for m in found)},
        fixes=tuple(_fixes(found)),
        severity="warning" if trained else None,
        places=tuple(dict.fromkeys(m.where for m in found)),
    )


def _fixes(found: list[UnregisteredModule]) -> list[str]:
    made_anew = [m for m in found if m.where.endswith(".forward")]
    if made_anew:
        kinds, place = listed(m.type for m in made_anew), made_anew[0].where
        return [f"Build {kinds} once in __init__ and assign it to self, not in {place}."]
    if "[" in found[0].where or found[0].type in BARE:
        return list(dict.fromkeys(map(_registered, found)))[:3]
    places = listed(m.where for m in found)
    return [f"Assign {places} to the model as an attribute that is a module, not hidden in another object."]


def _registered(one: UnregisteredModule) -> str:
    """What to write in place of the attribute or container that holds it."""
    kind = "Parameter" if one.type in BARE else "Module"
    if "[" not in one.where:
        return f"Assign {one.where.rpartition('.')[2]} to self as an nn.{kind}, and make the optimizer after that."
    holder, container = one.where.split("[")[0], "Dict" if "['" in one.where else "List"
    return f"Keep {holder} in nn.{kind}{container}({holder}), and make the optimizer after that."
