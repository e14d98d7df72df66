"""What a plugin can add. Implement with `gradcheck_kit.hookimpl`, under the entry-point group gradcheck_kit."""

from __future__ import annotations

from collections.abc import Iterable

import pluggy

from gradcheck_kit.rule import Rule

hookspec = pluggy.HookspecMarker("gradcheck_kit")


@hookspec
def gradcheck_rules() -> Iterable[Rule]:  # type: ignore[empty-body]
    """Return the rules that this plugin brings."""
