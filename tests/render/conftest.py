"""Reports of every kind, for every format."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from gradcheck_kit.facts import Training
from gradcheck_kit.report import Comparison, Fingerprint, check
from gradcheck_kit.rule import Bar, Finding, Rule, Skip
from gradcheck_kit.testing import trace, training
from gradcheck_kit.trace import SourceLine

# Whatever could end a cell, a tag, a command, a fence or a file before its time.
NASTY = (
    "1. one\n"
    "\"two\" 'three' ]]> \x1b[31mred\x1b[0m \x00\ufffe\ud800 é 日本 🙂 \u2028 | a || ` `` ``` <b>&amp;</b> </details>\n"
    "::error::x%0A 100%25, a:b @me [0](x) {0} \\ _u_ *s* # h\r\n    indented\n\n- last"
)
NASTY_NAME = "net|`a`]]>\x1b[0m,é:<i>%.py"
SHOWN_NAME = "net|`a`]]>\\x1b[0m,é:<i>%.py"
SHOWN = (
    "1. one\n"
    "\"two\" 'three' ]]> \\x1b[31mred\\x1b[0m \\x00\\ufffe\\ud800 é 日本 🙂   | a || ` `` ``` <b>&amp;</b> </details>\n"
    "::error::x%0A 100%25, a:b @me [0](x) {0} \\ _u_ *s* # h\n    indented\n\n- last"
)


def toy(code, name, *answers, **settings):
    def rule(_):
        """Finds what it is told to. It is a toy."""
        for answer in answers:
            if isinstance(answer, Exception):
                raise answer
            yield answer

    return Rule(code, name, rule, (Training,), **settings)


def finding(where="", message="the value is 3; healthy is 2", **changes):
    return Finding(where, message, **{"evidence": {"value": 3.0, "limit": 2}, "fixes": ("Mend it.",), **changes})


SOURCES = (
    SourceLine("", "net/model.py", 12),
    SourceLine("fc", "net/model.py", 7),
    SourceLine("optimizer", "net/model.py", 14),
)
PASSING = toy("GK102", "exploding-gradient")
SKIPPING = toy("GK107", "vanishing-through-time", Skip("the model has no recurrent layer"))
WARNING = toy("GK205", "loss-not-decreasing", finding("loss"), severity="warning")
VANISHING = finding(
    "fc.weight",
    "The gradient at the first layers (fc) is 3.1e-08 of that at the last (out); healthy is at least 1e-03.",
    fixes=("Replace Sigmoid by ReLU.", "Or put BatchNorm1d(64) before it."),
    profile=(Bar("fc", "Linear", 1.2e-9), Bar("out", "Linear", 3.9e-2)),
)

REPORTS = {
    "healthy": lambda: report_of(PASSING, SKIPPING),
    "sick": lambda: report_of(
        toy("GK101", "vanishing-gradient", VANISHING, explains=("GK205", "GK606")),
        PASSING,
        SKIPPING,
        WARNING,
        toy("GK606", "cannot-fit-one-batch", finding("model"), finding("model", "and that too")),
    ),
    "warned": lambda: report_of(PASSING, WARNING),
    "warned, which fails": lambda: report_of(PASSING, WARNING, fail_on="warning"),
    "crashed": lambda: report_of(toy("GK101", "vanishing-gradient", ValueError(NASTY)), PASSING, WARNING),
    "against a baseline": lambda: against_a_baseline(),  # noqa: PLW0108  # it is defined below
    "nothing ran": lambda: report_of(SKIPPING),
    "poisoned": lambda: report_of(
        toy(
            "GK101",
            "vanishing-gradient",
            finding(
                "fc",
                "The gradient is nan of the last layer's",
                evidence={"ratio": math.nan, "limit": math.inf, "all": [math.nan, None, -math.inf]},
                profile=tuple(Bar(str(v), "Linear", v) for v in (math.nan, math.inf, None, -math.inf, 0.0)),
            ),
        )
    ),
    "nasty": lambda: report_of(
        toy("ACME101", "foreign", finding(NASTY_NAME, NASTY, fixes=(NASTY,), profile=(Bar(NASTY, NASTY, 1.0),))),
        toy("GK107", "vanishing-through-time", Skip(NASTY)),
        name=NASTY_NAME,
        model=NASTY_NAME,
        sources=(SourceLine(NASTY_NAME, NASTY_NAME, 3),),
    ),
}


def report_of(*rules, fail_on="error", **header):
    return check(trace(training(), **{"sources": SOURCES, **header}), rules, seconds=4.2, fail_on=fail_on)


def against_a_baseline():
    """One finding is known, one ignored, one new and explained by the known one; an entry is stale."""
    report = report_of(
        toy("GK101", "vanishing-gradient", replace(VANISHING, known=True), explains=("GK205",)),
        toy("GK104", "dead-units"),
        WARNING,
    )
    known, ignored, new = report.outcomes
    return replace(
        report,
        outcomes=(known, replace(ignored, ignored=(finding("fc", "it is dead"),)), new),
        settings="pyproject.toml",
        baseline=Comparison("baseline.json", (Fingerprint("GK102", "exploding-gradient", ("fc",)),)),
    )


@pytest.fixture(params=REPORTS, ids=[name.replace(" ", "_") for name in REPORTS])
def report(request):
    """Each of them in turn."""
    return REPORTS[request.param]()


@pytest.fixture
def named():
    """One of them."""
    return lambda name: REPORTS[name]()


@pytest.fixture
def nasty():
    """A text with everything in it, the same as it may be shown, and a name of the kind."""
    return NASTY, SHOWN, NASTY_NAME, SHOWN_NAME
