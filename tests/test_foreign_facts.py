"""A plugin's experiment makes a fact of its own, and its rule judges it as any other."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from torch import nn

import gradcheck_kit as gk
from gradcheck_kit import plugins
from gradcheck_kit.errors import PluginError
from gradcheck_kit.experiments import Experiment, NotApplicable
from gradcheck_kit.facts import Training
from gradcheck_kit.probe import measure, probe
from gradcheck_kit.report import check
from gradcheck_kit.rule import Finding, Remedy
from gradcheck_kit.target import ProbeSettings, Target
from gradcheck_kit.target.prepare import prepare
from gradcheck_kit.trace import Trace


@dataclass(frozen=True, slots=True)
class Confidence:
    probability: float
    trained: bool


def look(probe):
    """The mean probability of the likeliest class, before training and after."""
    with probe.workspace() as work:
        output, _ = work.step(next(probe.batches(work)))
        before = float(output.softmax(-1).amax(-1).mean())
    with probe.workspace(trained=True) as work, torch.no_grad():
        output, _ = work.step(next(probe.batches(work)))
    return Confidence(before, trained=float(output.softmax(-1).amax(-1).mean()) > before)


@gk.rule("ACME101", needs=(Confidence,))
def overconfident(confidence: Confidence, *, limit: float = 0.9):
    """The untrained model is sure of itself."""
    if not confidence.probability <= limit:
        yield Finding("model", f"It is {confidence.probability:.0%} sure.", {"limit": limit}, ("Scale the head.",))


def brought_by_acme(*experiments, rule=overconfident, **changes):
    return replace(rule, plugin="acme", experiments=lambda: experiments, **changes)


EXPERIMENT = Experiment(Confidence, look, after=(Training,), plugin="acme")


@pytest.fixture
def prepared():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2))
    x = torch.randn(64, 4)
    return prepare(Target(model, [(x, (x[:, 0] > 0).long())]), ProbeSettings(steps=12, lr=0.01))


def outcomes(trace, *rules):
    return {o.rule.code: (o.status, o.reason) for o in check(trace, rules).outcomes}


def test_it_is_made_before_and_after_training_and_judged(prepared, tmp_path):
    own = brought_by_acme(EXPERIMENT)
    trace = probe(prepared, [own])
    assert 0.5 <= trace.facts[Confidence].probability < 0.9
    assert trace.facts[Confidence].trained
    assert outcomes(trace, own) == {"ACME101": ("passed", "")}
    assert check(trace, [own], options={"overconfident": {"limit": 0.1}}).exit_status == 1

    trace.save(tmp_path / "trace")
    assert Trace.load(tmp_path / "trace", [Confidence]) == trace


def test_it_is_measured_on_its_own_for_a_test():
    torch.manual_seed(0)
    x = torch.randn(64, 4)
    fact = measure(EXPERIMENT, nn.Linear(4, 2), [(x, (x[:, 0] > 0).long())], steps=10)
    assert 0.5 <= fact.probability <= 1


def test_it_says_that_there_is_nothing_to_look_at(prepared):
    def nothing(probe):
        with probe.workspace() as work:
            list(probe.test_batches(work))

    own = brought_by_acme(Experiment(Confidence, nothing, plugin="acme"))
    assert outcomes(probe(prepared, [own]), own) == {"ACME101": ("skipped", "there is no test data")}


def test_it_crashes_alone_and_names_its_plugin(prepared, tmp_path):
    def look(probe):
        raise ZeroDivisionError("by zero")

    own = brought_by_acme(Experiment(Confidence, look, plugin="acme"))
    (built_in,) = plugins.select(plugins.all_rules(), ["non-finite"])
    trace = probe(prepared, [own, built_in])
    status, reason = outcomes(trace, own, built_in)["ACME101"]
    assert status == "error"
    assert reason.startswith("experiment look of acme crashed: ZeroDivisionError: by zero (test_foreign_facts.py:")
    assert outcomes(trace, own, built_in)[built_in.code] == ("passed", "")
    assert check(trace, [own, built_in]).exit_status == 2

    trace.save(tmp_path / "trace")
    assert outcomes(Trace.load(tmp_path / "trace"), own)["ACME101"] == (status, reason)


def test_it_refuses_a_rule_whose_fact_nobody_makes(prepared):
    with pytest.raises(
        PluginError, match="plugin acme: rule overconfident needs Confidence, which no experiment makes"
    ):
        probe(prepared, [brought_by_acme()])


def test_it_looks_at_no_training_that_did_not_happen(prepared):
    own = brought_by_acme(replace(EXPERIMENT, after=()))
    assert outcomes(probe(prepared, [own]), own) == {"ACME101": ("skipped", "the model was not trained first")}


# ---- remedies ----


def with_remedy(write):
    return brought_by_acme(EXPERIMENT, remedies=(Remedy("ACME101", write, plugin="zeta"),))


def fixes(write):
    (outcome,) = check(Trace(None, {Confidence: Confidence(1.0, trained=False)}), [with_remedy(write)]).outcomes
    return outcome.findings[0].fixes


def test_a_remedy_follows_the_fixes_of_the_rule():
    texts = fixes(lambda finding, trace: f"At {finding.where}: start from {trace.facts[Confidence].probability:g}.")
    assert texts == ("Scale the head.", "At model: start from 1.")


def test_a_remedy_that_does_not_fit_is_left_out():
    assert fixes(lambda finding, trace: None) == ("Scale the head.",)


def test_a_remedy_that_fails_leaves_the_finding_and_says_whose_it_is():
    assert fixes(lambda finding, trace: trace.header.name) == (
        "Scale the head.",
        "(A remedy of zeta for ACME101 failed: AttributeError: 'NoneType' object has no attribute 'name'.)",
    )


def test_it_says_that_an_experiment_does_not_apply_to_whoever_measures():
    with pytest.raises(NotApplicable, match="there is no test data"):
        measure(Experiment(Confidence, lambda probe: list(probe.test_batches(None))), nn.Linear(4, 2))


@dataclass(frozen=True, slots=True)
class Sources:
    train: str
    test: str
    confident: bool


def look_at_sources(probe):
    names = [type(getattr(data, "dataset", data)).__name__ for data in (probe.train_data, probe.test_data)]
    return Sources(*names, confident=Confidence in probe.facts)


def test_it_sees_the_data_that_batches_come_from_and_facts_of_its_own_plugin():
    x = torch.randn(8, 4)
    data = torch.utils.data.TensorDataset(x, (x[:, 0] > 0).long())
    fact = measure(
        Experiment(Sources, look_at_sources, after=(Confidence,)),
        nn.Linear(4, 2),
        torch.utils.data.DataLoader(torch.utils.data.Subset(data, range(8)), 4),
        steps=2,
        others=[EXPERIMENT],
    )
    assert fact == Sources("Subset", "NoneType", confident=True)
