"""Terms of the loss that change with the parameters and that autograd takes for constants."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from gradcheck_kit.experiments import NotApplicable
from gradcheck_kit.experiments.loss_terms import look_at_loss_terms


@pytest.fixture
def terms_of(probe_of, mlp):
    def look(loss_fn, **given):
        torch.manual_seed(0)
        data = [(torch.randn(16, 4), torch.randn(16, 1)) for _ in range(4)]
        given = given or {"loss_fn": loss_fn}
        model = mlp(4, 8, 1)
        return look_at_loss_terms(probe_of(model, train=data, **given)), model

    return look


def residual(*, create_graph):
    """The derivative of the output in its input, which is to be 0."""

    def step(model, batch):
        x = batch[0].clone().requires_grad_()
        out = model(x)
        (slope,) = torch.autograd.grad(out.sum(), x, create_graph=create_graph, retain_graph=True)
        return F.mse_loss(out, batch[1]) + slope.square().mean()

    return step


def test_finds_a_derivative_that_has_no_graph(terms_of):
    found, model = terms_of(None, training_step=residual(create_graph=False))
    (term,) = found.untrained
    assert term.differentiated
    assert term.source.startswith("test_loss_terms.py:")
    assert 0 < term.value < found.loss
    assert all(p.grad is None for p in model.parameters())


def test_finds_a_penalty_that_is_a_plain_number(terms_of):
    def step(model, batch):
        penalty = sum(p.abs().sum().item() for p in model.parameters())
        return F.mse_loss(model(batch[0]), batch[1]) + 1e-3 * penalty

    (term,) = terms_of(None, training_step=step)[0].untrained
    assert not term.differentiated


@pytest.mark.parametrize(
    "step",
    [
        residual(create_graph=True),
        lambda model, batch: F.mse_loss(model(batch[0]), batch[1]),
        lambda model, batch: F.mse_loss(model(batch[0]), batch[1]) + model[0].weight.square().sum(),
    ],
    ids=["with a graph", "one term", "trained"],
)
def test_does_not_apply_where_every_term_is_trained(terms_of, step):
    with pytest.raises(NotApplicable):
        terms_of(None, training_step=step)


def test_passes_constants_and_what_changes_by_itself(terms_of):
    calls = []

    def step(model, batch):
        calls.append(0)
        return F.mse_loss(model(batch[0]), batch[1]) + 1e-8 + 0.1 * len(calls)

    assert terms_of(None, training_step=step)[0].untrained == ()


def test_passes_the_part_of_a_difference_that_is_meant_to_rest(terms_of):
    """One sample, whose target the model itself makes, as in temporal-difference learning."""

    def step(model, batch):
        return (model(batch[0][:1]) - model(batch[0][1:2]).detach()).square().sum()

    with pytest.raises(NotApplicable):
        terms_of(None, training_step=step)
