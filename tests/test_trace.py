"""The trace file: what goes in comes out, and what is not a whole trace is refused."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, replace

import pytest

from gradcheck_kit import testing
from gradcheck_kit.errors import TraceError
from gradcheck_kit.trace import Header, Trace, decode, encode, write_atomically


@dataclass(frozen=True, slots=True)
class Homemade:
    """A plugin's fact."""

    value: float


def full_trace():
    return testing.trace(
        testing.training(non_finite=testing.non_finite()),
        testing.wiring(),
        testing.evaluation(),
        testing.one_batch_fit(),
        testing.data_summary(),
        testing.learning_rate_response(),
        absent={"GradientCheck": "the model has no custom function"},
        supplied=("loss: the model's own",),
    )


def signed(*lines):
    """A trace file of these lines with a checksum that fits."""
    body = "".join(json.dumps(line) + "\n" for line in lines)
    return body + json.dumps({"facts": len(lines) - 1, "sha256": hashlib.sha256(body.encode()).hexdigest()}) + "\n"


def head(**changes):
    return {
        "format": "gradcheck-kit trace",
        "schema": 1,
        "header": encode(testing.header()),
        "absent": {},
        **changes,
    }


def test_it_comes_back_equal(tmp_path):
    trace = full_trace()
    trace.save(tmp_path / "t.jsonl")
    assert Trace.load(tmp_path / "t.jsonl") == trace


def test_it_comes_back_equal_with_nan_and_infinity_everywhere(tmp_path):
    trace = testing.trace(*(testing.poisoned(fact) for fact in full_trace().facts.values()))
    trace.save(tmp_path / "t.jsonl")
    assert Trace.load(tmp_path / "t.jsonl") == trace


def test_it_is_strict_json_line_by_line(tmp_path):
    testing.trace(testing.training(losses=(math.nan, math.inf, -math.inf))).save(tmp_path / "t.jsonl")
    lines = (tmp_path / "t.jsonl").read_text().splitlines()
    for line in lines:
        json.loads(line, parse_constant=pytest.fail)
    assert json.loads(lines[1])["value"]["losses"] == ["nan", "inf", "-inf"]


@pytest.mark.parametrize("name", ["modèle.py", "line\u2028separator", "two\nlines", "\udcff.py"])
def test_it_keeps_any_name(tmp_path, name):
    trace = testing.trace(testing.training(), name=name)
    trace.save(tmp_path / "t.jsonl")
    assert Trace.load(tmp_path / "t.jsonl").header.name == name


def test_it_leaves_out_facts_of_plugins_that_are_not_there(tmp_path):
    testing.trace(testing.training(), Homemade(1.0)).save(tmp_path / "t.jsonl")
    assert Homemade not in Trace.load(tmp_path / "t.jsonl").facts


def test_it_reads_facts_of_plugins_that_are_there(tmp_path):
    testing.trace(Homemade(1.0)).save(tmp_path / "t.jsonl")
    assert Trace.load(tmp_path / "t.jsonl", extra=[Homemade]).facts == {Homemade: Homemade(1.0)}


def test_it_says_that_a_file_is_missing(tmp_path):
    with pytest.raises(TraceError, match=r"cannot read the trace .*nowhere: No such file"):
        Trace.load(tmp_path / "nowhere")


@pytest.mark.parametrize("content", [b"", b"\x80\x02torch", b"hello", b"[1]", b'{"a": 1}', b"[" * 100_000])
def test_it_says_that_a_file_is_no_trace(tmp_path, content):
    (tmp_path / "t").write_bytes(content)
    with pytest.raises(TraceError, match="is not a gradcheck-kit trace; make one with"):
        Trace.load(tmp_path / "t")


def test_it_tells_a_truncated_file_from_a_whole_one(tmp_path):
    full_trace().save(tmp_path / "t")
    lines = (tmp_path / "t").read_text().splitlines(keepends=True)
    for kept in range(1, len(lines)):
        (tmp_path / "t").write_text("".join(lines[:kept]))
        with pytest.raises(TraceError, match="is truncated: its last line is missing; save the trace again"):
            Trace.load(tmp_path / "t")


def test_it_tells_a_changed_file_from_a_whole_one(tmp_path):
    full_trace().save(tmp_path / "t")
    text = (tmp_path / "t").read_text()
    (tmp_path / "t").write_text(text.replace('"seed":0', '"seed":1'))
    with pytest.raises(TraceError, match="is damaged: its checksum does not match"):
        Trace.load(tmp_path / "t")


@pytest.mark.parametrize("schema", [2, "1", None])
def test_it_refuses_a_newer_schema_and_says_how_to_update(tmp_path, schema):
    (tmp_path / "t").write_text(signed(head(schema=schema)))
    with pytest.raises(TraceError, match=rf"trace schema {schema}, this version reads up to 1; .*pip install -U"):
        Trace.load(tmp_path / "t")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ({"fact": "Evaluation", "value": {"samples": 1}}, "missing"),
        ({"fact": "Evaluation", "value": [1]}, "expected Evaluation, found list"),
        ({"value": 1}, "fact"),
        ({"fact": "OneBatchFit", "value": {"samples": "many"}}, "expected int, found str"),
        ({"fact": "OneBatchFit", "value": {"samples": True}}, "expected int, found bool"),
        ({"fact": "OneBatchFit", "value": {"constant_loss": 10**400}}, "too large"),
        ({"fact": "OneBatchFit", "value": {"colour": 1}}, "unknown field colour"),
        ([], ""),
    ],
)
def test_it_refuses_facts_of_the_wrong_form(tmp_path, line, reason):
    (tmp_path / "t").write_text(signed(head(), line))
    with pytest.raises(TraceError, match=rf"is damaged: .*{reason}.*; save the trace again"):
        Trace.load(tmp_path / "t")


@pytest.mark.parametrize("header", [None, {}, {"name": 3}])
def test_it_refuses_a_header_of_the_wrong_form(tmp_path, header):
    (tmp_path / "t").write_text(signed(head(header=header)))
    with pytest.raises(TraceError, match="is damaged"):
        Trace.load(tmp_path / "t")


def test_it_says_that_it_cannot_be_written(tmp_path):
    with pytest.raises(TraceError, match=r"cannot write the trace .*: No such file or directory"):
        full_trace().save(tmp_path / "missing" / "t")


def test_it_writes_whole_files_or_none(tmp_path, monkeypatch):
    path = tmp_path / "t"
    path.write_text("old")
    monkeypatch.setattr("pathlib.Path.replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_it_writes_through_a_link_and_keeps_the_mode(tmp_path):
    (tmp_path / "real").write_text("old")
    (tmp_path / "real").chmod(0o640)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_atomically(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"
    assert (tmp_path / "real").stat().st_mode & 0o777 == 0o640


def test_it_decodes_integers_as_floats_where_floats_belong():
    assert decode(float | None, 3) == 3.0
    assert isinstance(decode(float, 3), float)


def test_it_refuses_to_encode_what_is_no_data():
    with pytest.raises(TypeError, match="not set"):
        encode({"values": {1, 2}})


def test_it_decodes_a_header_that_lacks_a_defaulted_field():
    fields = encode(replace(testing.header(), supplied=()))
    del fields["supplied"]
    assert decode(Header, fields) == testing.header()


def test_it_takes_a_path_that_is_written_as_text(tmp_path):
    trace = testing.trace(testing.training())
    trace.save(str(tmp_path / "t.jsonl"))
    assert Trace.load(str(tmp_path / "t.jsonl")) == trace
