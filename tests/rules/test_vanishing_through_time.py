from __future__ import annotations

import pytest

from gradcheck_kit.rule import Skip
from gradcheck_kit.rules.vanishing_through_time import vanishing_through_time
from gradcheck_kit.testing import (
    CHANCE,
    apply,
    falling,
    flat,
    judge,
    learning_rate_response,
    poisoned,
    time_gradient,
    time_gradients,
    training,
)

STUCK = training(losses=flat(), optimizer_given=True)
LAYERS = (time_gradient("encoder", first=0.5), time_gradient("rnn", first=1e-7))
FORGETFUL = time_gradients(*LAYERS, turned_losses=falling(end=0.3))


def test_it_fails_a_layer_that_forgets_in_a_run_that_does_not_learn():
    outcome = judge(vanishing_through_time, FORGETFUL, STUCK)
    assert outcome.status == "failed"
    (finding,) = outcome.findings
    assert finding.where == "rnn"
    assert "of the gradient at the last of 20 steps reaches the first ones of rnn (RNN)" in finding.message
    assert "while the same run goes from 2.35 to 0.386 when rnn reads the last step first." in finding.message
    assert finding.fixes[0].startswith("Replace rnn by nn.GRU or nn.LSTM")
    assert [bar.place for bar in finding.profile][::9] == ["step 1", "step 20"]


def test_it_opens_the_gate_of_an_lstm():
    gated = time_gradients(time_gradient("rnn", first=1e-7, layer_type="LSTM"), turned_losses=falling(end=0.3))
    (finding,) = apply(vanishing_through_time, gated, STUCK)
    assert finding.fixes[0].startswith("Start rnn with an open gate")


def test_it_passes_a_layer_that_forgets_in_a_run_that_learns():
    assert apply(vanishing_through_time, FORGETFUL, training(losses=falling())) == ()


def test_it_passes_a_layer_that_remembers_in_a_run_that_does_not_learn():
    assert apply(vanishing_through_time, time_gradients(), STUCK) == ()


@pytest.mark.parametrize(
    ("turned", "reason"),
    [((), "was not tried"), (flat(), "with time turned round it does not learn either")],
    ids=["not tried", "no better"],
)
def test_it_skips_without_proof(turned, reason):
    with pytest.raises(Skip, match=reason):
        apply(vanishing_through_time, time_gradients(*LAYERS, turned_losses=turned), STUCK)


def test_it_skips_a_run_that_learns_at_another_rate():
    with pytest.raises(Skip, match="with another learning rate or more steps it learns"):
        apply(vanishing_through_time, FORGETFUL, STUCK, learning_rate_response({0.1: 0.4, 1.0: CHANCE}))


def test_it_does_not_pass_poisoned_facts():
    assert judge(vanishing_through_time, poisoned(FORGETFUL), STUCK).status != "passed"


CUT = time_gradient("cell", layer_type="GRUCell", gradient_rms=(0.0,) * 19 + (1.0,), cell=True, cut=True)


def test_it_fails_a_loop_whose_state_is_detached_in_a_run_that_does_not_learn():
    outcome = judge(vanishing_through_time, time_gradients(CUT), STUCK)
    assert outcome.status == "failed"
    (finding,) = outcome.findings
    assert finding.where == "cell"
    assert finding.message.startswith("cell (GRUCell) runs 20 times in a pass, and only the last call gets a gradient")
    assert "no h.detach()" in finding.fixes[0]


def test_it_warns_of_a_loop_whose_state_is_detached_in_a_run_that_learns():
    assert judge(vanishing_through_time, time_gradients(CUT), training()).status == "warned"


def test_it_advises_a_cell_to_carry_its_state():
    cell = time_gradient("cell", first=1e-7, layer_type="Cell", cell=True)
    (finding,) = apply(vanishing_through_time, time_gradients(cell, turned_losses=falling(end=0.3)), STUCK)
    assert finding.fixes[0].startswith("Make cell carry its state")


def test_it_advises_to_leave_out_padding_first():
    padded = time_gradients(time_gradient("rnn", first=1e-7, padded=12.0), turned_losses=falling(end=0.3))
    (finding,) = apply(vanishing_through_time, padded, STUCK)
    assert finding.fixes[0].startswith("Leave out the padding: 12 of the 20 steps that rnn reads last are the same")
