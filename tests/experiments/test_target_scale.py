"""What a regression is to predict, and the same run on standardised targets."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from gradcheck_kit.experiments import NotApplicable
from gradcheck_kit.experiments.input_scale import measure_input_scale
from gradcheck_kit.experiments.target_scale import measure_target_scale
from gradcheck_kit.experiments.training import train
from gradcheck_kit.facts import InputScale, Training


@pytest.fixture
def scale_of(probe_of):
    def measure(y, loss_fn=None, *, x=None, model=None, **settings):
        x = torch.randn(len(y), 4) if x is None else x
        model = model or nn.Linear(4, y[0].numel())
        loaded = DataLoader(TensorDataset(x, y), 32)
        probe = probe_of(model, train=loaded, loss_fn=loss_fn or nn.MSELoss(), **settings)
        probe.facts = {Training: train(probe)}
        return measure_target_scale(probe)

    return measure


def slope(n=256):
    x = torch.randn(n, 4)
    return x, x[:, :1] * 5e4 + 2e5


def test_measures_the_column_that_is_farthest_off(scale_of):
    y = torch.randn(64, 3) * torch.tensor([1.0, 500.0, 1.0])
    found = scale_of(y)
    assert (found.columns, found.column) == (3, 1)
    assert found.std == pytest.approx(float(y[:, 1].std(correction=0)), rel=1e-5)
    assert found.odd


def test_runs_again_where_the_run_does_not_learn(scale_of):
    x, y = slope()
    model = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 1))
    found = scale_of(y, x=x, model=model, steps=60)
    assert len(found.standardized_losses) == 60
    assert found.standardized_losses[-1] < 0.9 * found.standardized_losses[0]
    assert found.standardized_constant_loss == pytest.approx(1.0, abs=0.1)


def test_standardises_the_input_as_well_where_neither_alone_is_enough(scale_of, probe_of):
    x, y = slope()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 1))
    loader = DataLoader(TensorDataset(x * 1e4 + 1e5, y), 32)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    probe = probe_of(model, train=loader, loss_fn=nn.MSELoss(), optimizer=optimizer, steps=60)
    probe.facts = {Training: train(probe)}
    assert measure_target_scale(probe).with_input_of == ""
    probe.facts |= {InputScale: measure_input_scale(probe)}
    found = measure_target_scale(probe)
    assert found.with_input_of == "0"
    assert found.standardized_losses[-1] < 0.5


def falling_run(scale_of, rate):
    x, y = slope()
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    return scale_of((y - 2e5) / 100 + 500, x=x, model=model, optimizer=optimizer, steps=60)


def test_runs_again_where_the_loss_falls_and_is_above_a_constant_prediction_in_the_end(scale_of):
    assert len(falling_run(scale_of, 3e-3).standardized_losses) == 60


def test_does_not_run_again_where_the_loss_ends_below_a_constant_prediction(scale_of):
    assert falling_run(scale_of, 0.1).standardized_losses == ()


def test_does_not_run_again_with_quick_or_at_a_usual_scale(scale_of):
    x, y = slope()
    assert scale_of(y, x=x, quick=True).standardized_losses == ()
    assert scale_of((y - y.mean()) / 1e5, x=x).standardized_losses == ()


def test_gives_up_where_the_loss_does_not_take_the_others(scale_of):
    def of_positive_numbers(out, y):
        if (y < 0).any():
            raise ValueError("counts are positive")
        return F.mse_loss(out, y)

    x, y = slope()
    found = scale_of(y.abs(), of_positive_numbers, x=x)
    assert found.odd
    assert found.standardized_losses == ()


def test_is_not_made_for_classes(probe_of, blobs):
    with pytest.raises(NotApplicable, match="classes"):
        measure_target_scale(probe_of(nn.Linear(4, 2), train=blobs(), loss_fn=nn.CrossEntropyLoss()))


def test_is_not_made_for_targets_with_nan(probe_of):
    batch = torch.randn(8, 4), torch.full((8, 1), float("nan"))
    with pytest.raises(NotApplicable, match="NaN"):
        measure_target_scale(probe_of(nn.Linear(4, 1), train=[batch], loss_fn=nn.MSELoss()))


class TwoHeads(nn.Module):
    def __init__(self):
        super().__init__()
        self.kind, self.age = nn.Linear(4, 3), nn.Linear(4, 1)

    def forward(self, x):
        return {"kind": self.kind(x), "age": self.age(x)[:, 0]}


def test_standardises_the_odd_one_of_several_targets(probe_of):
    torch.manual_seed(0)
    x = torch.randn(256, 4)
    rows = [(x[i], {"kind": x[i, :3].argmax(), "age": 6000 * x[i, 3] + 16000}) for i in range(256)]

    def loss_fn(out, target):
        return F.cross_entropy(out["kind"], target["kind"]) + F.mse_loss(out["age"], target["age"])

    probe = probe_of(TwoHeads(), train=DataLoader(rows, 32), loss_fn=loss_fn, steps=60)
    probe.facts = {Training: train(probe)}
    found = measure_target_scale(probe)
    assert found.part == "[1]['age']"
    assert found.mean == pytest.approx(16000, rel=0.1)
    assert found.standardized_losses[0] < 10
    assert found.standardized_losses[-1] < 0.9 * found.standardized_losses[0]


@pytest.mark.parametrize("missing", [0, 40])
def test_looks_at_the_second_target_of_a_step_and_at_the_mark_of_missing_ones(missing, probe_of):
    class TwoHeads(nn.Module):
        def __init__(self):
            super().__init__()
            self.kind, self.number = nn.Linear(4, 3), nn.Linear(4, 1)

        def forward(self, x):
            return self.kind(x), self.number(x)[:, 0]

    def step(model, batch):
        x, kind, number = batch
        scores, estimate = model(x)
        return F.cross_entropy(scores, kind) + F.mse_loss(estimate, number)

    torch.manual_seed(0)
    x = torch.randn(256, 4)
    number = 100 * x[:, 1]
    number[:missing] = -9999.0
    data = DataLoader(TensorDataset(x, x[:, :3].argmax(1), number), 32, shuffle=True)
    model = TwoHeads()
    sgd = torch.optim.SGD(model.parameters(), lr=1e-7)
    found = measure_target_scale(probe_of(model, train=data, training_step=step, optimizer=sgd))
    assert found.part == "[2]"
    assert (found.marker, found.marked) == ((-9999.0, pytest.approx(40 / 256)) if missing else (None, 0.0))


def test_reads_no_classes_off_scores_that_the_loss_only_picks_out(probe_of):
    """Rewards of a value network: the actions are no labels of its outputs."""
    torch.manual_seed(0)
    states, actions = torch.randn(128, 4), torch.randint(0, 2, (128,))
    loader = DataLoader(TensorDataset(states, actions, 1e4 * torch.rand(128)), 32)

    def loss_fn(q, action, reward):
        return F.smooth_l1_loss(q.gather(1, action[:, None])[:, 0], reward)

    probe = probe_of(nn.Linear(4, 2), train=loader, loss_fn=loss_fn, steps=20)
    probe.facts = {Training: train(probe)}
    assert not probe.prepared.task.classes_from
    assert measure_target_scale(probe).part == "[2]"
