"""Other learning rates from the same start, and only when the run went wrong."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gradcheck_kit.experiments import NotApplicable
from gradcheck_kit.experiments.learning_rate_response import respond_to_learning_rates
from gradcheck_kit.experiments.training import train
from gradcheck_kit.facts import Training


def run(probe_of, model, data, lr):
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    probe = probe_of(model, train=data, loss_fn=nn.CrossEntropyLoss(), optimizer=optimizer, steps=30)
    probe.facts = {Training: train(probe)}
    return probe


def test_is_not_made_when_the_run_went_well(probe_of, mlp, blobs):
    with pytest.raises(NotApplicable, match="went well"):
        respond_to_learning_rates(run(probe_of, mlp(4, 16, 2), blobs(), 0.05))


def test_starts_every_trial_from_the_same_place(probe_of, mlp, blobs):
    response = respond_to_learning_rates(run(probe_of, mlp(4, 16, 2), blobs(), 1e-8))
    assert len({trial.losses[0] for trial in response.trials}) == 1


@pytest.mark.parametrize(("lr", "side"), [(1e-8, "higher"), (1e4, "lower")])
def test_finds_a_rate_that_learns_on_the_other_side(lr, side, probe_of, mlp, blobs):
    probe = run(probe_of, mlp(4, 16, 2), blobs(), lr)
    response = respond_to_learning_rates(probe)
    assert not response.own.learned(probe.facts[Training].constant_loss)
    assert response.best.learned(probe.facts[Training].constant_loss)
    assert response.best.factor > 1 if side == "higher" else response.best.factor < 1


def test_aims_at_usual_update_sizes(probe_of, mlp, blobs):
    probe = run(probe_of, mlp(4, 16, 2), blobs(), 1e-8)
    ratio = probe.facts[Training].first_update_ratio
    factors = [t.factor for t in respond_to_learning_rates(probe).trials if t.factor != 1.0]
    assert [f * ratio for f in factors] == pytest.approx([1e-4, 1e-3, 1e-2], rel=0.5)
