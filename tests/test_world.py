"""The user's objects come back bit for bit, whatever happens during the probe."""

from __future__ import annotations

import copy
import random

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import gradcheck_kit as gk
from gradcheck_kit.errors import ProbeError


class Net(nn.Module):
    """BatchNorm, a frozen layer, a buffer that is not saved, a counter, a hook, and a submodule in evaluation mode."""

    def __init__(self):
        super().__init__()
        self.a, self.norm, self.b = nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 3)
        self.frozen_norm = nn.BatchNorm1d(6).eval()
        self.a.bias.requires_grad_(False)
        self.register_buffer("seen", torch.zeros(()), persistent=False)
        self.calls = 0
        self.history = []

    def forward(self, x):
        self.seen += len(x)
        self.calls += 1
        self.history.append(self.calls)
        return self.b(F.relu(self.norm(self.a(self.frozen_norm(x)))))


class World:
    """A model that has been trained a little, with everything a user may have around it."""

    def __init__(self, *, uncopyable: bool = False):
        torch.manual_seed(3)
        self.model = Net()
        self.handle = self.model.a.register_forward_hook(lambda *_: None)
        self.optimizer = torch.optim.SGD(
            [{"params": [self.model.a.weight], "lr": 0.2}, {"params": self.model.b.parameters()}], lr=0.1, momentum=0.9
        )
        x, y = torch.randn(96, 6), torch.randint(0, 3, (96,))
        F.cross_entropy(self.model(x), y).backward()
        self.optimizer.step()
        if uncopyable:
            self.model.cached = self.model.a(x)  # a tensor of a graph cannot be deep-copied
        self.generator = torch.Generator().manual_seed(5)
        self.loader = DataLoader(TensorDataset(x, y), 16, shuffle=True, generator=self.generator)

    def state(self):
        model, optimizer = self.model, self.optimizer
        return {
            "parameters": {n: p.detach().clone() for n, p in model.named_parameters()},
            "buffers": {n: b.clone() for n, b in model.named_buffers()},
            "gradients": {n: None if p.grad is None else p.grad.clone() for n, p in model.named_parameters()},
            "identities": [id(p) for p in model.parameters()],
            "requires_grad": [p.requires_grad for p in model.parameters()],
            "modes": [m.training for m in model.modules()],
            "attributes": (model.calls, list(model.history)),
            "hooks": [(dict(m._forward_hooks), dict(m._backward_hooks)) for m in model.modules()],
            "optimizer": copy.deepcopy(optimizer.state_dict()),
            "groups": [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups],
            "generator": self.generator.get_state(),
            "random": random.getstate(),
            "numpy": np.random.get_state()[1].copy(),
            "torch": torch.get_rng_state(),
            "settings": (torch.get_default_dtype(), torch.get_num_threads(), torch.is_grad_enabled(),
                         torch.are_deterministic_algorithms_enabled()),
        }  # fmt: skip


def assert_same(before, after, path="world"):
    assert type(before) is type(after), path
    if isinstance(before, torch.Tensor):
        assert before.dtype == after.dtype and torch.equal(before, after), path
    elif isinstance(before, np.ndarray):
        assert (before == after).all(), path
    elif isinstance(before, dict):
        assert before.keys() == after.keys(), path
        for key in before:
            assert_same(before[key], after[key], f"{path}.{key}")
    elif isinstance(before, list | tuple):
        assert len(before) == len(after), path
        for i, (a, b) in enumerate(zip(before, after, strict=True)):
            assert_same(a, b, f"{path}[{i}]")
    else:
        assert before == after, path


class Failing:
    """A loss that goes wrong in one of several ways after some calls."""

    def __init__(self, how):
        self.how, self.left = how, 25

    def __deepcopy__(self, memo):
        return self  # one counter for all copies: the probe must fail in the middle

    def __call__(self, output, target):
        self.left -= 1
        loss = F.cross_entropy(output, target)
        if self.left > 0:
            return loss
        if self.how == "loss":
            raise ValueError("the loss gave up")
        if self.how == "interrupt":
            raise KeyboardInterrupt
        return Explosive.apply(loss)


class Explosive(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 1

    @staticmethod
    def backward(ctx, g):
        raise RuntimeError("backward gave up")


@pytest.mark.parametrize("uncopyable", [False, True], ids=["copied", "in place"])
def test_comes_back_after_a_scan(uncopyable):
    world = World(uncopyable=uncopyable)
    before = world.state()
    report = gk.scan(world.model, world.loader, loss_fn=nn.CrossEntropyLoss(), optimizer=world.optimizer, steps=12)
    assert report.outcomes
    assert_same(before, world.state())


@pytest.mark.parametrize("uncopyable", [False, True], ids=["copied", "in place"])
@pytest.mark.parametrize(
    ("how", "expected"), [("loss", ProbeError), ("backward", ProbeError), ("interrupt", KeyboardInterrupt)]
)
def test_comes_back_when_the_probe_fails(how, expected, uncopyable):
    world = World(uncopyable=uncopyable)
    before = world.state()
    with pytest.raises(expected):
        gk.scan(world.model, world.loader, loss_fn=Failing(how), optimizer=world.optimizer, steps=40)
    assert_same(before, world.state())


def test_comes_back_when_the_loss_reaches_for_the_users_own_model():
    world = World()
    before = world.state()

    def loss_fn(output, target):
        return F.cross_entropy(output, target) + 1e-3 * sum(p.square().sum() for p in world.model.parameters())

    report = gk.scan(world.model, world.loader, loss_fn=loss_fn, optimizer=world.optimizer, steps=12)
    assert report.outcomes
    assert_same(before, world.state())


@pytest.mark.parametrize("in_place", [False, True], ids=["copied", "in place"])
@pytest.mark.parametrize(
    "schedule",
    [
        lambda o: torch.optim.lr_scheduler.StepLR(o, 10),
        lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 50),
        lambda o: torch.optim.lr_scheduler.OneCycleLR(o, [0.2, 0.1], total_steps=100),
    ],
    ids=["StepLR", "CosineAnnealingLR", "OneCycleLR"],
)
def test_comes_back_when_a_scheduler_has_wrapped_the_optimizers_step(schedule, in_place):
    world = World(uncopyable=in_place)
    scheduler = schedule(world.optimizer)
    before = world.state()
    report = gk.scan(world.model, world.loader, loss_fn=nn.CrossEntropyLoss(), optimizer=world.optimizer, steps=12)
    (unchanged,) = [o for o in report.outcomes if o.rule.name == "parameter-unchanged"]
    assert unchanged.status == "passed"
    assert_same(before, world.state())
    assert scheduler.last_epoch == 0


def test_leaves_no_hook_behind_on_a_model_used_in_place():
    world = World(uncopyable=True)
    gk.scan(world.model, world.loader, loss_fn=nn.CrossEntropyLoss(), optimizer=world.optimizer, steps=6)
    assert list(world.model.a._forward_hooks.values()) == [world.model.a._forward_hooks[world.handle.id]]
    assert not any(m._forward_hooks for m in world.model.modules() if m is not world.model.a)
    assert not nn.modules.module._global_forward_hooks
    assert not nn.modules.module._global_forward_pre_hooks


def test_reads_an_iterator_that_cannot_be_restarted_only_as_far_as_the_probe_needs():
    def batches():
        while True:
            yield torch.randn(8, 6), torch.randint(0, 3, (8,))

    report = gk.scan(nn.Linear(6, 3), batches(), loss_fn=nn.CrossEntropyLoss(), steps=5)
    assert len(report.trace.facts) >= 4
