"""What weight decay does to the weights, and the run without it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gradcheck_kit.experiments import NotApplicable
from gradcheck_kit.experiments.training import train
from gradcheck_kit.experiments.weight_decay import look_at_weight_decay
from gradcheck_kit.facts import Training


def look(probe_of, model, data, optimizer, **settings):
    probe = probe_of(model, train=data, loss_fn=nn.CrossEntropyLoss(), optimizer=optimizer, steps=30, **settings)
    probe.facts = {Training: train(probe)}
    return look_at_weight_decay(probe)


def test_a_usual_decay_costs_no_second_run(probe_of, mlp, blobs):
    model = mlp(4, 16, 2)
    facts = look(probe_of, model, blobs(), torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01))
    assert facts.decoupled
    assert facts.share < 0.01
    assert facts.shrinkage > 0.9
    assert facts.free_losses == ()


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.SGD(p, lr=0.05, weight_decay=10.0),
        lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=20.0),
    ],
    ids=["coupled", "decoupled"],
)
def test_a_decay_that_shrinks_the_weights_is_left_out_in_a_second_run(make, probe_of, mlp, blobs):
    model = mlp(4, 16, 2)
    before = [p.clone() for p in model.parameters()]
    optimizer = make(model.parameters())
    decay = optimizer.param_groups[0]["weight_decay"]
    facts = look(probe_of, model, blobs(), optimizer)
    assert facts.share > 1
    assert facts.shrinkage < 0.5
    assert facts.free_losses[-1] < 0.5 * facts.free_losses[0]
    assert 0 < facts.proposed <= decay / 10
    assert optimizer.param_groups[0]["weight_decay"] == decay
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_says_nothing_of_an_optimizer_without_decay(probe_of, mlp, blobs):
    model = mlp(4, 16, 2)
    with pytest.raises(NotApplicable, match="no optimizer decays weights"):
        look(probe_of, model, blobs(), torch.optim.SGD(model.parameters(), lr=0.1))
