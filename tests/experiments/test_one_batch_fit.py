"""Learning one batch by heart."""

from __future__ import annotations

import torch
from torch import nn

from gradcheck_kit.experiments.one_batch_fit import fit_one_batch


def test_fits_with_the_users_optimizer_and_stops_there(probe_of, mlp, blobs):
    model = mlp(4, 32, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    fit = fit_one_batch(probe_of(model, train=blobs(), loss_fn=nn.CrossEntropyLoss(), optimizer=optimizer, steps=60))
    (attempt,) = fit.attempts
    assert attempt.optimizer == "SGD(lr=0.5)"
    assert attempt.fitted(fit.constant_loss)
    assert len(attempt.losses) < 100


def test_tries_adam_when_the_users_optimizer_does_not_fit(probe_of, mlp, blobs):
    model = mlp(4, 32, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-9)
    fit = fit_one_batch(probe_of(model, train=blobs(), loss_fn=nn.CrossEntropyLoss(), optimizer=optimizer, steps=60))
    assert [a.optimizer for a in fit.attempts] == ["SGD(lr=1e-09)", "Adam(lr=0.001)"]
    assert [a.fitted(fit.constant_loss) for a in fit.attempts] == [False, True]


def test_takes_sixteen_samples_with_dropout_off(probe_of, blobs):
    model = nn.Sequential(nn.Linear(4, 64), nn.Dropout(0.95), nn.Linear(64, 2))
    fit = fit_one_batch(probe_of(model, train=blobs(batch=64), steps=60))
    assert fit.samples == 16
    assert fit.attempts[-1].fitted(fit.constant_loss)


def test_tries_a_heavy_dropout_once_the_batch_is_learned_without(probe_of, blobs):
    def fit(p, model=None):
        model = model or nn.Sequential(nn.Linear(4, 64), nn.Dropout(p), nn.Linear(64, 2))
        return fit_one_batch(probe_of(model, train=blobs(batch=64), steps=60))

    heavy = fit(0.98)
    assert (heavy.dropout, heavy.dropout_share) == ("1", 0.98)
    assert not heavy.with_dropout.fitted(heavy.constant_loss)
    assert fit(0.5).with_dropout is None
    never = nn.Sequential(nn.Flatten(), nn.Linear(4, 1), nn.Dropout(0.98), nn.Linear(1, 2))
    nn.init.zeros_(never[1].weight)
    nn.init.zeros_(never[1].bias)
    nn.init.zeros_(never[3].weight)
    assert fit(0.98, never).with_dropout is None


def test_takes_the_whole_batch_where_its_samples_belong_together(probe_of):
    class Nodes(nn.Module):
        """Every node hears of all others: forty of them, and no fewer."""

        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 2)
            self.register_buffer("adjacency", torch.eye(40))

        def forward(self, x):
            return self.layer(self.adjacency @ x)

    data = [(torch.randn(40, 4), torch.randint(2, (40,)))] * 2
    assert fit_one_batch(probe_of(Nodes(), train=data, steps=20)).samples == 40


def test_fits_a_model_that_draws_noise_because_the_noise_stays_the_same(probe_of, blobs):
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 2)

        def forward(self, x):
            return self.layer(x + 30 * torch.randn_like(x))

    fit = fit_one_batch(probe_of(Noisy(), train=blobs(batch=4), steps=60, lr=0.05))
    assert fit.attempts[0].fitted(fit.constant_loss)


def test_is_shorter_for_a_shorter_probe(probe_of, mlp, blobs):
    assert fit_one_batch(probe_of(mlp(4, 8, 2), train=blobs(), steps=6)).planned_steps == 20


def test_knows_a_loss_whose_parts_are_trained_against_each_other(probe_of):
    class Game(nn.Module):
        """A number that one player raises and the other lowers: x * y, whose gradient in y is turned round."""

        def __init__(self):
            super().__init__()
            self.x, self.y = nn.Parameter(torch.tensor([1.0])), nn.Parameter(torch.tensor([1.0]))

    def step(model, _batch):
        return 3 + (model.x * model.y.detach() - model.x.detach() * model.y).sum()

    (attempt, *_) = fit_one_batch(probe_of(Game(), train=[torch.zeros(4, 1)], training_step=step, steps=20)).attempts
    assert attempt.at_odds


def test_knows_that_a_loss_that_cannot_be_learned_is_one_all_the_same(probe_of):
    data = [(torch.zeros(16, 4), torch.randn(16, 1))]  # nothing tells the samples apart
    fit = fit_one_batch(probe_of(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)), train=data, steps=20))
    assert not any(attempt.at_odds for attempt in fit.attempts)
