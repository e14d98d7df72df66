"""A few lines of data that any working model learns, and a scan that also looks at what it leaves behind."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import gradcheck_kit as gk

STEPS = 12


@pytest.fixture
def blobs():
    """Four separable clusters in eight dimensions."""

    def make(n=192, batch=16, shape=(8,), dtype=torch.float32, **options):
        generator = torch.Generator().manual_seed(1)
        y = torch.randint(0, 4, (n,), generator=generator)
        x = torch.randn(n, 8, generator=generator) + 3 * nn.functional.one_hot(y, 8)
        return DataLoader(TensorDataset(x.reshape(n, *shape).to(dtype), y), batch, shuffle=True, **options)

    return make


def hooks_of(model):
    tables = [name for name in vars(nn.Module()) if name.endswith("_hooks")]
    return [[list(getattr(m, table).items()) for table in tables] for m in model.modules()]


def global_hooks():
    tables = vars(nn.modules.module)
    return {name: dict(value) for name, value in tables.items() if name.startswith("_global_") and "hooks" in name}


def snapshot(model, optimizers):
    """Everything of a model that a scan might leave changed; tensors as clones, objects by identity."""
    named = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    lazy = nn.parameter.is_lazy
    return {
        "values": [(name, id(t), None if lazy(t) or t.is_meta else t.detach().clone()) for name, t in named],
        "gradients": [(name, None if t.grad is None else t.grad.clone()) for name, t in named],
        "requires_grad": [(name, t.requires_grad) for name, t in named],
        "modules": [(name, id(m), m.training) for name, m in model.named_modules()],
        "hooks": hooks_of(model),
        "global hooks": global_hooks(),
        "optimizers": [copy.deepcopy(o.state_dict()) for o in optimizers],
        "random": torch.get_rng_state(),
    }


def same(a, b):
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and torch.equal(dense(a).nan_to_num(), dense(b).nan_to_num())
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


def dense(tensor):
    if tensor.is_quantized:
        return tensor.dequantize()
    return tensor.to_dense() if tensor.layout is not torch.strided else tensor


@pytest.fixture
def scan():
    """Scan, and see that the user's objects are as they were, also when the scan raises."""

    def run(model, data=None, *, optimizer=None, loss_fn="cross-entropy", **options):
        if loss_fn == "cross-entropy":
            loss_fn = nn.CrossEntropyLoss()
        given = optimizer if isinstance(optimizer, list | tuple) else [optimizer] if optimizer else []
        options = {"steps": STEPS, **options}
        before = snapshot(model, given)
        try:
            return gk.scan(model, data, optimizer=optimizer, loss_fn=loss_fn, **options)
        finally:
            after = snapshot(model, given)
            for part in before:
                assert same(before[part], after[part]), f"{part} changed"

    return run


@pytest.fixture
def healthy(scan):
    """A scan of which nothing fails and nothing is warned of. Returns the report."""

    def run(model, data=None, **options):
        report = scan(model, data, **options)
        loud = [o for o in report.outcomes if o.status in ("failed", "warned", "error")]
        assert not loud, str(report)
        return report

    return run


@pytest.fixture
def found(scan):
    """The codes of the causes that a scan of a broken model names."""

    def run(model, data=None, **options):
        return [outcome.rule.code for outcome in scan(model, data, **options).causes]

    return run
