"""Workflow commands, read back as GitHub's runner reads them."""

from __future__ import annotations

import re

import pytest

from gradcheck_kit.render import FORMATS


def commands(report):
    """Kind, properties and message of each line that is a command, and the other lines.

    After ActionCommand.cs of the runner: a line, split at "::", properties at commas; %25 is unescaped last.
    """
    found, others = [], []
    for line in FORMATS["github"](report).splitlines():
        match = re.fullmatch(r"::(\w+) (.*?)::(.*)", line)
        if match is None:
            others.append(line)
            continue
        kind, given, message = match.groups()
        properties = dict(item.split("=", 1) for item in given.split(","))
        found.append((kind, {k: unescaped(v, prop=True) for k, v in properties.items()}, unescaped(message)))
    return found, others


def unescaped(text, *, prop=False):
    for code, character in [
        ("%0D", "\r"),
        ("%0A", "\n"),
        *([("%3A", ":"), ("%2C", ",")] if prop else []),
        ("%25", "%"),
    ]:
        text = text.replace(code, character)
    return text


def test_it_is_commands_and_one_plain_line(report):
    _, others = commands(report)
    assert others == FORMATS["github"](report).splitlines()[-1:]
    assert re.match(r"\d+ \w+", others[0])


def test_it_is_the_same_every_time(report):
    assert FORMATS["github"](report) == FORMATS["github"](report)


def test_a_cause_is_an_error_at_its_line_and_what_it_explains_a_notice(named):
    found, (last,) = commands(named("sick"))
    assert [(kind, properties) for kind, properties, _ in found] == [
        ("error", {"file": "net/model.py", "line": "7", "title": "GK101 vanishing-gradient"}),
        ("notice", {"title": "GK205 loss-not-decreasing"}),
        ("notice", {"file": "net/model.py", "line": "12", "title": "GK606 cannot-fit-one-batch"}),
        ("notice", {"file": "net/model.py", "line": "12", "title": "GK606 cannot-fit-one-batch"}),
    ]
    assert found[0][2].endswith("\nexplains GK205 loss-not-decreasing, GK606 cannot-fit-one-batch")
    assert found[1][2].endswith("\nexplained by GK101 vanishing-gradient")
    assert last == "2 failed, 1 warned, 1 passed, 1 skipped in 4.2 s    cause: GK101 vanishing-gradient"


def test_a_warning_is_one(named):
    assert [kind for kind, _, _ in commands(named("warned"))[0]] == ["warning"]


@pytest.mark.parametrize(("name", "title"), [("crashed", "GK101 vanishing-gradient"), ("nothing ran", "gradcheck-kit")])
def test_no_verdict_is_an_error(named, name, title):
    kind, properties, _ = commands(named(name))[0][0]
    assert (kind, properties["title"]) == ("error", title)


def test_a_healthy_model_gets_the_plain_line_alone(named):
    assert FORMATS["github"](named("healthy")) == "1 passed, 1 skipped in 4.2 s    no findings\n"


def test_any_text_survives(named, nasty):
    _, shown, _, shown_name = nasty
    ((kind, properties, message),), _ = commands(named("nasty"))
    assert (kind, properties) == ("error", {"file": shown_name, "line": "3", "title": "ACME101 foreign"})
    assert message.startswith(f"{shown_name}: {shown}\n")
