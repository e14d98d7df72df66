"""Reads a user's module as a person would: which object is the model, and which are its loss, optimizer and data."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.loss import _Loss
from torch.optim import Optimizer
from torch.utils import _pytree as pytree
from torch.utils.data import Dataset

from gradcheck_kit.errors import TargetError
from gradcheck_kit.target import Target
from gradcheck_kit.target.source import Source

MODEL_NAMES = ("model", "net")
# The first argument of a step that is given no model.
DATA_NAMES = ("x", "xs", "xb", "batch", "data", "input", "inputs", "image", "images", "imgs", "text", "tokens", "src",
              "sample", "samples", "features", "state", "states", "self")  # fmt: skip
BUILDER_NAMES = ("build_model", "make_model", "get_model", "create_model")
LOSS_NAMES = ("loss_fn", "criterion", "loss_function")
OPTIMIZER_NAMES = ("optimizer", "optim", "opt", "optimizers")
TRAIN_NAMES = (
    "train_loader", "train_dataloader", "trainloader", "train_dl", "train_data", "train_dataset", "trainset",
    "train_set", "train_ds", "dataloader", "loader", "data_loader",
)  # fmt: skip
TEST_NAMES = (
    "test_loader", "val_loader", "valid_loader", "testloader", "valloader", "validloader", "test_dataloader",
    "val_dataloader", "valid_dataloader", "test_dl", "val_dl", "valid_dl", "test_data", "val_data", "valid_data",
    "test_dataset", "val_dataset", "valid_dataset", "testset", "valset", "validset", "test_set", "val_set",
    "valid_set", "test_ds", "val_ds", "valid_ds",
)  # fmt: skip


def find_target(source: Source, name: str, spec: str) -> Target:
    """The Target in a user's file. Raises TargetError when there is none, several, or one that does not load."""
    return _Reader(source, source.load()).target(name, spec)


class _Reader:
    """One loaded module of the user's."""

    def __init__(self, source: Source, module: ModuleType) -> None:
        self.source = source
        self.module = module
        self.names = vars(module)

    def target(self, name: str, spec: str) -> Target:
        settled = self.names.get("gradcheck_target")
        if name:
            found = self._named(name)
        elif settled is not None:
            name, found = "gradcheck_target", self._settled(settled)
        else:
            name = self._choose()
            found = self._make(name)
        shown = spec if spec.endswith(f":{name}") else f"{spec}:{name}"
        if isinstance(found, Target):
            if not isinstance(found.model, nn.Module):
                raise TargetError(
                    f"{shown}: the Target's model is {_a(found.model)}, not a torch.nn.Module; give it the model itself"
                )
            return replace(found, name=shown, file=self._file())
        return replace(self._with_conventional_names(found, shown), file=self._file())

    def _file(self) -> Path | None:
        file = getattr(self.module, "__file__", None)
        return None if file is None else Path(file)

    # -- the model --

    def _named(self, name: str) -> nn.Module | Target:
        if name not in self.names:
            known = [n for n, value in self.names.items() if not n.startswith("_") and _may_be_model(value)]
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {self.source.name}:{near[0]}?" if near else f"it has {_listed(known) or 'no model'}"
            raise TargetError(f"{self.source.name} has no {name!r}; {hint}")
        return self._make(name)

    def _settled(self, function: Any) -> Target:
        made = self._make("gradcheck_target") if callable(function) else function
        if not isinstance(made, Target):
            raise TargetError(
                f"gradcheck_target() in {self.source.name} gives {_a(made)}; "
                "return gradcheck_kit.Target(model, train_data, ...)"
            )
        return made

    def _make(self, name: str) -> nn.Module | Target:
        """The model of that name: the object itself, or what the class or function returns."""
        value = self.names[name]
        shown = f"{self.source.name}:{name}"
        if isinstance(value, nn.Module | Target):
            return value
        if not callable(value) or (isinstance(value, type) and not issubclass(value, nn.Module | Target)):
            raise TargetError(
                f"{shown} is {_a(value)}; name an nn.Module, a class of one, or a function that returns one"
            )
        missing = needed_arguments(value)
        if missing:
            if name == "gradcheck_target":
                raise TargetError(f"{shown} takes {_listed(missing)}; it is called without arguments")
            call = f"{name}({', '.join(f'{argument}=...' for argument in missing)})"
            raise TargetError(
                f"{shown} needs {_listed(missing)}; write `model = {call}` in {self.source.name}, "
                f"or `def gradcheck_target(): return gradcheck_kit.Target({call})`"
            )
        with self.source.running():
            made = value()
        if name != "gradcheck_target" and not isinstance(made, nn.Module | Target):
            raise TargetError(f"{shown}() returns {_a(made)}; return the nn.Module, or a gradcheck_kit.Target")
        return made  # type: ignore[no-any-return]

    def _choose(self) -> str:
        """The name under which the file's model is found."""
        for name in MODEL_NAMES:
            if isinstance(self.names.get(name), nn.Module):
                return name
        for name in BUILDER_NAMES:
            value = self.names.get(name)
            if isinstance(value, FunctionType) and not needed_arguments(value):
                return name
        losses = [self.names.get(name) for name in LOSS_NAMES]
        instances = {
            id(value): name
            for name, value in reversed(self.names.items())
            if isinstance(value, nn.Module) and not isinstance(value, _Loss) and not any(value is x for x in losses)
        }
        classes = self._outermost([type(loss) for loss in losses])
        if len(classes) == 1:
            own = [name for name in instances.values() if type(self.names[name]) is self.names[classes[0]]]
            return own[0] if len(own) == 1 else classes[0]
        several = classes or sorted(instances.values())
        if len(several) == 1:
            return several[0]
        if several:
            raise TargetError(
                f"{self.source.name} has several models ({', '.join(several)}); "
                f"name one: gradcheck-kit scan {self.source.name}:{several[-1]}"
            )
        raise TargetError(
            f"{self.source.name} defines no model; call one `model`, or write "
            "`def gradcheck_target()` that returns a gradcheck_kit.Target; "
            'what stands under `if __name__ == "__main__":` is not run'
        )

    def _outermost(self, losses: list[type]) -> list[str]:
        """The nn.Module classes defined in the file that nothing else in the file contains or inherits from."""
        classes = {
            value.__name__: value
            for value in self.names.values()
            if isinstance(value, type) and issubclass(value, nn.Module) and value.__module__ == self.module.__name__
        }
        classes = {name: cls for name, cls in classes.items() if self.names.get(name) is cls}
        models = {n: c for n, c in classes.items() if not issubclass(c, _Loss) and c not in losses}
        models = {n: c for n, c in models.items() if not n.endswith("Loss")} or models
        inner = {n for n, c in models.items() if any(c in other.__mro__[1:] for other in models.values())}
        inner |= _mentioned_by_others(self.module, set(models))
        outer = [name for name in models if name not in inner] or list(models)
        return self._not_built_by_others(outer) if len(outer) > 1 else outer

    def _not_built_by_others(self, names: list[str]) -> list[str]:
        """Without the classes that appear only at run time inside another: from a registry, by getattr."""
        contained: set[type] = set()
        for name in names:
            if not needed_arguments(self.names[name]):
                made = self._make(name)
                assert isinstance(made, nn.Module)
                contained |= {type(module) for module in made.modules() if type(module) is not type(made)}
        return [name for name in names if self.names[name] not in contained] or names

    # -- what belongs to it --

    def _with_conventional_names(self, model: nn.Module, shown: str) -> Target:
        train_name, train = self._loader(TRAIN_NAMES)
        test_name, test = self._loader(TEST_NAMES)
        return Target(
            model,
            train,
            test,
            loss_fn=self._first(LOSS_NAMES, lambda v: callable(v) and not isinstance(v, type)),
            optimizer=self._optimizer(model),
            training_step=self._first(("training_step",), _takes_model_and_batch),
            name=shown,
            train_name=train_name,
            test_name=test_name,
            notes=self._unused_step(),
        )

    def _unused_step(self) -> tuple[str, ...]:
        """A note where the file has a training step of another form: what is judged is then not what it trains."""
        step = self.names.get("training_step")
        if not isinstance(step, FunctionType) or _takes_model_and_batch(step):
            return ()
        given = ", ".join(needed_arguments(step))
        return (f"training_step({given}) is not used: only one that takes (model, batch) and returns the loss is",)

    def _first(self, names: tuple[str, ...], fits: Callable[[Any], bool]) -> Any:
        return next((self.names[name] for name in names if name in self.names and fits(self.names[name])), None)

    def _optimizer(self, model: nn.Module) -> Any:
        """The file's optimizer, also one made on the wrong parameters; for another model than `model` only its own."""
        found = self._first(OPTIMIZER_NAMES, lambda value: bool(list(_optimizers(value))))
        main = self._first(MODEL_NAMES, lambda value: isinstance(value, nn.Module))
        own = {id(parameter) for parameter in model.parameters()}
        owned = {id(p) for optimizer in _optimizers(found) for group in optimizer.param_groups for p in group["params"]}
        return found if model is main or own & owned else None

    def _loader(self, names: tuple[str, ...]) -> tuple[str, Any]:
        for name in names:
            # What is called a loader is one, also when it is empty: its absence would be made up for silently.
            named_so = "loader" in name and isinstance(self.names.get(name), list | tuple)
            if named_so or _yields_batches(self.names.get(name)):
                return name, self.names[name]
        for name in (names[0], *(f"{verb}_{n}" for n in names for verb in ("get", "make", "build"))):
            function = self.names.get(name)
            if isinstance(function, FunctionType) and not needed_arguments(function):
                with self.source.running():
                    made = function()
                if _yields_batches(made):
                    return name, made
        return names[0], None


def needed_arguments(function: Callable[..., Any]) -> list[str]:
    """The arguments without a default."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # written in C
        return []
    return [p.name for p in parameters if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]


def _mentioned_by_others(module: ModuleType, classes: set[str]) -> set[str]:
    """The classes that another class in the file mentions, by itself or through functions and tables of the file."""
    try:
        tree = ast.parse(inspect.getsource(module))
    except (OSError, TypeError):  # a module without source, or a namespace package
        return set()
    mentions = {name: _names_in(statement) for statement in tree.body for name in _defined_by(statement)}
    inner: set[str] = set()
    for name in classes & mentions.keys():
        reached: set[str] = set()
        front = [name]
        while front:
            fresh = (mentions[front.pop()] & mentions.keys()) - reached
            reached |= fresh
            front.extend(fresh)
        inner |= reached - {name}
    return inner & classes


def _defined_by(statement: ast.stmt) -> Iterator[str]:
    if isinstance(statement, ast.ClassDef | ast.FunctionDef):
        yield statement.name
    elif isinstance(statement, ast.Assign | ast.AnnAssign):
        targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
        yield from (target.id for target in targets if isinstance(target, ast.Name))


def _names_in(statement: ast.stmt) -> set[str]:
    """The names it reads from around it; one that is also an argument or a variable of its own is not counted."""
    names = [node for node in ast.walk(statement) if isinstance(node, ast.Name)]
    own = {node.arg for node in ast.walk(statement) if isinstance(node, ast.arg)}
    own |= {name.id for name in names if isinstance(name.ctx, ast.Store)}
    return {name.id for name in names if isinstance(name.ctx, ast.Load)} - own


def _optimizers(value: Any) -> Iterator[Optimizer]:
    for item in value if isinstance(value, list | tuple) else (value,):
        if isinstance(item, Optimizer):
            yield item


def _yields_batches(value: Any) -> bool:
    """Whether it can be read as data: no class, no model, no table of numbers or names."""
    if isinstance(value, Tensor | Dataset):
        return True
    if isinstance(value, list | tuple):
        return bool(value) and any(isinstance(leaf, Tensor) for leaf in pytree.tree_leaves(value[0]))
    if isinstance(value, type | str | bytes | Mapping | nn.Module) or hasattr(value, "__array__"):
        return False
    return hasattr(value, "__iter__")


def _takes_model_and_batch(value: Any) -> bool:
    """Whether it is called so, whatever its author calls the model: netG, policy, flow."""
    arguments = needed_arguments(value) if isinstance(value, FunctionType) else []
    return len(arguments) == 2 and arguments[0].lower() not in DATA_NAMES


def _may_be_model(value: Any) -> bool:
    return isinstance(value, nn.Module | Target) or (isinstance(value, type) and issubclass(value, nn.Module))


def _a(value: Any) -> str:
    if value is None:
        return "None"
    name = "class" if isinstance(value, type) else type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def _listed(names: list[str]) -> str:
    return ", ".join(names)
