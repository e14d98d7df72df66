from __future__ import annotations

import math

import pytest

from gradcheck_kit.facts import Transcripts
from gradcheck_kit.rule import Skip
from gradcheck_kit.rules.invalid_labels import invalid_labels
from gradcheck_kit.testing import apply, loss_call, loss_calls, training


def binary(low, high, **changes):
    given = {"input_shape": (64, 1), "target_shape": (64, 1), "target_dtype": "float32"}
    bounds = {"target_minimum": float(low), "target_maximum": float(high)}
    return loss_calls(loss_call("binary_cross_entropy_with_logits", **{**given, **bounds, **changes}))


def classes(**changes):
    return loss_calls(loss_call(**changes))


def probabilities(low, total, **changes):
    given = {"target_shape": (64, 10), "target_dtype": "float32", "target_sum": total}
    return classes(**{**given, "target_minimum": low, "target_maximum": 1.0, **changes})


@pytest.mark.parametrize(
    ("low", "high", "mend"), [(-1, 1, "(y + 1) / 2"), (1, 2, "y - 1"), (0, 255, "y / 255"), (0, 9, "(y > 0).float()")]
)
def test_it_gives_the_range_of_labels_that_are_no_probabilities(low, high, mend):
    (finding,) = apply(invalid_labels, binary(low, high))
    assert f"labels from {low} to {high}; it wants 0 to 1" in finding.message
    assert mend in finding.fixes[0]
    assert finding.severity is None


@pytest.mark.parametrize("bounds", [(0, 1), (0.05, 0.95), (0, 1.0002)])
def test_it_passes_hard_and_soft_binary_labels(bounds):
    assert apply(invalid_labels, binary(*bounds)) == ()


@pytest.mark.parametrize("changes", [{"reduction": "none"}, {"weighted": True}])
def test_it_skips_losses_whose_labels_may_be_masked(changes):
    with pytest.raises(Skip, match="weighted or not averaged"):
        apply(invalid_labels, binary(-1, 1, **changes))


def transcribed(**changes):
    numbers = {"symbols": 127, "blanks": 0, "outside": 0, "samples": 32, "too_long": 0, **changes}
    return loss_calls(loss_call("ctc_loss", input_shape=(30, 32, 7), transcripts=Transcripts(**numbers)))


@pytest.mark.parametrize(
    ("changes", "said", "severity"),
    [
        ({"outside": 3}, "3 of 127 symbols for which its 7 outputs have none", None),
        ({"blanks": 24}, "the blank itself for 24 of 127 symbols", None),
        ({"too_long": 20}, "20 of 32 targets that need more steps than the output has", None),
        ({"too_long": 1}, "1 of 32 targets that need more steps than the output has", "warning"),
    ],
)
def test_it_finds_transcripts_that_ctc_cannot_learn(changes, said, severity):
    (finding,) = apply(invalid_labels, transcribed(**changes))
    assert said in finding.message
    assert finding.severity == severity


def test_it_passes_transcripts_that_fit():
    assert apply(invalid_labels, transcribed()) == ()


def test_it_finds_one_class():
    (finding,) = apply(invalid_labels, classes(input_shape=(64, 1), target_shape=(64, 1), target_sum=(0.0, 1.0)))
    assert "scores of shape (64,1), which is 1 class" in finding.message


def test_it_warns_of_one_class_beside_other_losses():
    (finding,) = apply(invalid_labels, classes(input_shape=(64, 1), is_the_loss=False))
    assert finding.severity == "warning"


def test_it_finds_a_batch_that_is_taken_for_one_sample():
    (finding,) = apply(invalid_labels, classes(input_shape=(64,), target_shape=(64,), target_sum=(31.0, 31.0)))
    assert "for 1 sample with 64 classes, and not for 64 samples" in finding.message


def test_it_passes_a_ranking_of_one_list():
    assert apply(invalid_labels, classes(input_shape=(64,), target_shape=(64,), target_sum=(1.0, 1.0))) == ()


def test_it_finds_probabilities_below_zero():
    (finding,) = apply(invalid_labels, probabilities(-0.5, (1.0, 1.0)))
    assert "as low as -0.5" in finding.message
    assert finding.severity is None


def test_it_warns_of_several_classes_in_one_sample():
    (finding,) = apply(invalid_labels, probabilities(0.0, (1.0, 3.0)))
    assert finding.severity == "warning"
    assert "BCEWithLogitsLoss" in finding.fixes[0]


@pytest.mark.parametrize("total", [(1.0, 1.0), (0.0, 1.0), (0.999, 1.004)])
def test_it_passes_mixup_smoothing_teachers_and_samples_that_count_for_nothing(total):
    assert apply(invalid_labels, probabilities(0.0, total)) == ()


def test_it_passes_class_indices():
    assert apply(invalid_labels, classes()) == ()


def test_it_skips_made_up_data():
    with pytest.raises(Skip, match="made up"):
        apply(invalid_labels, binary(-1, 1), training(synthetic=True))


def test_it_leaves_nan_to_non_finite_input():
    with pytest.raises(Skip, match="NaN"):
        apply(invalid_labels, binary(math.nan, math.nan))
