"""Traces that several scans share: what was probed once is not probed again for the same target and settings."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from gradcheck_kit.trace import Trace


@dataclass(slots=True)
class SharedTraces:
    """Traces by what they are of: a target, in a form that can be compared, and the settings of the probe."""

    kept: dict[Hashable, list[Trace]] = field(default_factory=dict)

    def trace(self, key: Hashable, facts: frozenset[type], make: Callable[[], Trace]) -> Trace:
        """A trace of `key` in which each of the facts was looked for: one that is kept, or a new one."""
        for trace in self.kept.get(key, ()):
            looked_for = {fact.__name__ for fact in trace.facts} | trace.absent.keys() | trace.crashed.keys()
            if all(fact.__name__ in looked_for for fact in facts):
                return trace
        made = make()
        self.kept.setdefault(key, []).append(made)
        return made


_current: ContextVar[SharedTraces | None] = ContextVar("shared traces", default=None)


@contextmanager
def sharing(traces: SharedTraces) -> Iterator[None]:
    """Scans inside share these traces. Outside of it every scan probes."""
    token = _current.set(traces)
    try:
        yield
    finally:
        _current.reset(token)


def current() -> SharedTraces | None:
    return _current.get()
