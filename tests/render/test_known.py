"""What a baseline knows counts for nothing, and every format says so."""

from __future__ import annotations

import json
from xml.etree import ElementTree as ET

import pytest

from gradcheck_kit.render import FORMATS


@pytest.fixture
def written(named):
    return lambda name: FORMATS[name](named("against a baseline"))


def test_junit_passes_it_and_says_what_it_knows(written):
    cases = {case.get("name"): case for case in ET.fromstring(written("junit").encode())}
    known, ignored = cases["GK101 vanishing-gradient"], cases["GK104 dead-units"]
    assert known.find("failure") is None
    assert known.findtext("system-out").startswith("known: fc.weight: The gradient at the first layers (fc) is")
    assert ignored.findtext("system-out") == "ignored: fc: it is dead"


def test_sarif_suppresses_it_and_tells_new_from_unchanged(written):
    results = {r["ruleId"]: r for r in json.loads(written("sarif"))["runs"][0]["results"]}
    assert [s["kind"] for s in results["GK101"]["suppressions"]] == ["external"]
    assert results["GK101"]["baselineState"] == "unchanged"
    assert results["GK205"]["baselineState"] == "new"
    assert "suppressions" not in results["GK205"]


def test_sarif_says_nothing_of_a_baseline_where_there_is_none(named):
    (run,) = json.loads(FORMATS["sarif"](named("sick")))["runs"]
    assert not any("baselineState" in result for result in run["results"])


def test_github_annotates_what_is_new_only(written):
    commands = [line for line in written("github").splitlines() if line.startswith("::")]
    assert [line.partition(" ")[0] for line in commands] == ["::warning"]
    assert "GK205" in commands[0]


def test_markdown_has_a_section_for_what_is_new_only(written):
    text = written("markdown")
    assert [line for line in text.splitlines() if line.startswith("### ")] == [
        "### GK205 loss-not-decreasing (warning)"
    ]
    assert "| GK101 vanishing-gradient | passed | known: fc.weight: The gradient" in text
    assert "| GK104 dead-units | passed | ignored: fc: it is dead |" in text


def test_json_marks_it(written):
    report = json.loads(written("json"))
    assert (report["summary"]["known"], report["summary"]["ignored"]) == (1, 1)
    assert report["outcomes"][0]["findings"][0]["known"] is True
    assert report["baseline"]["stale"] == [{"code": "GK102", "rule": "exploding-gradient", "places": ["fc"]}]
