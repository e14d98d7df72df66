"""Models that return more than one thing to learn from: all of it is trained, so that nobody is blamed for the rest."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import gradcheck_kit as gk
from gradcheck_kit.target import ProbeSettings, Target
from gradcheck_kit.target.prepare import prepare
from gradcheck_kit.target.several_outputs import SummedLoss, further_outputs


class Pyramid(nn.Module):
    """A list of feature maps, each made of the one before."""

    def __init__(self):
        super().__init__()
        self.stages = nn.ModuleList(nn.Conv2d(c, 2 * c, 3, 2, 1) for c in (3, 6, 12))

    def forward(self, x):
        maps = []
        for stage in self.stages:
            x = stage(x).relu()
            maps.append(x)
        return maps


class Encoder(nn.Module):
    """States for each token and a pooled vector, as BERT without a head."""

    def __init__(self):
        super().__init__()
        self.embed, self.layer, self.pooler = nn.Embedding(20, 8), nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, input_ids):
        hidden = self.layer(self.embed(input_ids))
        return {"last_hidden_state": hidden, "pooler_output": self.pooler(hidden[:, 0]).tanh()}


@pytest.mark.parametrize("build", [Pyramid, Encoder])
def test_it_finds_nothing_wrong_with_a_model_of_several_outputs(build):
    torch.manual_seed(0)
    report = gk.scan(build(), steps=20)
    assert [o.rule.name for o in report.outcomes if o.status not in ("passed", "skipped")] == []


def test_it_adds_only_outputs_that_reach_more_of_the_model():
    model = Pyramid()
    assert further_outputs(model, model(torch.randn(2, 3, 32, 32))) == [2]


def test_it_adds_nothing_where_the_prediction_reaches_everything():
    class Returning(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.head = nn.Linear(4, 5), nn.Linear(5, 3)

        def forward(self, x):
            hidden = self.layer(x)
            return self.head(hidden), hidden

    prepared = prepare(Target(Returning()), ProbeSettings())
    assert prepared.task.loss_name == "CrossEntropyLoss"


def test_it_names_a_loss_over_several_outputs():
    assert prepare(Target(Encoder()), ProbeSettings()).task.loss_name == "CrossEntropyLoss over 2 outputs"


def test_it_gives_each_output_a_target_of_its_own_in_every_batch():
    for batch in prepare(Target(Pyramid()), ProbeSettings(batch_size=4)).train:
        assert [tuple(part.shape) for part in batch] == [(4, 3, 64, 64), (4, 32, 32), (4, 8, 8)]


def test_it_sums_the_losses_that_fit():
    output, targets = (torch.zeros(4, 3), torch.ones(4, 2)), (torch.tensor([0, 1, 2, 0]), torch.full((4, 2), 0.5))
    loss = SummedLoss(output, targets, [1])
    assert loss.__name__ == "CrossEntropyLoss and MSELoss over 2 outputs"
    assert loss(output, targets) == pytest.approx(torch.tensor(3.0).log() + 0.25)
