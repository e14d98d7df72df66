from __future__ import annotations

import math

import pytest

from gradcheck_kit.facts import ClassAccuracy
from gradcheck_kit.rule import Skip
from gradcheck_kit.rules.eval_accuracy import eval_accuracy
from gradcheck_kit.testing import apply, evaluation, feature_scale, input_scale, judge, poisoned, training


def counted(*classes):
    """An evaluation of classes with so many right of so many."""
    per_class = tuple(ClassAccuracy(label, right, total) for label, (right, total) in enumerate(classes))
    return evaluation(per_class=per_class, samples=sum(total for _, total in classes))


CHANCE = counted(*[(5, 50)] * 10)


# ---- against --min-accuracy ----


def test_it_names_accuracy_and_what_was_asked_for():
    (finding,) = apply(eval_accuracy, evaluation(), min_accuracy=0.95)
    assert finding.where == "test data"
    assert finding.message == (
        "Accuracy on 500 test samples in evaluation mode is 90.0%; --min-accuracy asks for 95.0%."
    )
    assert finding.evidence == {"accuracy": 0.9, "limit": 0.95, "samples": 500}
    assert [(bar.place, bar.kind) for bar in finding.profile][:2] == [("class 0", "45/50"), ("class 1", "45/50")]


@pytest.mark.parametrize("facts", [(), (training(),)])
def test_it_passes_an_accuracy_that_was_asked_for(facts):
    assert apply(eval_accuracy, evaluation(), *facts, min_accuracy=0.9) == ()


def test_it_wants_a_number_for_a_minimum_of_nan():
    assert apply(eval_accuracy, evaluation(), min_accuracy=math.nan)


# ---- against guessing ----


def test_it_finds_a_model_that_knows_only_its_training_batches():
    (finding,) = apply(eval_accuracy, CHANCE, training())
    assert finding.where == "test data"
    assert "is 10.0%, no better than always guessing the commonest class (10.0%)" in finding.message
    assert "while on training batches it is 8" in finding.message
    assert finding.evidence["limit"] == 0.1
    assert finding.evidence["training_accuracy"] > 0.8
    assert finding.severity is None
    assert finding.fixes[0].startswith("Check that test data is prepared as training data is")


def test_it_finds_a_model_that_is_worse_than_guessing():
    assert apply(eval_accuracy, counted((0, 250), (0, 250)), training())


def test_it_compares_with_the_commonest_class():
    imbalanced = counted((450, 450), (0, 50))
    (finding,) = apply(eval_accuracy, imbalanced, training(accuracies=(0.99,) * 20))
    assert "no better than always guessing the commonest class (90.0%)" in finding.message


def test_it_passes_a_model_that_is_better_than_guessing():
    assert apply(eval_accuracy, evaluation(), training()) == ()


@pytest.mark.parametrize("classes", [[(3, 3), (2, 2)], [(16, 25), (17, 25)]])
def test_it_does_not_fail_a_test_set_too_small_to_tell(classes):
    """All of five right, or 66 % of fifty, is no proof of being better than guessing, and none of the contrary."""
    assert judge(eval_accuracy, counted(*classes), training()).status != "failed"


# ---- silence ----


def test_it_skips_a_model_that_has_not_learned_in_training_either():
    with pytest.raises(Skip, match="on its training batches either"):
        apply(eval_accuracy, CHANCE, training(accuracies=(0.1,) * 20))


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ((evaluation(test_data_given=False), training()), "there is no test data"),
        ((evaluation(per_class=()), training()), "accuracy is not defined"),
        ((CHANCE,), "the model was not trained first"),
        ((CHANCE, training(accuracies=(None,) * 20)), "accuracy on the training batches was not recorded"),
        ((counted((0, 50)), training()), "no better than the commonest class"),
    ],
)
def test_it_skips_what_it_cannot_judge(facts, reason):
    with pytest.raises(Skip, match=reason):
        apply(eval_accuracy, *facts)


def test_it_does_not_pass_training_accuracies_that_are_nan():
    assert judge(eval_accuracy, poisoned(evaluation()), poisoned(training())).status == "skipped"


# ---- options ----


def test_it_takes_the_level_of_significance_as_an_option():
    slightly_better = counted(*[(8, 50)] * 10)
    assert apply(eval_accuracy, slightly_better, training()) == ()
    assert apply(eval_accuracy, slightly_better, training(), p=1e-9)


def test_it_finds_outputs_that_are_nan_in_evaluation_only():
    (finding,) = apply(eval_accuracy, evaluation(nan_samples=5), training())
    assert finding.message.startswith("In evaluation mode the output for 5 of 500 test samples is NaN")
    assert finding.severity is None


# ---- test data that is prepared otherwise ----

APART = input_scale(
    layer_type="Linear",
    axis="feature",
    features=4,
    apart=(feature_scale(index=1, mean=0.0, std=1.0), feature_scale(index=1, mean=60.0, std=20.0)),
)


def test_it_warns_of_test_data_that_was_not_normalised_as_training_data_was():
    (finding,) = apply(eval_accuracy, evaluation(), training(), APART)
    assert finding.severity == "warning"
    assert finding.message == (
        "What enters 0 (Linear) of the test data has mean 60 and standard deviation 20 in feature 1, and of the "
        "training data 0 and 1, and most features differ so: they are not prepared in the same way. Accuracy on 500 "
        "test samples is 90.0%."
    )


def test_it_fails_such_data_where_accuracy_is_that_of_a_guess():
    (finding,) = apply(eval_accuracy, CHANCE, training(), APART)
    assert finding.severity is None
