"""Baselines: what is known does not fail, what is new does, from any folder and with any seed."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from types import ModuleType

import pytest

from gradcheck_kit import baseline, cli, plugins
from gradcheck_kit.baseline import Baseline, compare, load, save, target_key, updated
from gradcheck_kit.errors import BaselineError
from gradcheck_kit.facts import Training
from gradcheck_kit.places import all_places
from gradcheck_kit.plugins import Plugin
from gradcheck_kit.report import Fingerprint, check
from gradcheck_kit.rule import Finding, Skip, rule
from gradcheck_kit.rules.dead_units import dead_units as real_dead_units
from gradcheck_kit.rules.duplicate_batches import duplicate_batches
from gradcheck_kit.rules.non_finite import non_finite
from gradcheck_kit.rules.saturated_activation import saturated_activation
from gradcheck_kit.testing import activation, apply, data_summary, flat, trace, training
from gradcheck_kit.testing import non_finite as origin


@rule("GK101", needs=(Training,), explains=("GK205",))
def vanishing_gradient(training):
    """The gradient shrinks."""
    if training.first_loss > 1:
        yield Finding("0", f"the gradient is {training.first_loss / 1e6:.3g} of its size", {}, ())


@rule("GK104", needs=(Training,))
def dead_units(training):
    """Units are dead."""
    for place in training.optimizer.split("+")[1:]:
        yield Finding(place, f"{training.last_loss:.0%} of the units of {place} are dead", {}, (), "warning")


@rule("GK205", needs=(Training,))
def loss_not_decreasing(training):
    """The loss stays."""
    if training.last_loss > 1:
        yield Finding("loss", f"the loss stays at {training.last_loss:.3g}", {}, ("Lower it.",))


@rule("GK601", needs=(Training,))
def eval_accuracy(training):
    """Never looked at."""
    raise Skip("there is no test data")
    yield


RULES = (vanishing_gradient, dead_units, loss_not_decreasing, eval_accuracy)
KNOWN = "gradcheck-baseline.json"


def seen(first=2.0, last=2.0, dead=""):
    return training(losses=(first,) * 30 + (last,) * 30, optimizer=f"SGD{dead}")


def report_of(facts=None, *, name="model.py:model", rules=RULES, **settings):
    return check(trace(facts or seen(), name=name), rules, **settings)


def known_from(report, path=Path(KNOWN)):
    return updated(Baseline(path), report)


def codes(outcomes):
    return [o.rule.code for o in outcomes]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr(plugins, "load_plugins", lambda disabled=(): (Plugin(plugins.BUILT_IN, "0.1.0", RULES),))
    return tmp_path


@pytest.fixture
def gradcheck_kit(capfd):
    def gradcheck_kit(*arguments):
        status = cli.run([str(a) for a in arguments])
        return status, *capfd.readouterr()

    return gradcheck_kit


@pytest.fixture
def saved(folder):
    """A trace in a file, anew with each call."""

    def saved(facts=None, name="model.py:model"):
        trace(facts or seen(), name=name).save(folder / "t.jsonl")
        return "t.jsonl"

    return saved


# ---- what a baseline does to a report ----


def test_it_passes_what_is_known():
    report = compare(report_of(), known_from(report_of()))
    assert (report.exit_status, report.passed, report.failed, report.causes) == (0, True, (), ())
    assert [f.known for o in report.outcomes for f in o.findings] == [True, True]


def test_it_fails_what_is_new_beside_what_is_known():
    report = compare(report_of(), known_from(report_of(seen(last=0.5))))
    assert report.exit_status == 1
    assert codes(report.failed) == codes(report.causes) == ["GK205"]
    assert codes(o for o in report.outcomes if o.silenced == "known") == ["GK101"]


def test_it_fails_a_new_place_beside_a_known_one():
    report = compare(report_of(seen(dead="+1+3"), fail_on="warning"), known_from(report_of(seen(dead="+1"))))
    (dead,) = (o for o in report.outcomes if o.rule.code == "GK104")
    assert (dead.status, [f.where for f in dead.new], [f.where for f in dead.known]) == ("warned", ["3"], ["1"])
    assert report.exit_status == 1


def test_it_knows_a_finding_by_its_place_and_never_by_a_number():
    other = seen(first=3.3, last=2.7, dead="+1")
    assert known_from(report_of(other)) == known_from(report_of(seen(dead="+1")))
    assert compare(report_of(other), known_from(report_of(seen(dead="+1")))).set_aside["known"] == 3


def test_it_knows_a_finding_of_one_target_only():
    report = compare(report_of(name="model.py:other"), known_from(report_of()))
    assert report.exit_status == 1
    assert report.baseline.stale == ()


def test_it_counts_an_entry_for_one_finding():
    def check_twice(training):
        """Finds two things in one place."""
        yield Finding("forward", "the first", {}, ())
        if training.last_loss > 1:
            yield Finding("forward", "the second", {}, ())

    twice = rule("GK701", needs=(Training,))(check_twice)
    once = known_from(report_of(seen(last=0.5), rules=(twice,)))
    assert len(compare(report_of(rules=(twice,)), once).outcomes[0].new) == 1
    assert compare(report_of(rules=(twice,)), known_from(report_of(rules=(twice,)))).exit_status == 0


def test_it_tells_which_entries_are_stale():
    report = compare(report_of(seen(last=0.5)), known_from(report_of()))
    assert report.baseline.stale == (Fingerprint("GK205", "loss-not-decreasing", ("loss",)),)
    assert report.exit_status == 0


def test_it_calls_no_entry_stale_whose_rule_did_not_run():
    known = Baseline(Path(KNOWN), {"model.py:model": (
        Fingerprint("GK601", "eval-accuracy", ("test data",)), Fingerprint("ACME101", "acme-rule", ("0",)),
    )})  # fmt: skip
    assert compare(report_of(), known).baseline.stale == ()


def test_it_stays_without_a_verdict_where_there_is_none():
    report = report_of(rules=(eval_accuracy,))
    assert compare(report, known_from(report)).exit_status == 2


def test_it_keeps_what_the_rules_that_did_not_run_have():
    known = known_from(report_of())
    again = updated(known, report_of(seen(last=0.5), rules=(loss_not_decreasing,)))
    assert [e.code for e in again.targets["model.py:model"]] == ["GK101"]


# ---- places that differ by chance ----


def dead_training(*shares, **settings):
    activations = tuple(activation(f"{2 * i + 1}", dead_share=share, **settings) for i, share in enumerate(shares))
    return training(activations=activations, losses=flat())


def matches(rule, before, after):
    """Whether a baseline of the first run knows the finding of the second."""
    known = updated(Baseline(Path(KNOWN)), check(trace(before), [rule]))
    report = compare(check(trace(after), [rule]), known)
    assert report.outcomes[0].findings
    return report.set_aside["known"] == 1


def test_it_knows_dead_units_whichever_layer_is_the_worst():
    assert matches(real_dead_units, dead_training(0.9, 0.8), dead_training(0.8, 0.9))
    assert matches(real_dead_units, dead_training(0.9, 0.8), dead_training(0.1, 0.9))
    assert not matches(real_dead_units, dead_training(0.9, 0.1), dead_training(0.1, 0.9))


def test_it_knows_a_saturated_activation_whichever_is_the_worst():
    def run(*shares):
        return training(
            losses=flat(),
            activations=tuple(
                activation(f"{i}", "tanh", dead_share=None, saturated_share=share, saturated_share_at_start=share)
                for i, share in enumerate(shares)
            ),
        )

    assert matches(saturated_activation, run(0.9, 0.8), run(0.8, 0.9))


def test_it_knows_a_run_that_diverges_whichever_layer_overflows_first():
    def run(**changes):
        return training(losses=(*flat(steps=3), math.nan), non_finite=origin(**changes))

    assert matches(non_finite, run(where="2"), run(where="4"))
    assert matches(non_finite, run(where="2"), run(where="", kind="loss"))
    assert not matches(non_finite, run(where="2", step=0, earliest=0), run(where="4", step=0, earliest=0))


def test_it_knows_a_function_whichever_line_it_stands_in():
    def place(line):
        return all_places(Finding(f"relu in forward (model.py:{line})", "", {}, ()))

    assert place(9) == place(31) == ("relu in forward",)


def test_it_knows_data_whichever_size_it_has():
    def run(size):
        return data_summary(
            source=f"train_loader: {size:,} samples in batches of 64", workers_repeat=True, order="stream"
        )

    assert [f.where for f in apply(duplicate_batches, run(2048))] == ["train_loader"]
    assert matches(duplicate_batches, run(2048), run(4096))


# ---- the target's name ----


def test_it_names_a_target_from_the_baselines_folder(folder, monkeypatch):
    (folder / "src" / "deep").mkdir(parents=True)
    (folder / "src" / "m.py").touch()
    names = [target_key("src/m.py:net", folder), target_key(f"{folder}/src/m.py:net", folder)]
    names.append(target_key("./src/../src/m.py:net", folder))
    monkeypatch.chdir(folder / "src")
    names.append(target_key("m.py:net", folder))
    monkeypatch.chdir(folder / "src" / "deep")
    names += [target_key("../m.py:net", folder), target_key("src/m.py:net", folder)]
    assert set(names) == {"src/m.py:net"}


@pytest.mark.parametrize("name", ["torchvision:resnet18", "package.models:build", "Sequential", "gone/model.py:model"])
def test_it_leaves_a_name_that_is_no_file_here(folder, name):
    assert target_key(name, folder) == name


def test_it_goes_up_to_a_file_beside_its_own_folder(folder):
    (folder / "ci").mkdir()
    (folder / "m.py").touch()
    assert target_key("m.py:net", folder / "ci") == "../m.py:net"


# ---- the file ----


def test_it_writes_a_file_to_be_read_and_compared():
    report = report_of(seen(dead="+10+2"))
    known = updated(updated(Baseline(Path(KNOWN)), report), report_of(name="zoo.vit:build", facts=seen(last=0.1)))
    save(known)
    assert (
        Path(KNOWN).read_text()
        == """{
  "format": "gradcheck-kit baseline",
  "schema": 1,
  "targets": {
    "model.py:model": [
      {"code": "GK101", "rule": "vanishing-gradient", "places": ["0"]},
      {"code": "GK104", "rule": "dead-units", "places": ["10"]},
      {"code": "GK104", "rule": "dead-units", "places": ["2"]},
      {"code": "GK205", "rule": "loss-not-decreasing", "places": ["loss"]}
    ],
    "zoo.vit:build": [
      {"code": "GK101", "rule": "vanishing-gradient", "places": ["0"]}
    ]
  }
}
"""
    )
    assert load(Path(KNOWN)) == known


def test_it_writes_any_name_as_it_is_read():
    for name in ("modèle.py:model", "m \udce9.py:model", 'a "b".py:model'):
        known = known_from(report_of(name=name))
        save(known)
        assert load(Path(KNOWN)) == known
    save(known_from(report_of(name="modèle.py:model")))
    assert "modèle.py:model" in Path(KNOWN).read_text("utf-8")


def test_it_reads_back_a_file_without_targets():
    save(updated(Baseline(Path(KNOWN)), report_of(seen(0.1, 0.1))))
    assert json.loads(Path(KNOWN).read_text())["targets"] == {}
    assert load(Path(KNOWN)).targets == {}


def test_it_leaves_the_old_file_when_it_cannot_write(monkeypatch):
    save(known_from(report_of()))
    before = Path(KNOWN).read_text()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(baseline, "write_atomically", full)
    with pytest.raises(BaselineError, match=r"^cannot write the baseline gradcheck-baseline\.json: No space left"):
        save(known_from(report_of(seen(last=0.1))))
    assert Path(KNOWN).read_text() == before


HEAD = '{"format": "gradcheck-kit baseline", "schema": 1, "targets": '
MEND = "; mend it, or delete it and write it again with --write-baseline b.json"
FOREIGN = "b.json is no baseline of gradcheck-kit; name a file that --write-baseline wrote, or a new one"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "there is no baseline b.json; write it with --write-baseline b.json"),
        ("", FOREIGN),
        ("[project]", FOREIGN),
        ("{}", FOREIGN),
        ("[]", FOREIGN),
        (b"\xff\xfe", FOREIGN),
        (HEAD, "the baseline b.json is damaged: Expecting value: line 1 column 62 (char 61)" + MEND),
        (HEAD + "[]}", "the baseline b.json is damaged: 'list' object has no attribute 'items'" + MEND),
        (HEAD + '{"m.py": {}, "m.py": {}}}', "the baseline b.json is damaged: 'm.py' is there twice" + MEND),
        (HEAD + '{"m.py": [{"code": "GK101"}]}}', "the baseline b.json is damaged: 'rule' is missing" + MEND),
        (HEAD + '{"m.py": [{"code": 1, "rule": "a", "places": ["0"]}]}}',
         "the baseline b.json is damaged: 1 is no rule's code" + MEND),
        (HEAD + '{"m.py": [{"code": "GK101", "rule": "a", "places": "0"}]}}',
         "the baseline b.json is damaged: the places of GK101 are no list of texts" + MEND),
        ('{"format": "gradcheck-kit baseline", "targets": {}}',
         "the baseline b.json is damaged: it has no schema" + MEND),
        (HEAD.replace("1", "2") + "{}}",
         "b.json has baseline schema 2, this version reads up to 1; update gradcheck-kit: "
         "pip install -U gradcheck-kit"),
    ],
)  # fmt: skip
def test_it_says_in_one_sentence_what_is_wrong_with_a_file(gradcheck_kit, saved, content, sentence):
    if content is not None:
        Path("b.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    expected = (2, "", f"gradcheck-kit: error: {sentence}\n")
    assert gradcheck_kit("report", saved(), "--baseline", "b.json") == expected
    if content is not None:  # nor is it replaced
        assert gradcheck_kit("report", saved(), "--write-baseline", "b.json") == expected


# ---- the command ----


def test_it_writes_a_baseline_and_exits_0_and_then_knows(gradcheck_kit, saved):
    assert gradcheck_kit("report", saved())[0] == 1
    status, out, err = gradcheck_kit("report", saved(), "--write-baseline", KNOWN)
    assert (status, err) == (0, f"gradcheck-kit: wrote 2 findings of model.py:model to {KNOWN}\n")
    again = gradcheck_kit("report", saved(), "--baseline", KNOWN)
    assert again[0] == 0
    assert again[1].splitlines()[:-1] == out.splitlines()[:-1]


def test_it_shows_what_is_known_and_stale_in_the_text(gradcheck_kit, saved):
    gradcheck_kit("report", saved(seen(dead="+1")), "--write-baseline", KNOWN)
    out = gradcheck_kit("report", saved(seen(last=0.9)), "--baseline", KNOWN)[1]
    assert f"baseline {KNOWN}: 1 known, 2 stale\n" in out
    assert "GK1 gradient flow   k.\n" in out
    assert "known  GK101 vanishing-gradient at 0: the gradient is 2e-06 of its size\n" in out
    assert "stale  GK104 dead-units at 1: no longer found\n" in out
    assert f"       --write-baseline {KNOWN} leaves out what is stale\n" in out
    assert "----" not in out
    assert out.splitlines()[-1].startswith("1 known, 2 passed, 1 skipped in 0.0 s")
    assert out.endswith("no new findings\n")


def test_it_says_that_a_new_finding_has_a_known_cause(gradcheck_kit, saved):
    gradcheck_kit("report", saved(seen(last=0.5)), "--write-baseline", KNOWN)
    status, out, _ = gradcheck_kit("report", saved(), "--baseline", KNOWN)
    assert status == 1
    assert "\nexplained by GK101 vanishing-gradient, which is known\n" in out
    assert out.endswith("GK205 loss-not-decreasing\n")
    report = json.loads(gradcheck_kit("report", saved(), "--baseline", KNOWN, "--format", "json")[1])
    (outcome,) = (o for o in report["outcomes"] if o["status"] == "failed")
    assert outcome["explained_by"] == [{"code": "GK101", "rule": "vanishing-gradient", "findings": "known"}]


def test_it_marks_known_findings_in_json_and_only_those(gradcheck_kit, saved):
    gradcheck_kit("report", saved(seen(last=0.5, dead="+1")), "--write-baseline", KNOWN)
    status, out, err = gradcheck_kit("report", saved(), "--baseline", KNOWN, "--format", "json")
    report = json.loads(out)
    assert status == 1
    assert {o["code"]: [f.get("known") for f in o["findings"]] for o in report["outcomes"]} == {
        "GK101": [True], "GK104": [], "GK205": [None], "GK601": [],
    }  # fmt: skip
    stale = {"code": "GK104", "rule": "dead-units", "places": ["1"]}
    assert report["baseline"] == {"path": KNOWN, "stale": [stale]}
    assert (report["summary"]["known"], report["summary"]["failed"], report["causes"][0]["code"]) == (1, 1, "GK205")
    assert err == f"gradcheck-kit: stale in {KNOWN}: GK104 dead-units at 1\n"


def test_it_says_nothing_of_baselines_where_there_is_none(gradcheck_kit, saved):
    report = json.loads(gradcheck_kit("report", saved(), "--format", "json")[1])
    assert {"baseline", "settings"} & report.keys() == set()
    assert {"known", "ignored"} & report["summary"].keys() == set()
    assert all("known" not in f for o in report["outcomes"] for f in o["findings"])
    assert "baseline" not in gradcheck_kit("report", saved())[1]


def test_it_writes_no_baseline_without_a_verdict(gradcheck_kit, saved):
    status, _, err = gradcheck_kit("report", saved(), "--select", "GK601", "--write-baseline", KNOWN)
    assert (status, err) == (2, f"gradcheck-kit: {KNOWN} is not written: there is no verdict\n")
    assert not Path(KNOWN).exists()


def test_it_keeps_the_entries_of_other_targets(gradcheck_kit, saved):
    gradcheck_kit("report", saved(), "--write-baseline", KNOWN)
    gradcheck_kit("report", saved(name="other.py:model"), "--write-baseline", KNOWN)
    gradcheck_kit("report", saved(seen(0.1, 0.1), name="other.py:model"), "--write-baseline", KNOWN)
    assert list(load(Path(KNOWN)).targets) == ["model.py:model"]
    assert gradcheck_kit("report", saved(), "--baseline", KNOWN)[0] == 0
    assert gradcheck_kit("report", saved(name="other.py:model"), "--baseline", KNOWN)[0] == 1


def test_it_reads_the_baseline_that_the_settings_name_from_their_folder(gradcheck_kit, saved, folder, monkeypatch):
    Path("pyproject.toml").write_text('[tool.gradcheck-kit]\nbaseline = "ci/known.json"\n')
    status, _, err = gradcheck_kit("report", saved())
    assert (status, err.split(";")[0]) == (2, "gradcheck-kit: error: there is no baseline ci/known.json")
    Path("ci").mkdir()
    Path("model.py").touch()
    assert gradcheck_kit("report", saved(), "--write-baseline", "ci/known.json")[0] == 0
    (folder / "src").mkdir()
    monkeypatch.chdir(folder / "src")
    assert gradcheck_kit("report", folder / "t.jsonl")[0] == 0
    assert gradcheck_kit("report", folder / "t.jsonl", "--no-settings")[0] == 1
    save(Baseline(folder / "none.json"))
    assert gradcheck_kit("report", folder / "t.jsonl", "--baseline", folder / "none.json")[0] == 1


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("--baseline b --write-baseline b",
         "--baseline and --write-baseline are two things; write first, then compare"),
        ("--write-baseline .", "--write-baseline . is a folder; name a file in it"),
        ("--write-baseline no/b",
         "the folder of --write-baseline no/b does not exist; create it first: mkdir -p no"),
        ("--write-baseline m.py", "--write-baseline m.py would overwrite what is examined; choose another file"),
        ("--write-baseline b -o b", "--write-baseline and -o are both b; a baseline and a report need a file each"),
        ("--write-baseline b --save b",
         "--save and --write-baseline are both b; a trace and a baseline need a file each"),
        ("--baseline b", "there is no baseline b; write it with --write-baseline b"),
        ("--baseline .", "the baseline . is no file; name a file that --write-baseline wrote"),
        ("--baseline k.json -o k.json", "-o k.json would overwrite what is examined; choose another file"),
        ("--baseline k.json --save k.json", "--save k.json would overwrite what is examined; choose another file"),
    ],
)  # fmt: skip
def test_it_finds_out_before_the_probe_what_will_not_do(gradcheck_kit, monkeypatch, options, sentence):
    probe = ModuleType("gradcheck_kit.probe")
    probe.scan_target = None  # whoever calls it crashes
    monkeypatch.setitem(sys.modules, probe.__name__, probe)
    Path("m.py").touch()
    save(Baseline(Path("k.json")))
    assert gradcheck_kit("scan", "m.py:net", *options.split()) == (2, "", f"gradcheck-kit: error: {sentence}\n")


# ---- for real ----

BROKEN = """
import torch
from torch import nn

model = nn.Sequential(*(layer for _ in range(9) for layer in (nn.Linear(16, 16), nn.Sigmoid())), nn.Linear(16, 2))
x = torch.randn(256, 16)
train_data = [(x[i : i + 64], (x[i : i + 64, 0] > 0).long()) for i in range(0, 256, 64)]
optimizer = torch.optim.SGD(model.parameters(), 0.1)
"""


def test_it_writes_the_same_file_with_another_seed_and_from_another_folder(capfd, folder, monkeypatch):
    monkeypatch.undo()
    (folder / "src").mkdir()
    (folder / "src" / "deep.py").write_text(BROKEN)
    scan = ["scan", "--select", "GK101,GK104,GK205", "--steps", "20"]
    monkeypatch.chdir(folder)
    assert cli.run([*scan, "src/deep.py", "--write-baseline", "known.json"]) == 0
    first = Path("known.json").read_text()
    assert "GK101" in first
    monkeypatch.chdir(folder / "src")
    assert cli.run([*scan, "deep.py", "--seed", "5", "--baseline", "../known.json"]) == 0
    assert cli.run([*scan, "deep.py", "--seed", "5", "--write-baseline", "../known.json"]) == 0
    assert (folder / "known.json").read_text() == first
    assert {path.name for path in folder.iterdir()} == {"known.json", "src"}
    assert "error" not in capfd.readouterr().err
