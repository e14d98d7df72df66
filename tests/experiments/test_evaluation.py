"""Evaluation: accuracy as a user would count it, and two evaluations that must agree."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gradcheck_kit.experiments import NotApplicable
from gradcheck_kit.experiments.evaluation import evaluate
from gradcheck_kit.experiments.training import train


def trained(probe):
    train(probe)
    return evaluate(probe)


def test_counts_accuracy_per_class_on_all_test_data(probe_of, mlp, blobs):
    probe = probe_of(mlp(4, 16, 2), train=blobs(), test=blobs(n=40, batch=7), loss_fn=nn.CrossEntropyLoss(), lr=0.05)
    found = trained(probe)
    labels = torch.cat([y for _, y in blobs(n=40)])
    assert {c.label: c.total for c in found.per_class} == {0: int((labels == 0).sum()), 1: int((labels == 1).sum())}
    assert found.samples == 40
    assert found.accuracy > 0.8


def test_evaluates_the_trained_model_and_not_the_initial_one(probe_of, mlp, blobs):
    model = mlp(4, 16, 2)
    untrained = evaluate(probe_of(model, train=blobs(), test=blobs(), loss_fn=nn.CrossEntropyLoss()))
    after = trained(probe_of(model, train=blobs(), test=blobs(), loss_fn=nn.CrossEntropyLoss(), lr=0.05))
    assert after.loss < 0.5 * untrained.loss


def test_does_not_count_ignored_labels(probe_of):
    x, y = torch.randn(8, 5, 3), torch.randint(0, 3, (8, 5))
    y[:, 2:] = -100
    probe = probe_of(
        nn.Linear(3, 3),
        train=[(x, y)],
        test=[(x, y)],
        loss_fn=lambda o, t: F.cross_entropy(o.flatten(0, 1), t.flatten()),
    )
    assert sum(c.total for c in evaluate(probe).per_class) == 16


def test_is_no_classification_when_the_loss_does_not_reward_the_label(probe_of, blobs):
    def pull_together(z, y):
        same = (y[:, None] == y[None]).float()
        return (torch.cdist(z, z) * same).mean() - (torch.cdist(z, z) * (1 - same)).mean()

    probe = probe_of(nn.Linear(4, 8), train=blobs(), test=blobs(), loss_fn=pull_together)
    assert evaluate(probe).accuracy is None


def test_reestimates_batchnorm_statistics_that_are_too_young(probe_of, blobs):
    def make(momentum):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8, momentum=momentum), nn.ReLU(), nn.Linear(8, 2))

    slow = trained(probe_of(make(1e-4), train=blobs(), test=blobs(), loss_fn=nn.CrossEntropyLoss(), lr=0.05))
    fast = trained(probe_of(make(0.9), train=blobs(), test=blobs(), loss_fn=nn.CrossEntropyLoss(), lr=0.05))
    assert slow.statistics_reestimated
    assert not fast.statistics_reestimated
    assert slow.accuracy > 0.8


def test_evaluates_a_model_whose_buffer_gets_its_size_in_the_first_forward_pass(probe_of, blobs):
    class Positional(nn.Module):
        """Positions are computed once it is known how many are needed, as in ConViT."""

        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 2)
            self.register_buffer("positions", torch.zeros(1))

        def forward(self, x):
            if len(self.positions) != x.shape[1]:
                self.positions = torch.linspace(0, 1, x.shape[1])
            return self.layer(x + self.positions)

    assert trained(probe_of(Positional(), train=blobs(), test=blobs())).deterministic


class Functional(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.a, self.b, self.how = nn.Linear(4, 8), nn.Linear(8, 2), how

    def forward(self, x):
        return self.b(self.how(self.a(x).relu()))


def test_agrees_with_itself_when_dropout_heeds_the_mode(probe_of, blobs):
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 2))
    found = evaluate(probe_of(model, train=blobs()))
    assert found.deterministic
    assert found.largest_difference == 0.0


def test_names_dropout_that_ignores_the_mode_with_its_line(probe_of, blobs):
    found = evaluate(probe_of(Functional(lambda h: F.dropout(h, 0.5)), train=blobs()))
    (operation,) = found.random_operations
    assert not found.deterministic
    assert operation.operation == "dropout"
    assert operation.source.startswith("test_evaluation.py:")
    assert (found.parted_at, found.parted_itself) == ("b", False)


def test_names_a_module_that_is_random_itself(probe_of, blobs):
    class AlwaysDrop(nn.Module):
        def forward(self, x):
            return x * torch.bernoulli(torch.full_like(x, 0.5))

    found = evaluate(probe_of(nn.Sequential(nn.Linear(4, 8), AlwaysDrop(), nn.Linear(8, 2)), train=blobs()))
    assert (found.parted_at, found.parted_type, found.parted_itself) == ("1", "AlwaysDrop", True)
    assert [o.module for o in found.random_operations] == ["1"]


def test_knows_sampling_from_a_distribution_that_the_model_computes(probe_of, blobs):
    class Latent(Functional):
        def __init__(self):
            super().__init__(lambda h: h[:, :4] + torch.randn_like(h[:, :4]) * h[:, 4:].exp())
            self.b = nn.Linear(4, 2)

    (operation,) = evaluate(probe_of(Latent(), train=blobs())).random_operations
    assert operation.by_design


def test_does_not_mistake_noise_of_fixed_size_for_that(probe_of, blobs):
    (operation,) = evaluate(
        probe_of(Functional(lambda h: h + 0.1 * torch.randn_like(h)), train=blobs())
    ).random_operations
    assert not operation.by_design


def test_is_not_made_for_a_training_step_that_calls_the_model_twice(probe_of, blobs):
    probe = probe_of(
        nn.Linear(4, 2), train=blobs(), training_step=lambda m, b: F.cross_entropy(m(b[0]) + m(b[0]), b[1])
    )
    with pytest.raises(NotApplicable, match="training step"):
        evaluate(probe)


def test_takes_over_buffers_that_forward_registers(probe_of, blobs):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(4, 2)

        def forward(self, x):
            if "scale" not in self._buffers:
                self.register_buffer("scale", x.detach().std())
            return self.head(x / self.scale)

    probe = probe_of(Net(), train=blobs(), test=blobs(), loss_fn=nn.CrossEntropyLoss())
    train(probe)
    assert evaluate(probe).deterministic


def test_counts_the_samples_whose_output_is_nan(probe_of, blobs):
    class Log(nn.Module):
        """Takes the logarithm of what may be negative, in evaluation mode only."""

        def __init__(self):
            super().__init__()
            self.head = nn.Linear(4, 2)

        def forward(self, x):
            return self.head(x) if self.training else self.head(x) + (x[:, :1].log() - x[:, :1].log())

    data = blobs()
    negative = sum(int((x[:, 0] <= 0).sum()) for x, _ in data)
    found = evaluate(probe_of(Log(), train=data, test=data))
    assert found.nan_samples == negative > 0


def test_knows_a_module_of_torchs_that_forward_sets_back_to_training_mode(probe_of, blobs):
    class Eager(nn.Module):
        def __init__(self):
            super().__init__()
            self.head, self.drop = nn.Linear(4, 2), nn.Dropout(0.5)

        def forward(self, x):
            self.drop.train()
            return self.head(self.drop(x))

    found = evaluate(probe_of(Eager(), train=blobs(), test=blobs()))
    assert [(o.module, o.in_training_mode) for o in found.random_operations] == [("drop", True)]
