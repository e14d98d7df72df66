"""Every architecture of torchvision, as `gradcheck-kit scan torchvision:NAME` probes it: silent, and without a trace.

Which ones there are, and which are small enough for every run, torchvision itself tells: an architecture is tested on
the day it ships. `-m zoo_long` probes all of them, long enough to judge.
"""

import math
import zlib

import pytest
import torch
from torch import nn
from torch.nn.modules import module as torch_module
from torchvision import models

import gradcheck_kit as gk
from gradcheck_kit.target.load import load_target

SMALL = 30e6  # parameters
CHEAP = 50  # GFLOP per sample at the size that it was published with
PIXELS = 2**18  # per sample at the least size: a video net that takes nothing below 16 frames of 224x224 is not cheap
MEMORY = 24  # GiB: what a machine has
COPIES = 6  # of the weights that a probe holds at once: the user's, the workspace's, gradients, Adam's two, the start's
NAMES = models.list_models()


def published(name):
    """What torchvision publishes with the weights: parameters, GFLOP per sample, least pixels; infinite without."""
    known = [weights.meta for weights in models.get_model_weights(name)]
    if not known:
        return math.inf, math.inf, math.inf
    pixels = math.prod(known[0]["min_size"]) * known[0].get("min_temporal_size", 1)
    return known[0]["num_params"], known[0]["_ops"], pixels


def is_small(name):
    return all(number <= limit for number, limit in zip(published(name), (SMALL, CHEAP, PIXELS), strict=True))


def checksum(tensor):
    return zlib.crc32(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())


def state(model):
    """All that a probe could leave behind on a model: values, gradients, flags, modes, attributes."""
    tensors = [*model.named_parameters(), *model.named_buffers()]
    return {
        "values": {name: (id(t), t.data_ptr(), t._version, checksum(t)) for name, t in tensors},
        "gradients": {name: None if t.grad is None else checksum(t.grad) for name, t in tensors},
        "flags": {name: t.requires_grad for name, t in tensors},
        "modes": {name: module.training for name, module in model.named_modules()},
        "attributes": {name: sorted(vars(module)) for name, module in model.named_modules()},
        "sizes": {
            name: (getattr(m, "min_size", None), getattr(m, "max_size", None)) for name, m in model.named_modules()
        },
        "random": torch.get_rng_state().sum().item(),
    }


HOOKS = [name for name in vars(nn.Module()) if name.endswith("_hooks")]
GLOBAL_HOOKS = [name for name in vars(torch_module) if name.startswith("_global_") and name.endswith("_hooks")]


def hooks(model):
    """The hooks on any module, on any parameter, and on all modules of the process."""
    found = [f"{name}.{kind}" for name, m in model.named_modules() for kind in HOOKS if getattr(m, kind)]
    found += [name for name, p in model.named_parameters() if p._backward_hooks or p._post_accumulate_grad_hooks]
    return found + [kind for kind in GLOBAL_HOOKS if getattr(torch_module, kind)]


def probed(name, **settings):
    """The report on torchvision:NAME, whose model is compared with what it was."""
    torch.manual_seed(0)
    target = load_target(f"torchvision:{name}")
    before = state(target.model)
    report = gk.scan(target, **settings)
    assert hooks(target.model) == []
    assert state(target.model) == before
    return report


def judged(report, status):
    return [(o.rule.code, f.message) for o in report.outcomes if o.status == status for f in o.findings]


@pytest.mark.parametrize("name", [name for name in NAMES if is_small(name)])
def test_it_is_probed_without_a_trace_and_without_an_alarm(name):
    report = probed(name, steps=2, batch_size=4, quick=True)
    assert judged(report, "failed") == []
    assert [o.reason for o in report.outcomes if o.status == "error"] == []
    assert report.passed


def fits(name):
    parameters, *_ = published(name)
    return not (math.isfinite(parameters) and 4 * COPIES * parameters > MEMORY * 2**30 * 0.75)


@pytest.mark.zoo_long
@pytest.mark.parametrize("name", models.list_models(module=models))
def test_ten_steps_on_handwritten_digits_raise_no_alarm(name):
    if not fits(name):
        pytest.skip(f"it does not fit into {MEMORY} GiB {COPIES} times")
    report = probed(name, data="digits", steps=10, batch_size=4, quick=True)
    assert judged(report, "failed") == []
    assert report.passed


@pytest.mark.zoo_long
@pytest.mark.parametrize("name", NAMES)
def test_a_probe_long_enough_to_judge_raises_no_alarm(name, record_property):
    if not fits(name):
        pytest.skip(f"it does not fit into {MEMORY} GiB {COPIES} times")
    report = probed(name, steps=10, batch_size=4, quick=True)
    assert judged(report, "failed") == []
    assert report.passed
    for code, message in judged(report, "warned"):
        record_property(code, message)
        print(f"{name}: {code} {message}")


def test_the_published_sizes_tell_small_architectures_from_large():
    assert is_small("resnet18")
    assert not any(map(is_small, ("vgg16", "maskrcnn_resnet50_fpn", "s3d")))


def test_the_comparison_sees_a_hook_a_changed_bit_and_a_mode():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    before = state(model)
    assert hooks(model) == [] and state(model) == before
    handle = model[0].register_forward_hook(lambda *_: None)
    assert hooks(model) == ["0._forward_hooks"]
    handle.remove()
    model[0].weight.data[0, 0] += 1e-6
    assert state(model) != before
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    before = state(model)
    model[1].eval()
    assert state(model) != before
