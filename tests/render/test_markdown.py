"""Markdown, read back by a CommonMark parser: the user's text is text, whatever it contains."""

from __future__ import annotations

import pytest
from markdown_it import MarkdownIt

from gradcheck_kit.render import FORMATS
from gradcheck_kit.render.markdown import code, escaped, fenced


def tokens(text):
    return MarkdownIt("commonmark").enable("table").parse(text)


def inline(token):
    """The text of a block as it is shown."""
    shown = []
    for child in token.children or ():
        if child.type == "html_inline":
            assert child.content == "<br>"
            shown.append("\n")
        else:
            assert child.type in {"text", "text_special", "code_inline", "softbreak"}, child
            shown.append(child.content)
    return "".join(shown)


def plain(text):
    """The paragraphs of a text that shall have no markup."""
    (block,) = [token for token in tokens(text) if token.type == "inline"]
    return inline(block)


def blocks(report):
    found = tokens(FORMATS["markdown"](report))
    assert {t.content for t in found if t.type == "html_block" if "<summary>" not in t.content} <= {"</details>\n"}
    return found


def headings(report):
    found = blocks(report)
    return [inline(found[i + 1]) for i, token in enumerate(found) if token.type == "heading_open"]


def test_it_is_the_same_every_time(report):
    assert FORMATS["markdown"](report) == FORMATS["markdown"](report)


def test_every_rule_is_a_row_of_three_cells(report):
    found = blocks(report)
    rows = sum(token.type == "tr_open" for token in found)
    cells = sum(token.type in ("td_open", "th_open") for token in found)
    assert (rows, cells) == (1 + len(report.outcomes), 3 * rows)


def test_what_is_folded_is_closed(report):
    text = FORMATS["markdown"](report)
    assert text.count("<details><summary>") == sum("</details>" in t.content for t in blocks(report)) > 0


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("healthy", ["gradcheck-kit: passed"]),
        ("sick", ["gradcheck-kit: failed", "GK101 vanishing-gradient"]),
        ("warned", ["gradcheck-kit: passed", "GK205 loss-not-decreasing (warning)"]),
        ("warned, which fails", ["gradcheck-kit: failed", "GK205 loss-not-decreasing (warning)"]),
        ("nothing ran", ["gradcheck-kit: no verdict"]),
        (
            "crashed",
            ["gradcheck-kit: no verdict", "GK101 vanishing-gradient (crashed)", "GK205 loss-not-decreasing (warning)"],
        ),
    ],
)
def test_it_has_a_verdict_and_a_section_for_each_cause(named, name, expected):
    assert headings(named(name)) == expected


def test_a_section_has_place_profile_and_fixes(named):
    text = FORMATS["markdown"](named("sick"))
    assert "`fc.weight`, `net/model.py:7`: The gradient at the first layers" in text
    assert "```text\n   fc  Linear   1.2e-09  |##" in text
    assert "\n1. Replace Sigmoid by ReLU.\n2. Or put BatchNorm1d(64) before it.\n" in text
    assert "<details><summary>2 explained by this</summary>" in text
    assert "- GK205 loss-not-decreasing: the value is 3 (explained by GK101 vanishing-gradient)" in text


def test_any_text_is_text(nasty):
    raw, shown, _, _ = nasty
    lines = [line.replace("    ", "\xa0\xa0\xa0\xa0") if line.startswith(" ") else line for line in shown.split("\n")]
    assert plain(escaped(raw)).replace("\u200b", "") == "\n".join(lines)
    (row,) = [t for t in tokens("| a |\n|---|\n| " + escaped(raw) + " |") if t.type == "td_open"]
    assert row


@pytest.mark.parametrize(
    "text", ["# no heading", "- no list", "+ x", "=====", "3) no list", "> x", "~~~", "    no code", "---", "*", ":a:"]
)
def test_no_first_character_is_markup(text):
    assert plain(escaped(text)) == text.strip()
    found = tokens("before\n\n" + escaped(text))
    assert [t.type for t in found if t.type.endswith("_open")] == ["paragraph_open"] * 2


def test_it_mentions_nobody():
    assert "@user" not in escaped("ask @user")


@pytest.mark.parametrize("text", ["a`b", "``", "`a`", " x ", "a\nb"])
def test_any_name_fits_into_a_code_span(text):
    assert plain(code(text)).strip() == text.replace("\n", " ").strip()


def test_no_line_ends_a_block_of_code():
    (block,) = tokens(fenced(["```", "~~~~", "a\n```\nb", "`````"]))
    assert (block.type, block.content) == ("fence", "```\n~~~~\na ``` b\n`````\n")


def test_nothing_of_the_users_is_markup_in_a_report(named, nasty):
    _, shown, _, shown_name = nasty
    shown_texts = [inline(token).replace("\u200b", "") for token in blocks(named("nasty")) if token.type == "inline"]
    assert any(text.startswith(shown_name) and shown.split("\n", 1)[0] in text for text in shown_texts)
