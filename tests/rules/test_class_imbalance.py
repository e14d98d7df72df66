from __future__ import annotations

from dataclasses import replace

import pytest

from gradcheck_kit.facts import ClassAccuracy
from gradcheck_kit.rule import Skip
from gradcheck_kit.rules.class_imbalance import class_imbalance
from gradcheck_kit.testing import apply, data_summary, evaluation, judge, loss_call, loss_calls, poisoned

PLAIN = loss_calls()
MANY = loss_calls(loss_call(input_shape=(64, 21)))


def labelled(*counts, **changes):
    return data_summary(**{"labels": tuple(enumerate(counts)), "samples": sum(counts), **changes})


def answers(*right, total=50, predicted=None):
    """Test samples of classes 0, 1, ... of which so many are right."""
    per_class = tuple(ClassAccuracy(label, correct, total) for label, correct in enumerate(right))
    return evaluation(per_class=per_class, predicted=tuple(enumerate(predicted or right)))


def test_it_names_the_class_that_is_left_out():
    (finding,) = apply(class_imbalance, labelled(1000, 900, 20), PLAIN, answers(45, 45, 0))
    assert finding.message == (
        "Class 0 has 1,000 of 1,920 samples and class 2 20, 50 times fewer (up to 10 is balanced); of 50 samples of "
        "class 2 the model recognises 0 and never answers 2."
    )
    assert "weight=torch.tensor([0.64, 0.711, 32])" in finding.fixes[0]
    assert [bar.value for bar in finding.profile] == [1000.0, 900.0, 20.0]


def test_it_gives_the_weight_of_positives():
    calls = loss_calls(loss_call("binary_cross_entropy_with_logits"))
    (finding,) = apply(class_imbalance, labelled(980, 20), calls, answers(50, 0))
    assert "pos_weight=torch.tensor(49)" in finding.fixes[0]


def test_it_says_how_to_weigh_many_classes():
    (finding,) = apply(class_imbalance, labelled(*[30] * 19, 900, 10), MANY, answers(*[40] * 20, 0))
    assert finding.fixes[0].startswith("Give the loss weights, one per class")


def test_it_passes_balanced_classes():
    assert apply(class_imbalance, labelled(500, 400, 60), PLAIN, answers(45, 45, 0)) == ()


@pytest.mark.parametrize(
    "results",
    [
        answers(45, 45, 1),
        answers(45, 45, 0, predicted=(50, 45, 5)),
        answers(9, 9, 0, total=10),
        evaluation(per_class=(), predicted=()),
    ],
    ids=["recognised", "answered", "too few", "not tested"],
)
def test_it_skips_where_no_class_is_left_out(results):
    with pytest.raises(Skip, match="50 times, and none is left out"):
        apply(class_imbalance, labelled(1000, 900, 20), PLAIN, results)


@pytest.mark.parametrize(
    "calls",
    [
        loss_calls(loss_call(weighted=True)),
        loss_calls(loss_call(is_the_loss=False)),
        loss_calls(loss_call(), loss_call()),
    ],
    ids=["weighted", "focal", "several"],
)
def test_it_skips_losses_that_are_not_plain(calls):
    with pytest.raises(Skip, match="more than a plain cross-entropy"):
        apply(class_imbalance, labelled(1000, 900, 20), calls, answers(45, 45, 0))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"order": "own"}, "sampler of its own"),
        ({"order": "sequential", "spread_labels": ((0, 16), (1, 16))}, "read in its order"),
        ({"label_batches": (), "labels": tuple((i, 10) for i in range(30))}, "one per sample or pixel"),
        ({"labels": ((0, 900), (255, 20))}, "all labels that count are of one class"),
        ({"synthetic": True}, "made up"),
    ],
)
def test_it_skips_what_does_not_tell(changes, reason):
    with pytest.raises(Skip, match=reason):
        apply(class_imbalance, labelled(1000, 900, 20, **changes), PLAIN, answers(45, 45, 0))


def test_it_names_a_sampler_whose_weights_make_it_worse():
    (finding,) = apply(class_imbalance, labelled(1000, 900, 20, order="weighted"), PLAIN, answers(45, 45, 0))
    assert finding.message.endswith("The loader's WeightedRandomSampler draws them so.")
    assert finding.fixes[0].startswith("Give the WeightedRandomSampler 1 / count")


def pixels(*counts):
    return labelled(*counts, label_batches=())


def test_it_names_a_rare_class_of_pixels():
    calls = loss_calls(loss_call("binary_cross_entropy_with_logits", input_shape=(16, 1, 24, 24)))
    (finding,) = apply(class_imbalance, pixels(110_000, 550), calls, answers(9000, 0, total=9000))
    assert finding.message.startswith(
        "Class 0 has 110,000 of 110,550 places and class 1 550, 200 times fewer (up to 50"
    )
    assert finding.fixes[0].startswith("Give the loss pos_weight=torch.tensor(200)")
    assert "Dice" in finding.fixes[1]


def test_it_passes_pixels_that_are_background_for_the_most_part():
    assert apply(class_imbalance, pixels(110_000, 5500), PLAIN, answers(9000, 0, total=9000)) == ()


def test_it_does_not_pass_numbers_that_are_all_nan():
    facts = labelled(1000, 900, 20), PLAIN, answers(45, 45, 0)
    assert judge(class_imbalance, *map(poisoned, facts)).status == "skipped"


def test_it_takes_the_ratio_as_an_option():
    assert apply(class_imbalance, labelled(1000, 900, 20), PLAIN, answers(45, 45, 0), ratio=60.0) == ()


def test_it_looks_at_training_samples_of_a_class_that_the_test_data_has_few_of():
    few = answers(45, 3, predicted=(100, 0))
    few = replace(few, per_class=(ClassAccuracy(0, 45, 50), ClassAccuracy(1, 0, 5)))
    with pytest.raises(Skip, match="none is left out for it"):
        apply(class_imbalance, labelled(1000, 20), PLAIN, few)
    more = replace(few, trained_per_class=(ClassAccuracy(0, 980, 980), ClassAccuracy(1, 0, 20)))
    (finding,) = apply(class_imbalance, labelled(1000, 20), PLAIN, replace(more, trained_predicted=((0, 1000),)))
    assert "of 25 samples of class 1 the model recognises 0" in finding.message
    with pytest.raises(Skip, match="none is left out for it"):
        apply(class_imbalance, labelled(1000, 20), PLAIN, replace(more, trained_predicted=((0, 990), (1, 10))))


def test_it_skips_many_classes_of_which_none_dominates():
    letters = labelled(*(50 for _ in range(20)), 1)
    with pytest.raises(Skip, match="as letters of a text do"):
        apply(class_imbalance, letters, MANY, answers(*(45 for _ in range(20)), 0))
