from __future__ import annotations

import math

import pytest

from gradcheck_kit.rules.no_nonlinearity import no_nonlinearity
from gradcheck_kit.testing import apply, flat, judge, linearity, poisoned, training


def affine(**changes):
    return linearity(
        **{"affine": True, "activations": 0, "pairs": 3, "deviation": 9e-16, "chain": ("0", "2", "4"),
           "widths": (20, 64, 64, 4), **changes}
    )  # fmt: skip


def test_it_names_the_layers_and_what_could_stand_for_them():
    outcome = judge(no_nonlinearity, affine())
    assert outcome.status == "warned"
    (finding,) = outcome.findings
    assert finding.where == "0"
    assert finding.message == (
        "The layers 0, 2 and 4 follow each other without an activation: on 3 random pairs of inputs the network is "
        "affine to 9e-16 of its outputs, so one layer of 20 to 4 computes all that its 3 can."
    )
    assert finding.fixes[0] == "Put an activation such as nn.ReLU() after each of 0 and 2."


def test_it_names_the_function_that_it_does_not_count():
    (finding,) = apply(no_nonlinearity, affine(link="softmax"))
    assert "the network before its final softmax is affine" in finding.message


def test_it_stays_a_warning_with_harm_and_tells_it():
    outcome = judge(no_nonlinearity, affine(), training())
    assert outcome.status == "warned"
    (finding,) = apply(no_nonlinearity, affine(chain=("0", "1"), widths=(20, 64, 4)), training(losses=flat()))
    assert "the loss did not fall" in finding.message
    assert finding.fixes[0] == "Put an activation such as nn.ReLU() after 0."


@pytest.mark.parametrize(
    "facts",
    [
        linearity(),
        linearity(activations=0, pairs=3, deviation=0.4),
        affine(chain=(), widths=()),  # layers side by side
        affine(chain=("0", "1"), widths=(20, 3, 4)),  # a factorisation
        affine(widths=(256, 64, 12, 256)),  # a linear autoencoder
    ],
)
def test_it_passes_what_is_not_linear_or_so_on_purpose(facts):
    assert apply(no_nonlinearity, facts) == ()


def test_it_does_not_rest_on_a_deviation_that_may_be_nan():
    assert judge(no_nonlinearity, poisoned(affine())).status == "warned"
    assert math.isnan(poisoned(affine()).deviation)
