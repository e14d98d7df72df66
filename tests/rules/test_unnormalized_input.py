from __future__ import annotations

import math

import pytest

from gradcheck_kit.rule import Skip
from gradcheck_kit.rules.unnormalized_input import unnormalized_input
from gradcheck_kit.testing import apply, falling, feature_scale, flat, input_scale, judge, poisoned, training

GOOD = falling(end=0.05)


def pixels(losses=GOOD, **changes):
    channel = feature_scale(mean=133.4, std=68.2)
    values = {"features": 1, "listed": (channel,), "worst": channel, "minimum": 0.0, "maximum": 255.0}
    return input_scale(**{**values, "standardized_losses": losses, **changes})


def table(*features, **changes):
    worst = max(features, key=lambda f: f.odd)
    values = {"layer_type": "Linear", "axis": "feature", "features": len(features), "listed": features}
    return input_scale(**{**values, "worst": worst, "standardized_losses": GOOD, **changes})


def test_it_gives_scale_harm_and_proof():
    (finding,) = apply(unnormalized_input, pixels(), training(losses=flat()))
    assert finding.where == "0"
    assert finding.message.startswith(
        "What enters 0 (Conv2d) has mean 133 and standard deviation 68.2, and ranges from 0 to 255, and the loss did "
        "not fall:"
    )
    assert "on standardised input the same run goes from 2.35 to 0.0" in finding.message
    assert finding.severity is None


def test_it_names_the_transform_for_pixels_with_its_numbers():
    (finding,) = apply(unnormalized_input, pixels(), training(losses=flat()))
    assert finding.fixes == (
        "Scale the pixels to 0 to 1 (x / 255) and then use transforms.Normalize((0.523,), (0.267,)) on training and "
        "test data.",
    )


def test_it_names_the_numbers_of_a_small_table():
    features = (feature_scale(0, mean=2000.0, std=8.0), feature_scale(1, mean=0.5, std=0.5, binary=True))
    (finding,) = apply(unnormalized_input, table(*features), training(losses=flat()))
    assert "mean = torch.tensor([2e+03, 0]) and std = torch.tensor([8, 1])" in finding.fixes[0]
    assert "in feature 0" in finding.message


def test_it_names_the_worst_feature_of_a_large_table():
    worst = feature_scale(19, mean=2e4, std=1e4)
    (finding,) = apply(unnormalized_input, table(worst, listed=(), features=40), training(losses=flat()))
    assert "(feature 19: 2e+04 and 1e+04)" in finding.fixes[0]


def test_it_only_warns_where_the_run_learns_too():
    (finding,) = apply(unnormalized_input, pixels(), training(losses=falling(end=1.0)))
    assert finding.severity == "warning"
    assert "and the loss went from 2.35 to" in finding.message


def test_it_skips_a_run_that_standardising_does_not_help():
    with pytest.raises(Skip, match="is not clearly better"):
        apply(unnormalized_input, pixels(flat()), training(losses=flat()))
    with pytest.raises(Skip, match="is not clearly better"):
        apply(unnormalized_input, pixels(falling(end=0.9)), training(losses=falling(end=1.0)))


def test_it_skips_where_the_other_run_was_not_made():
    with pytest.raises(Skip, match="the run learns well as it is"):
        apply(unnormalized_input, pixels(()), training())
    with pytest.raises(Skip, match="was not tried"):
        apply(unnormalized_input, pixels(()), training(losses=flat()))


@pytest.mark.parametrize(
    "scale",
    [
        feature_scale(),
        feature_scale(mean=0.5, std=0.25),
        feature_scale(mean=0.002, std=0.005, sparse=True),
        feature_scale(mean=0.99, std=0.1, binary=True),
        feature_scale(mean=4.0, std=3.0),
    ],
    ids=["standardised", "pixels 0 to 1", "sparse counts", "mostly yes", "some units"],
)
def test_it_passes_usual_scales(scale):
    assert apply(unnormalized_input, input_scale(worst=scale), training(losses=flat())) == ()


@pytest.mark.parametrize(
    "scale",
    [feature_scale(std=300.0), feature_scale(mean=0.0, std=1e-4), feature_scale(mean=6.0, std=1.0)],
    ids=["large", "tiny", "far from zero"],
)
def test_it_calls_odd_what_is_large_tiny_or_far_from_zero(scale):
    assert scale.odd


def test_it_skips_made_up_data():
    with pytest.raises(Skip, match="made up"):
        apply(unnormalized_input, pixels(), training(synthetic=True))


def test_it_does_not_pass_numbers_that_are_all_nan():
    assert judge(unnormalized_input, poisoned(input_scale()), training()).status == "skipped"
    assert judge(unnormalized_input, pixels((math.nan,)), training(losses=flat())).status == "skipped"


def test_it_takes_the_gain_as_an_option():
    facts = pixels(falling(end=0.7)), training(losses=falling(end=1.0))
    assert apply(unnormalized_input, *facts, gain=0.9)


def test_it_asks_of_the_other_run_that_it_ends_lower():
    """A policy's loss says nothing by itself: from a higher start it falls further."""
    higher = pixels(losses=tuple(10 * loss for loss in falling(end=0.9)))
    with pytest.raises(Skip, match="not clearly better"):
        apply(unnormalized_input, higher, training(losses=flat(), constant_loss=None))
