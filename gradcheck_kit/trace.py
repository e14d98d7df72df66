"""Everything a probe saw: an immutable value with a file format. A trace is data and never code.

The file is JSON lines: a header, one line per fact, and a last line that says how many there were and what their
SHA-256 is, so that a damaged or truncated file is told from a whole one.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
import types
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from gradcheck_kit.errors import TraceError
from gradcheck_kit.facts import FACTS

FORMAT = "gradcheck-kit trace"
SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Header:
    """Where a trace comes from. Everything here is printed or is needed to reproduce it."""

    name: str  # the TARGET as a person would type it
    model: str  # the model's class
    parameters: int
    weight_layers: int
    data: str
    test_data: str
    optimizer: str
    loss: str
    device: str
    threads: int
    steps: int
    batch_size: int | None
    seed: int | None  # None: the loop's own
    torch_version: str
    tool_version: str
    supplied: tuple[str, ...] = ()  # what was missing and was made up, one clause each


@dataclass(frozen=True, slots=True)
class Trace:
    """Facts by type; by the fact's name, `absent` says why an experiment gave none, `crashed` how one failed."""

    header: Header
    facts: Mapping[type, Any]
    absent: Mapping[str, str] = field(default_factory=dict)
    crashed: Mapping[str, str] = field(default_factory=dict)

    def save(self, path: Path | str) -> None:
        """Write the file as a whole or not at all. Raises TraceError when it cannot be written."""
        path = Path(path)
        lines = [_line({"fact": kind.__name__, "value": encode(fact)}) for kind, fact in self.facts.items()]
        head = {"format": FORMAT, "schema": SCHEMA, "header": encode(self.header), "absent": dict(self.absent)}
        if self.crashed:
            head["crashed"] = dict(self.crashed)
        body = "".join([_line(head), *lines])
        tail = _line({"facts": len(lines), "sha256": hashlib.sha256(body.encode()).hexdigest()})
        try:
            write_atomically(path, body + tail)
        except OSError as error:
            raise TraceError(f"cannot write the trace {path}: {error.strerror}") from error

    @classmethod
    def load(cls, path: Path | str, extra: Iterable[type] = ()) -> Trace:
        """Read a trace; `extra` are the fact types of plugins. Facts of unknown types are left out.

        Raises TraceError for a file that is missing, damaged, truncated, foreign, or newer than this version.
        """
        path = Path(path)
        try:
            text = path.read_bytes().decode()
        except OSError as error:
            raise TraceError(f"cannot read the trace {path}: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise TraceError(f"{path} is not a gradcheck-kit trace; make one with --save {path.name}") from error
        known = {kind.__name__: kind for kind in (*FACTS, *extra)}
        lines = text.splitlines(keepends=True)  # nothing but our own newlines ends a line: the rest is escaped
        head = _parse(lines[0]) if lines else None
        if not isinstance(head, dict) or head.get("format") != FORMAT:
            raise TraceError(f"{path} is not a gradcheck-kit trace; make one with: gradcheck-kit scan TARGET --save F")
        if not isinstance(head.get("schema"), int) or head["schema"] > SCHEMA:
            raise TraceError(
                f"{path} has trace schema {head.get('schema')}, this version reads up to {SCHEMA}; "
                "update gradcheck-kit: pip install -U gradcheck-kit"
            )
        _verify(path, lines)
        try:
            facts = {}
            for line in lines[1:-1]:
                entry = json.loads(line)
                if entry["fact"] in known:
                    kind = known[entry["fact"]]
                    facts[kind] = decode(kind, entry["value"])
            absent, crashed = head["absent"], head.get("crashed", {})
            absent, crashed = ({str(k): str(v) for k, v in reasons.items()} for reasons in (absent, crashed))
            return cls(decode(Header, head["header"]), facts, absent, crashed)
        except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
            raise TraceError(f"{path} is damaged: {error}; save the trace again") from error


def _verify(path: Path, lines: Sequence[str]) -> None:
    tail = _parse(lines[-1]) if len(lines) > 1 else None
    if not isinstance(tail, dict) or "sha256" not in tail:
        raise TraceError(f"{path} is truncated: its last line is missing; save the trace again")
    if hashlib.sha256("".join(lines[:-1]).encode()).hexdigest() != tail["sha256"]:
        raise TraceError(f"{path} is damaged: its checksum does not match; save the trace again")


def _parse(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _line(value: Any) -> str:
    return json.dumps(value, allow_nan=False, separators=(",", ":")) + "\n"


def write_atomically(path: Path, text: str) -> None:
    """Write beside the destination and move into place: a reader never sees half a file, a failure leaves the old."""
    if path.exists() and not path.is_file():  # /dev/stdout, a pipe: there is nothing to replace
        path.write_text(text, "utf-8")
        return
    path = path.resolve()  # a link stays a link, its destination is replaced
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".gradcheck-kit-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
        umask = os.umask(0)
        os.umask(umask)
        Path(name).chmod(path.stat().st_mode if path.exists() else 0o666 & ~umask)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def encode(value: Any) -> Any:
    """A fact as JSON values; NaN and infinities become the strings "nan", "inf" and "-inf"."""
    if isinstance(value, float) and not math.isfinite(value):
        return "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if is_dataclass(value):
        return {f.name: encode(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(k): encode(v) for k, v in value.items()}
    if isinstance(value, Sequence):
        return [encode(v) for v in value]
    raise TypeError(f"a fact may hold numbers, text, tuples and dataclasses, not {type(value).__name__}")


def decode(kind: Any, value: Any) -> Any:
    """The inverse of `encode`, checked against the annotation `kind`. Raises ValueError where they differ."""
    origin = get_origin(kind)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in get_args(kind):
            return None
        return decode(next(k for k in get_args(kind) if k is not type(None)), value)
    if origin is tuple:
        items = get_args(kind)
        if not isinstance(value, list):
            raise ValueError(f"expected a list, found {type(value).__name__}")
        if len(items) == 2 and items[1] is Ellipsis:
            return tuple(decode(items[0], v) for v in value)
        return tuple(decode(k, v) for k, v in zip(items, value, strict=True))
    if is_dataclass(kind):
        return _decode_fields(kind, value)
    if kind is float and value in ("nan", "inf", "-inf"):
        # math.nan itself: tuples compare by identity first, so a trace with NaN equals its own round trip
        return math.nan if value == "nan" else float(value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ValueError(f"expected {kind.__name__}, found {type(value).__name__}")
    return value


def _decode_fields(kind: Any, value: Any) -> Any:
    if not isinstance(value, dict):
        raise ValueError(f"expected {kind.__name__}, found {type(value).__name__}")  # noqa: TRY004  # as for any value
    hints = get_type_hints(kind)
    if unknown := value.keys() - hints.keys():
        raise ValueError(f"unknown field {min(unknown)}")
    return kind(**{name: decode(hints[name], v) for name, v in value.items()})
