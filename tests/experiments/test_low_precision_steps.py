"""What a step loses in float16 and bfloat16 weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gradcheck_kit.experiments import NotApplicable
from gradcheck_kit.experiments.low_precision import look_at_low_precision


def data(dtype):
    torch.manual_seed(1)
    y = torch.randint(0, 2, (64,))
    x = torch.randn(64, 4) + 3 * nn.functional.one_hot(y, 4)
    return [(x[i : i + 16].to(dtype), y[i : i + 16]) for i in range(0, 64, 16)]


def look(probe_of, model, dtype, loss_fn=None, lr=1e-3):
    model = model.to(dtype)
    loss_fn = loss_fn or (lambda out, y: nn.functional.cross_entropy(out.float(), y))
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    return look_at_low_precision(probe_of(model, train=data(dtype), loss_fn=loss_fn, optimizer=optimizer)), model


def test_counts_updates_that_round_to_nothing(probe_of, mlp):
    small, model = look(probe_of, mlp(4, 16, 2), torch.bfloat16, lr=1e-6)
    large, _ = look(probe_of, mlp(4, 16, 2), torch.bfloat16, lr=1.0)
    assert small.lost_updates > 0.95
    assert large.lost_updates < 0.2
    assert small.dtype == "bfloat16"
    assert small.layers == ("0", "2")
    assert all(p.grad is None for p in model.parameters())


def test_proves_by_a_scaled_loss_that_gradients_vanish_in_float16(probe_of, mlp):
    def tiny(out, y):
        return nn.functional.cross_entropy(out.float(), y) * 1e-6

    assert look(probe_of, mlp(4, 16, 2), torch.float16, tiny)[0].underflow > 0.5
    assert look(probe_of, mlp(4, 16, 2), torch.float16)[0].underflow < 0.1
    assert look(probe_of, mlp(4, 16, 2), torch.bfloat16, tiny)[0].underflow < 0.1


def test_does_not_apply_to_float32(probe_of, mlp):
    with pytest.raises(NotApplicable, match="float32 or better"):
        look(probe_of, mlp(4, 16, 2), torch.float32)
