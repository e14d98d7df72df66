"""The JSON report keeps to its published schema, which is strict about everything but a rule's own evidence."""

from __future__ import annotations

import copy
import json
import zipfile

import jsonschema
import pytest

from gradcheck_kit.cli import run
from gradcheck_kit.render import FORMATS
from gradcheck_kit.render.json import json_schema


@pytest.fixture(scope="module")
def validator():
    schema = json.loads(json_schema())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def objects(schema):
    if isinstance(schema, dict):
        if schema.get("type") == "object" and "properties" in schema:
            yield schema
        for value in schema.values():
            yield from objects(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from objects(value)


def test_every_report_is_valid(report, validator):
    validator.validate(json.loads(FORMATS["json"](report), parse_constant=pytest.fail))


def test_it_knows_every_field_and_needs_all_that_are_always_there(validator):
    found = list(objects(validator.schema))
    assert len(found) > 5
    assert all(one["additionalProperties"] is False for one in found)
    optional = {name for one in found for name in set(one["properties"]) - set(one["required"])}
    assert optional == {"profile", "location", "known", "ignored", "explained_by", "settings", "baseline"}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["schema"], 2),
        (["extra"], 1),
        (["target", "colour"], "blue"),
        (["summary", "failed"], -1),
        (["causes", 0, "code"], "gk101"),
        (["outcomes", 0, "status"], "broken"),
        (["outcomes", 0, "findings"], []),
        (["outcomes", 1, "findings"], [{"where": ""}]),
        (["outcomes", 0, "findings", 0, "fixes"], ["Mend it."]),
        (["outcomes", 0, "findings", 0, "location", "line"], 0),
        (["outcomes", 0, "findings", 0, "profile", 0, "value"], "large"),
    ],
)
def test_it_refuses_what_is_no_report(named, validator, path, value):
    broken = copy.deepcopy(named("sick").to_dict())
    assert validator.is_valid(broken)
    inner = broken
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = value
    assert not validator.is_valid(broken)


def test_a_finding_tells_its_line_and_one_without_a_line_none(named):
    outcomes = {o["code"]: o["findings"] for o in named("sick").to_dict()["outcomes"]}
    assert outcomes["GK101"][0]["location"] == {"file": "net/model.py", "line": 7}
    assert "location" not in outcomes["GK205"][0]
    assert "sources" not in named("sick").to_dict()["target"]


def test_the_command_prints_it(capfd):
    assert run(["schema"]) == 0
    assert json.loads(capfd.readouterr().out)["$id"] == "urn:gradcheck-kit:report:1"


def test_it_is_in_the_wheel(tmp_path, request):
    wheels = pytest.importorskip("hatchling.builders.wheel")
    (wheel,) = wheels.WheelBuilder(str(request.config.rootpath)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(wheel) as opened:
        assert opened.read("gradcheck_kit/render/report.schema.json").decode() == json_schema()
