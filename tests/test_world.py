"""The user's objects come back bit for bit, whatever happens during the probe."""

from __future__ import annotations

import copy
import random
import sys
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import gradcheck_kit as gk
from gradcheck_kit.errors import GradcheckKitError, ProbeError


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


class Fuse:
    """Burns through at the n-th call of one place, with an exception or with Ctrl-C. One for all copies."""

    def __init__(self, place="", error=ValueError, after=25):
        self.place, self.error, self.left = place, error, after

    def __deepcopy__(self, memo):
        return self

    def __call__(self, place):
        if place == self.place:
            self.left -= 1
            if self.left < 0:
                raise self.error(f"{place} gave up")


class Fused(Net):
    """Fails in forward or in backward, and has hooks of every kind."""

    def __init__(self, fuse):
        super().__init__()
        self.fuse = fuse

    def forward(self, x):
        self.fuse("forward")
        return Explosive.apply(super().forward(x), self.fuse)


class Explosive(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, fuse):
        ctx.fuse = fuse
        return x * 1

    @staticmethod
    def backward(ctx, g):
        ctx.fuse("backward")
        return g, None


class FusedSGD(torch.optim.SGD):
    def __init__(self, params, fuse, **options):
        super().__init__(params, **options)
        self.fuse, self.steps = fuse, 0

    def step(self, closure=None):
        self.steps += 1
        self.fuse("optimizer")
        return super().step(closure)


class FusedLoss(nn.Module):
    def __init__(self, fuse):
        super().__init__()
        self.fuse = fuse
        self.temperature = nn.Parameter(torch.ones(()))

    def forward(self, output, target):
        self.fuse("loss")
        return F.cross_entropy(output / self.temperature, target)


class FusedData(TensorDataset):
    def __init__(self, fuse, *tensors):
        super().__init__(*tensors)
        self.fuse = fuse

    def __getitem__(self, index):
        self.fuse("data")
        return super().__getitem__(index)


def hook_everything(model):
    """A hook of every kind a user may have, some of them twice and one of them before the others."""
    model.a.register_forward_pre_hook(lambda *_: None)
    model.a.register_forward_hook(lambda *_: None)
    model.a.register_forward_hook(lambda *_: None, prepend=True)
    model.b.register_forward_hook(lambda m, args, kwargs, out: None, with_kwargs=True, always_call=True)
    model.b.register_full_backward_hook(lambda *_: None)
    model.b.register_full_backward_pre_hook(lambda *_: None)
    model.register_state_dict_pre_hook(lambda *_: None)
    model.register_state_dict_post_hook(lambda *_: None)
    model.register_load_state_dict_pre_hook(lambda *_: None)
    model.register_load_state_dict_post_hook(lambda *_: None)
    model.b.weight.register_hook(lambda g: g)
    model.b.weight.register_post_accumulate_grad_hook(lambda p: None)


HOOKS = [name for name in vars(nn.Module()) if "_hooks" in name]


def settings():
    """What is set for the whole process."""
    kinds = ("cpu", "cuda")
    return {
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "gradients": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "deterministic": (torch.are_deterministic_algorithms_enabled(),
                          torch.is_deterministic_algorithms_warn_only_enabled(), torch.get_deterministic_debug_mode()),
        "autocast": ([(torch.is_autocast_enabled(k), torch.get_autocast_dtype(k)) for k in kinds],
                     torch.is_autocast_cache_enabled()),
        "anomaly": (torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()),
        "cudnn": [getattr(torch.backends.cudnn, n) for n in ("enabled", "benchmark", "deterministic", "allow_tf32")],
        "matmul": (torch.get_float32_matmul_precision(), torch.backends.cuda.matmul.allow_tf32),
        "warnings": list(warnings.filters),
        "streams": (id(sys.stdout), id(sys.stderr)),
        "global hooks": {
            name: dict(value) for name, value in vars(nn.modules.module).items()
            if "_hooks" in name and isinstance(value, dict)
        },
    }  # fmt: skip


class World:
    """A model that has been trained a little, with everything a user may have around it."""

    def __init__(self, *, uncopyable: bool = False, fuse: Fuse | None = None):
        torch.manual_seed(3)
        fuse = fuse or Fuse()
        self.model = Fused(Fuse())
        self.loss_fn = FusedLoss(Fuse())
        self.handle = self.model.a.register_forward_hook(lambda *_: None)
        self.optimizer = FusedSGD(
            [{"params": [self.model.a.weight], "lr": 0.2}, {"params": self.model.b.parameters()},
             {"params": self.loss_fn.parameters()}], Fuse(), lr=0.1, momentum=0.9,
        )  # fmt: skip
        x, y = torch.randn(96, 6), torch.randint(0, 3, (96,))
        self.loss_fn(self.model(x), y).backward()
        self.optimizer.step()
        self.optimizer.register_step_pre_hook(lambda *_: None)
        hook_everything(self.model)
        if uncopyable:
            self.model.cached = self.model.a(x)  # a tensor of a graph cannot be deep-copied
        self.generator = torch.Generator().manual_seed(5)
        self.loader = DataLoader(FusedData(fuse, x, y), 16, shuffle=True, generator=self.generator)
        self.model.fuse = self.loss_fn.fuse = self.optimizer.fuse = fuse

    def scan(self, **options):
        options = {"loss_fn": self.loss_fn, "optimizer": self.optimizer, "steps": 12, **options}
        return gk.scan(self.model, self.loader, **options)

    def state(self):
        model, optimizer = self.model, self.optimizer
        modules = [*model.modules(), *self.loss_fn.modules()]
        named = [*model.named_parameters(), *self.loss_fn.named_parameters("loss")]
        return {
            "parameters": {n: p.detach().clone() for n, p in named},
            "buffers": {n: b.clone() for n, b in model.named_buffers()},
            "gradients": {n: None if p.grad is None else p.grad.clone() for n, p in named},
            "identities": [(id(p), id(p.grad)) for _, p in named] + [id(b) for b in model.buffers()],
            "requires_grad": [p.requires_grad for _, p in named],
            "modes": [m.training for m in modules],
            "attributes": (model.calls, list(model.history), id(model.history), [sorted(vars(m)) for m in modules]),
            "hooks": [[(name, list(getattr(m, name).items())) for name in HOOKS] for m in modules],
            "tensor hooks": [dict(p._backward_hooks or {}) for _, p in named],
            "optimizer": copy.deepcopy(optimizer.state_dict()),
            "optimizer state": [(id(p), {k: id(v) for k, v in s.items()}) for p, s in optimizer.state.items()],
            "groups": [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups],
            "group members": [[id(p) for p in g["params"]] for g in optimizer.param_groups],
            "optimizer itself": (optimizer.steps, list(optimizer._optimizer_step_pre_hooks), sorted(vars(optimizer))),
            "loader": dict(vars(self.loader)),
            "generator": self.generator.get_state(),
            "random": random.getstate(),
            "numpy": [part.copy() if isinstance(part, np.ndarray) else part for part in np.random.get_state()],
            "torch": torch.get_rng_state(),
            "settings": settings(),
        }


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


PATHS = pytest.mark.parametrize("uncopyable", [False, True], ids=["copied", "in place"])
PLACES = ("forward", "loss", "backward", "optimizer", "data")


@PATHS
@pytest.mark.parametrize("amp", [None, "bf16", "fp16"])
def test_comes_back_after_a_scan(amp, uncopyable):
    world = World(uncopyable=uncopyable)
    before = world.state()
    report = world.scan(amp=amp)
    assert report.outcomes
    assert_same(before, world.state())


@PATHS
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_comes_back_when_the_users_code_raises(place, error, uncopyable):
    world = World(uncopyable=uncopyable, fuse=Fuse(place, error, after=400 if place == "data" else 25))
    before = world.state()
    with pytest.raises(KeyboardInterrupt if error is KeyboardInterrupt else ProbeError, match=f"{place} gave up"):
        world.scan(steps=40)
    assert_same(before, world.state())


@PATHS
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_comes_back_when_the_users_code_raises_at_once(place, error, uncopyable):
    world = World(uncopyable=uncopyable, fuse=Fuse(place, error, after=0))
    before = world.state()
    with pytest.raises(
        KeyboardInterrupt if error is KeyboardInterrupt else GradcheckKitError, match=f"{place} gave up"
    ):
        world.scan()
    assert_same(before, world.state())


@PATHS
@pytest.mark.parametrize("amp", ["bf16", "fp16"])
@pytest.mark.parametrize("place", ["forward", "backward", "optimizer"])
def test_comes_back_when_mixed_precision_is_interrupted(place, amp, uncopyable):
    world = World(uncopyable=uncopyable, fuse=Fuse(place, KeyboardInterrupt))
    before = world.state()
    with pytest.raises(KeyboardInterrupt):
        world.scan(steps=40, amp=amp)
    assert_same(before, world.state())


@PATHS
def test_comes_back_to_settings_that_are_not_the_usual_ones(uncopyable):
    kept = settings()
    try:
        torch.set_default_dtype(torch.float64)
        torch.set_float32_matmul_precision("high")
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark = True
        torch.autograd.set_detect_anomaly(True)
        with torch.no_grad(), torch.random.fork_rng():
            torch.set_default_dtype(torch.float32)
            with torch.enable_grad():
                world = World(uncopyable=uncopyable)
            torch.set_default_dtype(torch.float64)
            before = world.state()
            world.scan(quick=True)
            assert_same(before, world.state())
    finally:
        torch.set_default_dtype(kept["dtype"])
        torch.set_float32_matmul_precision(kept["matmul"][0])
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.benchmark = kept["cudnn"][1]
        torch.autograd.set_detect_anomaly(False)
    assert_same(kept, settings())


@PATHS
def test_comes_back_when_the_users_code_changes_settings_and_forgets(uncopyable):
    world = World(uncopyable=uncopyable)

    def loss_fn(output, target):
        torch.set_num_threads(2)
        torch.backends.cudnn.benchmark = True
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.autograd.set_detect_anomaly(True)
        torch.set_float32_matmul_precision("medium")
        random.seed(1), np.random.seed(1), torch.manual_seed(1)
        return F.cross_entropy(output, target)

    before = world.state()
    world.scan(loss_fn=loss_fn, quick=True)
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
        lambda o: torch.optim.lr_scheduler.OneCycleLR(o, [0.2, 0.1, 0.1], total_steps=100),
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


def test_a_handle_of_the_users_still_removes_its_hook():
    world = World(uncopyable=True)
    world.scan()
    count = len(world.model.a._forward_hooks)
    world.handle.remove()
    assert len(world.model.a._forward_hooks) == count - 1


def test_leaves_no_hook_behind_on_a_model_used_in_place():
    world = World(uncopyable=True)
    before = [list(m._forward_hooks.values()) for m in world.model.modules()]
    gk.scan(world.model, world.loader, loss_fn=nn.CrossEntropyLoss(), optimizer=world.optimizer, steps=6)
    assert [list(m._forward_hooks.values()) for m in world.model.modules()] == before
    assert not nn.modules.module._global_forward_hooks
    assert not nn.modules.module._global_forward_pre_hooks


def test_reads_an_iterator_that_cannot_be_restarted_only_as_far_as_the_probe_needs():
    def batches():
        while True:
            yield torch.randn(8, 6), torch.randint(0, 3, (8,))

    report = gk.scan(nn.Linear(6, 3), batches(), loss_fn=nn.CrossEntropyLoss(), steps=5)
    assert len(report.trace.facts) >= 4
