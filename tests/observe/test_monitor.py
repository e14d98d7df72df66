"""A training loop that is watched: it runs as if it were not, and the monitor says what a probe would say."""

from __future__ import annotations

import copy
import io
import pickle
import random
import sys
import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils.checkpoint import checkpoint

import gradcheck_kit as gk
from gradcheck_kit.errors import ProbeError, UsageError
from gradcheck_kit.facts import Training, Wiring
from gradcheck_kit.observe import loop as followed
from gradcheck_kit.observe.recorder import Recorder


def net(width=8, activation=nn.ReLU, depth=2):
    torch.manual_seed(0)
    layers = [part for _ in range(depth) for part in (nn.Linear(width, width), activation())]
    return nn.Sequential(*layers, nn.Linear(width, 3))


def batches(steps, width=8):
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        y = torch.randint(0, 3, (16,), generator=generator)
        yield torch.randn(16, width, generator=generator) + 3 * F.one_hot(y, width), y


def train(model, optimizer, steps=12, *, scaler=None, accumulate=1, factor=1.0):
    losses = []
    for i, (x, y) in enumerate(batches(steps * accumulate)):
        loss = factor * F.cross_entropy(model(x), y)
        (loss if scaler is None else scaler.scale(loss)).backward()
        losses.append(loss.item())
        if (i + 1) % accumulate:
            continue
        if scaler is None:
            optimizer.step()
        else:
            scaler.step(optimizer)
            scaler.update()
        optimizer.zero_grad()
    return losses


def sgd(model, **options):
    return torch.optim.SGD(model.parameters(), **{"lr": 0.1, **options})


def facts(monitor):
    return monitor.trace.facts[Training]


@pytest.fixture
def fresh_compiler():
    """A process that has compiled nothing, before and after."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    yield
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()


# ---- the run is the user's ----


@pytest.mark.parametrize("every", [None, 1])
def test_the_run_is_bit_for_bit_what_it_would_have_been(every):
    plain, watched = net(), net()
    plain.append(nn.Dropout(0.3))
    watched.append(nn.Dropout(0.3))
    torch.manual_seed(5)
    expected = train(plain, sgd(plain))
    state = torch.get_rng_state()
    torch.manual_seed(5)
    optimizer = sgd(watched)
    with gk.Monitor(watched, optimizer=optimizer, every=every):
        found = train(watched, optimizer)
    assert found == expected
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), watched.parameters(), strict=True))
    assert torch.equal(torch.get_rng_state(), state)


def hooks_anywhere(model):
    tables = [m.__dict__[name] for m in model.modules() for name in m.__dict__ if name.endswith("_hooks")]
    own = [p._backward_hooks for p in model.parameters()]
    module, optim = nn.modules.module, sys.modules["torch.optim.optimizer"]
    everyones = [module._global_forward_hooks, module._global_forward_pre_hooks, optim._global_optimizer_pre_hooks,
                 optim._global_optimizer_post_hooks]  # fmt: skip
    return any(tables) or any(own) or any(everyones) or torch.overrides._len_torch_function_stack() > 0


@pytest.mark.parametrize("how", ["as usual", "exception", "interrupt", "interrupt in forward"])
def test_no_hook_is_left_however_the_loop_ends(how):
    class Stopping(nn.Module):
        def forward(self, x):
            if how == "interrupt in forward":
                raise KeyboardInterrupt
            return x

    model, before = net(), torch.Tensor.backward
    model.append(Stopping())
    optimizer = sgd(model)

    def run():
        with gk.Monitor(model, optimizer=optimizer):
            train(model, optimizer, 3)
            if how == "exception":
                raise ValueError
            if how == "interrupt":
                raise KeyboardInterrupt

    if how == "as usual":
        run()
    else:
        with pytest.raises((ValueError, KeyboardInterrupt)):
            run()
    assert torch.Tensor.backward is before
    assert not hooks_anywhere(model)


def test_watching_goes_on_after_an_interrupted_forward():
    model, optimizer = net(), None
    optimizer = sgd(model)
    with gk.Monitor(model, optimizer=optimizer, every=1) as monitor:
        handle = model[2].register_forward_hook(lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train(model, optimizer, 1)
        handle.remove()
        train(model, optimizer, 5)
    assert facts(monitor).recorded == (0, 1, 2, 3, 4)
    assert all(g is not None for o in facts(monitor).outputs if o.module == "0" for g in o.gradient_rms[1:])


def test_nothing_hangs_on_the_model_meanwhile_so_it_can_be_copied_and_saved():
    model = net()
    optimizer = sgd(model)
    with gk.Monitor(model, optimizer=optimizer, every=1) as monitor:
        train(model, optimizer, 2)
        assert not any(table for m in model.modules() for name, table in m.__dict__.items() if name.endswith("_hooks"))
        twin, again = copy.deepcopy(model), pickle.loads(pickle.dumps(model))
        torch.save(model, io.BytesIO())
        model.load_state_dict(twin.state_dict())
        train(twin, sgd(twin), 2)
        train(again, sgd(again), 2)
    assert monitor.steps == 2
    assert all(torch.equal(a, b) for a, b in zip(twin.parameters(), again.parameters(), strict=True))


# ---- what is seen ----


def test_measures_what_autograd_and_the_optimizer_make():
    model = nn.Linear(8, 3, bias=False)
    before = model.weight.detach().clone()
    ((x, y),) = batches(1)
    with gk.Monitor(model) as monitor:
        optimizer = sgd(model, lr=0.5)
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        gradient = model.weight.grad.clone()
        optimizer.step()
    (record,) = facts(monitor).parameters
    rms = float(gradient.square().mean().sqrt())
    assert record.gradient_rms == (pytest.approx(rms, rel=1e-5),)
    assert record.update_rms == (pytest.approx(0.5 * rms, rel=1e-4),)
    assert record.weight_rms == (pytest.approx(float(before.square().mean().sqrt()), rel=1e-5),)
    assert record.changed is True
    assert record.optimized is True
    assert facts(monitor).losses == (loss.item(),)
    (output,) = facts(monitor).outputs
    assert output.output_rms == (pytest.approx(float((x @ before.T).square().mean().sqrt()), rel=1e-5),)
    slope = (torch.softmax(x @ before.T, 1) - F.one_hot(y, 3)) / len(y)
    assert output.gradient_rms == (pytest.approx(float(slope.square().mean().sqrt()), rel=1e-4),)


def test_finds_what_a_probe_finds_and_is_silent_on_a_healthy_loop():
    healthy = net(depth=4)
    with gk.Monitor(healthy) as monitor:
        train(healthy, sgd(healthy), 60)
    assert [o.rule.name for o in monitor.report().outcomes if o.hit] == []
    broken = net(activation=nn.Sigmoid, depth=9)
    with gk.Monitor(broken) as monitor:
        train(broken, sgd(broken, lr=0.01), 60)
    report = monitor.report()
    assert report.causes[0].rule.name == "vanishing-gradient"
    assert "watched 60 steps, 20 of them recorded, SGD(lr=0.01)" in str(report)
    assert report.trace.header.seed is None


def test_names_a_parameter_that_no_optimizer_owns():
    model = net()
    optimizer = torch.optim.SGD(model[:4].parameters(), lr=0.1)
    with gk.Monitor(model, optimizer=optimizer) as monitor:
        train(model, optimizer, 20)
    report = monitor.report()
    assert [o.rule.name for o in report.failed] == ["not-optimized"]
    assert {p.name for p in report.trace.facts[Wiring].parameters if not p.optimized} == {"4.weight", "4.bias"}


def test_the_report_can_be_asked_for_while_the_loop_runs():
    model = net()
    optimizer = sgd(model)
    with gk.Monitor(model) as monitor:
        train(model, optimizer, 12)
        assert facts(monitor).planned_steps == 12
        train(model, optimizer, 12)
    assert facts(monitor).planned_steps == 24
    assert monitor.report(select=["GK101"]).outcomes[0].rule.code == "GK101"


def test_a_monitor_that_saw_no_step_says_so():
    with gk.Monitor(net(), name="my model") as monitor, torch.no_grad():
        monitor  # noqa: B018
    with pytest.raises(ProbeError, match="the monitor of my model has seen no training step"):
        monitor.report()


def test_it_says_what_it_cannot_watch():
    with pytest.raises(UsageError, match=r"Monitor watches a torch\.nn\.Module, not a str"):
        gk.Monitor("model")
    with pytest.raises(UsageError, match="optimizer is a float"):
        gk.Monitor(net(), optimizer=0.1)
    with pytest.raises(UsageError, match="every is 0; use 1 to record every step"):
        gk.Monitor(net(), every=0)
    monitor = gk.Monitor(net())
    with monitor, pytest.raises(UsageError, match="is watching already"):
        monitor.start()


def test_passes_without_gradients_and_validation_are_not_mistaken_for_training():
    model = net()
    optimizer = sgd(model)
    big = 1000 * torch.ones(4, 8)
    with gk.Monitor(model, optimizer=optimizer, every=1) as monitor:
        for x, y in batches(6):
            with torch.no_grad():
                model(big)
            model.eval()
            model(big)  # somebody forgot no_grad
            model.train()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            optimizer.zero_grad()
    first = facts(monitor).outputs[0]
    assert all(value < 100 for value in first.output_rms)
    assert all(value is not None for value in first.gradient_rms)


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_checkpointed_block_is_seen_once_and_with_its_gradient(reentrant):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.body, self.head = nn.Linear(8, 8), net(), nn.Linear(3, 3)

        def forward(self, x):
            return self.head(checkpoint(self.body, self.stem(x), use_reentrant=reentrant))

    model = Net()
    with gk.Monitor(model, every=1) as monitor:
        train(model, sgd(model), 5)
    assert [o.module for o in facts(monitor).outputs] == ["stem", *(f"body.{i}" for i in range(5)), "head"]
    assert all(o.gradient_rms[0] for o in facts(monitor).outputs)
    assert all(m.calls == 1 for m in monitor.trace.facts[Wiring].modules)


def test_a_module_that_forward_keeps_in_a_list_is_named():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.hidden, self.head = [nn.Linear(8, 8)], nn.Linear(8, 3)

        def forward(self, x):
            return self.head(self.hidden[0](x).relu())

    model = Net()
    with gk.Monitor(model) as monitor:
        train(model, sgd(model), 12)
    assert [f.where for o in monitor.report().failed for f in o.findings] == ["hidden[0]"]


# ---- loops of all kinds ----


def test_steps_are_updates_and_accumulated_losses_are_averaged():
    model = net()
    optimizer = sgd(model)
    with gk.Monitor(model, optimizer=optimizer, every=1) as monitor:
        losses = train(model, optimizer, 5, accumulate=3)
    assert monitor.steps == 5
    assert facts(monitor).losses == pytest.approx([sum(losses[i : i + 3]) / 3 for i in range(0, 15, 3)])


@pytest.mark.parametrize("fused", [False, True])
def test_a_scaler_is_found_and_divided_out(fused):
    plain, scaled = net(), net()
    optimizer = torch.optim.Adam(plain.parameters(), lr=1e-3, fused=fused)
    with gk.Monitor(plain, every=1) as expected:
        losses = train(plain, optimizer, 6)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10, growth_interval=2)
    optimizer = torch.optim.Adam(scaled.parameters(), lr=1e-3, fused=fused)
    with gk.Monitor(scaled, every=1) as monitor:
        train(scaled, optimizer, 6, scaler=scaler)
    assert facts(monitor).losses == pytest.approx(losses, rel=1e-4)
    for ours, theirs in zip(facts(monitor).parameters, facts(expected).parameters, strict=True):
        assert ours.gradient_rms == pytest.approx(theirs.gradient_rms, rel=1e-3)
    for ours, theirs in zip(facts(monitor).outputs[::2], facts(expected).outputs[::2], strict=True):
        assert ours.gradient_rms == pytest.approx(theirs.gradient_rms, rel=1e-3)


def test_a_step_that_the_scaler_skips_is_no_step_and_no_fault():
    model = net()
    optimizer = sgd(model, lr=1e-3)
    scaler = torch.amp.GradScaler("cpu", init_scale=3e38)
    with gk.Monitor(model, every=1) as monitor:
        train(model, optimizer, 40, scaler=scaler, factor=100.0)
    assert 0 < monitor.steps < 40
    assert facts(monitor).finite
    assert [o.rule.name for o in monitor.report().outcomes if o.status == "failed"] == []


def test_a_closure_is_one_step_whatever_it_evaluates():
    model = net()
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=4)
    first = []
    with gk.Monitor(model, optimizer=optimizer, every=1) as monitor:
        for x, y in batches(4):
            seen = []

            def closure(x=x, y=y, seen=seen):
                optimizer.zero_grad()
                loss = F.cross_entropy(model(x), y)
                loss.backward()
                seen.append(loss.item())
                return loss

            optimizer.step(closure)
            first.append(seen[0])
    assert monitor.steps == 4
    assert facts(monitor).losses == pytest.approx(first)
    assert all(g for p in facts(monitor).parameters for g in p.gradient_rms)


def test_several_optimizers_make_one_step_together():
    model = net()
    optimizers = [sgd(model[:2]), sgd(model[2:], lr=0.01)]
    with gk.Monitor(model, optimizer=optimizers, every=1) as monitor:
        for x, y in batches(5):
            F.cross_entropy(model(x), y).backward()
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
    assert monitor.steps == 5
    assert all(u for p in facts(monitor).parameters for u in p.update_rms)
    assert facts(monitor).learning_rates == (0.1, 0.01)


def test_another_models_optimizer_and_loss_are_not_this_ones():
    ours, theirs = net(), net()
    optimizer, other = sgd(ours), sgd(theirs)
    losses = []
    with gk.Monitor(ours, every=1) as monitor:
        for x, y in batches(5):
            (1000 * F.cross_entropy(theirs(x), y)).backward()
            other.step()
            loss = F.cross_entropy(ours(x), y)
            loss.backward()
            losses.append(loss.item())
            optimizer.step()
            optimizer.zero_grad()
    assert monitor.steps == 5
    assert list(facts(monitor).losses) == losses


def test_two_models_are_watched_side_by_side():
    one, other = net(), net(depth=3)
    with gk.Monitor(one) as first, gk.Monitor(other) as second:
        train(one, sgd(one), 4)
        train(other, sgd(other), 6)
    assert (first.steps, second.steps) == (4, 6)
    assert len(facts(first).outputs) == 5
    assert len(facts(second).outputs) == 7


def test_a_lazy_model_is_watched_once_it_has_its_shapes():
    model = nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(3))
    with gk.Monitor(model, every=1) as monitor:
        ((x, _y),) = batches(1)
        model(x)
        train(model, sgd(model), 4)
    assert facts(monitor).recorded == (1, 2, 3)
    assert len(facts(monitor).losses) == 4


def test_a_schedules_highest_rate_is_the_one_that_is_told():
    model = net()
    optimizer = sgd(model)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10)
    with gk.Monitor(model) as monitor:
        for x, y in batches(10):
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
            schedule.step()
    assert facts(monitor).learning_rates == (0.1,)
    assert monitor.trace.header.optimizer == "SGD(lr=0.1)"


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # dynamo's own
@pytest.mark.parametrize("how", ["module", "in place", "part"])
def test_of_a_compiled_model_gradients_are_seen_and_it_is_compiled_once(how, fresh_compiler):
    compilations = []

    def backend(graph, _inputs):
        compilations.append(graph)
        return graph.forward

    model = net()
    if how == "module":
        watched = torch.compile(model, backend=backend)
    elif how == "in place":
        model.compile(backend=backend)
        watched = model
    else:
        model[2] = torch.compile(model[2], backend=backend)
        watched = model
    with gk.Monitor(watched, every=2) as monitor:
        train(watched, sgd(watched), 8)
    assert len(compilations) == 1
    assert all(g for p in facts(monitor).parameters for g in p.gradient_rms)
    assert monitor.trace.header.supplied == (
        "the model is compiled: gradients and updates are seen, what its layers put out is not",
    )
    assert "_orig_mod" not in " ".join(p.name for p in facts(monitor).parameters)


def test_the_step_in_which_a_nan_began_is_bounded():
    model = net()
    optimizer = sgd(model)
    with gk.Monitor(model) as monitor:
        train(model, optimizer, 21)
        with torch.no_grad():
            model[2].weight.fill_(float("nan"))
        train(model, optimizer, 10)
    bad = facts(monitor).non_finite
    assert (bad.kind, bad.where, bad.earliest, bad.step) == ("parameter", "0.weight", 21, 24)
    (finding,) = [f for o in monitor.report().outcomes if o.rule.name == "non-finite" for f in o.findings]
    assert finding.message.startswith("The first tensor that is not finite is parameter 0.weight, between steps 21 and")


# ---- length ----


def test_recorded_steps_thin_out_as_the_run_goes_on():
    model = nn.Linear(2, 2)
    optimizer = sgd(model)
    with gk.Monitor(model) as monitor:
        for _ in range(3000):
            model(torch.ones(1, 2)).sum().backward()
            optimizer.step()
    recorded = facts(monitor).recorded
    assert recorded[:12] == (0, 1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14)
    assert recorded[-3:] == (2048, 2560) or recorded[-1] == 2560
    assert len(recorded) <= 8 + 4 * 9
    assert facts(monitor).loss_window == 2
    assert len(facts(monitor).losses) == 1500
    assert facts(monitor).loss_steps == 3000


def test_steps_that_somebody_chose_thin_out_under_a_cap(monkeypatch):
    monkeypatch.setattr(followed, "MOST_ROWS", 8)
    model = nn.Linear(2, 2)
    optimizer = sgd(model)
    with gk.Monitor(model, every=1) as monitor:
        for _ in range(40):
            model(torch.ones(1, 2)).sum().backward()
            optimizer.step()
    assert facts(monitor).recorded == (0, 8, 16, 24, 32)


class Reads(TorchFunctionMode):
    """Counts the calls that make a device wait."""

    WAITING = ("item", "tolist", "cpu", "numpy", "__bool__", "__float__", "__int__", "__index__", "nonzero", "equal")

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if getattr(func, "__name__", "") in self.WAITING:
            self.seen.append(func.__name__)
        return func(*args, **(kwargs or {}))


def test_a_recorded_step_waits_for_the_device_once_and_no_other_does():
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    data = list(batches(32))

    def run(watched):
        with Reads() as reads:
            counts = []
            for x, y in data:
                before = len(reads.seen)
                F.cross_entropy(model(x), y).backward()
                optimizer.step()
                optimizer.zero_grad()
                counts.append(len(reads.seen) - before)
        return counts

    plain = run(watched=False)
    with gk.Monitor(model, optimizer=optimizer) as monitor:
        watched = run(watched=True)
    recorded = facts(monitor).recorded
    assert [w - p for w, p in zip(watched, plain, strict=True)] == [int(step in recorded) for step in range(32)]


# ---- faults of ours ----


def test_a_fault_of_the_monitor_is_one_warning_and_the_training_goes_on(monkeypatch):
    def broken(*_args, **_kwargs):
        raise RuntimeError("no luck")

    monkeypatch.setattr(Recorder, "read", broken)
    model, twin = net(), net()
    expected = train(twin, sgd(twin))
    with (
        pytest.warns(RuntimeWarning, match=r"ended at step 0 \(RuntimeError: no luck\); the training is not") as caught,
        gk.Monitor(model),
    ):
        found = train(model, sgd(model))
    assert len(caught) == 1
    assert found == expected
    assert not hooks_anywhere(model)


def test_it_is_no_exception_where_warnings_are_errors(monkeypatch, capsys):
    monkeypatch.setattr(Recorder, "read", lambda *_, **__: 1 / 0)
    model = net()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with gk.Monitor(model):
            train(model, sgd(model))
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_a_place_that_cannot_be_measured_is_left_out_and_the_others_are_seen():
    class Odd(torch.Tensor):
        def as_strided(self, *_):
            raise RuntimeError("no strides here")

        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            if getattr(func, "__name__", "") == "detach":
                raise RuntimeError("not detached")
            return super().__torch_function__(func, types, args, kwargs or {})

    class Wrap(nn.Linear):
        def forward(self, x):
            return super().forward(x).as_subclass(Odd)

    class Unwrap(nn.Module):
        def forward(self, x):
            return x.as_subclass(torch.Tensor)

    model = nn.Sequential(nn.Linear(8, 8), Wrap(8, 8), Unwrap(), nn.Linear(8, 3))
    with (
        pytest.warns(RuntimeWarning, match=r"watching 1 ended \(RuntimeError: not detached\)"),
        gk.Monitor(model, every=1) as monitor,
    ):
        train(model, sgd(model), 4)
    assert {o.module for o in facts(monitor).outputs if all(v is not None for v in o.output_rms)} >= {"0", "3"}
    assert "1 is not watched: not detached" in monitor.trace.header.supplied


def test_random_numbers_are_the_loops_own():
    model = net()
    state = random.getstate()
    with gk.Monitor(model):
        torch.manual_seed(3)
        train(model, sgd(model), 3)
        drawn = torch.rand(())
    torch.manual_seed(3)
    assert drawn == torch.rand(())
    assert random.getstate() == state


def test_a_loss_that_competes_with_another_need_not_fall():
    torch.manual_seed(0)
    generator, critic = nn.Linear(4, 2), nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 1))
    pair = nn.ModuleList([generator, critic])
    ours, theirs = sgd(generator, lr=0.01), sgd(critic, lr=0.05)
    with gk.Monitor(generator) as one, gk.Monitor(pair, optimizer=[theirs, ours]) as both:
        for _ in range(40):
            fake = generator(torch.randn(16, 4))
            (F.softplus(critic(fake.detach())) + F.softplus(-critic(torch.randn(16, 2) + 2))).mean().backward()
            theirs.step()
            theirs.zero_grad()
            F.softplus(-critic(fake)).mean().backward()
            ours.step()
            ours.zero_grad()
    assert torch.overrides._len_torch_function_stack() == 0
    assert torch._dynamo.eval_frame._stance.stance == "default"
    for monitor in (one, both):
        assert monitor.steps == 40
        assert facts(monitor).competing
        assert [o.rule.name for o in monitor.report().outcomes if o.hit] == []


def test_one_loss_for_several_optimizers_does_not_compete():
    model = net()
    optimizers = [sgd(model[:2]), sgd(model[2:])]
    with gk.Monitor(model, optimizer=optimizers) as monitor:
        for x, y in batches(3):
            F.cross_entropy(model(x), y).backward()
            for optimizer in optimizers:
                optimizer.step()
                optimizer.zero_grad()
    assert not facts(monitor).competing


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # dynamo's own
@pytest.mark.parametrize("compiled_before", [False, True])
@pytest.mark.parametrize("what", ["a step", "a part"])
def test_what_is_compiled_is_compiled_once_more_at_most(what, compiled_before, fresh_compiler):
    compilations = []

    def backend(graph, _inputs):
        compilations.append(graph)
        return graph.forward

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.head = nn.Linear(8, 8), nn.Linear(8, 3)
            self.middle = torch.compile(self.inner, backend=backend) if what == "a part" else self.inner

        def inner(self, x):
            return F.gelu(self.body(x))

        def forward(self, x):
            return self.head(self.middle(x))

    model = Net()
    optimizer = sgd(model)

    def loss_of(x, y):
        return F.cross_entropy(model(x), y)

    if what == "a step":
        loss_of = torch.compile(loss_of, backend=backend)

    def run():
        for x, y in batches(8):
            loss_of(x, y).backward()
            optimizer.step()
            optimizer.zero_grad()

    if compiled_before:
        run()
        assert len(compilations) == 1
    with gk.Monitor(model, every=2) as monitor:
        run()
    run()
    assert len(compilations) <= 2
    assert all(g for p in facts(monitor).parameters for g in p.gradient_rms)
    assert torch._dynamo.eval_frame._stance.stance == "default"
    seen = {o.module for o in facts(monitor).outputs}
    # A part that was not compiled yet runs as it was written in the first step, so that only the others are.
    assert seen == (set() if what == "a step" else {"head"} if compiled_before else {"body", "head"})
