"""The text of the user's own program: its classes, and which expression makes what. Nothing of it is run.

What cannot be told for sure is None: a wrong line in a report is worse than none.
"""

from __future__ import annotations

import ast
import sys
import sysconfig
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FunctionType

import torch

Scope = ast.Module | ast.FunctionDef | ast.AsyncFunctionDef
_DEFINITIONS = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda
_FOREIGN = [
    Path(__file__).resolve().parent.parent,
    Path(torch.__file__).resolve().parent,
    *(Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")),
]
_RETURNS_ITSELF = frozenset(
    ["to", "cuda", "cpu", "eval", "train", "half", "float", "double", "bfloat16", "requires_grad_", "apply"]
)
_WRAPPERS = {"compile", "DataParallel", "DistributedDataParallel"}
_REORDERING = {"insert", "pop", "remove", "reverse", "sort", "clear"}


@dataclass(frozen=True, slots=True)
class Spot:
    """An expression or definition, with the function or file in which its names mean something."""

    file: Path
    node: ast.expr | ast.stmt
    scope: Scope
    name: str = ""  # what it is assigned to, dotted: "self.layers"


@dataclass(frozen=True, slots=True)
class Text:
    """One file of the user's."""

    file: Path
    tree: ast.Module
    classes: dict[str, list[ast.ClassDef]]  # by qualified name
    functions: dict[str, ast.FunctionDef]


@dataclass(slots=True)
class Library:
    """The files that were read so far, each once."""

    texts: dict[Path, Text | None] = field(default_factory=dict)
    known: dict[type, tuple[Text, ast.ClassDef] | None] = field(default_factory=dict)

    def text(self, file: Path) -> Text | None:
        """The file, if it is the user's own: neither installed, nor torch's, Python's or ours."""
        file = file.resolve()
        if file not in self.texts:
            self.texts[file] = _read(file) if _is_own(file) else None
        return self.texts[file]

    def class_of(self, kind: type) -> tuple[Text, ast.ClassDef] | None:
        """Where the user wrote a class. None for what others wrote, and for what has no text or another by now."""
        if kind not in self.known:
            self.known[kind] = self._find(kind)
        return self.known[kind]

    def _find(self, kind: type) -> tuple[Text, ast.ClassDef] | None:
        file = getattr(sys.modules.get(kind.__module__), "__file__", None)  # inspect would search all modules
        text = self.text(Path(file)) if isinstance(file, str) else None
        if text is None:
            return None
        # Where a name is defined twice, its methods tell which one it is.
        lines = [
            member.__code__.co_firstlineno
            for member in vars(kind).values()
            if isinstance(member, FunctionType) and Path(member.__code__.co_filename).resolve() == text.file
        ]
        found = [
            node
            for node in text.classes.get(kind.__qualname__, [])
            if all(node.lineno <= line <= (node.end_lineno or 0) for line in lines)
        ]
        return (text, found[0]) if len(found) == 1 else None


def _is_own(file: Path) -> bool:
    installed = {"site-packages", "dist-packages"} & set(file.parts) or any(map(file.is_relative_to, _FOREIGN))
    return file.suffix == ".py" and not installed and file.is_file()


def _read(file: Path) -> Text:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Python has already said what it thinks of the file's strings
        tree = ast.parse(file.read_bytes())
    classes: dict[str, list[ast.ClassDef]] = {}
    waiting: deque[tuple[str, ast.AST]] = deque([("", tree)])
    while waiting:
        prefix, parent = waiting.popleft()
        for node in ast.iter_child_nodes(parent):
            inner = prefix
            if isinstance(node, ast.ClassDef):
                classes.setdefault(prefix + node.name, []).append(node)
                inner = f"{prefix}{node.name}."
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                inner = f"{prefix}{node.name}.<locals>."
            if not isinstance(node, ast.expr):
                waiting.append((inner, node))
    return Text(file, tree, classes, {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)})


# ---- what is assigned --------------------------------------------------------------------------------------------


def own_nodes(scope: Scope) -> Iterator[ast.AST]:
    """Everything in a function or file but what stands in definitions inside it, or runs only as a script."""
    waiting = deque[ast.AST](scope.body)
    while waiting:
        node = waiting.popleft()
        yield node
        script = isinstance(node, ast.If) and "__name__" in _names(node.test)
        if not isinstance(node, _DEFINITIONS) and not script:
            waiting.extend(ast.iter_child_nodes(node))


def assigned(scope: Scope) -> Iterator[tuple[str, ast.expr]]:
    """Names, dotted, and the expressions that are assigned to them."""
    for node in own_nodes(scope):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                yield from _pairs(target, node.value)
        elif isinstance(node, ast.AnnAssign | ast.NamedExpr) and node.value is not None:
            yield from _pairs(node.target, node.value)


def _pairs(target: ast.expr, value: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(target, ast.Tuple | ast.List):
        same = isinstance(value, ast.Tuple | ast.List) and len(value.elts) == len(target.elts)
        for i, part in enumerate(target.elts):
            yield from _pairs(part, value.elts[i] if same and isinstance(value, ast.Tuple | ast.List) else value)
    elif name := dotted(target):
        yield name, value


def dotted(node: ast.AST) -> str:
    """The expression as a path, "self.fc" or "model.classifier.1"; "" for what is none."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{first}.{node.attr}" if (first := dotted(node.value)) else ""
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        return f"{first}.{node.slice.value!s}" if (first := dotted(node.value)) else ""
    return ""


def _names(node: ast.AST) -> set[str]:
    return {inner.id for inner in ast.walk(node) if isinstance(inner, ast.Name)}


def called(node: ast.AST) -> str:
    """The last name of what is called: "Linear" for nn.Linear(64, 10)."""
    function = node.func if isinstance(node, ast.Call) else None
    return function.attr if isinstance(function, ast.Attribute) else dotted(function) if function is not None else ""


def the_one(values: Sequence[ast.expr], kind: str) -> ast.expr | None:
    """The expression that makes it, of those assigned to one name; of several the one that calls its class."""
    values = [v for v in values if not (isinstance(v, ast.Constant) and v.value is None)]
    if len(values) > 1:
        values = [v for v in values if called(unwrapped(v)) == kind]
    return values[0] if len(values) == 1 else None


def unwrapped(node: ast.expr) -> ast.expr:
    """What makes the module: without .to(device) behind it and torch.compile around it."""
    while isinstance(node, ast.Call):
        if isinstance(node.func, ast.Attribute) and node.func.attr in _RETURNS_ITSELF:
            node = node.func.value
        elif called(node) in _WRAPPERS and node.args:
            node = node.args[0]
        else:
            break
    return node


def origin(text: Text, name: str, kind: str) -> Spot | None:
    """What makes the object of that name in the file; functions of the file are followed to what they return."""
    for statement in text.tree.body:
        if isinstance(statement, ast.ClassDef | ast.FunctionDef) and statement.name == name:
            return _followed(text, Spot(text.file, statement, text.tree, name), kind)
    spot = _variable(text, text.tree, name, kind)
    return None if spot is None else _followed(text, spot, kind)


def _variable(text: Text, scope: Scope, name: str, kind: str) -> Spot | None:
    values = [value for target, value in assigned(scope) if target == name and name not in _names(value)]
    value = the_one(values, kind)
    return None if value is None else Spot(text.file, unwrapped(value), scope, name)


def _followed(text: Text, spot: Spot, kind: str, depth: int = 5) -> Spot:
    node = spot.node
    further: Spot | None = None
    if isinstance(node, ast.FunctionDef):
        returned = [n.value for n in own_nodes(node) if isinstance(n, ast.Return) and n.value is not None]
        if len(returned) == 1:
            further = Spot(text.file, unwrapped(returned[0]), node)
    elif isinstance(node, ast.Name):
        further = _variable(text, spot.scope, node.id, kind) or _variable(text, text.tree, node.id, kind)
    elif isinstance(node, ast.Call) and called(node) == "Target":
        given = [*node.args[:1], *(k.value for k in node.keywords if k.arg == "model")]
        further = Spot(text.file, unwrapped(given[0]), spot.scope) if given else None
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in text.functions:
        further = Spot(text.file, text.functions[node.func.id], text.tree)
    return spot if further is None or not depth else _followed(text, further, kind, depth - 1)


# ---- members of containers ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Run:
    """Expressions for members that follow one another; `repeated`: nobody knows how often, as in a loop."""

    expressions: tuple[ast.expr, ...]
    repeated: bool = False


def member(spot: Spot, key: str, count: int) -> Spot | None:
    """What makes the member `key` of `count`, in nn.Sequential(...), nn.ModuleList([...]), nn.ModuleDict({...})."""
    call = spot.node
    if not isinstance(call, ast.Call) or called(call) not in ("Sequential", "ModuleList", "ModuleDict", "__init__"):
        return None
    first = call.args[0] if len(call.args) == 1 else None
    keyed = _keyed(first) if first is not None else None
    if keyed is not None:
        found = keyed.get(key, keyed.get(""))
    elif not key.isdigit():
        return None
    else:
        inside = called(call) == "ModuleList" and first is not None
        runs = _runs(first, spot.scope) if inside and first is not None else _each(call.args, spot.scope)
        grown = _growth(spot.scope, spot.name) if spot.name else []
        found = None if grown is None else _at([*runs, *grown], int(key), count)
    return None if found is None else Spot(spot.file, found, spot.scope)


def _keyed(node: ast.expr) -> dict[str, ast.expr] | None:
    """Expressions by the names that their modules get; under "" the one for every name."""
    if isinstance(node, ast.DictComp):
        return {"": node.value}
    if isinstance(node, ast.Dict):
        return {str(k.value): v for k, v in zip(node.keys, node.values, strict=True) if isinstance(k, ast.Constant)}
    if called(node) not in ("OrderedDict", "dict") or not isinstance(node, ast.Call):
        return None
    found = {k.arg: k.value for k in node.keywords if k.arg}
    items = node.args[0].elts if node.args and isinstance(node.args[0], ast.List | ast.Tuple) else []
    for item in items:
        if isinstance(item, ast.Tuple) and len(item.elts) == 2 and isinstance(item.elts[0], ast.Constant):
            found[str(item.elts[0].value)] = item.elts[1]
    return found


def _each(elements: Sequence[ast.expr], scope: Scope) -> list[_Run]:
    runs: list[_Run] = []
    for element in elements:
        runs += _runs(element.value, scope) if isinstance(element, ast.Starred) else [_Run((element,))]
    return runs


def _runs(node: ast.expr, scope: Scope) -> list[_Run]:
    """What the elements of a list are made by."""
    if isinstance(node, ast.List | ast.Tuple):
        return _each(node.elts, scope)
    if isinstance(node, ast.ListComp | ast.GeneratorExp):
        return [_Run((node.elt,), repeated=True)]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _runs(node.left, scope) + _runs(node.right, scope)
    if name := dotted(node):
        values = [value for target, value in assigned(scope) if target == name]
        grown = _growth(scope, name)
        if len(values) == 1 and isinstance(values[0], ast.List | ast.Tuple | ast.ListComp) and grown is not None:
            return _runs(values[0], scope) + grown
    return [_Run((node,), repeated=True)]


def _growth(scope: Scope, name: str) -> list[_Run] | None:
    """What is appended to a list later; None where its order changes."""
    runs = []
    for node in own_nodes(scope):
        if isinstance(node, ast.AugAssign) and dotted(node.target) == name:
            runs.append(_Run(_plain(node.value), repeated=True))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and dotted(node.func.value) == name:
            if node.func.attr in _REORDERING:
                return None
            if node.func.attr == "append" and node.args:
                runs.append(_Run((node.args[0],), repeated=True))
            elif node.func.attr == "extend" and node.args:
                runs.append(_Run(_plain(node.args[0]), repeated=True))
    return runs


def _plain(node: ast.expr) -> tuple[ast.expr, ...]:
    literal = isinstance(node, ast.List | ast.Tuple) and not any(isinstance(e, ast.Starred) for e in node.elts)
    return tuple(node.elts) if literal and isinstance(node, ast.List | ast.Tuple) else (node,)


def _at(runs: Sequence[_Run], index: int, count: int) -> ast.expr | None:
    """The expression of element `index` of `count`: counted from the front, from the back, or in the one loop."""
    loops = [i for i, run in enumerate(runs) if run.repeated]
    head = [e for run in (runs[: loops[0]] if loops else runs) for e in run.expressions]
    tail = [e for run in (runs[loops[-1] + 1 :] if loops else ()) for e in run.expressions]
    if len(head) + len(tail) > count or (not loops and len(head) != count):
        return None  # it was changed somewhere else
    if index < len(head):
        return head[index]
    if index >= count - len(tail):
        return tail[index - count]
    if len(loops) != 1 or not runs[loops[0]].expressions:
        return None
    repeated = runs[loops[0]].expressions
    return repeated[(index - len(head)) % len(repeated)]
