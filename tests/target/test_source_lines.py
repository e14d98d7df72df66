"""Where a program makes its modules. Each marks the lines with a comment that names the place."""

from __future__ import annotations

import re
import time
import warnings
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from gradcheck_kit.observe.monitor import Monitor
from gradcheck_kit.target import ProbeSettings
from gradcheck_kit.target.load import load_target
from gradcheck_kit.target.prepare import prepare
from gradcheck_kit.target.source_lines import Program, source_lines
from gradcheck_kit.testing import header

HEAD = "from torch import nn\nimport torch\n"


@pytest.fixture
def located(tmp_path, monkeypatch):
    """The program's places that are told, and those that its comments (`#: place, place`) say."""
    monkeypatch.chdir(tmp_path)

    def locate(program, *places, name=""):
        text = HEAD + program
        Path("net.py").write_text(text, "utf-8")
        target = load_target(f"net.py:{name}" if name else "net.py")
        variable = target.name.rpartition(":")[2]
        known = header(sources=source_lines(target.model, Program(target.file, variable)))
        marked = {
            place: number
            for number, line in enumerate(text.splitlines(), 1)
            for place in re.split(r",\s*", line.partition("#: ")[2])
            if place
        }
        asked = (*places, *(place for place in marked if place != "-"))
        told = {place: known.source_of("" if place == "model" else place) for place in asked}
        assert {at.file for at in told.values() if at} <= {"net.py"}
        return {place: at and at.line for place, at in told.items()}, {**dict.fromkeys(places), **marked}

    return locate


PROGRAMS = {
    "attributes of a class": """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 4)  #: a, a.weight
        self.b, self.c = nn.Linear(4, 4), nn.Linear(4, 4)  #: b, c
        self.scale = nn.Parameter(torch.ones(1))  #: scale
        self.d: nn.Module = (
            nn.Linear(4, 4).to("cpu")  #: d
        )

    def forward(self, x):  #: forward
        return x

model = Net()  #: model
""",
    "a class of its own as the target": """
class Net(nn.Module):  #: model
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)  #: fc
""",
    "a sequence, element by element": """
model = nn.Sequential(  #: model
    nn.Linear(4, 4),  #: 0
    nn.ReLU(),  #: 1
    nn.Sequential(
        nn.Linear(4, 4),  #: 2.0
        nn.Dropout(0.1)),  #: 2.1
)
""",
    "lists that grow": """
layers = [nn.Flatten(),  #: 0
          nn.Linear(4, 4)]  #: 1
for _ in range(3):
    layers += [nn.ReLU(),  #: 2, 4, 6
               nn.Linear(4, 4)]  #: 3, 5, 7
model = nn.Sequential(*layers,  #: model
    nn.Tanh())  #: 8
""",
    "lists that are appended to": """
def build_model():
    layers = []
    for _ in range(3):
        layers.append(nn.Linear(4, 4))  #: 0, 1, 2
    net = nn.Sequential(*layers)  #: model
    return net
""",
    "module lists": """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(  #: blocks
            [nn.Linear(4, 4)  #: blocks.0, blocks.1
             for _ in range(2)])
        self.heads = nn.ModuleList()  #: heads
        for _ in range(2):
            self.heads.append(nn.Linear(4, 4))  #: heads.0, heads.1.bias
        self.named = nn.ModuleDict({
            "left": nn.Linear(4, 4),  #: named.left
            "right": nn.Linear(4, 4)})  #: named.right

model = Net()
""",
    "ordered dictionaries": """
from collections import OrderedDict
model = nn.Sequential(OrderedDict([
    ("first", nn.Linear(4, 4)),  #: first
    ("last", nn.Linear(4, 4)),  #: last
]))
""",
    "a subclass of a container": """
class Net(nn.Sequential):
    def __init__(self):
        super().__init__(
            nn.Linear(4, 4),  #: 0
            nn.Linear(4, 4),  #: 1
        )

model = Net()
""",
    "blocks inside blocks, the base class's too": """
class Base(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(4)  #: block.norm

class Block(Base):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)  #: block.fc

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.block = Block()  #: block

model = Net()
""",
    "branches: the class that was made tells which": """
class Net(nn.Module):
    def __init__(self, wide=True):
        super().__init__()
        if wide:
            self.act = nn.ReLU()  #: act
        else:
            self.act = nn.Tanh()

model = Net()
""",
    "what a function makes that others wrote": """
import torchvision
model = torchvision.models.squeezenet1_0()  #: features.0, features.3.squeeze.weight
model.classifier[1] = nn.Conv2d(512, 10, 1)  #: classifier.1
""",
    "a target function": """
from gradcheck_kit import Target
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 4)  #: fc

def gradcheck_target():
    net = Net()  #: model
    return Target(net)
""",
    "a list that is no ModuleList": """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.hidden = [nn.Linear(4, 4)]  #: hidden[0]
        self.fc = nn.Linear(4, 4)

model = Net()
""",
    "what runs only as a script is not looked at": """
model = nn.Sequential(nn.Linear(4, 4))  #: model, 0
if __name__ == "__main__":
    model = nn.Sequential(nn.Linear(8, 8))
""",
}


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_it_finds_the_line(located, program):
    told, marked = located(program)
    assert told == marked


UNSURE = {
    "two branches of one class": """
class Net(nn.Module):  #: act
    def __init__(self, wide=True):
        super().__init__()
        if wide:
            self.act = nn.Linear(4, 4)
        else:
            self.act = nn.Linear(4, 8)
net = Net
model = net()
""",
    "names that are computed": """
class Net(nn.Module):  #: fc0
    def __init__(self):
        super().__init__()
        setattr(self, "fc%d" % 0, nn.Linear(4, 4))
model = Net()
""",
    "a list whose order changes": """
layers = [nn.ReLU(), nn.Tanh()]
layers.insert(0, nn.Linear(4, 4))
model = nn.Sequential(*layers)  #: 0, 1, 2
""",
    "a sequence that is changed afterwards": """
model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())  #: 0, 1, 2
model.insert(0, nn.Tanh())
""",
    "two loops": """
model = nn.Sequential(  #: 1, 2
    nn.Flatten(),  #: 0
    *[nn.ReLU() for _ in range(2)], *[nn.Tanh() for _ in range(2)])
""",
}


@pytest.mark.parametrize("program", UNSURE.values(), ids=UNSURE)
def test_it_tells_what_is_around_where_the_line_itself_is_not_sure(located, program):
    told, marked = located(program)
    assert told == marked


def test_it_knows_no_place_that_is_no_module(located):
    told, _ = located("model = nn.Sequential(nn.Linear(4, 4))", "loss", "optimizer", "labels", "test data", "7")
    assert set(told.values()) == {None}


def test_it_finds_loss_optimizer_and_data_of_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = [
        "import torch",
        "model = torch.nn.Linear(4, 2)",
        "criterion = torch.nn.CrossEntropyLoss()",
        "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)",
        "train_loader = [(torch.zeros(4, 4), torch.zeros(4, dtype=torch.long))] * 4",
    ]
    (tmp_path / "train.py").write_text("\n".join(lines))

    def found(**settings):
        prepared = prepare(load_target("train.py"), ProbeSettings(steps=1, **settings))
        told = header(sources=prepared.sources, data=prepared.data)
        return [at and at.line for at in map(told.source_of, ["loss", "optimizer", prepared.data, "labels", "input"])]

    assert found() == [3, 4, 5, 5, 5]
    assert found(optimizer="sgd") == [3, None, 5, 5, 5]


class Local(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        return self.fc(x)


def line_of(text):
    return next(n for n, line in enumerate(Path(__file__).read_text("utf-8").splitlines(), 1) if line.strip() == text)


def test_it_finds_classes_also_without_a_target(monkeypatch):
    monkeypatch.chdir(Path(__file__).parent)
    known = header(sources=source_lines(Local()))
    at = known.source_of("fc.weight")
    assert (at.file, at.line) == (Path(__file__).name, line_of("self.fc = nn.Linear(4, 2)"))
    assert known.source_of("").line == line_of("class Local(nn.Module):")


def test_it_says_the_whole_path_of_what_lies_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert header(sources=source_lines(Local())).source_of("fc").file == Path(__file__).as_posix()


def test_it_finds_the_class_behind_a_parametrization():
    model = Local()
    parametrizations.weight_norm(model.fc)
    known = header(sources=source_lines(model))
    assert known.source_of("fc.parametrizations.weight").line == line_of("self.fc = nn.Linear(4, 2)")


def test_a_monitor_tells_it_too():
    model = Local()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Monitor(model, optimizer) as monitor:
        model(torch.ones(2, 4)).sum().backward()
        optimizer.step()
    assert monitor.trace.header.source_of("fc").line == line_of("self.fc = nn.Linear(4, 2)")


def test_it_points_at_nothing_that_others_wrote():
    assert source_lines(nn.Sequential(nn.Linear(4, 4), nn.TransformerEncoderLayer(4, 1))) == ()
    assert source_lines(torch.fx.symbolic_trace(nn.Sequential(nn.Linear(4, 4)))) == ()


def test_it_points_at_nothing_where_the_text_is_gone_or_another(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "net.py"
    text = HEAD + "class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\nmodel = Net()\n"
    path.write_text(text)
    target = load_target("net.py")
    for changed in ("class Net:\n    x = 1\n" + "#\n" * 9, "def (", "\x00", "é".encode("latin-1")):
        path.write_bytes(changed if isinstance(changed, bytes) else changed.encode())
        assert source_lines(target.model, Program(path, "model")) == ()
    path.unlink()
    assert source_lines(target.model, Program(path, "model")) == ()


def test_it_is_silent_about_what_python_warned_of_before(tmp_path):
    (tmp_path / "net.py").write_text(HEAD + "pattern = '\\d'\nmodel = nn.Sequential(nn.Linear(4, 4))\n")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        target = load_target(str(tmp_path / "net.py"))
    assert source_lines(target.model, Program(target.file, "model")) != ()


def test_it_takes_milliseconds_on_a_deep_model_of_the_users(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torchvision = pytest.importorskip("torchvision")
    text = Path(torchvision.models.resnet.__file__).read_text("utf-8").replace("from ..", "from torchvision.")
    text = text.replace("from ._", "from torchvision.models._").replace("@register_model()", "")
    text = text.replace("from .", "from torchvision.models.") + "\nmodel = resnet152()\n"
    (tmp_path / "own_resnet.py").write_text(text)
    target = load_target("own_resnet.py")
    start = time.process_time()
    known = header(sources=source_lines(target.model, Program(target.file, "model")))
    assert time.process_time() - start < 0.5  # a tenth of that, on a machine that is idle
    lines = (tmp_path / "own_resnet.py").read_text("utf-8").splitlines()
    assert "self.layer3 = self._make_layer" in lines[known.source_of("layer3.7").line - 1]
    assert "self.conv2 = conv3x3" in lines[known.source_of("layer3.7.conv2.weight").line - 1]
