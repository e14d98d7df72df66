"""From what the user typed as TARGET to a Target, with nothing made up: what the file does not have stays missing."""

from __future__ import annotations

import os
import sys
import warnings
from contextlib import redirect_stdout
from difflib import get_close_matches
from inspect import signature
from pathlib import Path

import torch

from gradcheck_kit.errors import TargetError
from gradcheck_kit.target import Target
from gradcheck_kit.target.find import find_target
from gradcheck_kit.target.source import FORMS, Source, package_root

_NO_PROGRAMS = {
    ".ipynb": "it is a notebook; turn it into a program with `jupyter nbconvert --to script`",
    ".pt": "it holds weights; name the .py file that builds the model",
    ".pth": "it holds weights; name the .py file that builds the model",
    ".ckpt": "it holds weights; name the .py file that builds the model",
    ".safetensors": "it holds weights; name the .py file that builds the model",
}


def load_target(spec: str) -> Target:
    """The model that TARGET names, and the loss, optimizer and data beside it. Raises TargetError, one sentence."""
    if spec.startswith("torchvision:"):
        return _torchvision_model(spec)
    source, name = (spec, "") if spec and Path(spec).exists() else _split(spec)
    return find_target(_source(source), name, spec)


def _split(spec: str) -> tuple[str, str]:
    source, colon, name = spec.rpartition(":")
    if not colon and spec:
        return spec, ""
    if not source or not name.isidentifier():
        raise TargetError(f"{spec!r} is no TARGET; {FORMS}")
    return source, name


def _source(typed: str) -> Source:
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


def _torchvision_model(spec: str) -> Target:
    name = spec.removeprefix("torchvision:")
    try:
        with redirect_stdout(sys.stderr):
            from torchvision import models
    except Exception as error:  # a torchvision that does not fit the installed torch raises RuntimeError and others
        reason = " ".join(str(error).split())[:200]
        raise TargetError(
            f"{spec} needs torchvision, which cannot be imported ({type(error).__name__}: {reason}); "
            f"install the torchvision made for torch {torch.__version__}"
        ) from error
    known = models.list_models()
    if name.lower() not in known:
        near = get_close_matches(name.lower(), known, n=1) or ["resnet18"]
        raise TargetError(f"torchvision has no model {name!r}; did you mean torchvision:{near[0]}?")
    options: dict[str, None] = {"weights": None}
    if "weights_backbone" in signature(models.get_model_builder(name)).parameters:
        options["weights_backbone"] = None  # segmentation and detection would download it otherwise
    try:
        with warnings.catch_warnings(), redirect_stdout(sys.stderr):
            warnings.simplefilter("ignore")  # GoogLeNet and Inception warn about how they will be initialised one day
            model = models.get_model(name, **options)
    except Exception as error:
        raise TargetError(f"torchvision cannot build {name} ({type(error).__name__}: {error})") from error
    return Target(model, name=spec)
