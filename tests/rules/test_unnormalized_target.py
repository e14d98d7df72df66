from __future__ import annotations

import math

import pytest

from gradcheck_kit.rule import Skip
from gradcheck_kit.rules.unnormalized_target import unnormalized_target
from gradcheck_kit.testing import apply, falling, flat, judge, poisoned, target_scale, training

STUCK = training(losses=flat())


def prices(**changes):
    values = {"mean": 3e5, "std": 8e4, "minimum": 1e5, "maximum": 6e5, "standardized_losses": falling(1.0, 0.05)}
    return target_scale(**{**values, "standardized_constant_loss": 1.0, **changes})


def test_it_gives_scale_harm_and_proof():
    (finding,) = apply(unnormalized_target, prices(), STUCK)
    assert finding.where == "target"
    assert finding.message.startswith(
        "The target has mean 3e+05 and standard deviation 8e+04, and ranges from 1e+05 to 6e+05, and the loss did not "
        "fall:"
    )
    assert "on standardised targets the same run goes from 1.02 to 0.0" in finding.message
    assert "y = (y - 3e+05) / 8e+04" in finding.fixes[0]
    assert len(finding.fixes) == 1


STILL_ABOVE = training(losses=falling(9.0, 4.0), constant_loss=2.3)


def test_it_warns_of_a_loss_that_falls_and_ends_above_a_constant_prediction():
    (finding,) = apply(unnormalized_target, prices(), STILL_ABOVE)
    assert finding.severity == "warning"
    assert "and after 60 steps the loss, 4" in finding.message
    assert "is still above that of always predicting class frequencies (2.3); on standardised" in finding.message
    assert finding.message.endswith("(a constant prediction: 1).")


@pytest.mark.parametrize("changes", [{"standardized_losses": falling(1.0, 0.7)}, {"standardized_constant_loss": None}])
def test_it_skips_a_loss_that_falls_where_standardising_does_not_bring_it_far_below(changes):
    with pytest.raises(Skip, match="not far below a constant prediction either"):
        apply(unnormalized_target, prices(**changes), STILL_ABOVE)


def test_it_names_the_column_of_several():
    (finding,) = apply(unnormalized_target, prices(columns=3, column=2), STUCK)
    assert "in column 2" in finding.message
    assert "(column 2: 3e+05 and 8e+04)" in finding.fixes[0]


def test_it_names_the_input_that_had_to_be_standardised_as_well():
    (finding,) = apply(unnormalized_target, prices(with_input_of="rnn"), STUCK)
    assert "on standardised targets and inputs (of rnn) the same run goes from" in finding.message
    assert finding.fixes[1] == "Standardise what enters rnn, too: neither alone is enough."


def test_it_advises_logarithms_for_amounts_that_span_orders():
    (finding,) = apply(unnormalized_target, prices(minimum=10.0), STUCK)
    assert "torch.log(y)" in finding.fixes[1]


@pytest.mark.parametrize("scale", [target_scale(), target_scale(mean=14.0, std=7.0), target_scale(mean=5.0, std=0.0)])
def test_it_passes_usual_scales_and_constants(scale):
    assert apply(unnormalized_target, scale, STUCK) == ()


def test_it_skips_a_run_that_learns():
    with pytest.raises(Skip, match="learns as it is"):
        apply(unnormalized_target, prices(), training())


def test_it_skips_what_was_not_tried():
    with pytest.raises(Skip, match="was not tried"):
        apply(unnormalized_target, prices(standardized_losses=()), STUCK)


@pytest.mark.parametrize(
    "changes",
    [{"standardized_losses": flat()}, {"standardized_losses": (1.0, math.nan)}, {"standardized_constant_loss": 0.01}],
)
def test_it_skips_where_standardising_does_not_help(changes):
    with pytest.raises(Skip, match="does not learn either"):
        apply(unnormalized_target, prices(**changes), STUCK)


def test_it_skips_made_up_data():
    with pytest.raises(Skip, match="made up"):
        apply(unnormalized_target, prices(), training(losses=flat(), synthetic=True))


def test_it_does_not_pass_numbers_that_are_all_nan():
    assert judge(unnormalized_target, poisoned(target_scale()), STUCK).status == "skipped"
    assert judge(unnormalized_target, poisoned(prices()), poisoned(STUCK)).status == "skipped"


def test_it_names_the_part_of_a_batch_that_is_off():
    (finding,) = apply(unnormalized_target, prices(part="[1]['age']", standardized_constant_loss=None), STUCK)
    assert finding.where == "batch[1]['age']"
    assert finding.message.startswith("What the loss takes of the batch, batch[1]['age'], has mean 3e+05")
    assert "with it standardised the same run goes from 1.02" in finding.message
    assert finding.fixes[0].startswith("Standardise it where the data is read, y = (y - 3e+05) / 8e+04")


def test_it_says_which_number_seems_to_mark_missing_values():
    (finding,) = apply(unnormalized_target, prices(minimum=-999.0, marker=-999.0, marked=0.121), STUCK)
    assert "; 12.1% of it is -999, far from all else, and the loss" in finding.message
    assert finding.fixes[0].startswith("Leave out what is -999, which seems to mark missing values")


def test_it_skips_a_loss_that_has_no_floor():
    with pytest.raises(Skip, match="the loss becomes negative"):
        apply(
            unnormalized_target,
            prices(standardized_losses=tuple(loss - 0.5 for loss in falling(1.0, 0.05))),
            STILL_ABOVE,
        )
