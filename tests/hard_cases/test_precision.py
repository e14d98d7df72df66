"""Types of numbers other than float32, and mixed precision: what is normal there, and what is still a fault."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import gradcheck_kit as gk
from gradcheck_kit.errors import UsageError
from gradcheck_kit.experiments import Probe
from gradcheck_kit.experiments.training import train
from gradcheck_kit.facts import Evaluation, OneBatchFit, Training
from gradcheck_kit.target import ProbeSettings, Target
from gradcheck_kit.target.prepare import prepare
from gradcheck_kit.target.workspace import workspace

AMP = ("bf16", "fp16")


def mlp(dtype=torch.float32):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 32), nn.LayerNorm(32), nn.ReLU(), nn.Linear(32, 4)).to(dtype)


class Cut(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(8, 16), nn.Linear(16, 4)

    def forward(self, x):
        return self.b(self.a(x).relu().detach())


class InfiniteSlope(nn.Module):
    """The square root of zero: NaN in every gradient, whatever it is scaled by."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(8, 16), nn.Linear(16, 4)

    def forward(self, x):
        h = self.a(x)
        return self.b(h + (h * 0).square().sum(1, keepdim=True).sqrt())


def records(report):
    return {p.name: p for p in report.trace.facts[Training].parameters}


# ---- the model's own type ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.case("float16, bfloat16 and float64 models", "seen")
def test_a_model_in_another_type_is_healthy(dtype, healthy, blobs):
    model = mlp(dtype)
    report = healthy(model, blobs(dtype=dtype), optimizer=torch.optim.SGD(model.parameters(), 0.05), steps=30)
    assert all(p.changed for p in records(report).values() if p.is_weight)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_a_fault_is_found_in_another_type(dtype, found, blobs):
    assert found(Cut().to(dtype), blobs(dtype=dtype)) == ["GK103"]


def test_updates_that_half_precision_rounds_away_are_found(found, blobs):
    model = mlp(torch.bfloat16)
    optimizer = torch.optim.SGD(model.parameters(), 1e-7)
    assert set(found(model, blobs(dtype=torch.bfloat16), optimizer=optimizer)) <= {"GK202", "GK204"}


class Complex(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, 16, dtype=torch.complex64) / 4)
        self.inner = nn.Linear(16, 16, dtype=torch.complex64)
        self.head = nn.Linear(16, 4)

    def forward(self, x):
        return self.head(self.inner(torch.fft.fft(x) @ self.weight).abs())


@pytest.mark.case("complex parameters", "seen")
def test_complex_parameters_are_healthy(healthy, blobs):
    model = Complex()
    report = healthy(model, blobs(), optimizer=torch.optim.Adam(model.parameters(), 1e-2))
    assert records(report)["inner.weight"].changed


def test_a_complex_parameter_that_the_optimizer_lacks_is_found(found, blobs):
    model = Complex()
    left = [p for n, p in model.named_parameters() if n != "inner.weight"]
    assert found(model, blobs(), optimizer=torch.optim.Adam(left, 1e-2))[0] == "GK201"


# ---- mixed precision ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("amp", AMP)
@pytest.mark.case("`--amp bf16`, `--amp fp16`", "gradients unscaled, skipped steps no fault")
def test_mixed_precision_is_healthy_in_every_experiment(amp, healthy, blobs):
    model = mlp()
    loader = blobs()
    report = healthy(
        model, loader, test_data=loader, optimizer=torch.optim.Adam(model.parameters(), 1e-2), amp=amp, steps=30
    )
    assert {Training, Evaluation, OneBatchFit} <= report.trace.facts.keys()
    assert report.trace.facts[Evaluation].deterministic
    assert f"probe   30 steps, Adam(lr=0.01), CrossEntropyLoss, {amp} autocast" in str(report)
    assert all(p.changed for p in records(report).values())


@pytest.mark.parametrize("amp", AMP)
def test_forward_and_loss_run_under_autocast_and_nothing_else_does(amp, healthy, blobs):
    seen = set()

    class Watching(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(8, 4)

        def forward(self, x):
            out = self.layer(x)
            seen.add(("forward", out.dtype))
            return out

    def loss_fn(output, target):
        seen.add(("loss", torch.is_autocast_enabled("cpu")))
        return F.cross_entropy(output, target)

    # Experiments that prove something exactly compute in float64, and say nothing of the precision in use.
    healthy(Watching(), blobs(), loss_fn=loss_fn, amp=amp, select=["GK1", "GK2", "GK6"])
    half = {"bf16": torch.bfloat16, "fp16": torch.float16}[amp]
    assert seen - {("loss", False)} == {("forward", half), ("loss", True)}
    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize("amp", AMP)
def test_a_cut_gradient_is_found_in_mixed_precision(amp, found, blobs):
    assert found(Cut(), blobs(), amp=amp) == ["GK103"]


@pytest.mark.parametrize("amp", AMP)
def test_gradients_are_reported_in_the_units_of_the_loss(amp, scan, blobs):
    def of(**options):
        facts = scan(mlp(), blobs(), **options).trace.facts[Training]
        return [r.gradient_rms[0] for r in (*facts.parameters, *facts.outputs)]

    assert of(amp=amp) == pytest.approx(of(), rel=0.05)


def skipping(factor):
    """A loss so large that the first scales overflow, as it is in the first steps of many a healthy run."""
    return lambda output, target: factor * F.cross_entropy(output, target)


def test_the_first_steps_that_the_scaler_skips_are_no_fault(healthy, blobs):
    model = mlp()
    report = healthy(
        model,
        blobs(),
        loss_fn=skipping(30.0),
        optimizer=torch.optim.Adam(model.parameters(), 1e-2),
        amp="fp16",
        steps=30,
    )
    training = report.trace.facts[Training]
    assert training.losses[1] != training.losses[0]
    assert training.recorded[0] > 0, "the first step was skipped, so it is not recorded"
    assert training.non_finite is None
    assert all(p.changed for p in records(report).values())


def test_a_run_of_which_every_step_is_skipped_gives_no_alarm(scan, blobs):
    report = scan(mlp(), blobs(), loss_fn=skipping(500.0), amp="fp16", steps=3)
    assert not report.failed, str(report)


@pytest.mark.parametrize("amp", AMP)
def test_a_gradient_that_is_not_finite_whatever_its_scale_is_found(amp, found, blobs):
    assert found(InfiniteSlope(), blobs(), amp=amp, ignore=["GK408"]) == ["GK106"]


def test_a_gradient_that_goes_bad_after_skipped_steps_is_found(scan, blobs):
    class Late(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.calls = nn.Linear(8, 16), nn.Linear(16, 4), 0

        def forward(self, x):
            self.calls += self.training
            h = self.a(x)
            return self.b(h + (h * 0).square().sum(1, keepdim=True).sqrt() if self.calls > 20 else h)

    report = scan(Late(), blobs(), loss_fn=skipping(30.0), amp="fp16", steps=40, ignore=["GK408"])
    assert [o.rule.code for o in report.causes] == ["GK106"]


def test_what_no_optimizer_owns_is_unscaled_too(blobs):
    model = mlp()
    target = Target(model, blobs(), loss_fn=nn.CrossEntropyLoss(), optimizer=torch.optim.Adam(model[3].parameters()))
    prepared = prepare(target, ProbeSettings(steps=3, amp="fp16"))
    with workspace(prepared) as work:
        batch = next(iter(prepared.train))
        gradients = []
        for scaled in (False, True):
            work.clear_gradients()
            _, loss = work.step(batch)
            if scaled:
                work.backward(loss)
                assert work.loss_scale == 2**16
                work.unscale()
                work.unscale()  # the second does nothing
            else:
                loss.backward()
            gradients.append([p.grad.clone() for p in work.model.parameters()])
        for plain, unscaled in zip(*gradients, strict=True):
            assert torch.allclose(plain, unscaled, rtol=1e-2, atol=1e-4)
        work.update(batch)
        assert not work.skipped


def test_the_same_seed_gives_the_same_run_in_mixed_precision(blobs):
    target = Target(mlp(), blobs(), loss_fn=skipping(30.0))
    probe = Probe(prepare(target, ProbeSettings(steps=8, amp="fp16")))
    assert train(probe) == train(probe)


@pytest.mark.parametrize("amp", AMP)
def test_lbfgs_and_several_optimizers_train_in_mixed_precision(amp, healthy, blobs):
    model = mlp()
    healthy(model, blobs(), optimizer=torch.optim.LBFGS(model.parameters(), 0.1, max_iter=3), amp=amp)
    pair = [torch.optim.SGD(model[0].parameters(), 0.05), torch.optim.Adam(model[1:].parameters(), 1e-2)]
    healthy(model, blobs(), optimizer=pair, amp=amp)


@pytest.mark.parametrize("amp", AMP)
def test_a_loss_that_is_made_up_fits_mixed_precision(amp, healthy, blobs):
    healthy(nn.Sequential(mlp(), nn.Linear(4, 1), nn.Sigmoid()), [(x, (y > 1).float()) for x, y in blobs()],
            loss_fn=None, amp=amp)  # fmt: skip


def test_weights_in_float16_and_a_scaler_get_one_sentence(blobs):
    with pytest.raises(UsageError, match=r"--amp fp16 keeps the weights in float32, and 0.weight is in float16"):
        gk.scan(mlp(torch.float16), blobs(), loss_fn=nn.CrossEntropyLoss(), amp="fp16")


def test_an_unknown_precision_gets_one_sentence(blobs):
    with pytest.raises(UsageError, match="amp is 'half'; use 'bf16' or 'fp16'"):
        gk.scan(mlp(), blobs(), amp="half")


def test_a_model_that_autocast_breaks_gets_one_sentence_that_says_so(scan, blobs):
    class Strict(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(8, 4)

        def forward(self, x):
            return torch.zeros(len(x), 4).index_add(0, torch.arange(len(x)), self.layer(x))

    with pytest.raises(
        gk.errors.ProbeError, match=r"must have the same scalar type .* under --amp bf16; leave that out"
    ):
        scan(Strict(), blobs(), amp="bf16")
