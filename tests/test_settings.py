"""[tool.gradcheck-kit]: where it is found, what it may say, and that the command line beats it."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from gradcheck_kit import cli, plugins
from gradcheck_kit.errors import PluginError, SettingsError
from gradcheck_kit.facts import Training
from gradcheck_kit.places import ignore
from gradcheck_kit.plugins import Plugin
from gradcheck_kit.report import check
from gradcheck_kit.rule import Finding, rule
from gradcheck_kit.rules import CATALOGUE
from gradcheck_kit.settings import Settings, apply, find, known_rules, load
from gradcheck_kit.target import ProbeSettings
from gradcheck_kit.testing import trace, training


@rule("GK101", needs=(Training,), explains=("GK104",))
def vanishing_gradient(training, *, ratio: float = 1.0):
    """The gradient shrinks."""
    if not training.last_loss <= ratio:
        yield Finding("encoder.0", f"{training.last_loss:.2g} is more than {ratio}", {}, ())


@rule("GK104", needs=(Training,), severity="warning")
def dead_units(training, *, units: int = 3, strict: bool = False, kind: str = "relu"):
    """Units are dead."""
    for place in training.optimizer.split("+")[1:]:
        first, *others = place.split("&")
        yield Finding(first, f"units of {place} are dead", {}, (), places=(first, *others) if others else ())


@rule("GK601", needs=(Training,))
def eval_accuracy(training, *, min_accuracy: float | None = None):
    """The accuracy is low."""
    if min_accuracy is not None and not training.last_loss <= 1 - min_accuracy:
        yield Finding("test data", f"at least {min_accuracy} is asked for", {}, ())


@rule("ACME101", needs=(Training,))
def acme_rule(training):
    """Never finds anything."""
    yield from ()


OWN = Plugin(plugins.BUILT_IN, "0.1.0", (vanishing_gradient, dead_units, eval_accuracy))
ACME = Plugin("acme-pack", "1", (replace(acme_rule, plugin="acme-pack"),))
RULES = (*OWN.rules, *ACME.rules)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty folder to work in, and two plugins."""

    def load_plugins(disabled=()):
        plugins_ = {p.name: p for p in (OWN, ACME)}
        if unknown := set(disabled) - plugins_.keys():
            raise plugins.UsageError(f"no plugin is called {min(unknown)}; there are: {', '.join(plugins_)}")
        return tuple(p for name, p in plugins_.items() if name not in disabled)

    monkeypatch.setattr(plugins, "load_plugins", load_plugins)
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def gradcheck_kit(capfd):
    def gradcheck_kit(*arguments):
        status = cli.run([str(a) for a in arguments])
        return status, *capfd.readouterr()

    return gradcheck_kit


@pytest.fixture
def asked(monkeypatch):
    """A stand-in for the probe; it holds what it was asked for."""
    asked = {}

    def scan_target(spec, settings, *, rules, options, fail_on, progress):
        asked.update(settings=settings, codes=[r.code for r in rules], options=options, fail_on=fail_on)
        return check(trace(seen()), rules, options=options, fail_on=fail_on)

    probe = ModuleType("gradcheck_kit.probe")
    probe.scan_target = scan_target
    monkeypatch.setitem(sys.modules, probe.__name__, probe)
    return asked


def seen(last=0.5, dead=""):
    return training(losses=(2.0,) * 30 + (last,) * 30, optimizer=f"SGD{dead}")


def write(text, path="pyproject.toml"):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text if "[tool." in text else f"[tool.gradcheck-kit]\n{text}\n")
    return Path(path).absolute()


def save(*facts):
    trace(*facts).save("t.jsonl")
    return "t.jsonl"


# ---- where it is ----


def test_it_finds_the_nearest_file_upwards_that_has_the_table(folder):
    outer = write("steps = 5")
    write("[tool.other]\nsteps = 7\n", "a/pyproject.toml")
    inner = write("", "b/pyproject.toml")
    (folder / "a" / "src").mkdir()
    (folder / "b" / "src").mkdir()
    assert [find(folder / "a" / "src"), find(folder / "b" / "src")] == [outer, inner]


def test_it_goes_up_from_where_a_path_leads(folder):
    write("", "a/b/pyproject.toml")
    (folder / "a" / "b" / "c").mkdir()
    assert find(folder / "a" / "b" / "..") is None
    assert find(folder / "a" / "b" / "c" / "..") == folder / "a" / "b" / "pyproject.toml"


def test_it_finds_nothing_where_there_is_nothing(folder):
    assert find(folder) is None
    write("[tool.other]\n")
    assert find(folder) is None
    assert find(folder / "no" / "such" / "folder") is None


def test_it_looks_from_the_targets_folder_and_for_modules_from_the_current_one(gradcheck_kit, asked):
    write("steps = 5", "here/pyproject.toml")
    write("steps = 7")
    Path("here/m.py").touch()
    steps = []
    for target in ("here/m.py", "here/m.py:net", "package.here:net", "torchvision:resnet18"):
        assert gradcheck_kit("scan", target)[0] == 0
        steps.append(asked["settings"].steps)
    assert steps == [5, 5, 7, 7]


def test_it_changes_nothing_where_no_file_has_the_table(gradcheck_kit, asked):
    write("[project]\nname = 'x'\n[tool.other]\nsteps = 3\n")
    status, out, err = gradcheck_kit("scan", "m.py")
    assert (status, err, asked["settings"], asked["options"]) == (0, "", ProbeSettings(), {})
    assert "settings" not in out


def test_it_is_left_out_when_asked(gradcheck_kit, asked):
    write("stepz = 5")
    assert gradcheck_kit("scan", "m.py", "--no-settings")[0] == 0
    assert asked["settings"] == ProbeSettings()


# ---- what it says ----


def test_it_reads_every_setting(folder):
    path = write("""
[tool.gradcheck-kit]
select = ["GK1"]
ignore = ["dead-units"]
extend-select = ["ACME"]
disable-plugins = []
fail-on = "warning"
baseline = "ci/known.json"
steps = 5
batch-size = 4
seed = 7
device = "cuda:1"
amp = "bf16"
data-dir = "data"
min-accuracy = 1

[tool.gradcheck-kit.rules.vanishing-gradient]
ratio = 2

[tool.gradcheck-kit.rules.GK104]
units = 4
strict = true
kind = "tanh"

[tool.gradcheck-kit.per-module-ignores]
"encoder.*" = ["GK104", "GK6"]
""")
    settings = load(path, RULES)
    assert settings == Settings(
        path=path, select=("GK1",), ignore=("dead-units",), extend_select=("ACME",), disable_plugins=(),
        fail_on="warning", baseline=folder / "ci" / "known.json", steps=5, batch_size=4, seed=7, device="cuda:1",
        amp="bf16", data_dir=folder / "data",
        options={
            "vanishing-gradient": {"ratio": 2.0},
            "dead-units": {"units": 4, "strict": True, "kind": "tanh"},
            "eval-accuracy": {"min-accuracy": 1.0},
        },
        per_module_ignores=(("encoder.*", ("GK104", "GK601")),),
    )  # fmt: skip
    assert type(settings.options["vanishing-gradient"]["ratio"]) is float


def test_it_takes_an_empty_table():
    path = write("")
    assert load(path, RULES) == Settings(path=path)


RULE = "[tool.gradcheck-kit.rules.{}]\n{}"
KEYS = (
    "select, ignore, extend-select, disable-plugins, fail-on, baseline, steps, batch-size, seed, device, amp, "
    "data-dir, min-accuracy, rules, per-module-ignores"
)
LIST = 'a list of codes, their beginnings or names, such as ["GK1", "dead-units"]'
LISTS = "`gradcheck-kit rules` lists them all"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("stepz = 3", "stepz is no setting; did you mean steps?"),
        ("batch_size = 3", "batch_size is no setting; did you mean batch-size?"),
        ("colour = 3", f"colour is no setting; there are: {KEYS}"),
        ("steps = 0", "steps is 0; it takes a whole number of at least 1, such as 60"),
        ("steps = 1.5", "steps is 1.5; it takes a whole number of at least 1, such as 60"),
        ("steps = true", "steps is true; it takes a whole number of at least 1, such as 60"),
        ("steps = '60'", 'steps is "60"; it takes a whole number of at least 1, such as 60'),
        ("batch-size = -1", "batch-size is -1; it takes a whole number of at least 1, such as 64"),
        ("seed = 4294967296", "seed is 4294967296; it takes a whole number from 0 to 4294967295"),
        ("device = 'gpu'", 'device is "gpu"; it takes "cpu", "cuda", "cuda:1", "mps" or "auto"'),
        ("amp = 'fp8'", 'amp is "fp8"; it takes "bf16" or "fp16"'),
        ("fail-on = 'all'", 'fail-on is "all"; it takes "error" or "warning"'),
        ("fail-on = ['error']", 'fail-on is ["error"]; it takes "error" or "warning"'),
        ("baseline = 3", 'baseline is 3; it takes a path, such as "gradcheck-baseline.json"'),
        ("baseline = ''", 'baseline is ""; it takes a path, such as "gradcheck-baseline.json"'),
        ("data-dir = []", 'data-dir is []; it takes a path, such as "data"'),
        ("min-accuracy = 80", "min-accuracy is 80; it takes a number from 0 to 1, such as 0.8"),
        ("min-accuracy = nan", "min-accuracy is NaN; it takes a number from 0 to 1, such as 0.8"),
        ("select = 'GK1'", f'select is "GK1"; it takes {LIST}'),
        ("select = [1]", f"select is [1]; it takes {LIST}"),
        ("ignore = ['']", f'ignore is [""]; it takes {LIST}'),
        ("disable-plugins = 'acme'", 'disable-plugins is "acme"; it takes a list of plugins, such as ["acme-pack"]'),
        ("disable-plugins = ['acme']",
         "disable-plugins: no plugin is called acme; there are: gradcheck-kit, acme-pack"),
        ("select = ['GK9']", f"select: the selector 'GK9' matches no rule; {LISTS}"),
        ("ignore = ['dead-unit']",
         f"ignore: the selector 'dead-unit' matches no rule; did you mean dead-units?; {LISTS}"),
        ("extend-select = ['NO']", f"extend-select: the selector 'NO' matches no rule; {LISTS}"),
        ("rules = 3", "rules is 3; it takes tables, such as [tool.gradcheck-kit.rules.dead-units]"),
        ("rules.dead-units = 3",
         "rules.dead-units is 3; make it a table of options: [tool.gradcheck-kit.rules.dead-units]"),
        (RULE.format("dead-unit", ""),
         f"rules.dead-unit: no rule is called 'dead-unit'; did you mean dead-units?; {LISTS}"),
        (RULE.format("vanishing-gradient", "ratoi = 1"),
         "rules.vanishing-gradient.ratoi is no option of GK101 vanishing-gradient; did you mean ratio?"),
        (RULE.format("dead-units", "share = 1"),
         "rules.dead-units.share is no option of GK104 dead-units; there are: units, strict, kind"),
        (RULE.format("acme-rule", "share = 1"),
         "rules.acme-rule.share is no option of ACME101 acme-rule; it has none"),
        (RULE.format("vanishing-gradient", "ratio = '1'"),
         'rules.vanishing-gradient.ratio is "1"; it takes a number, by default 1.0'),
        (RULE.format("vanishing-gradient", "ratio = true"),
         "rules.vanishing-gradient.ratio is true; it takes a number, by default 1.0"),
        (RULE.format("vanishing-gradient", "ratio = nan"),
         "rules.vanishing-gradient.ratio is NaN; it takes a number, by default 1.0"),
        (RULE.format("dead-units", "units = true"),
         "rules.dead-units.units is true; it takes a whole number, by default 3"),
        (RULE.format("dead-units", "units = 3.0"),
         "rules.dead-units.units is 3.0; it takes a whole number, by default 3"),
        (RULE.format("dead-units", "strict = 1"),
         "rules.dead-units.strict is 1; it takes true or false, by default false"),
        (RULE.format("dead-units", "kind = 1"), 'rules.dead-units.kind is 1; it takes a text, by default "relu"'),
        (RULE.format("eval-accuracy", "min-accuracy = [1]"),
         "rules.eval-accuracy.min-accuracy is [1]; it takes a number"),
        ("[tool.gradcheck-kit]\nmin-accuracy = 1\n" + RULE.format("eval-accuracy", "min-accuracy = 1"),
         "min-accuracy sets min-accuracy of GK601 eval-accuracy a second time; leave one of them out"),
        (RULE.format("GK104", "units = 1\n") + RULE.format("dead-units", "units = 2"),
         "rules.dead-units.units sets units of GK104 dead-units a second time; leave one of them out"),
        ("per-module-ignores = ['GK1']",
         'per-module-ignores is ["GK1"]; it takes a table of lines such as "encoder.*" = ["GK104"]'),
        ("per-module-ignores.'a.*' = 'GK104'", f'per-module-ignores."a.*" is "GK104"; it takes {LIST}'),
        ("per-module-ignores.'a.*' = ['GK9']",
         f"per-module-ignores.\"a.*\": the selector 'GK9' matches no rule; {LISTS}"),
    ],
)  # fmt: skip
def test_it_says_in_one_sentence_what_is_wrong(gradcheck_kit, asked, text, sentence):
    write(text)
    expected = (2, "", f"gradcheck-kit: error: pyproject.toml: tool.gradcheck-kit.{sentence}\n")
    assert gradcheck_kit("scan", "m.py") == expected
    assert gradcheck_kit("report", save(seen())) == expected
    assert gradcheck_kit("settings") == expected
    assert asked == {}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"[tool.gradcheck-kit]\nsteps = 3\nselect = [GK1]\n",
         "pyproject.toml is no valid TOML: Invalid value (at line 3, column 11); correct that line"),
        (b"[tool.gradcheck-kit]\nsteps = 3\nsteps = 4\n",
         "pyproject.toml is no valid TOML: Cannot overwrite a value (at line 3, column 10); correct that line"),
        (b"[project]\n# caf\xe9\n", "pyproject.toml is no valid TOML: line 2 is not UTF-8; save it as UTF-8"),
        (b"[tool]\ngradcheck-kit = 3\n",
         "pyproject.toml: tool.gradcheck-kit is 3; make it a table: [tool.gradcheck-kit]"),
        (b"[tool.gradcheck_kit]\nsteps = 3\n",
         "pyproject.toml: the table tool.gradcheck_kit is called tool.gradcheck-kit; rename it"),
    ],
)  # fmt: skip
def test_it_says_what_is_wrong_with_the_file_and_in_which_line(gradcheck_kit, asked, content, sentence):
    Path("pyproject.toml").write_bytes(content)
    assert gradcheck_kit("scan", "m.py") == (2, "", f"gradcheck-kit: error: {sentence}\n")
    assert asked == {}


def test_it_names_the_file_from_where_the_user_is(folder, monkeypatch):
    path = write("stepz = 3")
    (folder / "src").mkdir()
    monkeypatch.chdir(folder / "src")
    with pytest.raises(SettingsError, match=r"^\.\./pyproject\.toml: tool\.gradcheck-kit\.stepz is no setting"):
        load(path, RULES)


# ---- precedence ----


def test_it_beats_the_defaults(gradcheck_kit, asked, folder):
    write("""
[tool.gradcheck-kit]
steps = 5
batch-size = 4
seed = 7
device = "cuda:1"
amp = "bf16"
data-dir = "data"
select = ["GK1"]
ignore = ["GK104"]
extend-select = ["ACME"]
fail-on = "warning"
min-accuracy = 0.2
rules.vanishing-gradient.ratio = 3
""")
    gradcheck_kit("scan", "m.py")
    assert asked == {
        "settings": ProbeSettings(
            steps=5, batch_size=4, seed=7, device="cuda:1", amp="bf16", data_dir=str(folder / "data")
        ),
        "codes": ["ACME101", "GK101"],
        "options": {"vanishing-gradient": {"ratio": 3.0}, "eval-accuracy": {"min-accuracy": 0.2}},
        "fail_on": "warning",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("option", "typed"),
    [
        ("--steps 60", {"steps": 60}), ("--batch-size 8", {"batch_size": 8}), ("--seed 0", {"seed": 0}),
        ("--device cpu", {"device": "cpu"}), ("--amp fp16", {"amp": "fp16"}), ("--data-dir d", {"data_dir": "d"}),
    ],
)  # fmt: skip
def test_it_is_beaten_by_the_command_line_key_by_key(gradcheck_kit, asked, folder, option, typed):
    write("steps = 5\nbatch-size = 4\nseed = 7\ndevice = 'auto'\namp = 'bf16'\ndata-dir = 'data'")
    gradcheck_kit("scan", "m.py", *option.split())
    file = ProbeSettings(steps=5, batch_size=4, seed=7, device="auto", amp="bf16", data_dir=str(folder / "data"))
    assert asked["settings"] == replace(file, **typed)  # also where what was typed is the default


@pytest.mark.parametrize(
    ("file", "options", "codes"),
    [
        ("select = ['GK1']", "", ["GK101", "GK104"]),
        ("select = ['GK1']", "--select GK6", ["GK601"]),
        ("select = ['GK1']", "--extend-select GK6", ["GK101", "GK104", "GK601"]),
        ("select = ['GK1']", "--ignore GK104", ["GK101"]),
        ("select = []", "", []),
        ("ignore = ['GK1']", "", ["ACME101", "GK601"]),
        ("ignore = ['GK1']", "--ignore GK6", ["ACME101", "GK101", "GK104"]),
        ("ignore = ['GK1']", "--select GK1", ["GK101", "GK104"]),
        ("ignore = ['GK1']", "--select GK104", ["GK104"]),
        ("ignore = ['GK104']", "--select GK1", ["GK101"]),
        ("ignore = ['GK104']", "--select dead-units", ["GK104"]),
        ("ignore = ['dead-units']", "--extend-select gk104", ["ACME101", "GK101", "GK104", "GK601"]),
        ("extend-select = ['ACME']\nselect = ['GK6']", "", ["ACME101", "GK601"]),
        ("extend-select = ['ACME']\nselect = ['GK6']", "--select GK101", ["GK101"]),
        ("extend-select = ['ACME']\nselect = ['GK6']", "--extend-select GK101", ["GK101", "GK601"]),
        ("disable-plugins = ['acme-pack']", "", ["GK101", "GK104", "GK601"]),
        ("disable-plugins = ['acme-pack']", "--disable-plugin gradcheck-kit", ["ACME101"]),
    ],
)  # fmt: skip
def test_it_selects_rules_unless_the_command_line_does(gradcheck_kit, asked, file, options, codes):
    write(file)
    gradcheck_kit("scan", "m.py", *options.split())
    assert asked["codes"] == codes


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ("", {"vanishing-gradient": {"ratio": 3.0}, "dead-units": {"units": 1, "kind": "elu"}}),
        ("--set dead-units.units=2",
         {"vanishing-gradient": {"ratio": 3.0}, "dead-units": {"units": 2, "kind": "elu"}}),
    ],
)  # fmt: skip
def test_it_sets_the_options_of_rules_unless_the_command_line_does(gradcheck_kit, asked, options, expected):
    write("rules.vanishing-gradient.ratio = 3\nrules.dead-units = {units = 1, kind = 'elu'}")
    gradcheck_kit("scan", "m.py", *options.split())
    assert asked["options"] == expected


@pytest.mark.parametrize(
    ("options", "accuracy"),
    [("", 0.2), ("--set eval-accuracy.min-accuracy=0.3", 0.3), ("--min-accuracy 0.4", 0.4)],
)
def test_it_asks_for_an_accuracy_unless_the_command_line_does(gradcheck_kit, asked, options, accuracy):
    write("min-accuracy = 0.2")
    gradcheck_kit("scan", "m.py", *options.split())
    assert asked["options"] == {"eval-accuracy": {"min-accuracy": accuracy}}


def test_it_asks_for_no_accuracy_where_nothing_judges_one(gradcheck_kit, asked):
    write("min-accuracy = 0.2")
    assert gradcheck_kit("scan", "m.py", "--select", "GK1")[0] == 0
    assert gradcheck_kit("scan", "m.py", "--disable-plugin", "gradcheck-kit")[0] == 0


@pytest.mark.parametrize(("options", "status"), [("", 1), ("--fail-on error", 0), ("--fail-on warning", 1)])
def test_it_fails_on_warnings_unless_the_command_line_does_not(gradcheck_kit, options, status):
    write("fail-on = 'warning'")
    assert gradcheck_kit("report", save(seen(dead="+encoder.1")), *options.split())[0] == status


def test_it_is_not_read_by_scan_in_python():
    import torch

    from gradcheck_kit import scan

    write("stepz = 3")
    data = [(torch.zeros(4, 2), torch.zeros(4, dtype=torch.long))]
    report = scan(torch.nn.Linear(2, 2), data, steps=2, select=["GK101"])
    assert (report.settings, report.baseline, report.trace.header.steps) == ("", None, 2)


def test_it_leaves_out_a_plugin_that_does_not_load(gradcheck_kit, asked, monkeypatch):
    def load_plugins(disabled=()):
        if "acme-pack" not in disabled:
            raise PluginError("plugin acme-pack does not load", "acme-pack")
        return (OWN,)

    monkeypatch.setattr(plugins, "load_plugins", load_plugins)
    assert gradcheck_kit("scan", "m.py")[0] == 2
    write("disable-plugins = ['acme-pack']")
    assert gradcheck_kit("scan", "m.py")[0] == 0


# ---- per-module-ignores ----


def ignored(dead, *patterns, code="GK104"):
    """The places of what is left, and the status."""
    report = check(trace(seen(dead=dead)), [dead_units])
    (outcome,) = ignore(report, [(pattern, (code,)) for pattern in patterns]).outcomes
    return [f.where for f in outcome.findings], outcome.status


@pytest.mark.parametrize(
    ("dead", "patterns", "left"),
    [
        ("+encoder.1", ["encoder.*"], []),
        ("+encoder.1+head", ["encoder.*"], ["head"]),
        ("+encoder", ["encoder.*"], ["encoder"]),
        ("+encoder", ["encoder"], []),
        ("+encoder.1+encoder.10", ["encoder.?"], ["encoder.10"]),
        ("+Encoder.1", ["encoder.*"], ["Encoder.1"]),
        ("+blocks[0]", ["blocks[0]"], []),
        ("+relu in encoder.1 (model.py:31)", ["encoder.*"], []),
        ("+relu in encoder.1 (model.py:31)", ["decoder.*"], ["relu in encoder.1 (model.py:31)"]),
        ("+encoder.1&head", ["encoder.*"], ["encoder.1"]),
        ("+encoder.1&head", ["encoder.*", "head"], []),
        ("+encoder.1&encoder.2", ["encoder.*"], []),
        ("+", ["encoder.*"], [""]),
        ("+", ["*"], []),
    ],
)
def test_it_leaves_out_findings_in_ignored_modules(dead, patterns, left):
    assert ignored(dead, *patterns) == (left, "warned" if left else "passed")


def test_it_ignores_only_the_rules_it_names():
    assert ignored("+encoder.1", "encoder.*", code="GK101") == (["encoder.1"], "warned")


def test_it_takes_the_severity_of_what_is_left():
    def two(training):
        """Finds two."""
        yield Finding("encoder.1", "bad", {}, (), "error")
        yield Finding("head", "odd", {}, (), "warning")

    report = check(trace(seen()), [rule("GK105", needs=(Training,))(two)])
    assert report.outcomes[0].status == "failed"
    assert ignore(report, [("encoder.*", ("GK105",))]).outcomes[0].status == "warned"


def test_it_says_that_findings_were_ignored(gradcheck_kit):
    write("per-module-ignores.'encoder.*' = ['GK1']")
    path = save(seen(last=3.0, dead="+encoder.1+head"))
    status, out, _ = gradcheck_kit("report", path)
    assert status == 0
    assert "\nsettings pyproject.toml; 2 findings ignored\n" in out
    assert "\nGK1 gradient flow   iw\n" in out
    assert "\nexplained by GK101 vanishing-gradient, which is ignored\n" in out
    assert out.splitlines()[-1].startswith("1 warned, 1 ignored, 2 passed in ")
    verbose = gradcheck_kit("report", path, "-v")[1]
    assert "\nignored  GK101 vanishing-gradient at encoder.0: 3 is more than 1.0\n" in verbose
    assert "\nignored  GK104 dead-units at encoder.1: units of encoder.1 are dead\n" in verbose
    report = json.loads(gradcheck_kit("report", path, "--format", "json")[1])
    assert (report["settings"], report["summary"]["ignored"]) == ("pyproject.toml", 2)
    assert {o["code"]: [f["where"] for f in o.get("ignored", ())] for o in report["outcomes"]} == {
        "ACME101": [], "GK101": ["encoder.0"], "GK104": ["encoder.1"], "GK601": [],
    }  # fmt: skip


def test_it_gives_a_verdict_where_all_that_was_found_is_ignored(gradcheck_kit):
    write("per-module-ignores.'*' = ['GK101']")
    assert gradcheck_kit("report", save(seen(last=3.0)), "--select", "GK101")[0] == 0


# ---- from Python, and to be shown ----


def test_it_is_used_without_the_command_line(folder):
    write("baseline = 'known.json'\nper-module-ignores.'encoder.*' = ['GK104']")
    (folder / "known.json").write_text(
        '{"format": "gradcheck-kit baseline", "schema": 1, "targets": {"model.py:model": '
        '[{"code": "GK101", "rule": "vanishing-gradient", "places": ["encoder.0"]}]}}'
    )
    path = find(folder)
    rules = known_rules(path)
    settings = load(path, rules)
    report = apply(check(trace(seen(last=3.0, dead="+encoder.1")), rules), settings)
    assert (report.passed, report.set_aside) == (True, {"known": 1, "ignored": 1})


def test_it_shows_what_is_in_force_and_where_it_comes_from(gradcheck_kit, folder):
    write("""
[tool.gradcheck-kit]
select = ["GK1", "GK6"]
ignore = []
steps = 5
baseline = "ci/known.json"
min-accuracy = 0.5
rules.dead-units.strict = true
per-module-ignores."encoder.*" = ["GK1"]
""", "project/pyproject.toml")  # fmt: skip
    Path("project/m.py").touch()
    assert gradcheck_kit("settings", "project/m.py:net") == (
        0,
        """settings of project/m.py:net: project/pyproject.toml

setting                           from                    value
--------------------------------  ----------------------  ---------------------
select                            project/pyproject.toml  GK1, GK6
ignore                            project/pyproject.toml  (none)
extend-select                     default                 (not set)
disable-plugins                   default                 (not set)
fail-on                           default                 error
baseline                          project/pyproject.toml  project/ci/known.json
steps                             project/pyproject.toml  5
batch-size                        default                 (not set)
seed                              default                 0
device                            default                 cpu
amp                               default                 (not set)
data-dir                          default                 (not set)
per-module-ignores."encoder.*"    project/pyproject.toml  GK101, GK104
rules.dead-units.strict           project/pyproject.toml  true
rules.eval-accuracy.min-accuracy  project/pyproject.toml  0.5
""",
        "",
    )


def test_it_shows_the_defaults_where_there_is_no_file(gradcheck_kit):
    status, out, err = gradcheck_kit("settings")
    assert (status, err) == (0, "")
    assert out.startswith("settings: none, for no pyproject.toml here or above has [tool.gradcheck-kit]\n\nsetting ")
    assert "pyproject" not in out.split("\n", 1)[1]


def test_it_may_set_any_option_of_any_rule():
    """Every default that a rule has is a value that the file may give."""
    lines = [
        f"rules.{rule.name}.{option.name} = {json.dumps(option.default)}"
        for rule in CATALOGUE
        for option in rule.options
        if option.default is not None
    ]
    assert len(lines) > 10
    options = load(write("\n".join(lines)), CATALOGUE).options
    assert all(options[r.name][o.name] == o.default for r in CATALOGUE for o in r.options if o.default is not None)
