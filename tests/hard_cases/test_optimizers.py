"""Optimizers of every make: several, with closures, per parameter, written by the user, scheduled."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gradcheck_kit.facts import Training, Wiring


def mlp():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))


class Words(nn.Module):
    """An embedding with sparse gradients, twice looked up."""

    def __init__(self, *, bag=False):
        super().__init__()
        torch.manual_seed(0)
        self.bag = bag
        self.embed = nn.EmbeddingBag(20, 8, sparse=True) if bag else nn.Embedding(20, 8, sparse=True)
        self.head = nn.Linear(8, 4)

    def forward(self, tokens):
        h = self.embed(tokens)
        return self.head(h if self.bag else h.mean(1))


@pytest.fixture
def sentences():
    torch.manual_seed(0)
    tokens = torch.randint(0, 20, (192, 5))
    labels = (tokens[:, 0] % 4).clone()
    tokens[:, 1:] = tokens[:, :1]
    return list(zip(tokens.split(16), labels.split(16), strict=True))


@pytest.mark.parametrize("bag", [False, True], ids=["Embedding", "EmbeddingBag"])
@pytest.mark.parametrize("amp", [None, "bf16", "fp16"])
@pytest.mark.case("sparse embedding gradients", "seen")
def test_sparse_gradients_with_an_optimizer_of_their_own_are_healthy(bag, amp, healthy, sentences):
    model = Words(bag=bag)
    pair = [torch.optim.SparseAdam(model.embed.parameters(), 1e-2), torch.optim.Adam(model.head.parameters(), 1e-2)]
    report = healthy(model, sentences, optimizer=pair, amp=amp)
    records = {p.name: p for p in report.trace.facts[Training].parameters}
    assert records["embed.weight"].changed
    assert all(g > 0 for g in records["embed.weight"].gradient_rms)
    assert [p.optimized for p in report.trace.facts[Wiring].parameters] == [True] * 3


def test_sparse_gradients_without_any_optimizer_given_are_healthy(healthy, sentences):
    healthy(Words(), sentences)


def test_the_part_that_neither_of_two_optimizers_has_is_found(found, sentences):
    model = Words()
    pair = [torch.optim.SparseAdam(model.embed.parameters(), 1e-2), torch.optim.Adam([model.head.bias], 1e-2)]
    assert found(model, sentences, optimizer=pair)[0] == "GK201"


@pytest.mark.case("a parameter group for each parameter", "seen")
def test_each_parameter_in_a_group_of_its_own_is_healthy(healthy, blobs):
    model = mlp()
    groups = [{"params": [p], "lr": 0.01 * (i + 1), "weight_decay": 0.0} for i, p in enumerate(model.parameters())]
    report = healthy(model, blobs(), optimizer=torch.optim.AdamW(groups))
    assert report.trace.facts[Training].learning_rates == (0.01, 0.02, 0.03, 0.04)
    assert "AdamW(lr=0.01 to 0.04" in report.trace.header.optimizer


def test_a_group_with_a_rate_of_zero_is_found(found, blobs):
    model = mlp()
    groups = [{"params": [p], "lr": 0.0 if p is model[0].weight else 0.01} for p in model.parameters()]
    assert "GK202" in found(model, blobs(), optimizer=torch.optim.AdamW(groups))


class Signs(torch.optim.Optimizer):
    """Not of torch's making, and without any state."""

    def __init__(self, params, lr=0.003):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.sub_(group["lr"] * p.grad.sign())


class SAM(torch.optim.Optimizer):
    """Sharpness-aware minimisation as people have it: another optimizer inside, and a closure that it insists on."""

    def __init__(self, params, base, rho=0.05, **options):
        super().__init__(params, {"rho": rho, **options})
        self.base = base(self.param_groups, **options)
        self.param_groups = self.base.param_groups

    @torch.no_grad()
    def step(self, closure=None):
        assert closure is not None, "SAM requires a closure"
        closure = torch.enable_grad()(closure)
        held = [p for g in self.param_groups for p in g["params"] if p.grad is not None]
        norm = torch.stack([p.grad.norm() for p in held]).norm()
        moves = [p.grad * self.param_groups[0]["rho"] / (norm + 1e-12) for p in held]
        for p, move in zip(held, moves, strict=True):
            p.add_(move)
        self.zero_grad()
        closure()
        for p, move in zip(held, moves, strict=True):
            p.sub_(move)
        self.base.step()


class Stubborn(Signs):
    """A closure is no option."""

    def step(self, closure):
        with torch.enable_grad():
            closure()
        return super().step()


class Searching(Signs):
    """Calls what it is given, which None does not like."""

    def step(self, closure=None):
        loss = float(closure())
        assert loss > 0
        return super().step()


class Slots(torch.optim.Optimizer):
    """Keeps tensors and counters outside of `state`."""

    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr})
        self.count = 0
        self.velocity = {p: torch.zeros_like(p) for g in self.param_groups for p in g["params"]}

    @torch.no_grad()
    def step(self, closure=None):
        self.count += 1
        for p, v in self.velocity.items():
            v.mul_(0.9).add_(p.grad)
            p.sub_(self.param_groups[0]["lr"] * v)


OPTIMIZERS = {
    "LBFGS": lambda p: torch.optim.LBFGS(p, 0.2, max_iter=3),
    "LBFGS with line search": lambda p: torch.optim.LBFGS(p, max_iter=3, line_search_fn="strong_wolfe"),
    "Rprop": lambda p: torch.optim.Rprop(p, 0.003),
    "ASGD": lambda p: torch.optim.ASGD(p, 0.05),
    "Adafactor": lambda p: torch.optim.Adafactor(p, 0.02),
    "foreach off": lambda p: torch.optim.Adam(p, 0.01, foreach=False),
    "fused": lambda p: torch.optim.Adam(p, 0.01, fused=True),
    "differentiable": lambda p: torch.optim.SGD(p, 0.05, maximize=False, momentum=0.9),
    "tensor rate": lambda p: torch.optim.Adam(p, torch.tensor(0.01)),
    "signs": Signs,
    "SAM": lambda p: SAM(p, torch.optim.SGD, lr=0.05),
    "SAM with Adam": lambda p: SAM(p, torch.optim.Adam, lr=0.01),
    "stubborn": Stubborn,
    "searching": Searching,
    "slots": lambda p: Slots(p, 0.02),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.case("LBFGS, SAM and other closures; optimizers of your own", "stepped as they want")
def test_an_optimizer_of_any_make_is_healthy_and_comes_back(name, healthy, blobs):
    model = mlp()
    optimizer = OPTIMIZERS[name](list(model.parameters()))
    report = healthy(model, blobs(batch=192 if name.startswith("LBFGS") else 16), optimizer=optimizer, steps=20)
    training = report.trace.facts[Training]
    if name == "SAM with Adam":
        assert not optimizer.base.state
    assert all(p.optimized and p.changed for p in training.parameters)
    assert training.losses[-1] < training.losses[0]
    if name == "slots":
        assert optimizer.count == 0 and all(not v.any() for v in optimizer.velocity.values())


@pytest.mark.parametrize("name", ["LBFGS", "SAM", "SAM with Adam", "slots", "stubborn"])
def test_it_comes_back_from_a_model_that_cannot_be_copied(name, healthy, blobs):
    model = mlp()
    optimizer = OPTIMIZERS[name](list(model.parameters()))
    model.cached = model[0].weight * 2
    healthy(model, blobs(), optimizer=optimizer, steps=20)
    if name == "SAM with Adam":
        assert not optimizer.base.state
    if name == "slots":
        assert optimizer.count == 0 and all(not v.any() for v in optimizer.velocity.values())


@pytest.mark.parametrize("name", ["LBFGS", "SAM", "signs", "stubborn"])
def test_what_it_was_not_given_is_found(name, found, blobs):
    model = mlp()
    assert found(model, blobs(), optimizer=OPTIMIZERS[name](list(model[2].parameters())))[0] == "GK201"


@pytest.mark.parametrize("kind", ["several", "one by one"])
@pytest.mark.case("several optimizers, schedulers", "each steps")
def test_several_optimizers_with_schedulers_are_healthy(kind, healthy, blobs):
    model = mlp()
    if kind == "several":
        optimizers = [torch.optim.SGD(model[0].parameters(), 0.05), torch.optim.Adam(model[2].parameters(), 1e-2)]
    else:
        optimizers = [torch.optim.Adam([p], 1e-2) for p in model.parameters()]
    schedulers = [torch.optim.lr_scheduler.LambdaLR(o, lambda step: min(1.0, (step + 1) / 100)) for o in optimizers]
    healthy(model, blobs(), optimizer=optimizers, steps=20)
    assert all(s.last_epoch == 0 for s in schedulers)


def test_an_optimizer_that_raises_late_is_told_as_its_own_failure(scan, blobs):
    class Tiring(Signs):
        left = 5

        def step(self, closure=None):
            self.left -= 1
            if self.left < 0:
                raise ValueError("tired")
            return super().step(closure)

    model = mlp()
    with pytest.raises(Exception, match=r"training step 6 of 12 raised ValueError: tired \(test_optimizers.py:"):
        scan(model, blobs(), optimizer=Tiring(model.parameters()))


def test_an_optimizer_that_raises_at_once_is_told_with_its_first_error(scan, blobs):
    class Broken(Signs):
        def step(self, closure=None):
            raise KeyError("with a closure" if closure else "without one")

    model = mlp()
    with pytest.raises(Exception, match="raised KeyError: 'without one'"):
        scan(model, blobs(), optimizer=Broken(model.parameters()))


def test_a_loss_with_parameters_of_its_own_is_trained_too(healthy, blobs):
    class Centers(nn.Module):
        def __init__(self):
            super().__init__()
            self.centers = nn.Parameter(torch.zeros(4, 4))

        def forward(self, output, target):
            return F.cross_entropy(output, target) + 0.1 * F.mse_loss(output, self.centers[target])

    model, loss_fn = mlp(), Centers()
    healthy(
        model, blobs(), loss_fn=loss_fn, optimizer=torch.optim.Adam([*model.parameters(), *loss_fn.parameters()], 1e-2)
    )
    assert not loss_fn.centers.any()
