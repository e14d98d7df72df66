from __future__ import annotations

import pytest

from gradcheck_kit.facts import UnregisteredModule
from gradcheck_kit.rules.unregistered_module import unregistered_module
from gradcheck_kit.testing import apply, wiring


def hidden(where="hidden[0]", **changes):
    own = {"type": "Linear", "parameters": 2, "trainable": True, "optimized": False}
    return UnregisteredModule(where=where, **{**own, **changes})


def running(*modules):
    return wiring(unregistered=modules)


def test_it_names_the_place_where_the_module_is_kept():
    (finding,) = apply(unregistered_module, running(hidden("hidden[0]"), hidden("hidden[1]")))
    assert finding.where == "hidden[0]"
    assert finding.message.startswith("hidden[0] and hidden[1] (Linear) run in forward, but 4 parameters of theirs")
    assert "not in model.parameters()" in finding.message
    assert finding.evidence == {"modules": ["hidden[0]", "hidden[1]"], "parameters": 4}
    assert finding.severity is None


@pytest.mark.parametrize(
    ("where", "fix"),
    [
        ("hidden[0]", "Keep hidden in nn.ModuleList(hidden), and make the optimizer after that."),
        ("blocks.1.heads['a']", "Keep blocks.1.heads in nn.ModuleDict(blocks.1.heads)"),
        ("encoder.forward", "Build Linear once in __init__ and assign it to self, not in encoder.forward."),
        ("wrapped", "Assign wrapped to the model as an attribute that is a module"),
    ],
)
def test_it_says_how_to_register_it_there(where, fix):
    (finding,) = apply(unregistered_module, running(hidden(where)))
    assert finding.fixes[0].startswith(fix)


def test_it_makes_no_container_of_a_bound_method():
    (finding,) = apply(unregistered_module, running(hidden("project.__self__")))
    assert "ModuleDict" not in finding.fixes[0]


@pytest.mark.parametrize("changes", [{"trainable": False}, {"optimized": True}])
def test_it_warns_of_teachers_and_of_what_is_trained_all_the_same(changes):
    (finding,) = apply(unregistered_module, running(hidden("teacher", **changes)))
    assert finding.severity == "warning"
    assert "not in model.state_dict()" in finding.message


def test_it_names_only_what_is_not_trained_where_there_is_both():
    (finding,) = apply(unregistered_module, running(hidden("teacher", trainable=False), hidden("hidden[0]")))
    assert finding.where == "hidden[0]"
    assert "teacher" not in finding.message


def test_it_passes_a_model_that_registers_everything():
    assert apply(unregistered_module, wiring()) == ()


def bare(where, kind="Parameter", **changes):
    return hidden(where, type=kind, parameters=1, **changes)


@pytest.mark.parametrize(
    ("tensor", "fix"),
    [
        (bare("scales[0]"), "Keep scales in nn.ParameterList(scales), and make the optimizer after that."),
        (bare("block.scales['a']"), "Keep block.scales in nn.ParameterDict(block.scales), and make the optimizer"),
        (bare("block.gain", "Tensor"), "Assign gain to self as an nn.Parameter, and make the optimizer after that."),
    ],
)
def test_it_finds_a_bare_tensor_that_gets_a_gradient(tensor, fix):
    (finding,) = apply(unregistered_module, running(tensor))
    assert finding.where == tensor.where
    assert finding.message.startswith(f"{tensor.where} gets a gradient, and no optimizer made from model.parameters()")
    assert finding.severity is None
    assert finding.fixes[0].startswith(fix)


def test_it_warns_of_a_bare_tensor_that_is_trained_all_the_same():
    (finding,) = apply(unregistered_module, running(bare("scales[0]", optimized=True)))
    assert "model.state_dict() does not save it" in finding.message
    assert finding.severity == "warning"


def test_it_speaks_of_modules_and_of_bare_tensors_apart():
    both = apply(unregistered_module, running(hidden("hidden[0]"), bare("scales[0]")))
    assert [finding.where for finding in both] == ["hidden[0]", "scales[0]"]
