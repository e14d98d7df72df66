"""How exceptions of the user's code are told: with the line in their own file and the shapes they met."""

from __future__ import annotations

import inspect
import traceback
from pathlib import Path
from typing import Any

from torch import nn

from gradcheck_kit.target.outputs import tensors


def shape_of(value: Any) -> str:
    found = [f"{tuple(t.shape)}" for t in tensors(value)]
    if not found:
        return type(value).__name__
    return ", ".join(found[:4]) + (f" and {len(found) - 4} more" if len(found) > 4 else "")


def signature_of(model: nn.Module) -> str:
    try:
        return str(inspect.signature(model.forward))
    except (TypeError, ValueError):
        return ""


def located(error: BaseException) -> str:
    """An exception as a person would report it: "ValueError: ... (model.py:31)", with the line in their own code."""
    package = str(Path(__file__).parent.parent)
    own = [
        f
        for f in traceback.extract_tb(error.__traceback__)
        if not f.filename.startswith(package) and "site-packages" not in f.filename and "<" not in f.filename
        and "/lib/python" not in f.filename
    ]  # fmt: skip
    text = " ".join(str(error).split())
    text = f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__
    return f"{text} ({Path(own[-1].filename).name}:{own[-1].lineno})" if own else text
