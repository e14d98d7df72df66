"""The built-in rules, one file each. They enter through the hook that everybody's do."""

from __future__ import annotations

from collections.abc import Iterable

from gradcheck_kit.plugins import hookimpl
from gradcheck_kit.rule import Rule
from gradcheck_kit.rules.bad_initialization import bad_initialization
from gradcheck_kit.rules.batch_leakage import batch_leakage
from gradcheck_kit.rules.cannot_fit_one_batch import cannot_fit_one_batch
from gradcheck_kit.rules.causal_leakage import causal_leakage
from gradcheck_kit.rules.class_imbalance import class_imbalance
from gradcheck_kit.rules.dead_units import dead_units
from gradcheck_kit.rules.duplicate_batches import duplicate_batches
from gradcheck_kit.rules.eval_accuracy import eval_accuracy
from gradcheck_kit.rules.eval_mode_ignored import eval_mode_ignored
from gradcheck_kit.rules.eval_nondeterministic import eval_nondeterministic
from gradcheck_kit.rules.exploding_activation import exploding_activation
from gradcheck_kit.rules.exploding_gradient import exploding_gradient
from gradcheck_kit.rules.initial_loss import initial_loss
from gradcheck_kit.rules.input_ignored import input_ignored
from gradcheck_kit.rules.invalid_labels import invalid_labels
from gradcheck_kit.rules.learning_rate_too_high import learning_rate_too_high
from gradcheck_kit.rules.learning_rate_too_low import learning_rate_too_low
from gradcheck_kit.rules.loss_broadcast import loss_broadcast
from gradcheck_kit.rules.loss_not_decreasing import loss_not_decreasing
from gradcheck_kit.rules.low_precision import low_precision
from gradcheck_kit.rules.no_gradient import no_gradient
from gradcheck_kit.rules.no_nonlinearity import no_nonlinearity
from gradcheck_kit.rules.noisy_gradient import noisy_gradient
from gradcheck_kit.rules.non_finite import non_finite
from gradcheck_kit.rules.non_finite_input import non_finite_input
from gradcheck_kit.rules.not_optimized import not_optimized
from gradcheck_kit.rules.oscillating_loss import oscillating_loss
from gradcheck_kit.rules.overfitting import overfitting
from gradcheck_kit.rules.parameter_unchanged import parameter_unchanged
from gradcheck_kit.rules.rank_collapse import rank_collapse
from gradcheck_kit.rules.redundant_softmax import redundant_softmax
from gradcheck_kit.rules.saturated_activation import saturated_activation
from gradcheck_kit.rules.sum_reduction import sum_reduction
from gradcheck_kit.rules.symmetric_initialization import symmetric_initialization
from gradcheck_kit.rules.train_eval_gap import train_eval_gap
from gradcheck_kit.rules.uninformative_labels import uninformative_labels
from gradcheck_kit.rules.unnormalized_input import unnormalized_input
from gradcheck_kit.rules.unnormalized_target import unnormalized_target
from gradcheck_kit.rules.unregistered_module import unregistered_module
from gradcheck_kit.rules.unshuffled_data import unshuffled_data
from gradcheck_kit.rules.vanishing_gradient import vanishing_gradient
from gradcheck_kit.rules.vanishing_through_time import vanishing_through_time
from gradcheck_kit.rules.weight_decay_dominates import weight_decay_dominates
from gradcheck_kit.rules.wrong_gradient import wrong_gradient
from gradcheck_kit.rules.wrong_output_activation import wrong_output_activation

CATALOGUE: tuple[Rule, ...] = (
    vanishing_gradient,
    exploding_gradient,
    no_gradient,
    dead_units,
    saturated_activation,
    non_finite,
    vanishing_through_time,
    noisy_gradient,
    rank_collapse,
    exploding_activation,
    not_optimized,
    parameter_unchanged,
    learning_rate_too_high,
    learning_rate_too_low,
    loss_not_decreasing,
    oscillating_loss,
    weight_decay_dominates,
    sum_reduction,
    initial_loss,
    symmetric_initialization,
    bad_initialization,
    unregistered_module,
    redundant_softmax,
    wrong_output_activation,
    loss_broadcast,
    batch_leakage,
    causal_leakage,
    input_ignored,
    no_nonlinearity,
    unnormalized_input,
    unnormalized_target,
    non_finite_input,
    class_imbalance,
    unshuffled_data,
    duplicate_batches,
    uninformative_labels,
    invalid_labels,
    eval_accuracy,
    eval_nondeterministic,
    train_eval_gap,
    eval_mode_ignored,
    overfitting,
    cannot_fit_one_batch,
    wrong_gradient,
    low_precision,
)


@hookimpl
def gradcheck_rules() -> Iterable[Rule]:
    """Return the catalogue."""
    return CATALOGUE
