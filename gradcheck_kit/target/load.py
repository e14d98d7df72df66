"""From what the user typed as TARGET to a Target, with nothing made up: what the file does not have stays missing."""

from __future__ import annotations

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
from gradcheck_kit.target.source import find_source, split_spec


def load_target(spec: str) -> Target:
    """The model that TARGET names, and the loss, optimizer and data beside it. Raises TargetError, one sentence."""
    if spec.startswith("torchvision:"):
        return _torchvision_model(spec)
    source, name = split_spec(spec)
    return find_target(find_source(source), name, spec)


def spec_key(spec: str) -> tuple[object, ...]:
    """What the same TARGET has in common each time it is loaded: where it is looked for, and when its file changed."""
    name, _ = split_spec(spec)
    path = Path(name)
    changed = path.stat().st_mtime_ns if path.is_file() else None
    return spec, str(Path.cwd()), changed


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
