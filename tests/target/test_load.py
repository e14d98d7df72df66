"""What load_target finds in a user's file, and the one sentence it says when it finds nothing or too much."""

import pickle
import random
import sys
import textwrap

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from gradcheck_kit.errors import TargetError
from gradcheck_kit.target.load import load_target

NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(4, 2)

    def forward(self, x):
        return self.fc(x)
"""


@pytest.fixture(autouse=True)
def _project(tmp_path, monkeypatch):
    """An empty current folder; sys.path and sys.modules come back as they were."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


@pytest.fixture
def write(tmp_path):
    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return name

    return write


def sentence(spec):
    with pytest.raises(TargetError) as caught:
        load_target(spec)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# ---- conventional names ------------------------------------------------------------------------------------------


def test_takes_the_names_that_training_scripts_use(write):
    write(
        "model.py",
        NET
        + """
from torch.utils.data import DataLoader, TensorDataset
model = Net()
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
trainloader = DataLoader(TensorDataset(torch.zeros(8, 4), torch.zeros(8).long()))
val_loader = [(torch.zeros(2, 4), torch.zeros(2).long())]
""",
    )
    target = load_target("model.py")
    module = sys.modules[type(target.model).__module__]
    assert target.model is module.model
    assert target.loss_fn is module.criterion
    assert target.optimizer is module.optimizer
    assert target.train_data is module.trainloader
    assert target.test_data is module.val_loader
    assert (target.name, target.train_name, target.test_name) == ("model.py:model", "trainloader", "val_loader")


def test_leaves_missing_what_the_file_does_not_have(write):
    target = load_target(write("model.py", NET))
    assert target.name == "model.py:Net"
    assert (target.train_data, target.test_data, target.loss_fn, target.optimizer, target.training_step) == (None,) * 5


def test_prefers_model_to_other_modules(write):
    write("gan.py", NET + "discriminator = Net()\nmodel = Net()\nnet = Net()\n")
    target = load_target("gan.py")
    assert target.model is sys.modules["gan"].model


def test_takes_net_when_there_is_no_model(write):
    assert load_target(write("a.py", NET + "other = Net()\nnet = Net()\n")).name == "a.py:net"


def test_calls_a_builder_that_needs_no_arguments(write):
    target = load_target(write("model.py", NET + "def build_model(width=3): return nn.Linear(width, 1)\n"))
    assert target.name == "model.py:build_model"
    assert target.model.in_features == 3


def test_leaves_a_builder_that_needs_arguments_alone(write):
    assert load_target(write("model.py", NET + "def get_model(name): return None\n")).name == "model.py:Net"


def test_does_not_take_values_of_the_wrong_type(write):
    write(
        "model.py",
        NET
        + """
from torch import optim
net = "resnet"
model = Net()
loss_fn = nn.CrossEntropyLoss
criterion = "cross entropy"
def loader(path): ...
train_data = "data/train"
train_dataset = {"a": 1}
dataloader = type("Loader", (), {"__iter__": lambda self: iter(())})
test_data = ["a.png", "b.png"]
def training_step(x, y): ...
""",
    )
    target = load_target("model.py")
    assert target.name == "model.py:model"
    assert (target.train_data, target.test_data, target.loss_fn, target.optimizer, target.training_step) == (None,) * 5


def test_reads_opt_and_several_optimizers(write):
    write("one.py", NET + "model = Net()\nopt = torch.optim.Adam(model.parameters())\n")
    write("two.py", NET + "model = Net()\noptimizers = [torch.optim.Adam(model.parameters())]\n")
    assert isinstance(load_target("one.py").optimizer, torch.optim.Adam)
    assert isinstance(load_target("two.py").optimizer, list)


def test_takes_the_optimizer_of_model_even_when_it_owns_other_parameters(write):
    write("model.py", NET + "model = Net()\nold = Net()\noptimizer = torch.optim.Adam(old.parameters())\n")
    assert load_target("model.py").optimizer is not None
    assert load_target("model.py:model").optimizer is not None


def test_leaves_an_optimizer_alone_that_belongs_to_another_model(write):
    write("model.py", NET + "model = Net()\nteacher = Net()\noptimizer = torch.optim.Adam(model.parameters())\n")
    assert load_target("model.py:teacher").optimizer is None
    assert load_target("model.py:Net").optimizer is None


def test_takes_a_training_step_for_model_and_batch(write):
    target = load_target(write("a.py", NET + "def training_step(model, batch): return model(batch).sum()\n"))
    assert target.training_step is not None
    assert target.training_step.__name__ == "training_step"


def test_calls_a_function_that_makes_the_loader(write):
    write("a.py", NET + "def get_train_loader():\n    return [(torch.zeros(2, 4), torch.zeros(2).long())]\n")
    target = load_target("a.py")
    assert target.train_name == "get_train_loader"
    assert len(target.train_data) == 1


def test_takes_a_tuple_of_tensors_as_data(write):
    target = load_target(write("a.py", NET + "train_data = (torch.zeros(8, 4), torch.zeros(8))\n"))
    assert len(target.train_data) == 2


# ---- gradcheck_target --------------------------------------------------------------------------------------------

TARGET = """
import gradcheck_kit
from torch import nn
model = nn.Linear(1, 1)
def gradcheck_target():
    return gradcheck_kit.Target(nn.Linear(3, 2), train_data=[1], train_name="pairs")
"""


def test_lets_gradcheck_target_settle_everything(write):
    target = load_target(write("a.py", TARGET))
    assert target.model.in_features == 3
    assert (target.name, target.train_name) == ("a.py:gradcheck_target", "pairs")


def test_lets_a_name_that_is_typed_beat_gradcheck_target(write):
    write("a.py", TARGET)
    assert load_target("a.py:model").model.in_features == 1


def test_takes_a_function_by_name_that_returns_a_target(write):
    write("a.py", TARGET + "def small():\n    return gradcheck_kit.Target(nn.Linear(7, 2))\n")
    target = load_target("a.py:small")
    assert (target.model.in_features, target.name) == (7, "a.py:small")


def test_says_what_gradcheck_target_should_have_returned(write):
    write("a.py", "def gradcheck_target(): return 3\n")
    assert sentence("a.py") == (
        "gradcheck_target() in a.py gives an int; return gradcheck_kit.Target(model, train_data, ...)"
    )


def test_says_that_gradcheck_target_is_called_without_arguments(write):
    write("a.py", "def gradcheck_target(path): ...\n")
    assert sentence("a.py") == "a.py:gradcheck_target takes path; it is called without arguments"


def test_says_that_the_model_of_a_target_is_none(write):
    write("a.py", "import gradcheck_kit\ndef gradcheck_target(): return gradcheck_kit.Target('resnet')\n")
    assert sentence("a.py") == (
        "a.py:gradcheck_target: the Target's model is a str, not a torch.nn.Module; give it the model itself"
    )


# ---- the class nothing contains ----------------------------------------------------------------------------------


def test_takes_the_class_that_the_others_are_parts_of(write):
    write(
        "model.py",
        """
        from torch import nn
        class Block(nn.Module):
            def __init__(self, width): super().__init__()
        class Base(nn.Module): ...
        def stack(n): return [Block(3) for _ in range(n)]
        class Net(Base):
            def __init__(self):
                super().__init__()
                self.blocks = nn.ModuleList(stack(2))
        class FocalLoss(nn.Module): ...
        """,
    )
    assert load_target("model.py").name == "model.py:Net"


def test_sees_parts_that_come_from_a_registry(write):
    write(
        "model.py",
        """
        from torch import nn
        registry = {}
        def register(cls):
            registry[cls.__name__.lower()] = cls
            return cls
        @register
        class Head(nn.Module): ...
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.head = registry["head"]()
        """,
    )
    assert load_target("model.py").name == "model.py:Net"


def test_ignores_classes_that_are_imported(write):
    write("layers.py", "from torch import nn\nclass Block(nn.Module): ...\n")
    write("model.py", "from layers import Block\nfrom torch import nn\nclass Net(nn.Module): ...\n")
    assert load_target("model.py").name == "model.py:Net"


def test_takes_the_one_instance_of_that_class(write):
    write("a.py", NET + "classifier = Net()\noptimizer = torch.optim.Adam(classifier.parameters())\n")
    target = load_target("a.py")
    assert target.name == "a.py:classifier"
    assert target.optimizer is not None


def test_takes_the_only_module_of_a_file_without_classes(write):
    write("a.py", "from torch import nn\nmlp = nn.Linear(2, 2)\nloss_fn = nn.MSELoss()\n")
    assert load_target("a.py").name == "a.py:mlp"


def test_lists_the_candidates_and_what_to_type(write):
    write("a.py", "from torch import nn\nclass Encoder(nn.Module): ...\nclass Decoder(nn.Module): ...\n")
    assert sentence("a.py") == ("a.py has several models (Encoder, Decoder); name one: gradcheck-kit scan a.py:Decoder")


def test_lists_module_instances_that_are_candidates(write):
    write("a.py", "from torch import nn\ngenerator = nn.Linear(1, 1)\ndiscriminator = nn.Linear(1, 1)\n")
    assert "several models (discriminator, generator)" in sentence("a.py")


def test_says_what_a_class_needs(write):
    write("a.py", "from torch import nn\nclass Net(nn.Module):\n    def __init__(self, width, depth=1): ...\n")
    assert sentence("a.py") == (
        "a.py:Net needs width; write `model = Net(width=...)` in a.py, "
        "or `def gradcheck_target(): return gradcheck_kit.Target(Net(width=...))`"
    )


def test_says_that_a_file_defines_no_model(write):
    write("a.py", "x = 1\n")
    assert sentence("a.py") == (
        "a.py defines no model; call one `model`, or write `def gradcheck_target()` that returns a "
        'gradcheck_kit.Target; what stands under `if __name__ == "__main__":` is not run'
    )


# ---- a name after the colon --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Net", "instance", "build"])
def test_takes_a_class_an_instance_or_a_function_by_name(write, name):
    write("a.py", NET + "model = nn.Linear(1, 1)\ninstance = Net()\nbuild = lambda: Net()\ncriterion = nn.MSELoss()\n")
    target = load_target(f"a.py:{name}")
    assert type(target.model).__name__ == "Net"
    assert target.name == f"a.py:{name}"
    assert isinstance(target.loss_fn, nn.MSELoss)


def test_names_the_nearest_when_the_name_is_misspelt(write):
    write("a.py", NET + "model = Net()\n")
    assert sentence("a.py:modle") == "a.py has no 'modle'; did you mean a.py:model?"
    assert sentence("a.py:zzz") == "a.py has no 'zzz'; it has Net, model"


def test_says_that_a_name_is_no_model(write):
    write("a.py", "size = 3\n")
    assert sentence("a.py:size") == (
        "a.py:size is an int; name an nn.Module, a class of one, or a function that returns one"
    )


def test_says_what_a_function_returned_instead_of_a_model(write):
    write("a.py", "def build_model(): pass\n")
    assert sentence("a.py") == "a.py:build_model() returns None; return the nn.Module, or a gradcheck_kit.Target"


def test_refuses_what_is_no_name(write):
    write("a.py", NET)
    assert sentence("a.py:1+1").startswith("'a.py:1+1' is no TARGET; type a path such as model.py or model.py:name, ")
    assert sentence("").startswith("'' is no TARGET; type a path")


# ---- running the file --------------------------------------------------------------------------------------------


def test_does_not_run_what_stands_under_main(write):
    load_target(write("a.py", NET + 'if __name__ == "__main__":\n    raise SystemExit(3)\n'))


def test_keeps_what_the_file_prints_off_stdout(write, capsys):
    load_target(write("a.py", NET + "print('hello')\ndef build_model():\n    print('building')\n    return Net()\n"))
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "hello\nbuilding\n"


def test_shows_the_file_no_options_of_ours(write, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["gradcheck-kit", "scan", "a.py", "--quick"])
    write("a.py", NET + "import argparse, sys\nargs = argparse.ArgumentParser().parse_args()\nseen = sys.argv\n")
    load_target("a.py")
    assert sys.modules["a"].seen == ["a.py"]
    assert sys.argv[-1] == "--quick"


def test_imports_modules_that_lie_beside_the_file(write):
    write("deep/layers.py", NET)
    write("deep/model.py", "from layers import Net\nmodel = Net()\n")
    assert load_target("deep/model.py").name == "deep/model.py:model"


def test_imports_a_file_in_a_package_as_a_part_of_it(write):
    write("shop/__init__.py", "")
    write("shop/vision/__init__.py", "")
    write("shop/layers.py", NET)
    write("shop/vision/model.py", "from ..layers import Net\nmodel = Net()\nwhere = __name__\n")
    load_target("shop/vision/model.py")
    assert sys.modules["shop.vision.model"].where == "shop.vision.model"


def test_imports_a_module_by_its_dotted_name(write):
    write("store/__init__.py", "")
    write("store/net.py", NET)
    assert load_target("store.net:Net").name == "store.net:Net"
    assert load_target("store.net").name == "store.net:Net"


def test_registers_the_module_for_dataclasses_and_pickle(write):
    write(
        "a.py", NET + "from dataclasses import dataclass\n@dataclass\nclass Point:\n    x: 'int' = 0\nmodel = Net()\n"
    )
    model = load_target("a.py").model
    assert type(pickle.loads(pickle.dumps(model))) is type(model)


@pytest.mark.parametrize("name", ["random.py", "torch.py", "colorsys.py"])
def test_does_not_shadow_a_module_that_is_installed(write, name):
    write(name, NET + "model = Net()\n")
    assert load_target(name).name == f"{name}:model"
    assert sys.modules["random"] is random
    assert sys.modules["torch"] is torch
    import colorsys

    assert hasattr(colorsys, "rgb_to_hsv")


def test_keeps_two_files_of_one_name_apart(write):
    write("one/model.py", NET + "model = nn.Linear(1, 1)\n")
    write("two/model.py", NET + "model = nn.Linear(2, 2)\n")
    assert load_target("one/model.py").model.in_features == 1
    first = sys.modules["model"]
    assert load_target("two/model.py").model.in_features == 2
    assert sys.modules["model"] is first


def test_reads_a_file_again_after_it_was_edited(write):
    write("model.py", "from torch import nn\nmodel = nn.Linear(1, 1)\n")
    load_target("model.py")
    write("model.py", "from torch import nn\nmodel = nn.Linear(2, 1)\n")
    assert load_target("model.py").model.in_features == 2


# ---- files that do not load --------------------------------------------------------------------------------------


def test_names_the_line_that_raises_on_import(write):
    write("a.py", "import b\n")
    write("b.py", "x = 1\n\ny = x / 0\n")
    assert sentence("a.py") == (
        "b.py:3 raises ZeroDivisionError: division by zero; correct it, or move what only training needs under "
        '`if __name__ == "__main__":`'
    )
    assert "b" not in sys.modules
    assert "a" not in sys.modules


def test_names_the_users_line_when_torch_raises(write):
    write("a.py", "import torch\n\nx = torch.zeros(2) @ torch.zeros(3)\n")
    assert sentence("a.py").startswith("a.py:3 raises RuntimeError: ")


def test_names_the_line_that_raises_while_the_model_is_built(write):
    write("a.py", "from torch import nn\ndef build_model():\n    return nn.Linear('a', 2)\n")
    assert sentence("a.py").startswith("a.py:3 raises TypeError: ")


def test_names_the_line_that_does_not_parse(write):
    write("a.py", "x = 1\nclass Net(\n")
    assert sentence("a.py") == "a.py:2 is no valid Python ('(' was never closed); correct that line"


def test_names_the_file_of_a_neighbour_that_does_not_parse(write):
    write("a.py", "import broken_neighbour\n")
    write("broken_neighbour.py", "x =\n")
    assert sentence("a.py") == "broken_neighbour.py:1 is no valid Python (invalid syntax); correct that line"


def test_says_what_is_not_installed(write):
    write("a.py", "import torch\nimport einops_is_not_here.layers\n")
    assert sentence("a.py") == (
        "a.py:2 imports 'einops_is_not_here', which is neither installed nor beside it; "
        "install it, or run gradcheck-kit where the model is trained: same environment, same folder"
    )


def test_says_how_a_relative_import_would_work(write, tmp_path):
    write("a.py", "from .layers import Net\n")
    assert sentence("a.py") == (
        f"a.py:1 imports relative to a package, and its folder is none; add an empty __init__.py to {tmp_path}"
    )


def test_survives_a_file_that_ends_the_program(write):
    write("a.py", "import sys\nsys.exit(0)\n")
    assert sentence("a.py") == (
        'a.py:2 ends the program while it is loaded; move that under `if __name__ == "__main__":`'
    )


def test_lets_ctrl_c_through(write):
    write("a.py", "raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        load_target("a.py")


def test_names_the_nearest_file_when_one_does_not_exist(write):
    write("model.py", NET)
    assert sentence("modle.py") == "modle.py does not exist; did you mean model.py?"
    assert sentence("src/zzz.py") == "src/zzz.py does not exist; check the path"


def test_says_that_a_folder_is_no_file(write):
    write("src/my_model.py", NET)
    write("src/data.py", "")
    assert sentence("src") == "src is a folder; name the file that holds the model, such as src/my_model.py"


def test_says_what_to_do_with_files_of_other_kinds(write):
    write("notes.txt", "hello")
    write("train.ipynb", "{}")
    write("best.pt", "")
    assert sentence("notes.txt").startswith("notes.txt is no Python file: type a path such as model.py")
    assert sentence("train.ipynb").endswith("turn it into a program with `jupyter nbconvert --to script`")
    assert sentence("best.pt") == "best.pt is no Python file: it holds weights; name the .py file that builds the model"


def test_says_that_a_file_is_empty(write):
    write("a.py", "")
    assert sentence("a.py") == "a.py is empty; define `model` in it, or name the file that does"


def test_says_that_nothing_has_that_name():
    assert sentence("no_such_module_here") == (
        "'no_such_module_here' is neither a file nor a module that can be imported; type a path such as model.py or "
        "model.py:name, package.module:name, or torchvision:resnet18"
    )
    assert sentence("what is this").startswith("'what is this' is neither a file nor a module's name; type")


# ---- torchvision -------------------------------------------------------------------------------------------------


def test_builds_a_model_of_torchvision_without_weights():
    target = load_target("torchvision:squeezenet1_1")
    assert type(target.model).__name__ == "SqueezeNet"
    assert (target.name, target.train_data) == ("torchvision:squeezenet1_1", None)


def test_builds_a_segmentation_model_without_the_weights_of_its_backbone():
    assert load_target("torchvision:lraspp_mobilenet_v3_large").name == "torchvision:lraspp_mobilenet_v3_large"


def test_names_the_nearest_model_of_torchvision():
    assert sentence("torchvision:resnet17") == (
        "torchvision has no model 'resnet17'; did you mean torchvision:resnet18?"
    )


def test_says_that_torchvision_cannot_be_imported(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    message = sentence("torchvision:resnet18")
    assert message.startswith("torchvision:resnet18 needs torchvision, which cannot be imported (ModuleNotFoundError: ")
    assert message.endswith(f"install the torchvision made for torch {torch.__version__}")


def test_returns_a_loader_that_can_be_read(write):
    write("a.py", NET + "from torch.utils.data import DataLoader\nloader = DataLoader(torch.zeros(4, 4), 2)\n")
    target = load_target("a.py")
    assert isinstance(target.train_data, DataLoader)
    assert [tuple(batch.shape) for batch in target.train_data] == [(2, 4), (2, 4)]


@pytest.mark.parametrize("argument", ["netG", "policy", "flow", "student"])
def test_a_training_step_may_call_its_model_as_it_likes(write, argument):
    step = f"def training_step({argument}, batch): return {argument}(batch).sum()\n"
    assert load_target(write("a.py", NET + step)).training_step is not None


@pytest.mark.parametrize("arguments", ["x, y", "batch, index", "model, batch, index"])
def test_a_training_step_of_another_form_is_told(write, arguments):
    target = load_target(write("a.py", NET + f"def training_step({arguments}): ...\n"))
    assert target.training_step is None
    (note,) = target.notes
    assert note.startswith(f"training_step({arguments}) is not used")
