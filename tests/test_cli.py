"""The command line: what it prints, where, and its exit status. The probe is a stand-in: nothing here needs torch."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

import pytest

from gradcheck_kit import cli, plugins
from gradcheck_kit.errors import PluginError, TargetError
from gradcheck_kit.facts import Evaluation, Training
from gradcheck_kit.plugins import Plugin
from gradcheck_kit.report import check
from gradcheck_kit.rule import Finding, Skip, rule
from gradcheck_kit.target import ProbeSettings
from gradcheck_kit.testing import evaluation, trace, training

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True, slots=True)
class Homemade:
    """A plugin's fact."""

    value: float


@rule("GK101", needs=(Training,))
def falling_loss(training, *, least: float = 1.0):
    """The loss ends high. It should not."""
    if not training.last_loss <= least:
        yield Finding("head", f"the loss of the head ends at {training.last_loss:.2g}", {}, ("Train the head.",))


@rule("GK102", needs=(Training,), severity="warning")
def short_run(training):
    """The run is short: longer ones tell more."""
    if len(training.losses) < 20:
        yield Finding("", "only a few steps", {}, ())


@rule("GK601", needs=(Evaluation,))
def eval_accuracy(evaluation, *, min_accuracy: float | None = None):
    """The accuracy is low."""
    if evaluation.accuracy is None:
        raise Skip("no accuracy")
    if min_accuracy is not None and not evaluation.accuracy >= min_accuracy:
        yield Finding("", f"the accuracy is {evaluation.accuracy}, at least {min_accuracy} is asked for", {}, ())


@rule("ACME101", needs=(Training,))
def acme_rule(training):
    """Never finds anything, and says so at such length that the line must wrap somewhere before its end."""
    yield from ()


@rule("ACME102", needs=(Training,))
def acme_crash(training):
    """Crashes."""
    raise RuntimeError("no such layer")
    yield


OWN = Plugin(plugins.BUILT_IN, "0.1.0", (falling_loss, short_run, eval_accuracy))
ACME = Plugin("acme-pack", "0.10", (replace(acme_rule, plugin="acme-pack"),))
HEALTHY = (training(), evaluation())
HIGH = (training(losses=(2.0,) * 60), evaluation())
SHORT = (training(losses=(0.5,) * 6), evaluation())


@pytest.fixture(autouse=True)
def _installed(monkeypatch):
    install(monkeypatch, OWN)
    monkeypatch.delenv("COLUMNS", raising=False)


def install(monkeypatch, *loaded):
    monkeypatch.setattr(plugins, "load_plugins", lambda disabled=(): tuple(p for p in loaded if p.name not in disabled))


@pytest.fixture
def gradcheck_kit(capfd):
    """Run a command line; return its status, stdout and stderr."""

    def gradcheck_kit(*arguments):
        status = cli.run([str(a) for a in arguments])
        return status, *capfd.readouterr()

    return gradcheck_kit


@pytest.fixture
def save(tmp_path):
    def save(*facts, **header):
        path = tmp_path / "t.jsonl"
        trace(*facts, **header).save(path)
        return path

    return save


@pytest.fixture
def probe(monkeypatch):
    """A stand-in for the probe: it sees these facts, and keeps what it was asked."""

    def probe(*facts, action=lambda: None):
        asked = {}

        def scan_target(spec, settings, *, rules, options, fail_on, progress):
            asked.update(spec=spec, settings=settings, rules=rules, options=options, progress=progress)
            action()
            return check(trace(*facts), rules, options=options, fail_on=fail_on, seconds=1.0)

        module = ModuleType("gradcheck_kit.probe")
        module.scan_target = scan_target
        monkeypatch.setitem(sys.modules, "gradcheck_kit.probe", module)
        return asked

    return probe


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder to work in, with a model in it."""
    (tmp_path / "m.py").write_text("model")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def raising(error):
    def action():
        raise error

    return action


# ---- no command ----


def test_it_prints_help_when_bare(gradcheck_kit):
    status, out, err = gradcheck_kit()
    assert (status, err) == (0, "")
    assert out == gradcheck_kit("--help")[1]
    assert all(command in out for command in ("scan", "report", "rules", "explain", "plugins"))


def test_it_prints_its_version(gradcheck_kit):
    assert gradcheck_kit("--version") == (0, "gradcheck-kit, version 0.1.0\n", "")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["scann"], "no such command 'scann'. Did you mean 'scan'? See gradcheck-kit --help"),
        (["model.py"], "model.py is no command; to probe it: gradcheck-kit scan model.py"),
        (["--stpes"], "see gradcheck-kit --help"),
        (["scan"], "missing argument 'TARGET'; see gradcheck-kit scan --help"),
        (["scan", "m.py", "--stepz", "3"], "no such option '--stepz'"),
        (["scan", "m.py", "--steps", "0"], "invalid value for '--steps': 0 is not in the range x>=1; see"),
        (["scan", "m.py", "--steps", "many"], "invalid value for '--steps': 'many' is not a valid integer"),
        (["scan", "m.py", "--batch-size", "0"], "invalid value for '--batch-size': 0 is not in the range x>=1"),
        (["scan", "m.py", "--classes", "0"], "invalid value for '--classes': 0 is not in the range x>=1"),
        (["scan", "m.py", "--lr", "0"], "invalid value for '--lr': 0.0 is not in the range x>0"),
        (["scan", "m.py", "--lr", "nan"], "invalid value for '--lr': nan is not a finite number"),
        (["scan", "m.py", "--lr", "inf"], "invalid value for '--lr': inf is not a finite number"),
        (["scan", "m.py", "--min-accuracy", "90"], "'--min-accuracy': 90.0 is not in the range 0<=x<=1"),
        (["scan", "m.py", "--device", "gpu"], "'gpu' is no device; use cpu, cuda, cuda:1, mps or auto"),
        (["scan", "m.py", "--optimizer", "lion"], "'lion' is not one of 'sgd', 'adam', 'adamw'"),
        (["scan", "m.py", "--input", "3xq"], "'3xq' is no shape; write it without the batch, such as 3x224x224 or 20"),
        (["scan", "m.py", "--input", "3x0"], "'3x0' is no shape"),
        (["scan", "m.py", "--input", ""], "'' is no shape"),
        (["scan", "m.py", "--select", ","], "a selector is empty; use codes or names such as GK1,vanishing-gradient"),
        (["scan", "m.py", "--select", "GK9"], "the selector 'GK9' matches no rule"),
        (["scan", "m.py", "--set", "falling-loss.most=1"], "falling-loss has no option 'most'; its options: least"),
        (["scan", "m.py", "--format", "xml"], "there is no format 'xml'; use one of github, json, junit, "),
        (["explain", "falling-los"], "no rule is called 'falling-los'; did you mean falling-loss?"),
        (["report", "nowhere"], "cannot read the trace nowhere: No such file or directory"),
    ],
)  # fmt: skip
def test_it_says_in_one_sentence_what_is_wrong_and_exits_2(gradcheck_kit, probe, arguments, sentence):
    asked = probe(*HEALTHY)
    status, out, err = gradcheck_kit(*arguments)
    assert (status, out, asked) == (2, "", {})
    assert err.startswith("gradcheck-kit: error: ")
    assert sentence in err
    assert err.count("\n") == 1


# ---- scan ----


def test_it_asks_the_probe_for_what_was_typed(gradcheck_kit, probe):
    asked = probe(*HEALTHY)
    status, _, err = gradcheck_kit(
        "scan", "m.py:net", "--steps", 5, "--batch-size", 4, "--seed", 7, "--device", "cuda:1", "--lr", 0.1,
        "--optimizer", "sgd", "--data", "digits", "--data-dir", "/d", "--classes", 3, "--quick",
        "--input", "3x224x224", "--input", "20", "--input", "3,8, 8",
        "--set", "falling-loss.least=0.5", "--min-accuracy", 0.25,
    )  # fmt: skip
    assert (status, err) == (0, "")
    assert asked["spec"] == "m.py:net"
    assert asked["settings"] == ProbeSettings(
        steps=5, batch_size=4, seed=7, device="cuda:1", lr=0.1, optimizer="sgd", data="digits", data_dir="/d",
        input_shape=((3, 224, 224), (20,), (3, 8, 8)), classes=3, quick=True,
    )  # fmt: skip
    assert asked["options"] == {"falling-loss": {"least": 0.5}, "eval-accuracy": {"min-accuracy": 0.25}}
    assert asked["progress"] is None


def test_it_asks_for_the_defaults_when_nothing_was_typed(gradcheck_kit, probe):
    asked = probe(*HEALTHY)
    gradcheck_kit("scan", "m.py")
    assert (asked["settings"], asked["options"]) == (ProbeSettings(), {})


@pytest.mark.parametrize(
    ("facts", "options", "status"),
    [
        (HEALTHY, [], 0),
        (HIGH, [], 1),
        (HIGH, ["--exit-zero"], 0),
        (HIGH, ["--ignore", "GK101"], 0),
        (HIGH, ["--set", "GK101.least=3"], 0),
        (HIGH, ["--select", "GK102,short-run"], 0),
        (HIGH, ["--select", "GK102", "--select", "falling-loss"], 1),
        (HIGH, ["--select", "GK102", "--extend-select", "GK101"], 1),
        (SHORT, [], 0),
        (SHORT, ["--fail-on", "warning"], 1),
        (SHORT, ["--fail-on", "warning", "--exit-zero"], 0),
        (HEALTHY, ["--min-accuracy", "0.9"], 0),
        (HEALTHY, ["--min-accuracy", "0.91"], 1),
        ((), [], 2),
        ((), ["--exit-zero"], 2),
        (HEALTHY, ["--select", "GK101", "--ignore", "GK101"], 2),
    ],
)
def test_it_exits_as_the_contract_says(gradcheck_kit, probe, facts, options, status):
    probe(*facts)
    assert gradcheck_kit("scan", "m.py", *options)[0] == status


def test_it_exits_2_when_a_rule_crashed_whatever_the_others_say(gradcheck_kit, save, monkeypatch):
    install(monkeypatch, OWN, Plugin("acme-pack", "1", (replace(acme_crash, plugin="acme-pack"),)))
    status, out, err = gradcheck_kit("report", save(*HIGH), "--exit-zero")
    assert (status, err) == (2, "")
    assert "rule acme-crash of acme-pack crashed: RuntimeError: no such layer" in out
    assert "---- GK101 falling-loss" in out


def test_it_refuses_a_minimal_accuracy_that_nothing_would_judge(gradcheck_kit, probe):
    probe(*HEALTHY)
    status, _, err = gradcheck_kit("scan", "m.py", "--min-accuracy", "0.5", "--select", "GK1")
    assert status == 2
    assert err == (
        "gradcheck-kit: error: --min-accuracy is judged by eval-accuracy, which is not selected; "
        "add --extend-select eval-accuracy\n"
    )


# ---- where things go ----


def test_it_keeps_stdout_for_the_report_also_when_the_users_code_prints(gradcheck_kit, probe):
    def chatter():
        print("epoch 1")
        os.write(1, b"from C\n")
        subprocess.run(["echo", "from a worker"])

    probe(*HIGH, action=chatter)
    status, out, err = gradcheck_kit("scan", "m.py", "--format", "json")
    assert status == 1
    assert json.loads(out)["summary"]["failed"] == 1
    assert set(err.splitlines()) == {"epoch 1", "from C", "from a worker"}


def test_it_writes_the_report_to_a_file_and_nothing_to_stdout(gradcheck_kit, save, tmp_path):
    path = tmp_path / "report.json"
    assert gradcheck_kit("report", save(*HIGH), "--format", "json", "-o", path) == (1, "", "")
    assert json.loads(path.read_text())["causes"] == [{"code": "GK101", "rule": "falling-loss"}]


def test_it_takes_a_dash_for_stdout(gradcheck_kit, save):
    path = save(*HEALTHY)
    assert json.loads(gradcheck_kit("report", path, "--format", "json", "-o", "-")[1])["schema"] == 1


def test_it_tells_why_there_is_no_verdict_where_the_report_is_for_machines(gradcheck_kit, save):
    _, out, err = gradcheck_kit("report", save(), "--format", "json")
    assert json.loads(out)["summary"]["skipped"] == 3
    assert err == "gradcheck-kit: no verdict: no rule ran; -v says why\n"


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        ("-o missing/f", "the folder of -o missing/f does not exist; create it first: mkdir -p missing"),
        ("--save missing/f", "the folder of --save missing/f does not exist; create it first: mkdir -p missing"),
        ("-o .", "-o . is a folder; name a file in it"),
        ("--save .", "--save . is a folder; name a file in it"),
        ("-o m.py", "-o m.py would overwrite what is examined; choose another file"),
        ("--save m.py", "--save m.py would overwrite what is examined; choose another file"),
    ],
)
def test_it_finds_out_before_the_probe_that_a_file_cannot_be_written(gradcheck_kit, probe, project, output, sentence):
    asked = probe(*HEALTHY)
    assert gradcheck_kit("scan", "m.py:net", *output.split()) == (2, "", f"gradcheck-kit: error: {sentence}\n")
    assert asked == {}
    assert (project / "m.py").read_text() == "model"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that nobody can write to")
def test_it_finds_out_before_the_probe_that_a_folder_is_not_writable(gradcheck_kit, probe):
    asked = probe(*HEALTHY)
    status, _, err = gradcheck_kit("scan", "m.py", "-o", "/proc/report.txt")
    assert (status, asked) == (2, {})
    assert err.startswith("gradcheck-kit: error: cannot write -o /proc/report.txt: ")


def test_it_refuses_one_file_for_trace_and_report(gradcheck_kit, probe, tmp_path):
    probe(*HEALTHY)
    status, _, err = gradcheck_kit("scan", "m.py", "-o", tmp_path / "x", "--save", tmp_path / "x")
    assert status == 2
    assert "a trace and a report need a file each" in err


def test_it_reports_from_a_saved_trace_what_scan_reported(gradcheck_kit, probe, tmp_path):
    probe(*HIGH)
    path = tmp_path / "t.jsonl"
    status, out, _ = gradcheck_kit("scan", "m.py", "--save", path)
    again = gradcheck_kit("report", path)
    assert again[0] == status == 1
    assert again[1].splitlines()[:-1] == out.splitlines()[:-1]


def test_it_reads_a_plugins_facts_from_a_trace(gradcheck_kit, save, monkeypatch):
    def check(homemade):
        """Finds."""
        yield Finding("", f"homemade {homemade.value}", {}, ())

    install(monkeypatch, Plugin("acme", "1", (rule("ACME101", needs=(Homemade,))(check),)))
    assert "homemade 1.5" in gradcheck_kit("report", save(Homemade(1.5)))[1]


def test_it_prints_only_what_failed_when_quiet(gradcheck_kit, save):
    out = gradcheck_kit("report", save(*HIGH), "-q")[1]
    assert out.startswith("---- GK101 falling-loss")
    assert gradcheck_kit("report", save(*HEALTHY), "-q")[1].startswith("3 passed in ")


def test_it_gives_reasons_of_skips_when_verbose(gradcheck_kit, save):
    assert (
        "skipped  GK601 eval-accuracy: Evaluation was not recorded"
        in gradcheck_kit("report", save(training()), "-v")[1]
    )


# ---- when something goes wrong ----


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (TargetError("m.py has no model;\n  add one"), "error: m.py has no model; add one"),
        (KeyboardInterrupt(), "interrupted; nothing was judged"),
        (KeyboardInterrupt("stopped in step 3"), "stopped in step 3"),
        (ValueError("odd"), "internal error: ValueError: odd; run again with -v and report it"),
        (AssertionError(), "internal error: AssertionError; run again with -v and report it"),
        (SystemExit(0), "error: code of the target or a plugin called sys.exit(0)"),
        (BrokenPipeError(), "error: a pipe that the target's code writes to was closed while it ran"),
    ],
)  # fmt: skip
def test_it_exits_2_with_one_line_whatever_happens(gradcheck_kit, probe, error, sentence):
    probe(*HEALTHY, action=raising(error))
    assert gradcheck_kit("scan", "m.py", "--exit-zero") == (2, "", f"gradcheck-kit: {sentence}\n")


def test_it_shows_a_traceback_only_when_verbose(gradcheck_kit, probe):
    probe(*HEALTHY, action=raising(TargetError("no model")))
    err = gradcheck_kit("scan", "m.py", "-v")[2]
    assert err.startswith("Traceback")
    assert err.endswith("\ngradcheck-kit: error: no model\n")


# ---- rules, explain, plugins ----


def test_it_lists_the_rules_in_80_columns(gradcheck_kit, monkeypatch):
    install(monkeypatch, OWN, ACME)
    status, out, err = gradcheck_kit("rules")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split() == ["code", "name", "severity", "plugin", "finds"]
    assert max(map(len, lines)) <= 80
    assert any(line.split() == ["GK101", "falling-loss", "error", "The", "loss", "ends", "high"] for line in lines)
    assert any(line.startswith("ACME101  acme-rule      error       acme-pack  Never finds") for line in lines)


def test_it_has_no_column_for_plugins_where_there_are_none(gradcheck_kit):
    assert gradcheck_kit("rules")[1].splitlines()[0].split() == ["code", "name", "severity", "finds"]


def test_it_leaves_out_the_rules_of_a_disabled_plugin(gradcheck_kit, monkeypatch):
    install(monkeypatch, OWN, ACME)
    assert "ACME101" not in gradcheck_kit("rules", "--disable-plugin", "acme-pack")[1]


def test_it_explains_a_rule_with_its_options_and_defaults(gradcheck_kit):
    status, out, _ = gradcheck_kit("explain", "gk601")
    assert status == 0
    assert out.startswith("# GK601 eval-accuracy\n\nThe accuracy is low.")
    assert out.endswith(
        "Severity: error.\nOptions and their defaults:\n\n    --set eval-accuracy.min-accuracy=FLOAT   (not set)\n"
    )
    assert "    --set falling-loss.least=1.0\n" in gradcheck_kit("explain", "falling-loss")[1]


def test_it_says_whose_rule_it_explains(gradcheck_kit, monkeypatch):
    install(monkeypatch, OWN, ACME)
    assert "\nPlugin: acme-pack.\n" in gradcheck_kit("explain", "ACME101")[1]


def test_it_lists_plugins_with_versions_and_rules(gradcheck_kit, monkeypatch):
    install(monkeypatch, OWN, ACME)
    status, out, _ = gradcheck_kit("plugins")
    assert status == 0
    assert out.splitlines()[2].split() == ["gradcheck-kit", "0.1.0", "3", "rules:", "GK101", "GK102", "GK601"]
    assert out.splitlines()[3].split() == ["acme-pack", "0.10", "1", "rule:", "ACME101"]


def test_it_lists_the_plugins_that_load_beside_those_that_do_not(gradcheck_kit, monkeypatch):
    def load(disabled=()):
        for name in ("broken", "worse"):
            if name not in disabled:
                raise PluginError(f"plugin {name} does not load", name)
        return (OWN,)

    monkeypatch.setattr(plugins, "load_plugins", load)
    status, out, err = gradcheck_kit("plugins")
    assert status == 2
    assert "gradcheck-kit  0.1.0" in out
    assert (
        err == "gradcheck-kit: error: plugin broken does not load\ngradcheck-kit: error: plugin worse does not load\n"
    )


# ---- the terminal ----

PROGRAM = """
import sys
sys.path.insert(0, {tests!r})
from types import ModuleType
import test_cli as t
probe = ModuleType("gradcheck_kit.probe")
def scan_target(spec, settings, *, rules, options, fail_on, progress):
    if progress:
        progress("training", 30, 60)
    return t.check(t.trace(*t.HIGH, name={name!r}), rules, seconds=1.0)
probe.scan_target = scan_target
sys.modules[probe.__name__] = probe
t.plugins.load_plugins = lambda disabled=(): (t.OWN,)
t.cli.main()
"""


def program(name="m.py"):
    return [sys.executable, "-c", PROGRAM.format(tests=str(Path(__file__).parent), name=name), "scan", "m.py"]


def on_terminal(monkeypatch, **environment):
    """What a person sees who runs a scan in a terminal, stdout and stderr together."""
    for name, value in {"TERM": "xterm", "NO_COLOR": "", **environment}.items():
        monkeypatch.setenv(name, value)
    master, slave = pty.openpty()
    process = subprocess.Popen(program(), cwd=ROOT, stdout=slave, stderr=slave, stdin=slave)
    os.close(slave)
    seen = b""
    try:
        while chunk := os.read(master, 4096):
            seen += chunk
    except OSError:  # how Linux says that the other side has closed
        pass
    os.close(master)
    assert process.wait() == 1
    return seen.decode()


def test_it_draws_progress_and_colour_for_a_person_and_wipes_the_progress(monkeypatch):
    seen = on_terminal(monkeypatch)
    before, _, after = seen.partition("training")
    assert before == "\r"
    assert "[###############               ] 30/60" in after
    assert " \rgradcheck-kit 0.1.0" in after
    assert "\x1b[31m" in after


def test_it_honours_no_color(monkeypatch):
    assert "\x1b" not in on_terminal(monkeypatch, NO_COLOR="1")


def test_it_draws_neither_in_a_pipe():
    result = subprocess.run(program(), cwd=ROOT, capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (1, "")
    assert "\x1b" not in result.stdout
    assert "\r" not in result.stdout


def test_it_prints_any_name_on_an_ascii_stdout(monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    result = subprocess.run(program("modèle.py"), cwd=ROOT, capture_output=True)
    assert result.returncode == 1
    assert b"mod\\xe8le.py" in result.stdout


def test_it_keeps_its_verdict_when_the_reader_leaves_early():
    reader, writer = os.pipe()
    os.close(reader)
    result = subprocess.run(program(), cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (result.returncode, result.stderr) == (1, "")


def test_it_is_the_same_command_as_a_module():
    result = subprocess.run(
        [sys.executable, "-m", "gradcheck_kit", "--version"], cwd=ROOT, capture_output=True, text=True
    )
    assert (result.returncode, result.stdout) == (0, "gradcheck-kit, version 0.1.0\n")
