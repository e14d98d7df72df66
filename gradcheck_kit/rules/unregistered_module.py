from __future__ import annotations

from collections.abc import Iterator

from gradcheck_kit.facts import UnregisteredModule, Wiring
from gradcheck_kit.rule import Finding, listed, rule


@rule("GK401", needs=(Wiring,), explains=("GK201", "GK205", "GK601", "GK604", "GK606"))
def unregistered_module(wiring: Wiring) -> Iterator[Finding]:
    """A module with parameters runs in forward and is not part of the model: not trained, not saved, not moved."""
    trained = [m for m in wiring.unregistered if m.trainable and not m.optimized]
    others = [m for m in wiring.unregistered if m not in trained]
    if trained:
        yield _finding(trained, "are not in model.parameters(), so no optimizer made from it trains them", None)
    elif others:
        yield _finding(others, "are not in model.state_dict() and do not follow model.to() and model.eval()", "warning")


def _finding(modules: list[UnregisteredModule], harm: str, severity: str | None) -> Finding:
    places = listed(m.where for m in modules)
    parameters = sum(m.parameters for m in modules)
    made_anew = [m for m in modules if m.where.endswith(".forward")]
    if made_anew:
        kinds, place = listed(m.type for m in made_anew), made_anew[0].where
        fix = f"Build {kinds} once in __init__ and assign it to self, not in {place}."
    else:
        holder = modules[0].where.split("[")[0]
        container = "nn.ModuleDict" if "['" in modules[0].where else "nn.ModuleList"
        fix = (
            f"Keep {holder} in {container}({holder}), and make the optimizer after that."
            if "[" in modules[0].where
            else f"Assign {places} to the model as an attribute that is a module, not hidden in another object."
        )
    verb = "runs" if len(modules) == 1 else "run"
    return Finding(
        where=modules[0].where,
        message=f"{places} ({listed(m.type for m in modules)}) {verb} in forward, but {parameters} parameters of "
        f"theirs "
        f"{harm}.",
        evidence={"modules": [m.where for m in modules], "parameters": parameters},
        fixes=(fix,),
        severity="warning" if severity == "warning" else None,
        places=tuple(dict.fromkeys(m.where for m in modules)),
    )
