"""The training run: what is recorded of it, and that it is the run the user would have had."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from gradcheck_kit.errors import ProbeError
from gradcheck_kit.experiments.training import activation_steps, schedule, train
from gradcheck_kit.target.batches import endless
from gradcheck_kit.target.workspace import workspace


def test_records_the_first_steps_and_the_last_and_about_fifteen_between():
    assert schedule(5) == set(range(5))
    assert {0, 1, 2, 58, 59} <= schedule(60)
    assert 15 <= len(schedule(1000)) <= 20


def test_looks_into_activations_only_at_recorded_steps():
    for steps in (1, 2, 5, 60, 1000):
        assert activation_steps(steps) <= schedule(steps)


def test_is_the_run_that_a_plain_loop_makes(probe_of, mlp, blobs):
    model = mlp(4, 8, 2)
    probe = probe_of(model, train=blobs(), loss_fn=nn.CrossEntropyLoss(), lr=0.1, optimizer=None)
    training = train(probe)
    with workspace(probe.prepared, seed=0) as work:
        plain = []
        for batch in itertools.islice(endless(probe.prepared.train), 12):
            work.clear_gradients()
            _, loss = work.step(batch)
            loss.backward()
            work.update(batch)
            plain.append(float(loss))
    assert list(training.losses) == plain


def test_is_the_same_twice(probe_of, mlp, blobs):
    probe = probe_of(nn.Sequential(mlp(4, 8, 8), nn.Dropout(0.5), nn.Linear(8, 2)), train=blobs())
    assert train(probe) == train(probe)


def test_measures_gradients_and_updates_as_autograd_and_the_optimizer_make_them(probe_of, blobs):
    model = nn.Linear(4, 2, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    probe = probe_of(model, train=blobs(), loss_fn=nn.CrossEntropyLoss(), optimizer=optimizer, steps=1)
    (record,) = train(probe).parameters
    with workspace(probe.prepared, seed=0) as work:
        _, loss = work.step(next(iter(probe.prepared.train)))
        loss.backward()
        gradient = work.model.weight.grad
    assert record.gradient_rms[0] == pytest.approx(float(gradient.square().mean().sqrt()), rel=1e-5)
    assert record.update_rms[0] == pytest.approx(0.5 * record.gradient_rms[0], rel=1e-4)
    assert record.weight_rms[0] == pytest.approx(float(model.weight.detach().square().mean().sqrt()), rel=1e-5)
    assert record.changed is True


def test_lists_outputs_in_the_order_in_which_they_run_and_not_in_which_they_are_written(probe_of, blobs):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.last, self.first = nn.Linear(8, 2), nn.Linear(4, 8)

        def forward(self, x):
            return self.last(self.first(x).relu())

    training = train(probe_of(Net(), train=blobs()))
    assert [o.module for o in training.outputs] == ["first", "last"]
    assert [p.layer for p in training.weights_in_order()] == ["first", "last"]


def test_tells_no_gradient_from_a_gradient_of_zero(probe_of, blobs):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.unused, self.zeroed = nn.Linear(4, 2), nn.Linear(4, 2), nn.Linear(4, 2)

        def forward(self, x):
            return self.a(x) + 0 * self.zeroed(x)

    training = train(probe_of(Net(), train=blobs()))
    found = {p.name: p.gradient_rms[0] for p in training.parameters}
    assert found["unused.weight"] is None
    assert found["zeroed.weight"] == 0.0
    assert found["a.weight"] > 0


@pytest.mark.parametrize("reentrant", [True, False])
def test_counts_a_checkpointed_call_once(probe_of, blobs, mlp, reentrant):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.body, self.head = nn.Linear(4, 8), mlp(8, 8, 8), nn.Linear(8, 2)

        def forward(self, x):
            return self.head(checkpoint(self.body, self.stem(x), use_reentrant=reentrant))

    training = train(probe_of(Net(), train=blobs()))
    assert [o.module for o in training.outputs] == ["stem", "body.0", "body.1", "body.2", "head"]
    assert all(p.gradient_rms[0] for p in training.parameters)


class Inplace(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.act, self.b = nn.Linear(4, 8), nn.ReLU(inplace=True), nn.Linear(8, 2)

    def forward(self, x):
        h = self.a(x)
        h += x.sum(1, keepdim=True)  # as a residual connection written in place
        return self.b(self.act(h))


class DictOutput(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 2)

    def forward(self, x):
        return {"out": self.a(x), "aux": None}


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.again, self.b = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)
        self.again.weight = self.a.weight

    def forward(self, x):
        return self.b(self.again(self.a(self.a(x)).relu()))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.rnn, self.head = nn.LSTM(1, 8, batch_first=True), nn.Linear(8, 2)

    def forward(self, x):
        return self.head(self.rnn(x[..., None])[0][:, -1])


@pytest.mark.parametrize("kind", [Inplace, DictOutput, Shared, Recurrent])
def test_runs_on(kind, probe_of, blobs):
    torch.manual_seed(0)
    training = train(probe_of(kind(), train=blobs()))
    assert len(training.losses) == 12
    assert all(o.gradient_rms[0] for o in training.outputs)


def test_counts_a_tied_weight_once(probe_of, blobs):
    names = [p.name for p in train(probe_of(Shared(), train=blobs())).parameters]
    assert names == ["a.weight", "a.bias", "again.bias", "b.weight", "b.bias"]


def test_runs_with_lbfgs_which_wants_a_closure(probe_of, mlp, blobs):
    model = mlp(4, 8, 2)
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=3)
    training = train(probe_of(model, train=blobs(batch=64), loss_fn=nn.CrossEntropyLoss(), optimizer=optimizer))
    assert training.losses[-1] < 0.5 * training.losses[0]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_runs_in_other_precisions(dtype, probe_of, mlp):
    model = mlp(4, 8, 2).to(dtype)
    x, y = torch.randn(64, 4, dtype=dtype), torch.randint(0, 2, (64,))
    assert all(map(math.isfinite, train(probe_of(model, train=[(x, y)])).losses))


def test_sees_dead_units_of_modules_and_of_functions_alike(probe_of, blobs):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.act, self.b, self.c = nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.Linear(8, 2)
            nn.init.constant_(self.a.bias, -100)
            nn.init.constant_(self.b.bias, 100)

        def forward(self, x):
            return self.c(F.relu(self.b(self.act(self.a(x)))))

    module, function = train(probe_of(Net(), train=blobs())).activations
    assert (module.name, module.dead_share, module.units) == ("act", 1.0, 8)
    assert (function.function, function.dead_share) == ("relu", 0.0)
    assert "relu in forward (test_training.py:" in function.name


def test_counts_a_channel_as_alive_in_a_sample_when_any_pixel_is(probe_of):
    model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2))
    with torch.no_grad():
        model[0].weight.zero_()
        model[0].weight[:2, :, 1, 1] = 1.0
        model[0].bias.copy_(torch.tensor([-1.0, -1.0, -1.0, -1.0]))
    x = torch.zeros(32, 1, 4, 4)
    x[:, :, 0, 0] = 5.0  # one bright pixel is enough
    (relu,) = train(probe_of(model, train=[(x, torch.randint(0, 2, (32,)))], steps=1)).activations
    assert relu.dead_share == 0.5


def test_measures_saturation_by_the_derivative(probe_of, blobs, mlp):
    model = mlp(4, 8, 2, activation=nn.Tanh)
    nn.init.constant_(model[0].bias, 50.0)
    (tanh,) = train(probe_of(model, train=blobs())).activations
    assert tanh.saturated_share_at_start == 1.0
    assert tanh.dead_share is None


def test_knows_which_activation_is_the_output(probe_of, blobs):
    model = nn.Sequential(nn.Linear(4, 1), nn.Sigmoid(), nn.Flatten(0))
    data = [(x, y.float()) for x, y in blobs()]
    (sigmoid,) = train(probe_of(model, train=data, loss_fn=nn.BCELoss())).activations
    assert sigmoid.is_output


def test_stops_at_a_loss_that_is_not_finite_and_says_where_it_came_from(probe_of, blobs):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 2)
            self.left = 5

        def forward(self, x):
            self.left -= 1
            h = self.a(x)
            return self.b(h / 0 if self.left == 0 else h)

    training = train(probe_of(Net(), train=blobs()))
    origin = training.non_finite
    assert len(training.losses) == 5
    assert (origin.step, origin.kind, origin.where, origin.after) == (4, "output", "b", "a")
    assert not origin.inputs_finite


def test_finds_a_gradient_that_is_not_finite_under_a_finite_loss(probe_of, blobs):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 2)

        def forward(self, x):
            h = self.a(x)
            return self.b(h + (h - h).square().sum(1, keepdim=True).sqrt())

    origin = train(probe_of(Net(), train=blobs())).non_finite
    assert (origin.step, origin.kind, origin.where) == (0, "gradient", "a")


def test_finds_nan_in_the_input_before_anything_else(probe_of, mlp):
    x = torch.randn(16, 4)
    x[3, 1] = float("nan")
    origin = train(probe_of(mlp(4, 8, 2), train=[(x, torch.randint(0, 2, (16,)))])).non_finite
    assert (origin.step, origin.kind, origin.value, origin.share) == (0, "input", "nan", 1 / 64)


def test_knows_the_loss_of_a_prediction_that_ignores_the_input(probe_of, mlp):
    y = torch.tensor([0] * 12 + [1] * 4)
    training = train(probe_of(mlp(4, 8, 2), train=[(torch.randn(16, 4), y)], loss_fn=nn.CrossEntropyLoss()))
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert training.constant_loss == pytest.approx(entropy, rel=1e-3)
    assert training.zero_loss == pytest.approx(math.log(2), rel=1e-4)


def test_takes_the_loss_of_a_constant_from_the_users_own_loss(probe_of, mlp):
    x, y = torch.randn(64, 4), torch.randn(64, 1) * 3 + 7
    squared = train(probe_of(mlp(4, 8, 1), train=[(x, y)], loss_fn=nn.MSELoss()))
    doubled = train(probe_of(mlp(4, 8, 1), train=[(x, y)], loss_fn=lambda out, t: 2 * F.mse_loss(out, t)))
    assert squared.constant_loss == pytest.approx(float(y.var(correction=0)), rel=1e-4)
    assert doubled.constant_loss == pytest.approx(2 * squared.constant_loss, rel=1e-4)


def test_names_step_and_line_when_the_users_code_raises_in_the_middle(probe_of, blobs):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.left = nn.Linear(4, 2), 8

        def forward(self, x):
            self.left -= 1
            if self.left == 0:
                raise ValueError("out of luck")
            return self.a(x)

    with pytest.raises(
        ProbeError, match=r"model.py:model: training step 8 of 12 raised ValueError: out of luck \(test_training.py:\d+"
    ):
        train(probe_of(Net(), train=blobs()))


def test_does_not_hold_a_tensor_of_the_run(probe_of, mlp, blobs):
    training = train(probe_of(mlp(4, 8, 2), train=blobs()))
    assert "tensor(" not in repr(training)
