"""The pytest plugin, as a user's own pytest run sees it: each scenario is one run, of which several things are said.

Runs that probe are processes of their own: torch does not survive being imported twice in one.
"""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ET
from itertools import pairwise
from pathlib import Path

import pytest
from _pytest.assertion.rewrite import AssertionRewriter

import gradcheck_kit

pytest_plugins = ["pytester"]
ROOT = Path(__file__).parent.parent

BROKEN = """
from pathlib import Path
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

with Path("loaded.txt").open("a") as file:
    file.write("loaded\\n")
torch.manual_seed(0)
x = torch.randn(256, 16)
train_loader = DataLoader(TensorDataset(x, x[:, :4].argmax(1)), 32, shuffle=True)
model = nn.Sequential(*[m for _ in range(9) for m in (nn.Linear(16, 16), nn.Sigmoid())], nn.Linear(16, 4))
loss_fn = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
"""
HEALTHY = """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

def parts():
    torch.manual_seed(0)
    x = torch.randn(256, 16)
    loader = DataLoader(TensorDataset(x, x[:, :4].argmax(1)), 32, shuffle=True)
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
    return model, loader, torch.optim.Adam(model.parameters(), lr=3e-3)

model, train_loader, optimizer = parts()
loss_fn = nn.CrossEntropyLoss()
"""
NO_TORCH_YET = """
import sys
def pytest_collection_finish():
    found = sorted(name for name in sys.modules if name.split(".")[0] in ("torch", "numpy"))
    print("while collecting:", found or "no torch")
"""
STRICT = ("-W", "error", "--strict-markers", "--strict-config")


def lines_with(result, *words):
    return [line for line in result.outlines if all(word in line for word in words)]


def summary(result):
    return result.parseoutcomes()


# ---- a test per rule ---------------------------------------------------------------------------------------------


@pytest.fixture
def models(pytester):
    pytester.makepyfile(**{"models/broken": BROKEN, "models/healthy": HEALTHY})
    pytester.makeconftest(NO_TORCH_YET)
    pytester.makepyfile(test_other="def test_nothing():\n    pass")
    return pytester


def test_a_model_file_is_a_test_per_rule_of_one_probe(models):
    arguments = ("--gradcheck", "models/broken.py", "-v", "-s", "-p", "no:randomly", *STRICT, "--junit-xml=j.xml")
    first = models.runpytest_subprocess(*arguments, "-rs", "--deselect", "models/broken.py::gradcheck::GK7")

    assert lines_with(first, "while collecting: no torch")
    assert lines_with(first, "models/broken.py::gradcheck::GK101-vanishing-gradient FAILED")
    assert lines_with(first, "models/broken.py::gradcheck::GK102-exploding-gradient PASSED")
    assert lines_with(first, "SKIPPED", "models/broken.py:1: the model has no recurrent layer")
    assert not lines_with(first, "GK7", "::")
    assert not lines_with(first, "test_nothing")
    assert (models.path / "loaded.txt").read_text() == "loaded\n"

    text = first.stdout.str()
    block = text.partition(" GK101 vanishing-gradient (models/broken.py) __")[2].partition("\n_____")[0]
    assert "The gradient at the first layers" in block
    assert "fix  1. Replace Sigmoid by ReLU in 1, 3, 5" in block
    assert "more     gradcheck-kit explain GK101" in block
    assert "cause    GK101 vanishing-gradient explains this: mend that first" in text
    assert lines_with(first, "cause", "models/broken.py: GK101 vanishing-gradient, which explains ")
    assert lines_with(first, "warning", "models/broken.py: GK205 loss-not-decreasing: ", "(explained by GK101)")
    assert "Traceback" not in text

    cases = {case.get("name"): case for case in ET.parse(models.path / "j.xml").iter("testcase")}
    assert cases["GK101-vanishing-gradient"].get("classname") == "models.broken.gradcheck"
    assert "The gradient at the first layers" in cases["GK101-vanishing-gradient"].find("failure").text
    assert cases["GK107-vanishing-through-time"].find("skipped") is not None

    again = models.runpytest_subprocess(*arguments[:2], "--lf", "-x", "-p", "no:randomly")
    assert summary(again)["failed"] == 1
    assert "skipped" not in summary(again)
    assert lines_with(again, "run-last-failure: rerun previous")


def test_workers_and_other_plugins_agree_with_it(models):
    models.makeini("""
        [pytest]
        gradcheck_files = models/*.py
        gradcheck_steps = 20
        gradcheck_select = GK1,GK2
        timeout = 300
    """)
    result = models.runpytest_subprocess(
        *STRICT, "-n2", "--dist=loadscope", "-v", "-p", "randomly", "--cov=models", "--cov-report=term"
    )
    assert summary(result)["failed"] >= 1
    assert not result.parseoutcomes().get("errors")
    assert lines_with(result, "FAILED", "models/broken.py::gradcheck::GK101-vanishing-gradient")
    assert lines_with(result, "PASSED", "models/healthy.py::gradcheck::GK102-exploding-gradient")
    assert lines_with(result, "PASSED", "test_other.py::test_nothing")
    assert lines_with(result, "cause", "models/broken.py: GK101 vanishing-gradient")
    assert lines_with(result, "models/broken.py", "100%")  # coverage saw the file being loaded
    assert (models.path / "loaded.txt").read_text() == "loaded\n"  # one worker has all tests of a model


def test_a_warning_passes_and_is_told_unless_it_shall_fail(models):
    arguments = ("--gradcheck", "models/broken.py", "--gradcheck-select", "loss-not-decreasing", "-p", "no:randomly")
    told = models.runpytest_subprocess(*arguments)
    assert summary(told) == {"passed": 1}
    assert lines_with(told, "warning", "models/broken.py: GK205 loss-not-decreasing: ")
    failed = models.runpytest_subprocess(*arguments, "--gradcheck-fail-on=warning", "--gradcheck-steps=20")
    assert summary(failed) == {"failed": 1}
    assert lines_with(failed, "Over 20 steps")


def test_a_model_that_does_not_load_is_one_error_with_one_sentence(models):
    models.makepyfile(**{"models/broken": "import torch\nmodel = torch.nn.Linear(3, 'four')\n"})
    result = models.runpytest_subprocess("--gradcheck", "models/broken.py", "-rs", "-p", "no:randomly")
    assert summary(result)["errors"] == 1
    assert not {"failed", "passed"} & summary(result).keys()
    assert len(lines_with(result, "models/broken.py:2 raises TypeError: ")) == 2  # once, and in the short summary
    assert lines_with(result, "SKIPPED", "not probed: models/broken.py:2 raises TypeError")
    assert "Traceback" not in result.stdout.str()


def test_findings_of_the_baseline_are_expected_and_pyproject_is_heard(models):
    models.makepyprojecttoml("""
        [tool.gradcheck-kit]
        select = ["GK101", "GK103", "GK205"]
        steps = 20
        [tool.gradcheck-kit.per-module-ignores]
        "loss" = ["GK205"]
    """)
    models.makepyfile(test_deep=DEEP)
    options = ("--gradcheck=models/broken.py", "test_deep.py", "-rfx", "-p", "no:randomly", "-p", "no:xdist")
    baseline = "--gradcheck-baseline=known.json"
    refused = models.runpytest_subprocess(*options, baseline)
    assert refused.ret == pytest.ExitCode.USAGE_ERROR
    assert "there is no baseline known.json; write it with --gradcheck-update-baseline" in refused.stderr.str()

    written = models.runpytest_subprocess(*options, baseline, "--gradcheck-update-baseline")
    assert summary(written) == {"passed": 3, "xfailed": 1}
    assert lines_with(written, "baseline", "wrote 1 finding of models/broken.py:model to known.json")
    assert lines_with(written, "baseline", "wrote 1 finding of test_deep.py::test_learns to known.json")

    text = (models.path / "known.json").read_text()
    (models.path / "known.json").write_text(text.replace("test_deep.py::test_learns", "elsewhere"))
    compared = models.runpytest_subprocess(*options, baseline)
    assert summary(compared) == {"passed": 2, "xfailed": 1, "failed": 1}
    assert lines_with(compared, "XFAIL", "known: GK101 vanishing-gradient: The gradient at the first layers")
    assert lines_with(compared, "FAILED test_deep.py::test_learns - Failed: Sequential: ")


DEEP = """
from torch import nn

def test_learns(gradcheck_scan):
    layers = [m for _ in range(9) for m in (nn.Linear(16, 16), nn.Sigmoid())]
    gradcheck_scan(nn.Sequential(*layers, nn.Linear(16, 4)), input_shape=(16,))
"""


def test_models_in_two_folders_import_each_the_file_beside_it(pytester):
    for folder in ("one", "two"):
        pytester.makepyfile(**{
            f"{folder}/layers": f"from torch import nn\nclass Layer{folder}(nn.Linear):\n    pass",
            f"{folder}/model": f"from layers import Layer{folder}\nmodel = Layer{folder}(3, 2)",
        })  # fmt: skip
    pytester.makeini("[pytest]\ngradcheck_files = */model.py\ngradcheck_select = GK103\ngradcheck_steps = 3")
    assert summary(pytester.runpytest_subprocess("-p", "no:randomly")) == {"passed": 2}


CRASHING = """
from gradcheck_kit import Finding, hookimpl, rule
from gradcheck_kit.facts import Training

@rule("AC101", needs=(Training,))
def falling_apart(training):
    \"\"\"Crashes.\"\"\"
    yield Finding(training.no_such_thing, "", {}, ())

@hookimpl
def gradcheck_rules():
    return [falling_apart]
"""


def test_a_rule_that_crashes_fails_alone_and_its_plugin_is_named(models):
    models.makepyfile(acme_rules=CRASHING)
    models.mkdir("acme-1.0.dist-info")
    (models.path / "acme-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (models.path / "acme-1.0.dist-info" / "entry_points.txt").write_text("[gradcheck_kit]\nacme = acme_rules\n")
    result = models.runpytest_subprocess(
        "--gradcheck",
        "models/healthy.py",
        "--gradcheck-select",
        "AC,GK102",
        "--gradcheck-steps=20",
        "-p",
        "no:randomly",
    )
    assert summary(result) == {"failed": 1, "passed": 1}
    assert "rule falling-apart of acme crashed: AttributeError" in " ".join(result.outlines)
    assert "Report this to the authors of acme" in result.stdout.str()


# ---- what is collected; nothing here runs ------------------------------------------------------------------------


def collected(pytester, *arguments):
    """The nodes that a run would have, and its exit status."""
    result = pytester.runpytest_inprocess("--collect-only", "-q", "-p", "no:randomly", "-p", "no:xdist", *arguments)
    assert result.ret in (0, 5), result.stdout.str() + result.stderr.str()
    return [line for line in result.outlines if "::" in line]


def test_alone_it_collects_nothing_else_and_with_arguments_both(models):
    options = ("--gradcheck", "models/broken.py", "--gradcheck-select", "GK101")
    target, other = "models/broken.py::gradcheck::GK101-vanishing-gradient", "test_other.py::test_nothing"
    assert collected(models, *options) == [target]
    assert collected(models, *options, ".") == [other, target] or collected(models, *options, ".") == [target, other]
    assert collected(models, *options, "test_other.py") == [other, target]
    assert collected(models, *options, target) == [target]


def test_in_addopts_it_adds_to_the_tests(models):
    models.makeini("[pytest]\naddopts = --gradcheck models/broken.py --gradcheck-select GK101")
    assert len(collected(models)) == 2


def test_files_of_the_ini_are_collected_where_arguments_lead_to_them(models):
    models.makeini("[pytest]\ngradcheck_files = models/*.py\ngradcheck_select = GK101")
    nodes = [f"models/{name}.py::gradcheck::GK101-vanishing-gradient" for name in ("broken", "healthy")]
    assert [node for node in collected(models) if "GK" in node] == nodes
    assert collected(models, "models") == nodes
    assert collected(models, "test_other.py") == ["test_other.py::test_nothing"]
    assert collected(models, nodes[1]) == nodes[1:]
    assert collected(models, "models/broken.py") == nodes[:1]  # and the file is not imported
    assert not (models.path / "loaded.txt").exists()


def test_a_model_file_with_tests_keeps_them(pytester):
    pytester.makepyfile(test_model="model = 3\ndef test_model():\n    pass")
    pytester.makeini("[pytest]\ngradcheck_files = *.py\ngradcheck_select = GK101")
    assert len(collected(pytester, "test_model.py")) == 2


def test_targets_of_every_form_are_collected_under_their_names(models):
    options = [
        o for t in ("models/broken.py:model", "pack.mod:net", "torchvision:resnet18") for o in ("--gradcheck", t)
    ]
    assert collected(models, *options, "--gradcheck-select", "GK101,GK102", "-k", "not exploding") == [
        "models/broken.py::gradcheck:model::GK101-vanishing-gradient",
        "pack.mod:net::GK101-vanishing-gradient",
        "torchvision:resnet18::GK101-vanishing-gradient",
    ]


def test_tests_of_models_can_be_selected_by_the_marker(models):
    options = ("--gradcheck", "models/broken.py", "--gradcheck-select", "GK101", ".")
    assert len(collected(models, *options, "-m", "gradcheck")) == 1
    assert collected(models, *options, "-m", "not gradcheck") == ["test_other.py::test_nothing"]


@pytest.mark.parametrize(
    ("options", "ini", "sentence"),
    [
        ("--gradcheck modles/broken.py", "", "modles/broken.py does not exist; check the path"),
        ("--gradcheck models/brokn.py", "", "models/brokn.py does not exist; did you mean models/broken.py?"),
        ("--gradcheck models", "", "models is a folder; name the file that holds the model, such as models/broken.py"),
        ("--gradcheck-steps many", "", "--gradcheck-steps is 'many'; use a whole number, 1 or more"),
        ("--gradcheck-steps 0", "", "--gradcheck-steps is '0'; use a whole number, 1 or more"),
        ("--gradcheck-lr nan", "", "--gradcheck-lr is 'nan'; use a number above 0"),
        ("--gradcheck-fail-on never", "", "--gradcheck-fail-on is 'never'; use error or warning"),
        ("--gradcheck-device gpu", "", "--gradcheck-device is 'gpu'; use cpu, cuda, cuda:1, mps or auto"),
        ("--gradcheck-input 3x0", "", "--gradcheck-input is 3x0; write a shape without the batch, such as 3x224x224"),
        ("--gradcheck-select GK1,", "", "--gradcheck-select: a selector is empty; use codes or names such as GK1"),
        ("--gradcheck-select vanishing", "", "the selector 'vanishing' matches no rule; did you mean "),
        ("--gradcheck-set GK101.ratio", "", "--set 'GK101.ratio' is not RULE.OPTION=VALUE"),
        ("--gradcheck-update-baseline", "", "needs a file; add --gradcheck-baseline gradcheck-baseline.json"),
        ("-n 2 --gradcheck-update-baseline --gradcheck-baseline=b.json", "", "-n makes several writers; use -n 0"),
        ("--gradcheck-baseline models/broken.py", "", "models/broken.py is no baseline of gradcheck-kit"),
        ("", "gradcheck_baseline = b.json\ngradcheck_files = models/*.py", "there is no baseline b.json"),
        ("", "gradcheck_files = modles/*.py", "gradcheck_files has 'modles/*.py', which matches no file below"),
        ("", "gradcheck_files = /tmp/*.py", "gradcheck_files has '/tmp/*.py'; use a glob relative to"),
        ("", "gradcheck_files = *.py\ngradcheck_seed = x", "gradcheck_seed does not fit: invalid literal"),
    ],
)
def test_wrong_use_is_a_usage_error_of_one_sentence(models, options, ini, sentence):
    models.makeini(f"[pytest]\n{ini}")
    result = models.runpytest_inprocess(*options.split())
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    (line,) = [line for line in result.errlines if line]
    assert line.startswith("ERROR: gradcheck-kit: ")
    assert sentence in line


# ---- the fixture -------------------------------------------------------------------------------------------------

TESTS = """
import pytest
from torch import nn
from models import healthy
from models.healthy import parts

steps = []

def counted(output, target):
    steps.append(1)
    return nn.functional.cross_entropy(output, target)

def scan(gradcheck_scan, **settings):
    model, loader, optimizer = parts()
    return gradcheck_scan(model, loader, loss_fn=counted, optimizer=optimizer, **settings)

def test_passes(gradcheck_scan):
    assert scan(gradcheck_scan).passed

def test_shares_the_probe(gradcheck_scan):
    before = len(steps)
    assert scan(gradcheck_scan, select="GK1,GK5", min_accuracy=0.1).passed
    assert len(steps) == before

def test_probes_what_differs(gradcheck_scan):
    before = len(steps)
    model, loader, optimizer = parts()
    model[0].weight.data.mul_(2)
    gradcheck_scan(model, loader, loss_fn=counted, optimizer=optimizer, select="GK1", check=False)
    assert len(steps) > before

def deep():
    return nn.Sequential(*[m for _ in range(9) for m in (nn.Linear(16, 16), nn.Sigmoid())], nn.Linear(16, 4))

def test_fails(gradcheck_scan):
    gradcheck_scan(deep(), healthy.train_loader, loss_fn=healthy.loss_fn, name="Deep")

def test_returns_what_failed(gradcheck_scan):
    report = gradcheck_scan(deep(), healthy.train_loader, loss_fn=healthy.loss_fn, check=False)
    assert report.causes[0].rule.name == "vanishing-gradient"

def test_takes_a_target(gradcheck_scan, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = gradcheck_scan("models/broken.py", check=False)
    assert gradcheck_scan("models/broken.py", check=False, select=["GK101"]).outcomes[0] == first.outcomes[0]

def test_misses_the_file(gradcheck_scan):
    gradcheck_scan("models/brokn.py")

def test_misspells(gradcheck_scan):
    gradcheck_scan("models/broken.py", step=3)

def test_gives_a_target_data(gradcheck_scan):
    gradcheck_scan("models/broken.py", healthy.train_loader)

@pytest.mark.gradcheck(stepz=3)
def test_misspells_in_the_marker(gradcheck_scan):
    gradcheck_scan("models/broken.py")

@pytest.mark.gradcheck("GK1")
def test_names_nothing_in_the_marker(gradcheck_scan):
    gradcheck_scan("models/broken.py")

@pytest.mark.gradcheck(select="GK1", steps=9)
class TestSettings:
    def header(self, gradcheck_scan, **settings):
        report = gradcheck_scan(healthy.model, healthy.train_loader, check=False, **settings)
        return report.trace.header.steps, report.trace.header.seed, report.outcomes[0].rule.code

    @pytest.mark.gradcheck(select=["GK2"])
    def test_closest_marker_wins_key_by_key(self, gradcheck_scan):
        assert self.header(gradcheck_scan) == (9, 5, "GK201")

    @pytest.mark.gradcheck(seed=6)
    def test_call_beats_marker_and_marker_the_command_line(self, gradcheck_scan):
        assert self.header(gradcheck_scan) == (9, 6, "GK101")
        assert self.header(gradcheck_scan, steps=4, seed=7, select=["GK201"]) == (4, 7, "GK201")

def test_command_line_beats_ini(gradcheck_scan):
    report = gradcheck_scan(healthy.model, healthy.train_loader, select="GK103", check=False)
    assert (report.trace.header.steps, report.trace.header.seed) == (40, 5)

@pytest.mark.gradcheck(select="loss-not-decreasing", steps=20)
def test_warns(gradcheck_scan):
    gradcheck_scan("models/broken.py")

def test_is_told_of_warnings_when_they_shall_fail(gradcheck_scan):
    gradcheck_scan("models/broken.py", select="loss-not-decreasing", fail_on="warning")
"""


def test_the_fixture_scans_with_the_settings_that_are_closest(models):
    models.makeini("[pytest]\ngradcheck_steps = 30\ngradcheck_seed = 5\nmarkers =")
    models.makepyfile(test_models=TESTS)
    (models.path / "models" / "__init__.py").touch()
    result = models.runpytest_subprocess(
        "test_models.py", "--gradcheck-steps", "40", "-v", "-p", "no:randomly", *STRICT
    )
    failures = dict(_failures(result.outlines))
    assert list(failures) == [
        "test_fails", "test_misses_the_file", "test_misspells", "test_gives_a_target_data",
        "test_misspells_in_the_marker", "test_names_nothing_in_the_marker",
        "test_is_told_of_warnings_when_they_shall_fail",
    ], result.stdout.str()  # fmt: skip
    assert failures["test_fails"][0] == "Deep: cause: GK101 vanishing-gradient"
    assert failures["test_fails"][2].startswith("gradcheck-kit ")
    assert failures["test_fails"][-1].endswith("GK101 vanishing-gradient")
    assert failures["test_misses_the_file"] == ["models/brokn.py does not exist; did you mean models/broken.py?"]
    assert failures["test_misspells"] == ["gradcheck_scan has no 'step'; did you mean steps?"]
    (line,) = failures["test_gives_a_target_data"]
    assert line == "gradcheck_scan('models/broken.py') is given train_data; the TARGET brings its own"
    (line,) = failures["test_misspells_in_the_marker"]
    assert line == "the marker gradcheck of test_misspells_in_the_marker has no 'stepz'; did you mean steps?"
    (line,) = failures["test_names_nothing_in_the_marker"]
    assert line.startswith("the marker gradcheck of test_names_nothing_in_the_marker has 'GK1' without a name; ")
    assert lines_with(result, "warning", "test_models.py::test_warns: GK205 loss-not-decreasing: ")
    assert "Traceback" not in result.stdout.str()


def _failures(lines):
    """Name and text of each failure."""
    lines = lines[lines.index(next(line for line in lines if " FAILURES " in line)) + 1 :]
    heads = [i for i, line in enumerate(lines) if line.startswith(("____", "===="))]
    for start, end in pairwise(heads):
        if lines[start].startswith("____"):
            yield lines[start].strip("_ "), lines[start + 1 : end]


# ---- what it costs who does not use it ---------------------------------------------------------------------------

COLLECT = """
import sys, pytest
{first}
status = pytest.main(["--collect-only", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", *{arguments}])
heavy = ("torch", "torchvision", "numpy", "click", "tabulate")
ours = [name for name in sys.modules if name.startswith("gradcheck_kit")]
print("imported", *sorted(ours), *sorted(name for name in sys.modules if name in heavy))
sys.exit(status)
"""


def imported(folder, *arguments, first=""):
    program = COLLECT.format(arguments=arguments, first=first)
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()[-1].split()[1:]


def test_unused_it_imports_a_handful_of_small_modules(models):
    assert imported(models.path) == [
        "gradcheck_kit", "gradcheck_kit.errors", "gradcheck_kit.pytest_plugin", "gradcheck_kit.rule",
    ]  # fmt: skip


def test_collecting_a_model_imports_no_torch(models):
    modules = imported(models.path, "--gradcheck", "models/broken.py")
    assert "gradcheck_kit.pytest_targets" in modules
    assert not {"torch", "torchvision", "numpy"} & set(modules)


def test_it_would_be_noticed_if_torch_was_imported(models):
    (models.path / "torch.py").touch()
    assert "torch" in imported(models.path, first="import torch")


def test_left_out_it_is_not_imported_at_all(models):
    assert imported(models.path, "-p", "no:gradcheck-kit") == []


def test_it_may_be_imported_before_pytest_starts():
    # Of an installed package pytest would rewrite the assertions, and warns where that is too late.
    assert AssertionRewriter.is_rewrite_disabled(gradcheck_kit.__doc__)


def test_it_says_what_it_offers(pytester):
    result = pytester.runpytest_inprocess("--help", "-p", "no:randomly")
    assert lines_with(result, "--gradcheck-fail-on=error|warning")
    assert lines_with(result, "gradcheck_files (args):")
    assert lines_with(pytester.runpytest_inprocess("--markers"), "@pytest.mark.gradcheck(select, ignore, steps, ...)")
