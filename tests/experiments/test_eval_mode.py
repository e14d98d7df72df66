"""What model.eval() does not reach."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gradcheck_kit.experiments import NotApplicable
from gradcheck_kit.experiments.eval_mode import differs, look_at_eval_mode


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5)), nn.Linear(8, 2)

    def forward(self, x):
        return self.head(self.body(x))


def left(probe_of, blobs, model):
    return look_at_eval_mode(probe_of(model, train=blobs(), loss_fn=nn.CrossEntropyLoss()))


def test_leaves_nothing_of_a_model_that_heeds_the_mode(probe_of, blobs):
    found = left(probe_of, blobs, Net())
    assert (found.differing, found.model_left, found.model_left_after_forward, found.left) == (2, False, False, ())


def test_leaves_the_users_model_as_it_was(probe_of, blobs):
    model = Net().eval()
    left(probe_of, blobs, model)
    assert not any(module.training for module in model.modules())
    assert int(model.body[1].num_batches_tracked) == 0


def test_finds_modules_in_a_list(probe_of, blobs):
    class Listed(Net):
        def __init__(self):
            super().__init__()
            self.drops = [nn.Dropout(0.1), nn.Dropout(0.0)]

        def forward(self, x):
            return self.drops[1](self.drops[0](super().forward(x)))

    (holder,) = left(probe_of, blobs, Listed()).left
    assert (holder.name, holder.type, holder.registered) == ("drops[0]", "Dropout", False)


def test_finds_a_module_that_is_made_in_forward(probe_of, blobs):
    class Made(Net):
        def forward(self, x):
            return nn.Dropout(0.1)(super().forward(x))

    (holder,) = left(probe_of, blobs, Made()).left
    assert holder.name == "a Dropout made in model.forward"


def test_finds_a_train_method_that_does_not_pass_the_mode_on(probe_of, blobs):
    class Stuck(Net):
        def train(self, mode=True):
            return super().train()

    found = left(probe_of, blobs, Stuck())
    assert found.model_left
    assert [(h.name, h.overridden, h.own_statistics) for h in found.left] == [
        ("body.1", True, True),
        ("body.2", True, False),
    ]


def test_finds_a_forward_that_switches_back(probe_of, blobs):
    class Back(Net):
        def forward(self, x):
            self.body[2].train()
            return super().forward(x)

    found = left(probe_of, blobs, Back())
    assert not found.model_left_after_forward
    assert [(h.name, h.by_forward, h.overridden) for h in found.left] == [("body.2", True, False)]


def test_passes_over_frozen_statistics(probe_of, blobs):
    class Frozen(Net):
        def train(self, mode=True):
            super().train(mode)
            self.body[1].eval()
            return self

    assert left(probe_of, blobs, Frozen()).left == ()


def test_is_not_made_for_a_training_step_that_calls_the_model_twice(probe_of, blobs):
    probe = probe_of(
        nn.Linear(4, 2), train=blobs(), training_step=lambda m, b: F.cross_entropy(m(b[0]) + m(b[0]), b[1])
    )
    with pytest.raises(NotApplicable, match="training step"):
        look_at_eval_mode(probe)


class Heeds(nn.Module):
    def forward(self, x):
        return F.dropout(x, 0.1, self.training)


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (nn.Dropout(0.1), True),
        (nn.Dropout(0.0), False),
        (nn.BatchNorm1d(3), True),
        (nn.BatchNorm1d(3, track_running_stats=False), False),
        (nn.InstanceNorm1d(3), False),
        (nn.LSTM(3, 3, 2, dropout=0.1), True),
        (nn.LSTM(3, 3), False),
        (nn.MultiheadAttention(4, 2, dropout=0.1), True),
        (nn.RReLU(), True),
        (nn.LayerNorm(3), False),
        (nn.TransformerEncoderLayer(4, 2), False),
        (Heeds(), True),
        (Net(), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_knows_what_differs_between_the_modes(module, expected):
    assert differs(module) is expected
    assert torch.is_grad_enabled()
