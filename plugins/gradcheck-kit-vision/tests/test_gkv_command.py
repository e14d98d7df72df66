"""The real command on torchvision's ResNet-18 with the pack installed: a planted fault is found, its twin is silent."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from vision_programs import program

import gradcheck_kit

IMAGENET = "Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))"


def run(*arguments, cwd):
    command = [sys.executable, "-m", "gradcheck_kit", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True)


def scan(tmp_path, text, *arguments):
    """Exit status, and the findings of the pack by code."""
    (tmp_path / "train.py").write_text(text, "utf-8")
    result = run("scan", "train.py", "--steps", 3, "--select", "GKV", "--format", "json", *arguments, cwd=tmp_path)
    assert result.stdout, result.stderr
    outcomes = json.loads(result.stdout)["outcomes"]
    found = {o["code"]: o["findings"][0] for o in outcomes if o["findings"]}
    assert [o for o in outcomes if o["status"] == "error"] == []
    return result.returncode, found


def only(found, code):
    assert list(found) == [code], found
    return found[code]["message"], found[code]["fixes"][0]["text"]


def test_it_is_silent_on_the_healthy_program(tmp_path, pictures):
    assert scan(tmp_path, program(pictures)) == (0, {})


def test_it_finds_test_images_that_are_augmented(tmp_path, pictures):
    status, found = scan(tmp_path, program(pictures, ('"/test", test_transform', '"/test", train_transform')))
    message, fix = only(found, "GKV105")
    assert status == 1
    assert message == (
        "RandomCrop and RandomHorizontalFlip run on the test images (ImageFolder): 8 of 8 test samples that were drawn "
        "again came out different; none should."
    )
    assert fix.startswith("Take RandomCrop and RandomHorizontalFlip out of the test data's transform")


def test_it_finds_test_images_that_are_not_normalised(tmp_path, pictures):
    change = ("CenterCrop(32), transforms.ToTensor(), normalize", "CenterCrop(32), transforms.ToTensor()")
    status, found = scan(tmp_path, program(pictures, change))
    message, fix = only(found, "GKV103")
    assert status == 1
    assert message.startswith(f"The training images (ImageFolder) go through {IMAGENET} and are -2.")
    assert message.endswith("the test images (ImageFolder) go through none and are 0 to 1.")
    assert fix == f"Add {IMAGENET} to the transform of the test data."


def test_it_finds_pixels_that_were_not_scaled(tmp_path, pictures):
    unscaled = "transforms.PILToTensor(), transforms.Lambda(lambda x: x.float())"
    status, found = scan(tmp_path, program(pictures, ("transforms.ToTensor()", unscaled)))
    message, _ = only(found, "GKV102")
    assert status == 1
    assert message.startswith(f"{IMAGENET} is given pixels of 0 to 255 in the training images (ImageFolder)")


def test_it_warns_of_swapped_statistics(tmp_path, pictures):
    change = ("(0.485, 0.456, 0.406), (0.229, 0.224, 0.225)", "(0.229, 0.224, 0.225), (0.485, 0.456, 0.406)")
    status, found = scan(tmp_path, program(pictures, change))
    message, fix = only(found, "GKV102")
    assert status == 0
    assert "has mean and std swapped: these are the numbers of ImageNet in the wrong order." in message
    assert fix == f"Use {IMAGENET}."


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory, pictures):
    """Weights that remember pictures normalised as ImageNet's."""
    folder = tmp_path_factory.mktemp("weights")
    train = """
for _ in range(8):
    for images, labels in train_loader:
        optimizer.zero_grad()
        loss_fn(model(images), labels).backward()
        optimizer.step()
torch.save(model.state_dict(), "weights.pt")
"""
    (folder / "pretrain.py").write_text(program(pictures) + train, "utf-8")
    subprocess.run([sys.executable, "pretrain.py"], cwd=folder, check=True)
    return folder / "weights.pt"


def loaded(weights):
    line = "model = models.resnet18(num_classes=3)\n"
    return (line, f"{line}model.load_state_dict(torch.load({str(weights)!r}))\n")


def test_it_finds_images_for_which_the_weights_were_not_trained(tmp_path, pictures, pretrained):
    _, found = scan(
        tmp_path,
        program(pictures, loaded(pretrained), (", transforms.ToTensor(), normalize", ", transforms.ToTensor()")),
    )
    message, fix = only(found, "GKV104")
    assert message.startswith(
        f"ResNet has pretrained weights, for which torchvision records {IMAGENET}; the training images go through no "
        "Normalize. What enters bn1 is "
    )
    assert fix.startswith(f"Use {IMAGENET} on training and test data")


def test_it_is_silent_on_images_for_which_the_weights_were_trained(tmp_path, pictures, pretrained):
    assert scan(tmp_path, program(pictures, loaded(pretrained))) == (0, {})


def test_it_finds_batches_of_two(tmp_path, pictures):
    _, found = scan(tmp_path, program(pictures, ("batch_size=16", "batch_size=2")))
    message, fix = only(found, "GKV106")
    assert message.startswith(
        "layer4.0.bn1 (BatchNorm2d) takes mean and variance of 2 numbers per channel, from batches of 2; "
    )
    assert fix == "Use batches of 16 (now 2)."


def test_it_finds_an_epoch_that_ends_with_one_sample(tmp_path, pictures):
    part = "DataLoader(Subset(train_set, range(0, 72, 3)[:17]), batch_size=4,"  # 17 samples: 4 + 4 + 4 + 4 + 1
    status, found = scan(tmp_path, program(pictures, ("DataLoader(train_set, batch_size=16,", part)))
    message, fix = only(found, "GKV106")
    assert status == 1
    assert message.startswith("The last batch of every epoch holds 1 sample (17 in batches of 4), and layer4.0.bn1 has")
    assert "Expected more than 1 value per channel when training" in message
    assert fix == "Give the training DataLoader drop_last=True."


READS_ROWS = """
class Reads(nn.Module):
    def __init__(self):
        super().__init__()
        self.resnet = models.resnet18(num_classes=3)
        self.resnet.conv1 = nn.Conv2d(CHANNELS, 64, 3, padding=1)

    def forward(self, x):
        return self.resnet(READ)


model = Reads()
"""
LINE = "model = models.resnet18(num_classes=3)\n"


def reading(channels, read):
    return (LINE, READS_ROWS.replace("CHANNELS", channels).replace("READ", read))


PLAIN = (", transforms.ToTensor(), normalize", ", transforms.ToTensor()")


def test_it_finds_rows_in_the_place_of_channels(tmp_path, pictures):
    status, found = scan(tmp_path, program(pictures, PLAIN, reading("32", "x.permute(0, 2, 3, 1)")))
    message, fix = only(found, "GKV101")
    assert status == 1
    assert message.startswith("resnet.conv1 (Conv2d) takes images of shape (N, 32, 32, 3) and reads dimension 1 as 32")
    assert "make resnet.conv1 with in_channels=3 (now 32)" in fix


def test_it_finds_pixels_that_were_reshaped(tmp_path, pictures):
    read = "x.permute(0, 2, 3, 1).reshape(-1, 3, 32, 32)"
    status, found = scan(tmp_path, program(pictures, PLAIN, reading("3", read)))
    message, fix = only(found, "GKV101")
    assert status == 1
    assert message.startswith("The images that enter resnet.conv1 (Conv2d), of shape (N, 3, 32, 32), are scrambled")
    assert fix.startswith("Use x.reshape(-1, 32, 32, 3).permute(0, 3, 1, 2) in place of x.reshape(-1, 3, 32, 32)")


# ---- installed and not ----


def test_it_lists_its_rules_and_explains_them(tmp_path):
    assert "GKV105  random-test-images" in run("rules", cwd=tmp_path).stdout
    assert run("explain", "random-test-images", cwd=tmp_path).stdout.startswith("# GKV105 random-test-images")


def test_it_is_left_out_when_asked(tmp_path):
    shown = run("rules", "--disable-plugin", "gradcheck-kit-vision", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "GK101" in shown.stdout
    assert "GKV" not in shown.stdout and "vision" not in shown.stdout


WITHOUT = """
import importlib.metadata, sys
every = importlib.metadata.entry_points
left = lambda **how: [e for e in every(**how) if e.dist.name != "gradcheck-kit-vision"]
importlib.metadata.entry_points = left
from gradcheck_kit.cli import main
try:
    main([{command!r}])
finally:
    assert not [name for name in sys.modules if "vision" in name]
"""


@pytest.mark.parametrize("command", ["rules", "plugins"])
def test_it_leaves_no_trace_when_it_is_removed(tmp_path, command):
    program = WITHOUT.replace("{command!r}", repr(command))
    shown = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert shown.stderr == ""
    assert "GK101" in shown.stdout
    assert "GKV" not in shown.stdout and "vision" not in shown.stdout


def test_the_core_does_not_know_it():
    package = Path(gradcheck_kit.__file__).parent
    assert [p for p in package.rglob("*.py") if "gradcheck_kit_vision" in p.read_text("utf-8")] == []
