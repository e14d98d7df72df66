"""How a model of the zoo is examined: it must come through, and it must come back as it was."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

import gradcheck_kit as gk

_HOOKS = (
    *("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"),
    *("_state_dict_hooks", "_load_state_dict_pre_hooks"),
)


def examined(model: nn.Module, data: Any = None, **options: Any) -> Any:
    """The report on a model, after checking that nothing of the model changed by one bit."""
    torch.manual_seed(1)
    before, generator = _state(model), torch.get_rng_state()
    report = gk.scan(model, data, **options)
    after = _state(model)
    assert [name for name in before if not _equal(before[name], after.get(name))] == []
    assert before.keys() == after.keys()
    assert torch.equal(generator, torch.get_rng_state())
    return report


def alarms(report: Any, status: str) -> list[str]:
    """What rules of that status say, for the assertion's message."""
    return [f"{o.rule.name}: {o.findings[0].message}" for o in report.of(status)]


def _state(model: nn.Module) -> dict[str, Any]:
    """Everything of a model that a probe may touch: values, identity, gradients, flags, modes, hooks and attributes."""
    state: dict[str, Any] = {}
    for kind, tensors in (("parameter", model.named_parameters()), ("buffer", model.named_buffers())):
        for name, tensor in tensors:
            state[f"{kind} {name}"] = tensor.detach().clone()
            state[f"{kind} {name}'s gradient"] = None if tensor.grad is None else tensor.grad.clone()
            state[f"{kind} {name}'s identity and flag"] = (id(tensor), tensor.data_ptr(), tensor.requires_grad)
            state[f"{kind} {name}'s hooks"] = len(tensor._backward_hooks or ())
    for name, module in model.named_modules():
        state[f"mode of {name!r}"] = module.training
        state[f"hooks of {name!r}"] = [len(getattr(module, hooks)) for hooks in _HOOKS]
        state[f"attributes of {name!r}"] = sorted(module.__dict__)
        state[f"forward of {name!r}"] = "forward" in module.__dict__
    return state


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        same = isinstance(b, torch.Tensor) and a.shape == b.shape and a.dtype == b.dtype
        return same and torch.equal(a.nan_to_num(), b.nan_to_num())
    return bool(a == b)
