"""How much of the last output's gradient reaches the first step."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from gradcheck_kit.experiments import NotApplicable
from gradcheck_kit.experiments.time_gradients import look_through_time
from gradcheck_kit.experiments.training import train
from gradcheck_kit.facts import Training


class Reader(nn.Module):
    def __init__(self, rnn, width=8):
        super().__init__()
        self.rnn, self.head = rnn, nn.Linear(width, 2)

    def forward(self, x):
        output = self.rnn(x if self.rnn.batch_first else x.transpose(0, 1))[0]
        return self.head(output[:, -1] if self.rnn.batch_first else output[-1])


def look(probe_of, model, steps=30):
    data = [(torch.randn(16, steps, 3), torch.randint(0, 2, (16,)))]
    return look_through_time(probe_of(model, train=data, loss_fn=nn.CrossEntropyLoss()))


@pytest.mark.parametrize("batch_first", [True, False])
def test_sees_a_plain_rnn_forget_and_an_orthogonal_one_remember(batch_first, probe_of):
    torch.manual_seed(0)
    plain = nn.RNN(3, 8, batch_first=batch_first)
    (found,) = look(probe_of, Reader(plain)).layers
    assert (found.layer, found.layer_type, len(found.gradient_rms)) == ("rnn", "RNN", 30)
    assert found.ratio < 1e-4
    kept = nn.RNN(3, 8, nonlinearity="relu", batch_first=batch_first)
    with torch.no_grad():
        kept.weight_hh_l0.copy_(torch.eye(8))
    assert look(probe_of, Reader(kept)).layers[0].ratio > 0.1


def test_looks_at_the_forward_half_of_a_bidirectional_layer(probe_of):
    (found,) = look(probe_of, Reader(nn.GRU(3, 8, batch_first=True, bidirectional=True), 16)).layers
    assert found.ratio < 0.5  # the backward half's last output is of the last step alone: it would hide nothing


@pytest.mark.parametrize(
    ("model", "steps", "reason"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(24, 2)), 8, "no recurrent layer"),
        (Reader(nn.RNN(3, 8, batch_first=True)), 4, "a sequence of 8 steps or more"),
    ],
)
def test_does_not_apply(model, steps, reason, probe_of):
    with pytest.raises(NotApplicable, match=reason):
        look(probe_of, model, steps)


def test_counts_the_padding_at_the_end(probe_of):
    x = torch.randn(16, 30, 3)
    x[:8, 10:] = 0.0
    data = [(x, torch.randint(0, 2, (16,)))]
    probe = probe_of(Reader(nn.RNN(3, 8, batch_first=True)), train=data, loss_fn=nn.CrossEntropyLoss())
    assert look_through_time(probe).layers[0].padded == 10.0


def first_step_decides(steps=40):
    torch.manual_seed(1)
    y = torch.randint(0, 2, (256,))
    x = 0.5 * torch.randn(256, steps, 3)
    x[:, 0] += 3 * nn.functional.one_hot(y, 3)
    return [(x[i : i + 32], y[i : i + 32]) for i in range(0, 256, 32)]


def test_learns_backwards_what_it_cannot_remember_forwards(probe_of):
    torch.manual_seed(0)
    model = Reader(nn.RNN(3, 8, batch_first=True))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    probe = probe_of(model, train=first_step_decides(), loss_fn=nn.CrossEntropyLoss(), optimizer=optimizer, steps=40)
    probe.facts = {Training: train(probe)}
    found = look_through_time(probe)
    assert found.turned_losses[-1] < 0.5 * found.turned_losses[0]
    assert not model.rnn._forward_pre_hooks


# ---- loops over a cell ----


class Loop(nn.Module):
    """A cell with a linear layer in it, called step by step."""

    def __init__(self, between=lambda h: h, read=lambda states: states[-1], width=8):
        super().__init__()
        self.cell, self.head = nn.ModuleDict({"mix": nn.Linear(3 + width, width)}), nn.Linear(width, 2)
        self.between, self.read, self.width = between, read, width

    def forward(self, x):
        h, states = torch.zeros(len(x), self.width), []
        for t in range(x.shape[1]):
            h = torch.tanh(self.cell["mix"](torch.cat([x[:, t], self.between(h)], 1)))
            states.append(h)
        return self.head(self.read(states))


def test_looks_through_a_loop_over_a_cell(probe_of):
    (found,) = look(probe_of, Loop()).layers
    assert (found.layer, found.layer_type, len(found.gradient_rms)) == ("cell.mix", "Linear", 30)
    assert found.cell
    assert not found.cut
    assert found.gradient_rms[-1] == 1.0
    assert found.ratio < 1e-3


def test_takes_the_outermost_of_nested_modules(probe_of):
    class Cells(Loop):
        def __init__(self):
            super().__init__()
            self.gru = nn.Sequential(nn.Linear(11, 8), nn.Tanh())
            self.cell = nn.ModuleDict({"mix": self.gru})
            del self.gru

    (found,) = look(probe_of, Cells()).layers
    assert found.layer == "cell.mix"
    assert found.layer_type == "Sequential"


@pytest.mark.parametrize("between", [torch.Tensor.detach, lambda h: h.data, lambda h: torch.tensor(h.tolist())])
def test_tells_a_state_that_is_detached_at_every_step(probe_of, between):
    (found,) = look(probe_of, Loop(between)).layers
    assert found.cut
    assert found.gradient_rms == (0.0,) * 29 + (1.0,)


def test_takes_no_loop_for_cut_whose_every_step_is_read(probe_of):
    (found,) = look(probe_of, Loop(torch.Tensor.detach, read=lambda states: torch.stack(states).mean(0))).layers
    assert not found.cut
    assert found.ratio > 0.1


def test_takes_no_loop_for_cut_whose_other_steps_nobody_uses(probe_of):
    with pytest.raises(NotApplicable, match="no loop over a cell"):
        look(probe_of, Loop(torch.zeros_like))


def test_takes_no_loop_for_cut_that_runs_without_gradients_on_purpose(probe_of):
    class Equilibrium(Loop):
        """Finds its fixed point without gradients, and takes one step with them."""

        def forward(self, x):
            h = torch.zeros(len(x), self.width)
            for t in range(x.shape[1]):
                with torch.set_grad_enabled(t == x.shape[1] - 1):
                    h = torch.tanh(self.cell["mix"](torch.cat([x[:, 0], h], 1)))
            return self.head(h)

    with pytest.raises(NotApplicable, match="no loop over a cell"):
        look(probe_of, Equilibrium())


def test_turns_the_input_of_a_model_that_loops_over_a_cell(probe_of):
    torch.manual_seed(0)
    model = Loop()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    probe = probe_of(model, train=first_step_decides(), loss_fn=nn.CrossEntropyLoss(), optimizer=optimizer, steps=40)
    probe.facts = {Training: train(probe)}
    found = look_through_time(probe)
    assert found.worst.ratio < 1e-4
    assert found.turned_losses[-1] < 0.5 * found.turned_losses[0]
