"""What holds for the whole pack: its pages, its names, and that listing its rules imports no torch."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import gradcheck_kit_vision
import pytest
from gradcheck_kit_vision.rules import RULES

from gradcheck_kit.plugins import all_rules, load_plugins

SECTIONS = [
    "What it measures", "Why it matters", "How to fix it", "When it stays silent", "Options", "Explains", "References",
]  # fmt: skip
every_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)


def sections(rule):
    _, *parts = re.split(r"^## ", rule.page(), flags=re.MULTILINE)
    return {title.strip(): body.strip() for title, _, body in (part.partition("\n") for part in parts)}


def test_it_is_installed_with_its_rules_in_order():
    (own,) = [p for p in load_plugins() if p.name == "gradcheck-kit-vision"]
    assert [rule.code for rule in own.rules] == [f"GKV10{i}" for i in range(1, 7)]


@every_rule
def test_each_rule_has_a_page_of_every_section(rule):
    assert rule.page().startswith(f"# {rule.code} {rule.name}\n")
    assert list(sections(rule)) == SECTIONS
    assert max(map(len, rule.page().splitlines())) <= 100


@every_rule
def test_each_page_tells_the_options_and_their_defaults(rule):
    told = dict(re.findall(r"^- `([\w-]+)`, default ([\d.]+)", sections(rule)["Options"], flags=re.MULTILINE))
    assert {name: float(value.rstrip(".")) for name, value in told.items()} == {
        option.name: float(option.default) for option in rule.options
    }


@every_rule
def test_each_page_names_what_the_rule_explains(rule):
    known = {r.code: r.name for r in all_rules()}
    told = re.findall(r"^- (GKV?\d{3}) ([\w-]+)", sections(rule)["Explains"], flags=re.MULTILINE)
    assert {code for code, _ in told} == set(rule.explains)
    assert {code: name for code, name in told if code in known} == {c: known[c] for c, _ in told if c in known}


def imported(code):
    found = "sorted({n.split('.')[0] for n in sys.modules} & {'torch', 'torchvision', 'numpy', 'PIL'})"
    program = f"import sys\n{code}\nprint({found})"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()


def test_it_imports_no_torch_to_list_its_rules():
    assert imported("import gradcheck_kit_vision as v; v.gradcheck_rules()") == "[]"


def test_it_would_notice_torch():
    assert "torch" in imported("import gradcheck_kit_vision as v; v.gradcheck_experiments()")


def test_it_uses_only_what_a_plugin_may():
    public = {
        "gradcheck_kit", "gradcheck_kit.rule", "gradcheck_kit.facts", "gradcheck_kit.experiments",
        "gradcheck_kit.target.workspace",  # the type of a workspace, for annotations
    }  # fmt: skip
    source = "\n".join(p.read_text("utf-8") for p in Path(gradcheck_kit_vision.__file__).parent.rglob("*.py"))
    used = set(re.findall(r"from (gradcheck_kit(?:\.[\w.]+)?) import", source))
    assert used <= public
    assert ".prepared" not in source
