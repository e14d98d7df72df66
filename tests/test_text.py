"""The text report: what a person reads first, and that it fits the page."""

from __future__ import annotations

import math
from pathlib import Path

import click
import pytest

from gradcheck_kit.facts import Training
from gradcheck_kit.render.text import bars, first_sentence, render_text, shorten
from gradcheck_kit.report import check
from gradcheck_kit.rule import Bar, Finding, Rule, Skip
from gradcheck_kit.testing import trace, training

GOLDEN = Path(__file__).parent / "golden"

DEEP = tuple(Bar(f"{2 * i}", "Linear", 1.2e-9 * 7.0**i) for i in range(10))
VANISHING = Finding(
    "0",
    "The gradient at the first layer (0) is 3.1e-08 of the last layer's (18); healthy is at least 1e-03. It shrinks "
    "about 7x at every Sigmoid.",
    {"ratio": 3.1e-8},
    (
        'Replace Sigmoid by ReLU in 1, 3, 5, 7 and initialise them with nn.init.kaiming_normal_(nonlinearity="relu").',
        "Or put BatchNorm1d(64) before each Sigmoid.",
    ),
    profile=DEEP,
)


def toy(code, name, *answers, **settings):
    """A rule that finds these findings, or raises this."""

    def rule(_):
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
            yield answer

    return Rule(code, name, rule, (Training,), **settings)


def finding(message="the value is 3; healthy is 2", **changes):
    return Finding(**{"where": "", "message": message, "evidence": {}, "fixes": (), **changes})


def report_of(*rules, **header):
    return check(trace(training(), **header), rules, seconds=4.2)


def sick():
    return report_of(
        toy("GK101", "vanishing-gradient", VANISHING, explains=("GK204", "GK606")),
        toy("GK102", "exploding-gradient"),
        toy("GK107", "vanishing-through-time", Skip("the model has no recurrent layer")),
        toy("GK204", "learning-rate-too-low", finding("The updates are 1e-07 of the weights. Usual is 1e-03.")),
        toy(
            "GK303",
            "bad-initialization",
            finding("The outputs of conv grow.", where="conv", fixes=("Scale conv by 0.1.",)),
            severity="warning",
        ),
        toy("GK606", "cannot-fit-one-batch", finding("16 samples are not fitted; the loss stays at 2.3")),
        toy("ACME101", "acme-rule", plugin="acme-pack"),
        supplied=("no test data was given: the evaluation uses the training data, whose accuracy is no estimate",),
    )


@pytest.mark.parametrize("name", ["sick", "quiet", "verbose", "healthy"])
def test_it_reads_as_the_golden_file(name):
    report = (
        report_of(toy("GK101", "vanishing-gradient"), toy("GK102", "x", Skip("no"))) if name == "healthy" else sick()
    )
    text = render_text(report, quiet=name == "quiet", verbose=name == "verbose")
    assert text == (GOLDEN / f"{name}.txt").read_text()


@pytest.mark.parametrize("width", [40, 60, 80, 132])
def test_it_is_never_wider_than_the_page(width):
    deep = "encoder." * 20 + "weight"
    profile = tuple(Bar(f"{deep}{i}", "VeryLongLayerTypeName", 10.0**-i) for i in range(40))
    long = finding(f"The gradient of {deep} is 0", where=deep, fixes=(f"Mend {deep} and {deep}",), profile=profile)
    rules = [toy(f"GK1{i:02}", f"vanishing-gradient-{i}", long) for i in range(60)]
    crash = toy("ACME101", "a" * 90, ValueError(deep), plugin="b" * 90)
    report = report_of(*rules, crash, name=f"{deep}.py", data=deep, supplied=(deep,))
    for settings in ({}, {"quiet": True}, {"verbose": True}):
        lines = render_text(report, width=width, **settings).splitlines()
        assert max(map(len, lines)) <= width
        assert [line for line in lines if line != line.rstrip()] == []


def test_it_is_ascii_and_without_escapes_unless_colour_is_asked_for():
    assert render_text(sick()).isascii()
    assert "\x1b" not in render_text(sick())


def test_it_says_the_same_in_colour():
    coloured = render_text(sick(), color=True)
    assert "\x1b[" in coloured
    assert click.unstyle(coloured) == render_text(sick())


def test_it_prints_no_control_characters_of_a_name():
    text = render_text(report_of(toy("GK101", "x", finding("layer \x1b[31m\x07 is wrong"))))
    assert "layer ?[31m? is wrong" in text


def test_it_shows_the_place_where_the_message_does_not():
    assert "\nhead: the value is 3" in render_text(report_of(toy("GK101", "x", finding(where="head"))))
    assert "\nthe head is wrong" in render_text(
        report_of(toy("GK101", "x", finding("the head is wrong", where="head")))
    )


def test_it_keeps_the_line_breaks_of_a_fix():
    text = render_text(report_of(toy("GK101", "x", finding(fixes=("Write:\nfor x in y:\n    step()",)))))
    assert "fix  1. Write:\n        for x in y:\n            step()\n" in text


def test_it_shows_some_of_many_findings_and_says_how_many_more():
    report = report_of(toy("GK101", "x", *(finding(f"number {i}") for i in range(9))))
    assert "number 4\n\n... and 4 more; -v shows them all" in render_text(report)
    assert "number 8" in render_text(report, verbose=True)


def test_it_shows_how_a_rule_crashed():
    report = report_of(toy("GK101", "fine"), toy("ACME101", "acme", ValueError("no layer"), plugin="acme-pack"))
    text = render_text(report)
    assert "---- ACME101 acme (crashed) -" in text
    assert "rule acme of acme-pack crashed: ValueError: no layer" in text
    assert "Report this to the authors of acme-pack; or --ignore ACME101" in text
    assert text.endswith("\n1 crashed, 1 passed in 4.2 s    no verdict: ACME101 crashed\n")
    assert "Traceback" not in text
    assert "Traceback" in render_text(report, verbose=True)


@pytest.mark.parametrize(
    ("rules", "line"),
    [
        ([toy("GK101", "x")], "1 passed in 4.2 s    no findings"),
        ([toy("GK101", "x", Skip("no"))], "0 passed, 1 skipped in 4.2 s    no verdict: no rule ran"),
        ([toy("GK101", "x", finding())], "1 failed, 0 passed in 4.2 s    cause: GK101 x"),
        ([toy("GK101", "x", finding(severity="warning"))], "1 warned, 0 passed in 4.2 s    cause: GK101 x"),
        (
            [toy("GK101", "x", finding()), toy("GK102", "y", finding())],
            "2 failed, 0 passed in 4.2 s    causes: GK101 x, GK102 y",
        ),
        (
            [toy("GK101", "x", finding()), toy("GK102", "y", finding(severity="warning"))],
            "1 failed, 1 warned, 0 passed in 4.2 s    cause: GK101 x",
        ),
        ([toy("GK101", "x" * 38, finding())], f"1 failed, 0 passed in 4.2 s  cause: GK101 {'x' * 38}"),
        ([toy("GK101", "x" * 43, finding())], f"1 failed, 0 passed in 4.2 s    GK101 {'x' * 43}"),
        ([toy("GK101", "x" * 50, finding())], "1 failed, 0 passed in 4.2 s    cause: GK101"),
        (
            [toy(f"GK10{i}", "some-long-name-of-a-rule", finding()) for i in range(3)],
            "3 failed, 0 passed in 4.2 s    causes: GK100 some-long-name-of-a-rule and 2 more",
        ),
    ],
)
def test_it_ends_with_counts_and_the_cause(rules, line):
    assert render_text(report_of(*rules)).splitlines()[-1] == line


def test_it_prints_only_the_last_line_of_a_quiet_pass():
    warned = report_of(toy("GK101", "x", finding(severity="warning")), toy("GK102", "y"))
    assert render_text(warned, quiet=True) == "1 warned, 1 passed in 4.2 s    cause: GK101 x\n"


# ---- the bar chart ----


def test_it_draws_bars_to_scale():
    lines = list(bars([Bar("0", "Linear", 1.0), Bar("10", "ReLU", 0.5), Bar("", "Linear", 0.0)], 50))
    assert lines[0] == "        0  Linear   1.0e+00  |" + "#" * 20
    assert lines[1] == "       10  ReLU     5.0e-01  |" + "#" * 10
    assert lines[2] == "  (model)  Linear   0.0e+00  |"


def test_it_says_that_the_scale_is_logarithmic_beyond_three_decades():
    assert list(bars([Bar("0", "L", 1.0), Bar("1", "L", 9e-4)]))[-1].strip() == "log scale"
    assert "log scale" not in "".join(bars([Bar("0", "L", 1.0), Bar("1", "L", 2e-3)]))


def test_it_draws_what_was_not_measured_as_a_dash_and_nan_without_a_bar():
    absent, nan, infinite, normal = bars(
        [Bar("0", "L", None), Bar("1", "L", math.nan), Bar("2", "L", math.inf), Bar("3", "L", 1.0)], 40
    )
    assert absent.split() == ["0", "L", "-", "|"]
    assert nan.split() == ["1", "L", "nan", "|"]
    assert infinite.split()[2] == "inf"
    assert len(infinite) == len(normal) <= 40


def test_it_leaves_out_the_middle_of_a_deep_profile():
    lines = list(bars([Bar(f"{i}", "L", 1.0) for i in range(100)]))
    assert [line.split()[0] for line in lines] == ["0", "1", "2", "3", "4", "5", "6", "...", *map(str, range(94, 100))]


def test_it_shows_a_profile_that_just_fits_in_full():
    assert len(list(bars([Bar(f"{i}", "L", 1.0) for i in range(14)]))) == 14


# ---- words ----


@pytest.mark.parametrize(
    ("text", "short"), [("abcdefghij", "abcdefghij"), ("abcdefghijk", "abc...hijk"), ("x" * 90, "xxx...xxxx")]
)
def test_it_shortens_in_the_middle(text, short):
    assert shorten(text, 10) == short


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("The ratio is 1.5e-3. More.", "The ratio is 1.5e-3"),
        ("It is 3; healthy is 2", "It is 3"),
        ("One line\nand another", "One line"),
        ("All of it.", "All of it"),
    ],
)
def test_it_takes_the_first_sentence(text, sentence):
    assert first_sentence(text) == sentence


def test_it_says_what_quick_left_out():
    fast = toy("GK606", "cannot-fit-one-batch", Skip("left out by --quick"))
    other = toy("GK107", "vanishing-through-time", Skip("the model has no recurrent layer"))
    text = render_text(report_of(fast, other, toy("GK102", "exploding-gradient")))
    assert "quick  left out GK606 cannot-fit-one-batch\n" in text
