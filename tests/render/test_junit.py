"""JUnit XML: valid after the schema of Jenkins' plugin, and read back by a parser that knows nothing of ours."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
import xmlschema

from gradcheck_kit.render import FORMATS

SCHEMA = Path(__file__).parent / "schemas" / "junit-10.xsd"


@pytest.fixture(scope="module")
def schema():
    return xmlschema.XMLSchema10(SCHEMA)


def read(report):
    return ET.fromstring(FORMATS["junit"](report).encode("utf-8"))


def children(report):
    return {case.get("name"): [child.tag for child in case] for case in read(report).iter("testcase")}


def test_every_report_is_valid(report, schema):
    schema.validate(FORMATS["junit"](report))


def test_the_schema_refuses_what_is_none(named, schema):
    assert not schema.is_valid(FORMATS["junit"](named("sick")).replace("failure", "failed"))


def test_it_is_the_same_every_time(report):
    assert FORMATS["junit"](report) == FORMATS["junit"](report)


def test_the_counts_are_those_of_the_elements(report):
    suite = read(report)
    for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped"), ("tests", "testcase")):
        assert int(suite.get(attribute)) == len(list(suite.iter(tag)))
    assert int(suite.get("tests")) == len(report.outcomes)


def test_a_test_case_is_a_rule(named):
    assert children(named("sick")) == {
        "GK101 vanishing-gradient": ["failure"],
        "GK102 exploding-gradient": [],
        "GK107 vanishing-through-time": ["skipped"],
        "GK205 loss-not-decreasing": ["system-out"],
        "GK606 cannot-fit-one-batch": ["failure"],
    }
    assert {case.get("classname") for case in read(named("sick")).iter("testcase")} == {"model.py:model"}


def test_warnings_pass_unless_they_fail(named):
    assert children(named("warned"))["GK205 loss-not-decreasing"] == ["system-out"]
    assert children(named("warned, which fails"))["GK205 loss-not-decreasing"] == ["failure"]
    (failure,) = read(named("warned, which fails")).iter("failure")
    assert failure.get("type") == "warning"


def test_a_crashed_rule_is_an_error_and_the_suite_says_that_there_is_no_verdict(named):
    suite = read(named("crashed"))
    assert children(named("crashed"))["GK101 vanishing-gradient"] == ["error"]
    assert suite.findtext("system-err") == "no verdict: GK101 crashed"
    assert read(named("nothing ran")).findtext("system-err") == "no verdict: no rule ran"
    assert read(named("sick")).find("system-err") is None


def test_a_failure_says_all_there_is(named):
    failure = next(read(named("sick")).iter("failure"))
    assert failure.get("message").startswith("fc.weight: The gradient at the first layers (fc) is 3.1e-08")
    assert "\n   fc  Linear   1.2e-09  |##" in failure.text
    assert "fix  1. Replace Sigmoid by ReLU.\n     2. Or put" in failure.text
    assert "explains GK205 loss-not-decreasing, GK606 cannot-fit-one-batch\n" in failure.text


def test_any_text_survives(named, nasty):
    _, shown, _, shown_name = nasty
    suite = read(named("nasty"))
    failure = next(suite.iter("failure"))
    assert failure.get("message") == f"{shown_name}: {shown}"
    assert failure.text.startswith(f"{shown_name}: {shown}\n")
    assert next(suite.iter("skipped")).get("message") == shown
    assert next(suite.iter("testcase")).get("classname") == shown_name
