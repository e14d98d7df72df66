"""What a step loses in float16 and bfloat16 weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gradcheck_kit.experiments import NotApplicable
from gradcheck_kit.experiments.precision_loss import look_at_precision_loss
from gradcheck_kit.experiments.training import train
from gradcheck_kit.facts import Training


def data(dtype):
    torch.manual_seed(1)
    y = torch.randint(0, 2, (64,))
    x = torch.randn(64, 4) + 3 * nn.functional.one_hot(y, 4)
    return [(x[i : i + 16].to(dtype), y[i : i + 16]) for i in range(0, 64, 16)]


def look(probe_of, model, dtype, loss_fn=None, lr=1e-3):
    model = model.to(dtype)
    loss_fn = loss_fn or (lambda out, y: nn.functional.cross_entropy(out.float(), y))
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    probe = probe_of(model, train=data(dtype), loss_fn=loss_fn, optimizer=optimizer, steps=20)
    probe.facts = {Training: train(probe)}
    return look_at_precision_loss(probe), model


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

    lost = look(probe_of, mlp(4, 16, 2), torch.float16, tiny)[0]
    assert lost.underflow > 0.5
    assert "0.weight" in lost.vanished
    assert look(probe_of, mlp(4, 16, 2), torch.float16)[0].underflow < 0.1
    assert look(probe_of, mlp(4, 16, 2), torch.float16)[0].vanished == ()
    assert look(probe_of, mlp(4, 16, 2), torch.bfloat16, tiny)[0].underflow < 0.1


def test_does_not_apply_to_float32(probe_of, mlp):
    with pytest.raises(NotApplicable, match="float32 or better"):
        look(probe_of, mlp(4, 16, 2), torch.float32)


class Halved(nn.Module):
    """Half precision inside, float32 outside; the loss is of the kind that is divided once too often."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner.half()

    def forward(self, x):
        return self.inner(x.half()).float()


def test_makes_the_run_in_float32_where_it_does_not_learn_and_leaves_the_model_alone(probe_of, mlp):
    def tiny(out, y):
        return nn.functional.cross_entropy(out, y) * 1e-7

    model = Halved(mlp(4, 16, 2))
    before = [p.clone() for p in model.parameters()]
    optimizer = torch.optim.SGD(model.parameters(), lr=6e4, momentum=0.9)
    probe = probe_of(model, train=data(torch.float32), loss_fn=tiny, optimizer=optimizer, steps=20)
    probe.facts = {Training: train(probe)}
    found = look_at_precision_loss(probe)
    assert found.underflow > 0.1
    assert found.float32_losses[-1] < 0.8 * found.float32_losses[0]
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert {p.dtype for p in model.parameters()} == {torch.float16}


def test_leaves_sparse_gradients_out(probe_of):
    model = nn.Sequential(nn.EmbeddingBag(9, 8, sparse=True), nn.Linear(8, 2)).to(torch.bfloat16)
    batches = [(torch.randint(0, 9, (16, 3)), torch.randint(0, 2, (16,))) for _ in range(4)]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    probe = probe_of(model, train=batches, loss_fn=nn.CrossEntropyLoss(), optimizer=optimizer)
    assert look_at_precision_loss(probe).lost_layer == "1"
