"""From a trace to outcomes, causes and an exit status."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from gradcheck_kit.facts import Evaluation, Training
from gradcheck_kit.report import check
from gradcheck_kit.rule import Bar, Finding, Rule, Skip
from gradcheck_kit.testing import apply, judge, trace, training


def toy(code, found=True, *, explains=(), severity="error", own=None, needs=(Training,)):
    """A rule that always finds something, or never."""

    def rule(*_):
        """Finds."""
        if found:
            yield Finding("0", f"{code} is wrong", {"value": 1.0}, ("mend it",), own)

    return Rule(code, f"toy-{code.lower()}", rule, needs, explains=explains, severity=severity)


def raising(code, error):
    def rule(_):
        """Raises."""
        raise error
        yield

    return Rule(code, f"toy-{code.lower()}", rule, (Training,))


def report_of(*rules, **settings):
    return check(trace(training()), rules, **settings)


def codes(outcomes):
    return [o.rule.code for o in outcomes]


def statuses(report):
    return {o.rule.code: o.status for o in report.outcomes}


# ---- outcomes ----


def test_it_lists_outcomes_by_code():
    assert codes(report_of(toy("GK302"), toy("GK101")).outcomes) == ["GK101", "GK302"]


def test_it_tells_failures_from_warnings_and_passes():
    report = report_of(toy("GK101"), toy("GK102", severity="warning"), toy("GK103", found=False))
    assert statuses(report) == {"GK101": "failed", "GK102": "warned", "GK103": "passed"}


def test_it_lets_a_finding_override_the_severity_of_its_rule():
    report = report_of(toy("GK101", own="warning"), toy("GK102", severity="warning", own="error"))
    assert statuses(report) == {"GK101": "warned", "GK102": "failed"}


def test_it_skips_a_rule_whose_fact_is_absent_and_says_why():
    rule = toy("GK601", needs=(Evaluation,))
    assert judge(rule, training()).reason == "Evaluation was not recorded"
    (outcome,) = check(trace(absent={"Evaluation": "there is no test data"}), [rule]).outcomes
    assert (outcome.status, outcome.reason) == ("skipped", "there is no test data")


def test_it_passes_the_reason_of_a_skip_on():
    outcome = judge(raising("GK101", Skip("the model has no activation")), training())
    assert (outcome.status, outcome.reason) == ("skipped", "the model has no activation")


def test_it_gives_a_rule_none_for_a_used_fact_that_is_absent():
    seen = []
    rule = Rule("GK101", "toy", lambda *facts: seen.append(facts) or iter(()), (Training,), (Evaluation,))
    judge(rule, training())
    assert seen == [(training(), None)]


def test_it_passes_options_by_name():
    def rule(_, *, first_ratio=1.0):
        """Finds its own option."""
        yield Finding("", f"{first_ratio}", {}, ())

    toy_rule = Rule("GK101", "toy", rule, (Training,))
    report = report_of(toy_rule, options={"toy": {"first-ratio": 0.5}, "other": {"x": 1}})
    assert report.outcomes[0].findings[0].message == "0.5"


def test_it_reports_the_other_rules_when_one_crashes():
    report = report_of(raising("GK101", ValueError("no such layer")), toy("GK102"))
    assert statuses(report) == {"GK101": "error", "GK102": "failed"}
    assert report.outcomes[0].reason == "rule toy-gk101 of gradcheck-kit crashed: ValueError: no such layer"
    assert isinstance(report.outcomes[0].traceback, ValueError)


@pytest.mark.parametrize("returned", [None, 3, [None], ["text"], [Finding("", "", {"bad": {1}}, ())]])
def test_it_counts_a_rule_that_returns_nonsense_as_crashed(returned):
    report = report_of(Rule("GK101", "toy", lambda _: returned, (Training,)), toy("GK102"))
    assert statuses(report) == {"GK101": "error", "GK102": "failed"}
    report.to_json()


# ---- exit status ----


@pytest.mark.parametrize(
    ("rules", "fail_on", "status"),
    [
        ([toy("GK101", found=False)], "error", 0),
        ([toy("GK101", severity="warning")], "error", 0),
        ([toy("GK101", severity="warning")], "warning", 1),
        ([toy("GK101")], "error", 1),
        ([], "error", 2),
        ([raising("GK101", Skip("nothing"))], "error", 2),
        ([raising("GK101", ValueError()), toy("GK102", found=False)], "error", 2),
        ([raising("GK101", ValueError()), toy("GK102")], "error", 2),
        ([raising("GK101", Skip("nothing")), toy("GK102", found=False)], "error", 0),
    ],
)
def test_it_exits_as_the_contract_says(rules, fail_on, status):
    report = report_of(*rules, fail_on=fail_on)
    assert report.exit_status == status
    assert report.passed == (status == 0)


def test_it_raises_the_text_report_for_failures():
    with pytest.raises(AssertionError, match="GK101 is wrong"):
        report_of(toy("GK101")).raise_for_failures()


def test_it_raises_nothing_for_a_pass():
    report_of(toy("GK101", found=False)).raise_for_failures()


# ---- causes ----


def test_it_names_only_what_nothing_else_explains():
    report = report_of(toy("GK101", explains=("GK204", "GK606")), toy("GK204"), toy("GK606"))
    assert codes(report.causes) == ["GK101"]
    assert codes(report.explained_by(report.causes[0])) == ["GK204", "GK606"]


def test_it_lets_a_rule_say_whose_symptom_it_is():
    own = replace(toy("ACME101", explains=("GK606",)), explained_by=("GK203",))
    report = report_of(toy("GK203"), own, toy("GK606"))
    assert codes(report.causes) == ["GK203"]
    assert codes(report.explained_by(report.causes[0])) == ["ACME101", "GK606"]
    assert codes(report_of(own, toy("GK606")).causes) == ["ACME101"]


def test_it_explains_through_rules_that_found_nothing():
    chain = toy("GK101", explains=("GK102",)), toy("GK102", found=False, explains=("GK103",)), toy("GK103")
    assert codes(report_of(*chain).causes) == ["GK101"]


def test_it_is_not_explained_by_a_rule_that_passed():
    assert codes(report_of(toy("GK101", found=False, explains=("GK102",)), toy("GK102")).causes) == ["GK102"]


def test_it_puts_failures_first_then_what_explains_most():
    report = report_of(
        toy("GK101", severity="warning", explains=("GK201", "GK202", "GK203")),
        toy("GK102"),
        toy("GK103", explains=("GK201", "GK202")),
        toy("GK104", explains=("GK201",)),
        *(toy(f"GK20{i}") for i in (1, 2, 3)),
    )
    assert codes(report.causes) == ["GK103", "GK104", "GK102", "GK101"]


def test_it_always_has_a_cause_also_when_rules_explain_each_other():
    report = report_of(toy("GK101", explains=("GK102",)), toy("GK102", explains=("GK101", "GK103")), toy("GK103"))
    assert codes(report.causes) == ["GK101", "GK102"]
    assert codes(report.explained_by(report.causes[0])) == ["GK102", "GK103"]


def test_it_has_no_cause_where_nothing_is_wrong():
    assert report_of(toy("GK101", found=False)).causes == ()


# ---- JSON ----


def test_it_is_json_as_the_schema_says():
    report = report_of(toy("GK101", explains=("GK204",)), toy("GK204", severity="warning"), seconds=1.234)
    read = json.loads(report.to_json())
    assert read["schema"] == 1
    assert read["tool"] == {"name": "gradcheck-kit", "version": "0.1.0"}
    assert read["target"]["name"] == "model.py:model"
    assert read["target"]["seed"] == 0
    assert read["summary"] == {"passed": 0, "failed": 1, "warned": 1, "skipped": 0, "error": 0, "seconds": 1.23}
    assert read["causes"] == [{"code": "GK101", "rule": "toy-gk101"}]
    assert read["outcomes"][0] == {
        "code": "GK101",
        "rule": "toy-gk101",
        "status": "failed",
        "severity": "error",
        "reason": "",
        "findings": [
            {
                "where": "0",
                "message": "GK101 is wrong",
                "severity": "error",
                "evidence": {"value": 1.0},
                "fixes": [{"text": "mend it"}],
            }
        ],
    }


def test_it_is_strict_json_also_with_nan_and_any_name():
    def rule(_):
        """Finds NaN."""
        yield Finding("\u2028", "\udcff", {"ratio": math.nan}, (), profile=(Bar("é", "Linear", math.inf),))

    text = report_of(Rule("GK101", "toy", rule, (Training,))).to_json()
    (finding,) = json.loads(text.encode("ascii"), parse_constant=pytest.fail)["outcomes"][0]["findings"]
    assert finding["evidence"] == {"ratio": "nan"}
    assert finding["profile"] == [{"place": "é", "kind": "Linear", "value": "inf"}]


# ---- the builders of gradcheck_kit.testing ----


def test_it_builds_healthy_facts_that_can_be_changed():
    assert training().harm == ""
    short = training(losses=(2.0,) * 12)
    assert (short.planned_steps, len(short.recorded), len(short.parameters[0].gradient_rms)) == (12, 12, 12)
    with pytest.raises(TypeError, match="Training has no field loses; its fields: planned_steps"):
        training(loses=())


def test_it_applies_a_rule_and_lets_its_skip_through():
    assert [f.message for f in apply(toy("GK101"), training())] == ["GK101 is wrong"]
    with pytest.raises(Skip, match="nothing"):
        apply(raising("GK101", Skip("nothing")), training())
