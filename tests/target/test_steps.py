"""A training step that calls the model once and compares is taken apart, exactly; any other stays whole."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

import gradcheck_kit as gk
from gradcheck_kit.errors import ProbeError
from gradcheck_kit.facts import Evaluation
from gradcheck_kit.target import ProbeSettings, Target
from gradcheck_kit.target.prepare import prepare
from gradcheck_kit.target.steps import answering
from gradcheck_kit.target.workspace import workspace


def data(n=96, batch=16, **more):
    generator = torch.Generator().manual_seed(1)
    y = torch.randint(3, (n,), generator=generator)
    x = torch.randn(n, 6, generator=generator) + 3 * F.one_hot(y, 6)
    rows = [{"x": a, "y": b, **{key: make(b) for key, make in more.items()}} for a, b in zip(x, y, strict=True)]
    return DataLoader(rows, batch)


def pairs(n=96):
    return [(b["x"], b["y"]) for b in data(n)]


class Net(nn.Module):
    def __init__(self, outputs=3):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.5))
        self.head = nn.Linear(8, outputs)

    def forward(self, x):
        return self.head(self.body(x))


def prepared(step, train=None, model=None, test=None, **settings):
    torch.manual_seed(0)
    target = Target(model or Net(), train if train is not None else pairs(), test, training_step=step, name="it")
    return prepare(target, ProbeSettings(**settings))


def apart(step, *args, **kwargs):
    """The task of a target, which has to be in two halves."""
    task = prepared(step, *args, **kwargs).task
    assert task.of_step
    return task


def whole(step, *args, **kwargs):
    task = prepared(step, *args, **kwargs).task
    return not task.of_step and task.training_step is step


def plain(model, batch):
    x, y = batch
    return F.cross_entropy(model(x), y)


# ---- what is taken apart ----


def test_a_plain_step_has_an_input_and_a_target():
    task, batch = apart(plain), pairs()[0]
    assert task.inputs(batch)[0] is batch[0]
    assert task.target(batch) is batch[1]
    assert (task.loss_name, task.loss_fn.kind, task.classes_from) == ("training_step", "CrossEntropyLoss", "indices")


def test_the_halves_give_what_the_step_gives_bit_for_bit():
    ready, batch = prepared(plain), pairs()[3]
    results = []
    for by_halves in (False, True):
        with workspace(ready, seed=5) as work:
            loss = work.step(batch)[1] if by_halves else plain(work.model, batch)
            loss.backward()
            results.append([loss, *(p.grad for p in work.model.parameters()), *work.model.buffers()])
    assert all(map(torch.equal, *results))


def test_the_parts_of_a_dict_keep_their_names():
    def step(model, batch):
        return F.cross_entropy(model(batch["x"]), batch["y"])

    task, batch = apart(step, data()), next(iter(data()))
    assert list(task.inputs(batch)) == ["x"]
    assert task.target(batch) is batch["y"]


def test_labels_may_be_popped_off_the_batch():
    def step(model, batch):
        y = batch.pop("y")
        return F.cross_entropy(model(**batch), y)

    batch = next(iter(data()))
    assert apart(step, data()).target(batch) is batch["y"]


def test_weights_in_the_batch_are_no_target():
    def step(model, batch):
        return (F.cross_entropy(model(batch["x"]), batch["y"], reduction="none") * batch["w"]).mean()

    train = data(w=lambda y: 1.0 + y)
    batch = next(iter(train))
    assert apart(step, train).target(batch) is batch["y"]


def test_what_a_step_makes_of_the_input_belongs_to_the_step():
    def step(model, batch):
        x, y = batch
        return F.cross_entropy(model((x.view(x.size(0), -1) - 0.5) / 2.0), y)

    task, batch = apart(step), pairs()[0]
    assert task.inputs(batch)[0] is batch[0]
    assert torch.equal(task.form.split(batch)[0][0], (batch[0] - 0.5) / 2.0)


def test_a_loss_with_a_further_term_is_one_loss():
    def step(model, batch):
        x, y = batch
        penalty = sum(p.square().sum() for p in model.parameters())
        return F.cross_entropy(model(x), y) + 1e-3 * penalty

    assert apart(step).classes_from == "indices"


def test_the_target_may_be_a_part_of_what_the_model_is_given_another_part_of():
    tokens = [torch.arange(16).reshape(2, 8) % 5 for _ in range(3)]

    def step(model, batch):
        return F.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())

    task = apart(step, tokens, nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 5)))
    assert torch.equal(task.target(tokens[0]), tokens[0][:, 1:])
    assert task.classes_from == "indices"


def test_an_autoencoders_input_is_no_target():
    task = apart(lambda m, b: F.mse_loss(m(b[0]), b[0]), model=Net(6))
    assert task.target(pairs()[0]) is None


def test_an_unused_label_is_no_target():
    task = apart(lambda m, b: m(b[0]).square().mean())
    assert task.target(pairs()[0]) is None


def test_of_two_comparisons_that_of_the_output_itself_tells_the_target():
    def distilled(model, batch):
        out = model(batch["x"])
        soft = F.kl_div(F.log_softmax(out / 2, 1), batch["teacher"], reduction="batchmean")
        return F.cross_entropy(out, batch["y"]) + soft

    train = data(teacher=lambda y: F.one_hot(y, 3) * 0.7 + 0.1)
    batch = next(iter(train))
    assert apart(distilled, train).target(batch) is batch["y"]


def test_classes_that_the_step_changes_are_not_read():
    task = apart(lambda m, b: F.cross_entropy(m(b[0]), (b[1] + 1) % 3))
    batch = pairs()[0]
    assert task.target(batch) is batch[1]
    assert task.classes_from == ""


def test_several_tensors_of_which_none_is_compared_alone_are_the_target_together():
    def step(model, batch):
        reached = batch["r"] + 0.9 * batch["next"]
        return F.smooth_l1_loss(model(batch["x"])[:, 0], reached)

    train = data(r=lambda y: 1.0 * y, next=lambda y: 2.0 * y)
    batch = next(iter(train))
    assert all(a is batch[key] for a, key in zip(apart(step, train).target(batch), ("r", "next"), strict=True))


def test_labels_that_the_loss_ignores_are_no_class():
    task = apart(lambda m, b: F.cross_entropy(m(b[0]), b[1], ignore_index=2))
    x, y = pairs()[0]
    _, labels = task.classes(torch.randn(16, 3), (x, y))
    assert torch.equal(labels < 0, y == 2)


def test_a_step_under_autocast_keeps_it():
    def step(model, batch):
        with torch.autocast("cpu", torch.bfloat16):
            out = model(batch[0])
        return F.cross_entropy(out.float(), batch[1])

    task = apart(step)
    assert task.forward(Net(), pairs()[0]).dtype is torch.bfloat16


def test_a_difference_of_the_users_own_is_a_comparison():
    train = [(torch.randn(16, 6), torch.randn(16)) for _ in range(3)]
    task = apart(lambda m, b: (b[1] - m(b[0]).squeeze(1)).pow(2).mean(), train, Net(1))
    assert task.target(train[0]) is train[0][1]


# ---- what stays whole ----


def twice(model, batch):
    return F.cross_entropy(model(batch[0]) + model(batch[0]), batch[1])


def by_parts(model, batch):
    return F.cross_entropy(model.head(model.body(batch[0])), batch[1])


def beside(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1]) + model.body[0](batch[0]).square().mean()


def noise_outside(model, batch):
    noise = torch.randn_like(batch[0])
    return F.mse_loss(model(batch[0] + noise), noise[:, :3])


def changes_mode(model, batch):
    model.train()
    return plain(model, batch)


def steps_by_itself(model, batch):
    loss = plain(model, batch)
    grads = torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)
    with torch.no_grad():
        for p, g in zip(model.parameters(), grads, strict=True):
            p.data = p.data - 0.1 * g
    return loss


def asks_for_slopes(model, batch):
    x = batch[0].clone().requires_grad_()
    return torch.autograd.grad(model(x).sum(), x, create_graph=True)[0].square().mean()


def writes_into_the_batch(model, batch):
    batch[0].mul_(0.99)
    return plain(model, batch)


def without_the_batch(model, batch):
    return F.cross_entropy(model(torch.ones(16, 6)), batch[1])


@pytest.mark.parametrize(
    "step",
    [twice, by_parts, beside, noise_outside, changes_mode, steps_by_itself, asks_for_slopes, writes_into_the_batch,
     without_the_batch],
)  # fmt: skip
def test_it_stays_whole(step):
    assert whole(step)


def test_a_step_that_remembers_stays_whole():
    seen = []

    def step(model, batch):
        seen.append(len(seen))
        return plain(model, batch) * (1 + 0.1 * len(seen))

    assert whole(step)


def test_a_step_that_is_another_one_for_the_second_batch_stays_whole():
    first, *others = pairs()

    def step(model, batch):
        return plain(model, batch) if torch.equal(batch[0], first[0]) else twice(model, batch)

    assert whole(step, [first, *others])


def test_a_step_that_test_data_does_not_fit_stays_whole():
    assert whole(plain, test=[torch.randn(16, 6)])


# ---- the user's model ----


def state_of(model):
    return [(name, sorted(vars(module)), len(module._forward_hooks)) for name, module in model.named_modules()]


@pytest.mark.parametrize("copies", [True, False])
def test_the_model_is_left_as_it_was(copies):
    model = Net()
    if not copies:
        model.cache = (torch.ones(1, requires_grad=True) * 2,)  # no deep copy of it can be made
    before, values = state_of(model), [t.clone() for t in copy.deepcopy(model.state_dict()).values()]
    apart(plain, model=model)
    assert state_of(model) == before
    assert all(map(torch.equal, values, model.state_dict().values()))
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt])
def test_nothing_is_left_on_a_model_after_an_exception(kind):
    model = Net()
    model.cache = (torch.ones(1, requires_grad=True) * 2,)
    before, runs = state_of(model), []

    def step(model, batch):
        runs.append(1)
        out = model(batch[0])
        if len(runs) > 4:
            raise kind
        return F.cross_entropy(out, batch[1])

    if kind is KeyboardInterrupt:
        with pytest.raises(KeyboardInterrupt):
            prepared(step, model=model)
    else:
        assert whole(step, model=model)
    assert state_of(model) == before
    assert not nn.modules.module._global_forward_pre_hooks


def test_an_answer_goes_past_the_hooks_and_is_taken_away():
    model, seen = Net(), []
    model.register_forward_hook(lambda *_: seen.append(1))
    with answering(model, lambda x: x):
        assert model("as it came") == "as it came"
    assert "_compiled_call_impl" not in vars(model)
    assert not seen


# ---- labels that the loss refuses ----


def test_labels_that_the_step_refuses_are_a_finding():
    train = [(x, y + 1) for x, y in pairs()]
    report = gk.scan(Net(), train, training_step=plain, steps=6)
    (outcome,) = report.of("failed")
    assert outcome.rule.code == "GK508"
    assert "labels run from 1 to 3" in outcome.findings[0].message


def test_labels_of_a_later_batch_that_the_step_refuses_are_a_finding():
    train = pairs()
    train[-1][1][0] = 7
    report = gk.scan(Net(), train, training_step=plain, steps=12)
    assert [outcome.rule.code for outcome in report.of("failed")] == ["GK508"]


def test_a_step_that_raises_for_another_reason_ends_with_a_sentence():
    def step(model, batch):
        raise ValueError("tired")

    with pytest.raises(ProbeError, match="it: training_step raised ValueError: tired"):
        prepared(step)


# ---- end to end ----


class Noisy(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(6, 3)

    def forward(self, x):
        return self.net(F.dropout(x, 0.4))


def test_the_rules_that_need_an_output_and_a_target_run_for_a_training_step():
    report = gk.scan(Noisy(), pairs(), test_data=pairs(), training_step=plain, steps=20)
    assert [outcome.rule.code for outcome in report.of("failed")] == ["GK602"]
    passed = {outcome.rule.code for outcome in report.of("passed")}
    assert {"GK301", "GK404", "GK407", "GK504"} <= passed
    assert report.trace.header.loss == "training_step"


def test_accuracy_on_test_data_is_known_for_a_training_step():
    torch.manual_seed(0)
    report = gk.scan(nn.Linear(6, 3), pairs(), test_data=pairs(), training_step=plain, lr=0.1)
    assert report.trace.facts[Evaluation].accuracy > 0.8
