"""Runs a user's file as a module, away from stdout, and turns what it raises into one sentence that says where."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from importlib.machinery import SourceFileLoader
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from itertools import count
from pathlib import Path
from types import CodeType, ModuleType

from gradcheck_kit.errors import TargetError

FORMS = "type a path such as model.py or model.py:name, package.module:name, or torchvision:resnet18"
_NO_PROGRAMS = {
    ".ipynb": "it is a notebook; turn it into a program with `jupyter nbconvert --to script`",
    ".pt": "it holds weights; name the .py file that builds the model",
    ".pth": "it holds weights; name the .py file that builds the model",
    ".ckpt": "it holds weights; name the .py file that builds the model",
    ".safetensors": "it holds weights; name the .py file that builds the model",
}


@dataclass(frozen=True, slots=True)
class Source:
    """What the user pointed at: `name` as it was typed, and the folder that holds their own code."""

    name: str
    root: Path
    path: Path | None = None  # None when it is an importable module that lives anywhere

    @contextmanager
    def running(self) -> Iterator[None]:
        """The user's code runs inside: it prints to stderr, sees no options of ours, and fails as a TargetError."""
        argv, sys.argv = sys.argv, [self.name]
        try:
            with redirect_stdout(sys.stderr):
                yield
        except (Exception, SystemExit) as error:
            raise TargetError(self._blame(error)) from error
        finally:
            sys.argv = argv

    def _blame(self, error: BaseException) -> str:
        place = self._place(error)
        if isinstance(error, SyntaxError):
            return f"{place} is no valid Python ({error.msg}); correct that line"
        if isinstance(error, SystemExit):
            return f'{place} ends the program while it is loaded; move that under `if __name__ == "__main__":`'
        if isinstance(error, ModuleNotFoundError) and error.name:
            if place == self.name and f"{self.name}.".startswith(f"{error.name}."):
                return f"{self.name!r} is neither a file nor a module that can be imported; {FORMS}"
            return (
                f"{place} imports {error.name!r}, which is neither installed nor beside it; "
                "install it, or run gradcheck-kit where the model is trained: same environment, same folder"
            )
        if isinstance(error, ImportError) and "relative import" in str(error):
            return (
                f"{place} imports relative to a package, and its folder is none; "
                f"add an empty __init__.py to {self.root}"
            )
        message = " ".join(str(error).split())
        shown = f"{type(error).__name__}: {message[:200]}" if message else type(error).__name__
        return (
            f'{place} raises {shown}; correct it, or move what only training needs under `if __name__ == "__main__":`'
        )

    def _place(self, error: BaseException) -> str:
        """file:line of the deepest frame in the user's own folder."""
        frames = [(f.filename, f.lineno) for f in traceback.extract_tb(error.__traceback__)]
        if isinstance(error, SyntaxError):
            frames.append((error.filename or "", error.lineno))
        for filename, line in reversed(frames):
            if filename.startswith("<"):  # the import system, generated code
                continue
            file = Path(filename).resolve()
            if file == self.path:
                return f"{self.name}:{line}"
            if file.is_relative_to(self.root) and "site-packages" not in file.relative_to(self.root).parts:
                return f"{shown_path(file)}:{line}"
        return self.name

    def load(self) -> ModuleType:
        """Run the file, or import the module. Raises TargetError for whatever it raises, KeyboardInterrupt apart."""
        with self.running():
            # As `python file.py` and `python -m` have it: the file's folder first, the current one somewhere.
            if str(Path.cwd()) not in sys.path:
                sys.path.append(str(Path.cwd()))
            if self.path is None:
                return import_module(self.name)
            return _import_from_package(self.path) or _run_alone(self.path)


def split_spec(spec: str) -> tuple[str, str]:
    """The file or module that a TARGET names, and the name in it or "". Raises TargetError."""
    if spec and Path(spec).exists():
        return spec, ""
    source, colon, name = spec.rpartition(":")
    if not colon and spec:
        return spec, ""
    if not source or not name.isidentifier():
        raise TargetError(f"{spec!r} is no TARGET; {FORMS}")
    return source, name


def find_source(typed: str) -> Source:
    """The file or module that was typed, before it is loaded. Raises TargetError for a file that is missing or none."""
    path = Path(typed).expanduser()
    if path.is_dir() and (os.sep in typed or not (path / "__init__.py").exists()):
        files = sorted(file.name for file in path.glob("*.py"))
        example = next((file for file in files if "model" in file), files[0] if files else "model.py")
        raise TargetError(f"{typed} is a folder; name the file that holds the model, such as {path / example}")
    if path.is_file():
        if path.suffix != ".py":
            hint = _NO_PROGRAMS.get(path.suffix, FORMS)
            raise TargetError(f"{typed} is no Python file: {hint}")
        path = path.resolve()
        if not path.stat().st_size:
            raise TargetError(f"{typed} is empty; define `model` in it, or name the file that does")
        return Source(typed, package_root(path), path)
    if path.suffix == ".py" or os.sep in typed:
        near = get_close_matches(path.name, [f.name for f in path.parent.glob("*.py")], n=1)
        hint = f"did you mean {path.parent / near[0]}?" if near else "check the path"
        raise TargetError(f"{typed} does not exist; {hint}")
    if not all(part.isidentifier() for part in typed.split(".")):
        raise TargetError(f"{typed!r} is neither a file nor a module's name; {FORMS}")
    return Source(typed, Path.cwd())


def shown_path(path: Path) -> str:
    """Relative to the current folder where that is shorter."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def package_root(path: Path) -> Path:
    """The first folder upwards that is no package: the one that belongs on sys.path."""
    root = path.parent
    while (root / "__init__.py").exists():
        root = root.parent
    return root


def _import_from_package(path: Path) -> ModuleType | None:
    """package.module, so that its relative imports work; None when the file is in no package, or in a hidden one."""
    root = package_root(path)
    parts = path.relative_to(root).with_suffix("").parts
    parts = parts[:-1] if parts[-1] == "__init__" else parts
    loaded = sys.modules.get(parts[0])
    elsewhere = loaded is not None and Path(loaded.__file__ or "").resolve().parent != root / parts[0]
    if root == path.parent or elsewhere or any("." in part for part in parts):
        return None
    _put_first(root)
    return import_module(".".join(parts))


def _run_alone(path: Path) -> ModuleType:
    """A file by itself. Its name is free in sys.modules, which dataclasses and pickle look into while it runs."""
    name = path.stem
    installed = _is_installed(name)
    if installed or name in sys.modules:
        name = next(free for n in count(2) if (free := f"{path.stem}_{n}") not in sys.modules)
    if not installed:
        _put_first(path.parent)
    elif str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # what is installed under the file's name has to stay reachable
    spec = spec_from_file_location(name, path, loader=_FreshLoader(name, str(path)))
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


class _FreshLoader(SourceFileLoader):
    """Neither trusts nor leaves a __pycache__: a file edited twice within a second is read twice."""

    def get_code(self, fullname: str) -> CodeType:  # noqa: ARG002
        return self.source_to_code(self.get_data(self.path), self.path)


def _is_installed(name: str) -> bool:
    if name in sys.stdlib_module_names:
        return True
    try:
        spec = find_spec(name) if name.isidentifier() else None
    except ValueError:  # __main__ and the like are loaded without one
        return True
    return spec is not None and "-packages" in (spec.origin or "")


def _put_first(folder: Path) -> None:
    if sys.path[:1] != [str(folder)]:
        sys.path.insert(0, str(folder))
