"""What watching asks of a GPU: one synchronisation for each recorded step, none for any other."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import gradcheck_kit as gk
from gradcheck_kit.facts import Training

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="counts what a CUDA device is asked for")


def convolutional():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Dropout(0.1), nn.Linear(8, 4),
    )  # fmt: skip


def loop(model, optimizer, steps, amp=None):
    x, y = torch.randn(16, 3, 12, 12, device="cuda"), torch.randint(4, (16,), device="cuda")
    for _ in range(steps):
        optimizer.zero_grad()
        with torch.autocast("cuda", amp or torch.float16, enabled=amp is not None):
            loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()


def synchronisations(action):
    """How often the host waited for the device, as torch itself counts it."""
    torch.cuda.synchronize()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            action()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing CUDA operation" in str(w.message) for w in caught)


@pytest.fixture
def trained():
    torch.manual_seed(0)
    model = convolutional().cuda()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    loop(model, optimizer, 2)
    return model, optimizer


@pytest.mark.parametrize("amp", [None, torch.bfloat16])
@pytest.mark.parametrize(("every", "recorded"), [(1, 8), (4, 2)])
def test_it_waits_for_the_device_once_for_each_recorded_step_and_never_for_any_other(trained, every, recorded, amp):
    model, optimizer = trained
    assert synchronisations(lambda: loop(model, optimizer, 8, amp)) == 0

    with gk.Monitor(model, optimizer=optimizer, every=every) as monitor:
        counted = synchronisations(lambda: loop(model, optimizer, 8, amp))
    assert len(monitor.trace.facts[Training].recorded) == recorded
    assert counted == recorded


def test_the_count_sees_a_value_that_is_read(trained):
    assert synchronisations(lambda: torch.ones((), device="cuda").item()) == 1


@pytest.mark.parametrize("amp", [None, "bf16", "fp16"])
def test_a_scan_on_the_device_is_silent_about_a_healthy_model_and_leaves_it_where_it_was(amp):
    torch.manual_seed(0)
    model = convolutional()
    x = torch.randn(128, 3, 12, 12)
    y = x.mean((2, 3)).argmax(1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    report = gk.scan(model, torch.utils.data.TensorDataset(x, y), device="cuda", amp=amp, lr=1e-2)
    assert report.trace.header.device.startswith("cuda")
    assert [(o.rule.name, o.status) for o in report.outcomes if o.status not in ("passed", "skipped")] == []
    assert all(
        value.device.type == "cpu" and torch.equal(value, before[name]) for name, value in model.state_dict().items()
    )
