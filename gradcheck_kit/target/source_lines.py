"""Where the user's own program makes each module, so that a finding can point at a line."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import nn

from gradcheck_kit.target.program_text import (
    Library,
    Spot,
    Text,
    assigned,
    called,
    member,
    origin,
    own_nodes,
    the_one,
    unwrapped,
)
from gradcheck_kit.trace import SourceLine

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_LOSSES = ("loss_fn", "criterion", "loss_function")
_OPTIMIZERS = ("optimizer", "optim", "opt", "optimizers")


@dataclass(frozen=True, slots=True)
class Program:
    """The file of a TARGET, the model's name in it, and what else of it is used."""

    file: Path
    name: str
    loss: bool = False
    optimizer: bool = False
    train_name: str = ""


def source_lines(model: nn.Module, program: Program | None = None) -> tuple[SourceLine, ...]:
    """The lines that make the model and its modules: the call, or else the class around it.

    A module is left out where its line is that of the module around it, or is not known. Without `program` only what
    the user's own classes make is found. Never raises: no line is worth a probe.
    """
    try:
        return tuple(_Search(Library()).lines(model, program))
    except Exception:  # noqa: BLE001  # a program may be written in any way, and change while it is read
        return ()


@dataclass(slots=True)
class _Search:
    library: Library
    overrides: dict[str, Spot] = field(default_factory=dict)  # modules that are put in from outside: model.fc = ...
    told: dict[str, SourceLine] = field(default_factory=dict)
    members: dict[ast.ClassDef, dict[str, list[Spot]]] = field(default_factory=dict)

    def lines(self, model: nn.Module, program: Program | None) -> Iterator[SourceLine]:
        text = None if program is None else self.library.text(program.file)
        root = None
        if program is not None and text is not None:
            root = origin(text, program.name, type(model).__name__)
        if text is not None and root is not None:
            self.overrides = _put_in(text, root)
        self.module(model, "", root, set())
        if program is not None and text is not None:
            self.surroundings(text, program)
        forward = self._forward(model)
        if forward is not None and "forward" not in self.told:
            self.told["forward"] = _line("forward", forward)
        yield from self.told.values()

    def module(self, module: nn.Module, place: str, spot: Spot | None, seen: set[int]) -> None:
        """Tell where a module is made, then its parameters and members. Every module counts under its first name."""
        seen.add(id(module))
        own = [written for kind in type(module).__mro__ if (written := self.library.class_of(kind)) is not None]
        if spot is None and own and not place:
            spot = _class(own)
        self.tell(place, spot)
        children = {name: child for name, child in module._modules.items() if child is not None}  # noqa: SLF001  # named_children() leaves out doubles, and counts are needed
        if own:
            for name in (*module._parameters, *_hidden(module)):  # noqa: SLF001  # without those of its modules
                self.tell(_join(place, name), self.attribute(own, name, ""))
        for name, child in children.items():
            if id(child) in seen:
                continue
            if name == "_orig_mod":  # torch.compile's wrapper, which no name in a report shows
                self.module(child, place, spot, seen)
                continue
            at = _join(place, name)
            found = self.overrides.get(at)
            if found is not None and called(found.node) != type(child).__name__:
                found = None  # it stands in a branch that was not taken
            if found is None and own:
                found = self.attribute(own, name, type(child).__name__, len(children)) or _class(own)
            elif found is None and spot is not None and type(module) in _CONTAINERS:
                found = member(spot, name, len(children))
            self.module(child, at, found, seen)

    def tell(self, place: str, spot: Spot | None) -> None:
        """Note the line, unless the nearest module around it says the same. The model's own modules are all noted."""
        around = self.told.get("")
        parts = place.split(".")
        for i in range(1, len(parts)):
            around = self.told.get(".".join(parts[:i]), around)
        found = around if spot is None else _line(place, spot)
        if found is None or (len(parts) > 1 and around and (found.file, found.line) == (around.file, around.line)):
            return
        self.told[place] = SourceLine(place, found.file, found.line)

    def attribute(self, own: list[tuple[Text, ast.ClassDef]], name: str, kind: str, count: int = 0) -> Spot | None:
        """What the user's class assigns to self.name, or gives to the constructor of nn.Sequential under it."""
        for text, node in own:
            if node not in self.members:
                self.members[node] = dict(_members(text, node))
            spots = self.members[node].get(name, [])
            if spots:
                value = the_one([spot.node for spot in spots if isinstance(spot.node, ast.expr)], kind)
                found = next((spot for spot in spots if spot.node is value), None)
                return replace(found, node=unwrapped(value)) if found is not None and value is not None else None
            for spot in self.members[node].get("", []):  # super().__init__(nn.Linear(...), ...)
                if made := member(spot, name, count):
                    return made
        return None

    def surroundings(self, text: Text, program: Program) -> None:
        """Loss, optimizer and data, as the file names them."""
        names = {
            "loss": _LOSSES if program.loss else (),
            "optimizer": _OPTIMIZERS if program.optimizer else (),
            "train_data": (program.train_name,) if program.train_name else (),
        }
        for place, candidates in names.items():
            for name in candidates:
                values = [value for target, value in assigned(text.tree) if target == name]
                if values and place not in self.told:
                    if len(values) == 1:
                        self.told[place] = _line(place, Spot(text.file, values[0], text.tree))
                    break

    def _forward(self, model: nn.Module) -> Spot | None:
        for kind in type(model).__mro__:
            found = self.library.class_of(kind)
            for statement in found[1].body if found is not None else ():
                if isinstance(statement, ast.FunctionDef) and statement.name == "forward" and found is not None:
                    return Spot(found[0].file, statement, found[0].tree)
        return None


def _members(text: Text, node: ast.ClassDef) -> Iterator[tuple[str, list[Spot]]]:
    """What the class's methods assign to attributes of self: in its constructor, or else in other methods.

    Under "" stand the constructor's calls of super().__init__.
    """
    methods = [statement for statement in node.body if isinstance(statement, ast.FunctionDef) and statement.args.args]
    found: dict[str, list[Spot]] = {}
    for constructs in (True, False):
        settled = set(found)
        for method in methods:
            start = method.args.args[0].arg + "."
            for target, value in assigned(method) if (method.name == "__init__") is constructs else ():
                name = target.removeprefix(start)
                if name != target and name not in settled:
                    found.setdefault(name, []).append(Spot(text.file, value, method, target))
    yield from found.items()
    yield (
        "",
        [
            Spot(text.file, call, method)
            for method in methods
            if method.name == "__init__"
            for call in own_nodes(method)
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute) and call.func.attr == "__init__"
        ],
    )


def _put_in(text: Text, root: Spot) -> dict[str, Spot]:
    """Modules that are assigned to the model from outside, where it is made: model.fc = nn.Linear(512, 10)."""
    found: dict[str, list[Spot]] = {}
    for target, value in assigned(root.scope):
        name = target.removeprefix(root.name + ".")
        if root.name and name != target:
            found.setdefault(name, []).append(Spot(text.file, unwrapped(value), root.scope, target))
    return {name: spots[0] for name, spots in found.items() if len(spots) == 1}


def _hidden(module: nn.Module) -> Iterator[str]:
    """Plain lists and dicts that hold modules: a rule tells that nobody trains them."""
    for name, value in vars(module).items():
        items = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
        if not name.startswith("_") and any(isinstance(item, nn.Module) for item in items):
            yield name


def _class(own: list[tuple[Text, ast.ClassDef]]) -> Spot:
    return Spot(own[0][0].file, own[0][1], own[0][0].tree)


def _join(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _line(place: str, spot: Spot) -> SourceLine:
    folder = Path.cwd()
    file = spot.file.relative_to(folder) if spot.file.is_relative_to(folder) else spot.file
    return SourceLine(place, file.as_posix(), spot.node.lineno)
