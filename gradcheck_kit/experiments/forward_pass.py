"""One forward pass of the first batch, in which every module is looked at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from gradcheck_kit.experiments import Probe
from gradcheck_kit.observe.names import named_modules
from gradcheck_kit.target.batches import endless
from gradcheck_kit.target.layers import takes_hooks
from gradcheck_kit.target.workspace import Workspace

Look = Callable[[str, nn.Module, Any, Any], None]  # name, module, positional arguments, output


def look_at_modules(work: Workspace, probe: Probe, look: Look) -> None:
    """Call `look` after each call of a module within the model, without gradients, in the order in which they end.

    Where the forward pass raises, since it takes gradients itself, what was seen until then has to do.
    """

    def hook_for(name: str) -> Callable[[nn.Module, Any, Any], None]:
        return lambda module, args, output: look(name, module, args, output)

    handles = [m.register_forward_hook(hook_for(n)) for n, m in named_modules(work.model) if n and takes_hooks(m)]
    try:
        with torch.no_grad():
            work.task.forward(work.model, work.to_device(next(endless(probe.prepared.train))))
    except Exception:  # noqa: BLE001, S110  # see above
        pass
    finally:
        for handle in handles:
            handle.remove()
