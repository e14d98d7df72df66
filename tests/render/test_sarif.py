"""SARIF: valid after the schema of 2.1.0, and honest about lines."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest

from gradcheck_kit import plugins
from gradcheck_kit.render import FORMATS
from gradcheck_kit.report import check
from gradcheck_kit.testing import trace, training
from gradcheck_kit.trace import SourceLine

SCHEMA = Path(__file__).parent / "schemas" / "sarif-2.1.0-rtm.5.json"


@pytest.fixture(scope="module")
def validator():
    schema = json.loads(SCHEMA.read_text("utf-8"))
    jsonschema.Draft4Validator.check_schema(schema)
    return jsonschema.Draft4Validator(schema)


def read(report):
    (run,) = json.loads(FORMATS["sarif"](report), parse_constant=pytest.fail)["runs"]
    return run


def results(report):
    return {result["ruleId"]: result for result in read(report)["results"]}


def test_every_report_is_valid(report, validator):
    validator.validate(json.loads(FORMATS["sarif"](report)))


def test_the_schema_refuses_what_is_none(named, validator):
    broken = json.loads(FORMATS["sarif"](named("sick")))
    broken["runs"][0]["results"][0]["level"] = "bad"
    assert not validator.is_valid(broken)


def test_it_is_ascii_and_the_same_every_time(report):
    assert FORMATS["sarif"](report).isascii()
    assert FORMATS["sarif"](report) == FORMATS["sarif"](report)


def test_it_lists_every_built_in_rule_with_its_page(validator):
    report = check(trace(training()), plugins.all_rules())
    validator.validate(json.loads(FORMATS["sarif"](report)))
    rules = read(report)["tool"]["driver"]["rules"]
    assert len(rules) == len(plugins.all_rules())
    for rule in rules:
        assert rule["help"]["markdown"].startswith(f"# {rule['id']} {rule['name']}")
        assert rule["shortDescription"]["text"].endswith((".", ";", ":"))
        assert "helpUri" not in rule


def test_a_result_refers_to_its_rule(report):
    run = read(report)
    for result in run["results"]:
        assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]


def test_failures_are_errors_and_warnings_warnings(named):
    assert {code: result["level"] for code, result in results(named("sick")).items()} == {
        "GK101": "error",
        "GK205": "warning",
        "GK606": "error",
    }


def test_what_is_explained_says_by_what(named):
    found = results(named("sick"))
    assert "Explained by GK101 vanishing-gradient" in found["GK205"]["message"]["text"]
    assert found["GK205"]["properties"]["explainedBy"] == "GK101"
    assert "xplained" not in json.dumps(found["GK101"])


def test_it_points_at_the_line_at_the_file_or_at_nothing(named):
    def physical(report, code):
        (location,) = results(report)[code]["locations"]
        return location.get("physicalLocation")

    assert physical(named("sick"), "GK101") == {
        "artifactLocation": {"uri": "net/model.py"},
        "region": {"startLine": 7},
    }
    assert physical(named("sick"), "GK205") == {"artifactLocation": {"uri": "net/model.py"}}  # the loss: no line known
    assert physical(named("sick"), "GK606")["region"] == {"startLine": 12}
    without = check(trace(training()), [o.rule for o in named("sick").outcomes])
    assert physical(without, "GK101") is None


@pytest.mark.parametrize(
    ("file", "uri"),
    [
        ("a b/é#1.py", "a%20b/%C3%A9%231.py"),
        ("/home/me/model.py", "file:///home/me/model.py"),
        ("C:/me/model.py", "file:///C:/me/model.py"),
    ],
)
def test_a_path_becomes_a_uri(named, file, uri):
    rules = [o.rule for o in named("sick").outcomes]
    report = check(trace(training(), sources=(SourceLine("fc", file, 3),)), rules)
    (location,) = results(report)["GK101"]["locations"]
    assert location["physicalLocation"]["artifactLocation"]["uri"] == uri


def test_it_names_the_module(named):
    (location,) = results(named("sick"))["GK101"]["locations"]
    assert location["logicalLocations"] == [{"name": "weight", "fullyQualifiedName": "fc.weight"}]


def test_a_fingerprint_is_one_findings_and_stays_when_lines_and_values_change(named):
    prints = [r["partialFingerprints"]["gradcheckKitFinding/v1"] for r in read(named("sick"))["results"]]
    assert len(set(prints)) == len(prints) == 4
    rules = [o.rule for o in named("sick").outcomes]
    moved = check(trace(training(), sources=(SourceLine("fc", "other.py", 3),)), rules)
    assert [r["partialFingerprints"]["gradcheckKitFinding/v1"] for r in read(moved)["results"]] == prints


def test_a_crash_is_a_notification_and_the_run_no_success(named):
    (invocation,) = read(named("crashed"))["invocations"]
    assert invocation["executionSuccessful"] is False
    (notification,) = invocation["toolExecutionNotifications"]
    assert notification["associatedRule"] == {"id": "GK101", "index": 0}
    (nothing,) = read(named("nothing ran"))["invocations"]
    assert (nothing["executionSuccessful"], len(nothing["toolExecutionNotifications"])) == (False, 1)
    assert read(named("sick"))["invocations"][0]["executionSuccessful"] is True


def test_any_text_survives_and_is_no_link(named, nasty):
    _, shown, _, shown_name = nasty
    text = results(named("nasty"))["ACME101"]["message"]["text"]
    assert re.search(r"(?<!\\)\[[^\[\]]*\]\(", text) is None
    assert text.replace("\\[0](", "[0](").startswith(f"{shown_name}: {shown}\n")
