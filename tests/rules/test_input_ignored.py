from __future__ import annotations

import pytest

from gradcheck_kit.facts import IgnoredArgument
from gradcheck_kit.rule import Skip
from gradcheck_kit.rules.input_ignored import input_ignored
from gradcheck_kit.testing import apply, flat, input_use, judge, mixing_operation, parameter, poisoned, training


def ignored(**changes):
    return input_use(**{"ignored": True, "changes": 10, "inputs": ((64, 20),), "targets_differ": True, **changes})


def test_it_says_how_it_knows_and_that_nothing_sees_the_input():
    (finding,) = apply(input_ignored, ignored(), training(losses=flat()))
    assert finding.where == "forward"
    assert finding.severity is None
    assert finding.message == (
        "With 10 other inputs in the place of a batch of shape (64, 20) the output stays the same to the last bit, in "
        "eval mode and in training mode: no layer is given anything that depends on it. So the loss did not fall: "
        "2.26 at the start, 2.3 at the end."
    )


def test_it_names_the_module_whose_output_is_dropped():
    (finding,) = apply(input_ignored, ignored(unused="rnn", unused_type="LSTM"))
    assert finding.where == "rnn"
    assert "what rnn (LSTM) returns depends on it, and goes nowhere." in finding.message
    assert finding.fixes[0].startswith("Use the output of rnn in what forward returns")


@pytest.mark.parametrize(
    ("operation", "fix", "exact"),
    [
        ("softmax", "Remove the softmax in 3, and use BCEWithLogitsLoss", "to the last bit"),
        ("log_softmax", "over a dimension of size 1 it is always 0.", "to the last bit"),
        ("group_norm", "Give 3 more than one number to normalise over", "apart from rounding"),
        ("mul", "Look at mul in 3 (Net), model.py:31: multiply by no zero there", "to the last bit"),
    ],
)
def test_it_names_the_operation_at_which_the_input_is_lost(operation, fix, exact):
    at = mixing_operation(operation, "3", module_type="Net")
    (finding,) = apply(input_ignored, ignored(operation=at))
    assert finding.where == "3"
    assert f"ends at {operation} in 3 (Net), model.py:31, whose result is constant" in finding.message
    assert exact in finding.message
    assert fix in finding.fixes[0]


def test_it_passes_an_output_that_one_other_input_changes():
    assert apply(input_ignored, input_use(), training(losses=flat())) == ()


def test_it_warns_without_targets_only_where_the_loss_does_not_fall():
    assert judge(input_ignored, ignored(targets_differ=None), training(losses=flat())).status == "warned"
    assert judge(input_ignored, ignored(targets_differ=None), training()).status == "skipped"
    with pytest.raises(Skip, match="constant on purpose"):
        apply(input_ignored, ignored(targets_differ=None))


def test_it_leaves_a_frozen_layer_of_zeros_to_the_rule_on_gradients():
    use = ignored(operation=mixing_operation("linear", "4"))
    frozen = parameter("4.weight", trainable=False, weight_rms=0.0)
    with pytest.raises(Skip, match="4 is frozen, with weights that are all zero"):
        apply(input_ignored, use, training(losses=flat(), parameters=(parameter(), frozen)))


def test_it_skips_targets_that_are_all_the_same():
    with pytest.raises(Skip, match="a constant output can learn"):
        apply(input_ignored, ignored(targets_differ=False), training(losses=flat()))


def test_it_does_not_rest_on_a_loss_that_may_be_nan():
    assert judge(input_ignored, ignored(), poisoned(training())).status == "failed"


def test_it_warns_of_a_model_that_learned_one_answer_for_every_input():
    outcome = judge(input_ignored, input_use(own_losses=(0.15, 0.16), others_losses=(0.15, 0.16)), training())
    assert outcome.status == "warned"
    assert outcome.findings[0].message.startswith("After training the loss is 0.155, and 0.155 with the input of")


def test_it_passes_a_model_that_loses_without_its_own_input():
    use = input_use(own_losses=(0.15, 0.16), others_losses=(0.16, 0.17))
    assert apply(input_ignored, use, training()) == ()


def test_it_warns_of_an_argument_that_is_read_and_lost():
    lost = IgnoredArgument("t", (128,), "model.py:42", 3)
    outcome = judge(input_ignored, input_use(arguments=(lost,)), training())
    assert outcome.status == "warned"
    (finding,) = outcome.findings
    assert finding.where == "t"
    assert finding.message == (
        "forward reads its argument t of shape (128,) (model.py:42): with 3 other values in its place the output stays "
        "the same to the last bit, in eval mode and in training mode."
    )


def test_it_warns_of_the_second_of_a_pair_that_is_not_read():
    lost = IgnoredArgument("b", (48, 40), "", 3, twin="a")
    (finding,) = apply(input_ignored, input_use(arguments=(lost,)), training())
    assert finding.message.startswith("forward takes b, of the shape and type of a (48, 40), and reads only a: with 3")
    assert finding.fixes == ("Look where a is read twice in forward, and read b there; or take b out.",)
