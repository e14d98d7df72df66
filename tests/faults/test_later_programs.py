"""The later programs, by plain training: healthy ones learn, and a fault is there and goes with its cause."""

from __future__ import annotations

import functools
import inspect
import math
import warnings
from pathlib import Path

import bases
import broken
import later_programs as later
import pytest
import torch
from kept_out_bases import KEPT_OUT_BASES
from kept_out_broken import KEPT_OUT_BROKEN
from later_programs import LATER_BASES, LATER_BROKEN
from torch import nn

from gradcheck_kit.plugins import all_rules

SEED = 0
STEPS = 60
SYMPTOMS = {"loss-not-decreasing"}


def loss_of(target, batch, model=None):
    model = model or target.model
    if target.training_step is not None:
        return target.training_step(model, batch)
    if isinstance(batch, dict):
        inputs = {name: value for name, value in batch.items() if name != "labels"}
        return target.loss_fn(model(**inputs), batch["labels"])
    inputs = batch[: inputs_of(target)]
    return target.loss_fn(model(*inputs), *batch[len(inputs) :])


def inputs_of(target):
    sequential = isinstance(target.model, nn.Sequential)
    return 1 if sequential else len(inspect.signature(target.model.forward).parameters)


def first_batch(target):
    return next(iter(target.train_data))


def made(make):
    torch.manual_seed(SEED)
    return make()


def trained(target, steps=STEPS):
    """The target after plain training, and its last losses' mean."""
    target.model.train()
    losses, batches = [], iter(())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of shapes that broadcast
        for _ in range(steps):
            batch = next(batches, None)
            if batch is None:
                batches = iter(target.train_data)
                batch = next(batches)
            target.optimizer.zero_grad()
            loss = loss_of(target, batch)
            loss.backward()
            target.optimizer.step()
            losses.append(loss.item())
    return target, sum(losses[-10:]) / 10


def evaluated(target, data):
    target.model.eval()
    with torch.no_grad():
        losses = [loss_of(target, batch).item() for _, batch in zip(range(8), data, strict=False)]
    return sum(losses) / len(losses)


class Constant(nn.Module):
    """Gives every sample the same output, in the form in which the model gives its own."""

    def __init__(self, output):
        super().__init__()
        self.form, tensors = output, output if isinstance(output, (tuple, list)) else [output]
        if isinstance(output, dict):
            tensors = output.values()
        self.values = nn.ParameterList(t.mean(0, keepdim=True) if t.dim() else t for t in tensors)

    def forward(self, *inputs, **named):
        rows = len((inputs or list(named.values()))[0])
        tensors = [v.expand(rows, *v.shape[1:]) if v.dim() else v for v in self.values]
        if isinstance(self.form, dict):
            return dict(zip(self.form, tensors, strict=True))
        return tensors if isinstance(self.form, (tuple, list)) else tensors[0]


def constant_loss(target, start):
    """That of the best constant prediction, as far as a short training finds it from an output of `start`."""
    outputs = []
    handle = start.model.register_forward_hook(lambda _module, _args, output: outputs.append(output))
    batches = [batch for _, batch in zip(range(8), target.train_data, strict=False)]
    with torch.no_grad():
        loss_of(start, first_batch(start))
    handle.remove()
    model = Constant(outputs[0])
    optimizer = torch.optim.Adam(model.parameters(), lr=0.03)
    for _ in range(15):
        total = 0.0
        for batch in batches:
            optimizer.zero_grad()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                loss = loss_of(target, batch, model)
            loss.backward()
            optimizer.step()
            total += loss.item() / len(batches)
    return total


@functools.cache
def share_left(make, mended, seed):  # `seed` keeps what was made with another apart
    """How much of the constant prediction's loss is left after the training."""
    constant = constant_loss(made(make), made(mended))
    return trained(made(make))[1] / constant


# How a program with more than one peculiarity looks without its fault; else it is the healthy program.
def fine_tuning_by_adam():
    target = later.fine_tuning_with_layerwise_rates()
    target.optimizer = torch.optim.Adam(target.model.parameters(), lr=2e-3)
    return target


MENDED = {
    "proteins_through_sigmoids_without_gates": lambda: later.protein_families_by_a_highway_network(
        8, activation=torch.sigmoid, optimizer=later.nesterov(0.1)
    ),
    "proteins_through_wide_weights": lambda: later.protein_families_by_a_highway_network(
        10, gated=False, std=0.25, optimizer=later.nesterov(1e-2)
    ),
    "clicks_through_six_crosses_of_randn": lambda: later.clicks_by_deep_and_cross(later.DeepAndCross(crosses=6)),
    "claims_through_units_that_start_below_zero": lambda: later.claims_with_a_gamma_deviance(
        later.ClaimNet(activation=torch.relu), change=lambda x, y: ((x + 1.7) / 3.4, y)
    ),
    "bearing_by_a_cell_of_randn": lambda: later.wear_of_a_bearing_by_a_loop_of_cells(later.Loop(later.HandmadeCell())),
    "policy_from_one_move_at_a_time": lambda: later.policy_weighted_by_advantages(batch=64, lr=0.03),
    "tiles_with_adadelta_at_a_thousandth": lambda: later.satellite_tiles_by_a_mixer(
        optimizer=lambda m, _: torch.optim.Adadelta(m.parameters())
    ),
    "land_cover_with_a_momentum_of_99_hundredths": lambda: later.land_cover_with_ignored_borders(
        optimizer=later.plain_momentum(0.3)
    ),
    "solubility_with_the_squared_norm_of_the_error": lambda: later.solubility_by_graph_attention(
        optimizer=later.plain_momentum(0.05, 0.0)
    ),
    "documents_ranked_from_zeros": lambda: later.documents_ranked_by_lists(
        hidden=nn.Sequential(nn.Linear(10, 48), nn.ReLU(), nn.Linear(48, 1))
    ),
    "point_clouds_in_map_coordinates": lambda: later.point_clouds_by_a_shared_mlp(later.PointNet(norm=nn.Identity)),
    "fine_tuning_by_adam_in_half_precision": fine_tuning_by_adam,
}


# ---- faults of programs that train all the same, each shown by what it is ----


def rows_depend_on_each_other(target):
    inputs = first_batch(trained(target)[0])[: inputs_of(target)]
    target.model.eval()
    with torch.no_grad():
        together, alone = target.model(*inputs), target.model(*[x[:5] for x in inputs])
    return not torch.allclose(together[:5], alone, atol=1e-3)


def outputs_know_later_tokens(target):
    tokens = first_batch(target)[0]
    other = tokens.clone()
    other[:, 8:] = (other[:, 8:] + 1) % 16
    target.model.eval()
    with torch.no_grad():
        return not torch.allclose(target.model(tokens)[:, :8], target.model(other)[:, :8], atol=1e-3)


def two_evaluations_differ(target):
    target.model.eval()
    with torch.no_grad():
        return loss_of(target, batch := first_batch(target)) != loss_of(target, batch)


def a_trained_parameter_has_no_optimizer(target):
    owned = {id(p) for group in target.optimizer.param_groups for p in group["params"]}
    loss_of(target, first_batch(target)).backward()
    candidates = [*target.model.parameters(), *target.loss_fn.parameters()]
    return any(p.grad is not None and bool(p.grad.any()) and id(p) not in owned for p in candidates)


def a_parameter_gets_no_gradient(target):
    loss_of(target, first_batch(target)).backward()
    return any(p.grad is None or not p.grad.any() for p in target.model.parameters())


def a_parameter_stays_the_same(target):
    before = [p.clone() for p in target.model.parameters()]
    after = trained(target)[0].model.parameters()
    return any(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def gradients_reach_a_parameter_of_nobody(target):
    known = {id(p) for p in target.model.parameters()}
    nodes, seen = [loss_of(target, first_batch(target)).grad_fn], set()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable") and id(node.variable) not in known:
            return True
        nodes += [following for following, _ in node.next_functions]
    return False


def gradients_stop_at_the_last_step(target):
    x, y = first_batch(target)
    target.loss_fn(target.model(x.requires_grad_()), y).backward()
    return not x.grad[:, :-1].any() and bool(x.grad[:, -1].any())


def is_affine(target):
    a, b = first_batch(target)[0].split(32)
    f = target.model
    return torch.allclose(f(a) + f(b) - f(0 * a), f(a + b), atol=1e-4)


def all_batches_are_one(target):
    first, *others = target.train_data
    return all(torch.equal(a, b) for other in others for a, b in zip(first, other, strict=True))


def rare_classes_are_never_predicted(target):
    trained(target)[0].model.eval()
    x, y = target.test_data.dataset.tensors
    return bool((target.model(x).argmax(1)[y > 0] == 0).float().mean() > 0.8)


def is_far_worse_on_test_data(target):
    trained(target)
    return evaluated(target, target.test_data) > 5 * evaluated(target, target.train_data)


def evaluates_far_worse_than_it_trains(target):
    last = trained(target)[1]
    return evaluated(target, target.test_data) > 1.5 * last


def eval_reaches_no_module(target):
    target.model.train()
    target.model.eval()
    return target.model.drop.training


def labels_are_no_probabilities(target):
    return first_batch(target)[-1].max() > 1


def the_loss_refuses_the_labels(target):
    with pytest.raises(IndexError, match="255"):
        loss_of(target, first_batch(target))
    return True


def the_derivative_is_another(target):
    x = torch.linspace(-2, 2, 9, dtype=torch.float64, requires_grad=True)
    return not torch.autograd.gradcheck(later.WrongSine.apply, (x,), raise_exception=False)


def nothing_is_there_to_learn(target):
    x, y = target.train_data.dataset.tensors
    correlation = (x - x.mean(0)).T @ (y - y.mean(0)) / len(x)
    return correlation.abs().max() < 0.1


SHOWN_BY = {
    "critic_that_is_detached_in_its_own_loss": a_parameter_gets_no_gradient,
    "rents_that_are_rounded_in_forward": a_parameter_gets_no_gradient,
    "bearing_whose_state_is_detached_each_step": gradients_stop_at_the_last_step,
    "uncertainties_that_the_optimizer_lacks": a_trained_parameter_has_no_optimizer,
    "rates_that_decay_by_a_millionth_per_layer": a_parameter_stays_the_same,
    "encoder_that_is_kept_in_a_closure": gradients_reach_a_parameter_of_nobody,
    "point_clouds_centred_on_all_of_them": rows_depend_on_each_other,
    "rotary_model_that_sees_one_ahead": outputs_know_later_tokens,
    "rotary_model_whose_norm_runs_over_time": outputs_know_later_tokens,
    "forecast_by_blocks_without_activations": is_affine,
    "claims_of_the_first_batch_again_and_again": all_batches_are_one,
    "plates_of_which_two_in_a_hundred_are_scratched": rare_classes_are_never_predicted,
    "test_recordings_of_half_the_sample_rate": is_far_worse_on_test_data,
    "gru_that_starts_at_random": two_evaluations_differ,
    "leaves_normalised_without_running_statistics": rows_depend_on_each_other,
    "plates_by_a_norm_of_ones_own": evaluates_far_worse_than_it_trains,
    "leaves_whose_eval_is_their_own": eval_reaches_no_module,
    "tiles_of_one_village": is_far_worse_on_test_data,
    "borders_that_the_loss_does_not_ignore": the_loss_refuses_the_labels,
    "clicks_of_one_and_two": labels_are_no_probabilities,
    "siren_whose_cosine_has_a_minus": the_derivative_is_another,
    "returns_of_a_share": nothing_is_there_to_learn,
}
# Proofs that hold of the healthy programs as well, or that ask for the fault's own code.
NO_COUNTERPART = {"siren_whose_cosine_has_a_minus"}
MENDED |= {
    "plates_of_which_two_in_a_hundred_are_scratched": lambda: later.steel_plates_with_class_weights(
        torch.tensor([0.96, 0.02, 0.02]), 0.45, torch.tensor([0.04, 1.7, 1.7]), n=2560, held_out=2000
    ),
    "plates_by_a_norm_of_ones_own": lambda: later.steel_plates_with_class_weights(change=later.as_measured),
    "tiles_of_one_village": lambda: later.satellite_tiles_by_a_mixer(noise=3.0, batch=24, lr=5e-3),
}


@pytest.mark.parametrize("name", LATER_BASES)
def test_a_healthy_program_learns(name):
    make = LATER_BASES[name]
    assert share_left(make, make, SEED) < 0.85
    target = trained(made(make))[0]
    if target.test_data is not None:
        assert evaluated(target, target.test_data) < 0.9 * constant_loss(made(make), made(make))


@pytest.mark.parametrize("name", [name for name in LATER_BROKEN if name not in SHOWN_BY])
def test_a_broken_program_learns_far_less_than_a_mended_one(name):
    make, _, healthy = LATER_BROKEN[name]
    without_fault = MENDED.get(name, LATER_BASES[healthy])
    mended, sick = share_left(without_fault, without_fault, SEED), share_left(make, without_fault, SEED)
    assert mended < 0.85
    assert math.isnan(sick) or sick > mended + 0.2 * (1 - mended)


@pytest.mark.parametrize("name", SHOWN_BY)
def test_a_fault_is_shown_by_what_it_is_and_is_gone_when_mended(name):
    make, _, healthy = LATER_BROKEN[name]
    assert SHOWN_BY[name](made(make))
    if name == "borders_that_the_loss_does_not_ignore":
        target = made(LATER_BASES[healthy])
        assert loss_of(target, first_batch(target)).isfinite()
    elif name not in NO_COUNTERPART:
        assert not SHOWN_BY[name](made(MENDED.get(name, LATER_BASES[healthy])))


def test_later_names_are_used_once():
    names = [*bases.BASES, *broken.BROKEN, *KEPT_OUT_BASES, *KEPT_OUT_BROKEN, *LATER_BASES, *LATER_BROKEN]
    assert len(names) == len(set(names))


def test_a_later_program_for_each_name():
    source = Path(later.__file__).read_text()
    assert source.count("\n@base\n") == len(LATER_BASES)
    assert source.count("\n@fault(") == len(LATER_BROKEN)


def test_every_later_cause_is_a_rule_and_no_symptom():
    known = {rule.name for rule in all_rules()} - SYMPTOMS
    for name, (_, causes, healthy) in LATER_BROKEN.items():
        assert causes, name
        assert set(causes) <= known, name
        assert healthy in LATER_BASES, name
