"""Gradient clipping that the user's own loop does, read off the program's text: the probe has a loop of its own.

Recipes with high learning rates, as of recurrent language models, only work with it.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from gradcheck_kit.target.program_text import Library, called

_ARGUMENTS = {"clip_grad_norm_": "max_norm", "clip_grad_norm": "max_norm", "clip_grad_value_": "clip_value"}


@dataclass(frozen=True, slots=True)
class Clipping:
    """What is done to gradients before each step."""

    by_value: bool  # each element; else the norm of all together
    limit: float
    line: int = 0

    def __call__(self, parameters: list[nn.Parameter]) -> None:
        kept = [p for p in parameters if p.grad is not None and p.grad.layout is torch.strided]
        if self.by_value:
            nn.utils.clip_grad_value_(kept, self.limit)
        else:
            nn.utils.clip_grad_norm_(kept, self.limit)


def find_clipping(file: Path | None) -> Clipping | None:
    """The clipping that a file does; None where it does none, several, or by a number that is not in its text."""
    text = None
    try:
        text = Library().text(file) if file is not None else None
    except Exception:  # noqa: BLE001  # a program may be written in any way, and change while it is read
        return None
    if text is None:
        return None
    numbers = _numbers(text.tree)
    found = []
    for node in ast.walk(text.tree):
        if isinstance(node, ast.Call) and called(node) in _ARGUMENTS:
            named = [k.value for k in node.keywords if k.arg == _ARGUMENTS[called(node)]]
            given = [*named, *node.args[1:2]]
            limit = _number(given[0], numbers) if given else None
            found.append((called(node) == "clip_grad_value_", limit, node.lineno))
    if len({(by_value, limit) for by_value, limit, _ in found}) != 1:
        return None
    by_value, limit, line = found[0]
    return Clipping(by_value, limit, line) if limit is not None and limit > 0 else None


def _numbers(tree: ast.Module) -> dict[str, float]:
    """Names that the file gives one number, and no other anywhere."""
    values: dict[str, set[float | None]] = {}
    for node in ast.walk(tree):
        targets: list[ast.expr] = []
        value: ast.expr | None = None
        if isinstance(node, ast.Assign):
            targets, value = node.targets, node.value
        elif isinstance(node, ast.AnnAssign | ast.AugAssign):
            targets, value = [node.target], node.value
        for target in targets:
            if isinstance(target, ast.Name):
                values.setdefault(target.id, set()).add(_number(value, {}) if value is not None else None)
    return {name: number for name, (number, *more) in values.items() if not more and number is not None}


def _number(node: ast.expr, known: dict[str, float]) -> float | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
        return float(node.value)
    return known.get(node.id) if isinstance(node, ast.Name) else None
