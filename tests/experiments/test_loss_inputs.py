"""What the loss is given, and what makes it so."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gradcheck_kit.experiments import NotApplicable
from gradcheck_kit.experiments.loss_inputs import look_at_loss_inputs
from gradcheck_kit.rules.redundant_softmax import redundant_softmax
from gradcheck_kit.rules.wrong_output_activation import wrong_output_activation
from gradcheck_kit.testing import judge


def batches(target=None, features=10, classes=4):
    """Four batches of sixteen; `target(x, y)` is in the place of the class indices."""
    torch.manual_seed(0)
    pairs = [(torch.randn(16, features), torch.randint(0, classes, (16,))) for _ in range(4)]
    return pairs if target is None else [(x, target(x, y)) for x, y in pairs]


def inputs(probe_of, model, loss_fn, data=None, **given):
    return look_at_loss_inputs(probe_of(model, train=batches() if data is None else data, loss_fn=loss_fn, **given))


def linear(*after, width=4):
    return nn.Sequential(nn.Linear(10, width), *after)


def binary(_x, y):
    return (y > 1).float()[:, None]


class Functional(nn.Module):
    def __init__(self, function, width=4):
        super().__init__()
        self.head, self.function = nn.Linear(10, width), function

    def forward(self, x):
        return self.function(self.head(x))


class Cosines(nn.Module):
    """Scores that are cosines with a prototype of each class, times a factor."""

    def __init__(self, product, factor=None, normalize=F.normalize):
        super().__init__()
        self.prototypes, self.product, self.factor = nn.Parameter(torch.randn(4, 10)), product, factor
        self.normalize = normalize

    def forward(self, x):
        scores = self.product(self.normalize(x), F.normalize(self.prototypes))
        return scores if self.factor is None else self.factor * scores


def compared(x, prototypes):
    return F.cosine_similarity(x[:, None], prototypes, dim=-1)


@pytest.mark.parametrize("product", [F.linear, lambda x, w: x @ w.T, lambda x, w: torch.mm(x, w.t()), compared])
def test_knows_cosines_in_the_place_of_logits(product, probe_of):
    (one,) = inputs(probe_of, Cosines(product), nn.CrossEntropyLoss()).inputs
    assert one.activation == "cosine"
    assert one.activation_at.startswith("cosine in forward (test_loss_inputs.py:")


def test_takes_nothing_for_cosines_whose_learned_scale_is_1_at_the_start(probe_of):
    class Proxies(nn.Module):
        def __init__(self):
            super().__init__()
            self.proxies, self.log_scale = nn.Parameter(torch.randn(4, 10)), nn.Parameter(torch.zeros(()))

        def forward(self, embedding, y):
            scaled = self.log_scale.exp() * F.normalize(embedding)
            return F.cross_entropy(scaled @ F.normalize(self.proxies).T, y)

    (one,) = inputs(probe_of, linear(width=10), Proxies()).inputs
    assert one.activation == ""


@pytest.mark.parametrize(
    "model", [Cosines(F.linear, 10.0), Cosines(F.linear, normalize=lambda x: x), Cosines(F.linear, torch.ones(()))]
)
def test_takes_nothing_for_cosines_that_is_scaled_or_not_normalised(model, probe_of):
    (one,) = inputs(probe_of, model, nn.CrossEntropyLoss()).inputs
    assert one.activation == ""


@pytest.mark.parametrize(
    ("model", "where"),
    [
        (linear(nn.Softmax(1)), "1"),
        (Functional(lambda h: h.softmax(1)), "softmax in forward (test_loss_inputs.py:"),
        (linear(nn.Unflatten(1, (4, 1)), nn.Softmax(1), nn.Flatten()), "2"),
    ],
)
def test_knows_which_function_made_the_output_and_where(model, where, probe_of):
    facts = inputs(probe_of, model, nn.CrossEntropyLoss())
    (one,) = facts.inputs
    assert (one.operation, one.activation, one.classes, one.normalized) == ("cross_entropy", "softmax", 4, True)
    assert one.activation_at.startswith(where)
    assert facts.passes == 3


@pytest.mark.parametrize(
    ("function", "name"),
    [(torch.sigmoid, "sigmoid"), (F.relu, "relu"), (torch.tanh, "tanh"), (F.softplus, "softplus"), (F.gelu, "")],
)
def test_names_only_activations_whose_range_it_knows(function, name, probe_of):
    (one,) = inputs(probe_of, Functional(function), nn.CrossEntropyLoss()).inputs
    assert one.activation == name
    assert not one.normalized


def test_proves_a_sum_of_one_that_no_softmax_made(probe_of):
    model = Functional(lambda h: h.exp() / h.exp().sum(1, keepdim=True))
    (one,) = inputs(probe_of, model, nn.CrossEntropyLoss()).inputs
    assert one.normalized
    assert one.activation == ""


def test_takes_a_sum_of_one_by_chance_for_what_it_is(probe_of):
    model = linear()
    nn.init.zeros_(model[0].weight)
    nn.init.constant_(model[0].bias, 0.25)
    facts = inputs(probe_of, model, nn.CrossEntropyLoss())
    assert facts.passes == 2
    assert not facts.inputs[0].normalized


def test_looks_once_where_there_is_nothing_to_prove(probe_of):
    assert inputs(probe_of, linear(), nn.CrossEntropyLoss()).passes == 1


def test_leaves_out_what_the_loss_does_not_depend_on(probe_of):
    def loss_fn(out, y):
        F.cross_entropy(out.softmax(1), y)  # a number for a log
        return F.cross_entropy(out, y)

    found = inputs(probe_of, linear(), loss_fn).inputs
    assert [(one.operation, one.normalized) for one in found] == [("cross_entropy", False)]


def test_says_how_much_of_the_target_is_out_of_range(probe_of):
    (one,) = inputs(probe_of, linear(nn.ReLU(), width=10), nn.MSELoss(), batches(lambda x, _: x)).inputs
    assert 0.3 < one.unreachable < 0.7
    assert one.target_minimum < 0 < one.target_maximum


@pytest.mark.parametrize(("function", "share"), [(F.relu, 1.0), (torch.tanh, 0.3)])
def test_says_it_of_the_means_of_a_mixture(function, share, probe_of):
    def nearest(means, y):
        return (y - means).square().min(1).values.mean()

    data = [(x, -x[:, :1].abs() - 0.5) for x, _ in batches()]
    (one,) = inputs(probe_of, Functional(function), nearest, data).inputs
    assert one.operation == "sub"
    assert one.unreachable > share


def test_does_not_count_targets_that_are_masked(probe_of):
    def masked(out, y):
        return ((out - y).square() * (y >= 0)).sum() / (y >= 0).sum()

    data = batches(lambda x, _: torch.where(x > 0, x, -100.0))
    (one,) = inputs(probe_of, linear(nn.ReLU(), width=10), masked, data).inputs
    assert one.unreachable == 0
    assert one.target_minimum > 0


@pytest.mark.parametrize(
    ("targets", "total"),
    [([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]], 2.0), ([[1.0, 0.0, 0.0], [0.3, 0.3, 0.4]], 1.0)],
)
def test_says_what_the_targets_of_a_sample_add_up_to(targets, total, probe_of):
    torch.manual_seed(0)
    batches = [(torch.randn(8, 5), torch.tensor(targets * 4))] * 2
    model = nn.Sequential(nn.Linear(5, 3), nn.Softmax(1))
    (one,) = look_at_loss_inputs(probe_of(model, train=batches, loss_fn=nn.BCELoss())).inputs
    assert one.target_sum == pytest.approx(total)


def test_leaves_the_model_as_it_was(probe_of):
    model = linear(nn.Softmax(1))
    before = model[0].weight.detach().clone()
    inputs(probe_of, model, nn.CrossEntropyLoss())
    assert torch.equal(model[0].weight, before)
    assert model[0].weight.grad is None


def test_sees_a_softmax_too_many_in_a_training_step(probe_of):
    def step(model, batch):
        x, y = batch
        return F.cross_entropy(model(x), y)

    facts = inputs(probe_of, linear(nn.Softmax(1)), None, training_step=step)
    assert judge(redundant_softmax, facts).status == "failed"


@pytest.mark.parametrize(
    ("last", "status"), [(nn.Softmax(-1), "failed"), (nn.Identity(), "failed"), (nn.LogSoftmax(-1), "passed")]
)
def test_sees_what_a_connectionist_temporal_classification_is_given(last, status, probe_of):
    def step(model, batch):
        x, _ = batch  # (16, 40): four frames of ten numbers
        frames = model(x.reshape(16, 4, 10)).transpose(0, 1)
        return F.ctc_loss(frames, torch.ones(16, 2).long(), torch.full((16,), 4), torch.full((16,), 2), blank=0)

    facts = inputs(probe_of, linear(last), None, batches(features=40), training_step=step)
    assert facts.inputs[0].operation == "ctc_loss"
    assert judge(wrong_output_activation, facts).status == status


def test_sees_it_in_a_model_that_brings_its_own_loss(probe_of):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(10, 4)

        def forward(self, x, labels=None):
            p = self.head(x).softmax(-1)
            return {"logits": p, "loss": F.cross_entropy(p, labels)}

    data = [{"x": x, "labels": y} for x, y in batches()]
    facts = look_at_loss_inputs(probe_of(Net(), train=data))
    assert judge(redundant_softmax, facts).status == "failed"


@pytest.mark.parametrize("shape", [(5000, 300), (40, 300, 100)])
def test_looks_at_some_samples_of_a_large_output(shape, probe_of):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.scores = nn.Parameter(torch.randn(shape))

        def forward(self, x):
            return (self.scores * x[0, 0]).softmax(1)

    data = [(torch.randn(1, 1), torch.randint(0, 300, (shape[0], *shape[2:]))) for _ in range(3)]
    (one,) = inputs(probe_of, Net(), nn.CrossEntropyLoss(), data).inputs
    assert one.normalized
    assert one.shape == shape


@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_proves_it_in_mixed_precision(amp, probe_of):
    facts = inputs(probe_of, linear(nn.Softmax(1)), nn.CrossEntropyLoss(), amp=amp)
    assert judge(redundant_softmax, facts).status == "failed"


def test_does_not_apply_where_other_weights_are_refused(probe_of):
    model = Functional(lambda h: h.softmax(1))
    model.register_buffer("start", model.head.weight.detach().clone())

    def only_these(module, _args):
        if not torch.equal(module.head.weight, module.start):
            raise ValueError

    model.register_forward_pre_hook(only_these)
    with pytest.raises(NotApplicable, match="cannot be watched"):
        inputs(probe_of, model, nn.CrossEntropyLoss())


def test_does_not_judge_a_loss_that_nobody_chose(probe_of):
    with pytest.raises(NotApplicable, match="no loss was given"):
        look_at_loss_inputs(probe_of(linear(nn.Tanh()), train=batches()))


def test_does_not_judge_targets_that_were_made_up(probe_of):
    probe = probe_of(linear(nn.Sigmoid(), width=10), train=batches(lambda x, _: x), loss_fn=nn.MSELoss())
    probe.prepared = replace(probe.prepared, synthetic=True)
    (one,) = look_at_loss_inputs(probe).inputs
    assert one.activation == "sigmoid"
    assert (one.target_minimum, one.unreachable) == (None, None)


# ---- healthy programs that a careless rule would fail ----


def distillation(out, y):
    teacher = torch.randn(16, 4).softmax(1)
    hard, soft = F.cross_entropy(out, y), F.kl_div((out / 2).log_softmax(1), teacher, reduction="batchmean")
    return hard + 4 * soft + F.cross_entropy(out, teacher)


def dice(out, y):
    p, wanted = out, F.one_hot(y, 4).float()
    return 1 - 2 * (p * wanted).sum() / (p + wanted).sum()


def focal(out, y):
    p = out.log_softmax(1).gather(1, y[:, None])
    return -((1 - p.exp()) ** 2 * p).mean()


def masked_binary(out, y):
    return (F.binary_cross_entropy_with_logits(out, y, reduction="none") * (y >= 0)).sum()


def adversarial(model, batch):
    x, _ = batch
    real, fake = model(x), model(torch.randn_like(x))
    return F.binary_cross_entropy(real, torch.ones_like(real)) + F.binary_cross_entropy(fake, torch.zeros_like(fake))


def matting(model, batch):
    x, _ = batch
    return ((x - model(x)) * 0.5).square().mean()


def ordinal(out, y):
    levels = (y[:, None] > torch.arange(4)).float()
    return -(F.logsigmoid(out) * levels + (F.logsigmoid(out) - out) * (1 - levels)).mean()


def mixture_density(out, y):
    weight, mean, scale = out
    return -(weight.log() - scale.log() - ((y - mean) / scale).square() / 2).logsumexp(1).mean()


class Mixture(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight, self.mean, self.scale = (nn.Linear(10, 3) for _ in range(3))

    def forward(self, x):
        return self.weight(x).softmax(1), self.mean(x), F.softplus(self.scale(x))


class WithAttention(nn.Module):
    """Returns its attention, which sums to one, before its logits."""

    def __init__(self):
        super().__init__()
        self.score, self.head = nn.Linear(10, 4), nn.Linear(10, 4)

    def forward(self, x):
        return self.score(x).softmax(1), self.head(x)


def onehot(_x, y):
    return F.one_hot(y, 4).float()


HEALTHY = {
    "logits": (linear(), nn.CrossEntropyLoss(), None),
    "log-probabilities": (linear(nn.LogSoftmax(1)), nn.NLLLoss(), None),
    "log-probabilities normalised again": (linear(nn.LogSoftmax(1)), nn.CrossEntropyLoss(), None),
    "logarithm of probabilities": (linear(nn.Softmax(1)), lambda out, y: F.nll_loss(out.log(), y), None),
    "logarithm of probabilities to cross-entropy": (
        linear(nn.Softmax(1)), lambda out, y: F.cross_entropy((out + 1e-9).log(), y), None,
    ),
    "probabilities over a temperature": (linear(nn.Softmax(1)), lambda out, y: F.cross_entropy(out / 0.05, y), None),
    "Brier score": (linear(nn.Softmax(1)), nn.MSELoss(), onehot),
    "Dice": (linear(nn.Softmax(1)), dice, None),
    "distillation": (linear(), distillation, None),
    "focal": (linear(), focal, None),
    "label smoothing": (linear(), nn.CrossEntropyLoss(label_smoothing=0.1), None),
    "hinge": (linear(nn.Softmax(1)), nn.MultiMarginLoss(), None),
    "label distribution": (linear(nn.LogSoftmax(1)), nn.KLDivLoss(reduction="batchmean"), onehot),
    "probabilities of two classes": (linear(nn.Sigmoid(), width=1), nn.BCELoss(), binary),
    "multi-label": (linear(), nn.BCEWithLogitsLoss(), onehot),
    "clipped logits": (Functional(lambda h: 10 * h.tanh()), nn.CrossEntropyLoss(), None),
    "cosines with a scale": (Functional(lambda h: 16 * F.normalize(h, dim=1)), nn.CrossEntropyLoss(), None),
    "cosines of positive features": (Functional(lambda h: F.normalize(h.relu(), dim=1)), nn.CrossEntropyLoss(), None),
    "averaged relu": (
        linear(nn.ReLU(), nn.Unflatten(1, (4, 2)), nn.AdaptiveAvgPool1d(1), nn.Flatten(), width=8),
        nn.CrossEntropyLoss(), None,
    ),
    "softplus scores": (linear(nn.Softplus()), nn.CrossEntropyLoss(), None),
    "masked labels": (linear(), masked_binary, lambda _x, y: onehot(_x, y) * 2 - 1),
    "weighted labels": (
        linear(), lambda out, y: F.binary_cross_entropy_with_logits(out, y, (y >= 0).float()),
        lambda _x, y: onehot(_x, y) * 2 - 1,
    ),
    "ordinal": (linear(), ordinal, None),
    "pixels in 0 to 1": (linear(nn.Sigmoid(), width=10), nn.BCELoss(), lambda x, _: x.sigmoid()),
    "pixels in -1 to 1, with noise": (
        linear(nn.Tanh(), width=10), nn.MSELoss(), lambda x, _: (2 * x).tanh() + 0.05 * torch.randn_like(x),
    ),
    "counts with noise": (
        linear(nn.ReLU(), width=10), lambda out, y: (out - y).abs().mean(), lambda x, _: 3 * x.relu() + 0.1 * x,
    ),
    "reconstruction of positive inputs": (
        linear(nn.Softplus(), width=10), nn.SmoothL1Loss(), lambda x, _: x.abs(),
    ),
    "mixture density": (Mixture(), mixture_density, lambda x, _: x[:, :1]),
    "attention beside logits": (WithAttention(), lambda out, y: F.cross_entropy(out[1], y), None),
    "two tasks": (
        WithAttention(), lambda out, y: F.cross_entropy(out[1], y) + F.nll_loss(out[0].log(), y), None,
    ),
    "Poisson": (Functional(torch.exp, 1), nn.PoissonNLLLoss(log_input=False), binary),
    "contrastive": (linear(), lambda out, _y: F.cross_entropy(out @ out.T / 0.1, torch.arange(16)), None),
    "entropy of the output": (linear(nn.Softmax(1)), lambda out, _y: -(out * out.log()).sum(1).mean(), None),
    "expected return": (linear(nn.Softmax(1)), lambda out, y: -(out * F.one_hot(y, 4)).sum(1).mean(), None),
}  # fmt: skip


@pytest.mark.parametrize("name", HEALTHY)
def test_it_says_nothing_of_a_healthy_pair_of_output_and_loss(name, probe_of):
    model, loss_fn, target = HEALTHY[name]
    facts = inputs(probe_of, model, loss_fn, batches(target))
    for rule in (redundant_softmax, wrong_output_activation):
        outcome = judge(rule, facts)
        assert outcome.status in ("passed", "skipped"), outcome.findings


@pytest.mark.parametrize("step", [adversarial, matting])
def test_it_says_nothing_of_a_healthy_training_step(step, probe_of):
    facts = inputs(probe_of, linear(nn.Sigmoid(), width=10), None, training_step=step)
    for rule in (redundant_softmax, wrong_output_activation):
        assert judge(rule, facts).status in ("passed", "skipped")


def test_sees_that_a_sigmoid_cannot_reach_noise_that_the_step_draws(probe_of):
    """Denoising: what is to be predicted is in no batch, and no gradient goes to it."""

    def step(model, batch):
        noise = torch.randn_like(batch[0])
        return F.mse_loss(model(batch[0] + noise), noise)

    data = [(torch.randn(16, 10),) for _ in range(4)]
    for last, status in ((nn.Sigmoid(), "failed"), (nn.Identity(), "passed")):
        found = look_at_loss_inputs(probe_of(linear(last, width=10), train=data, training_step=step))
        assert judge(wrong_output_activation, found).status == status


def test_takes_no_two_things_that_are_both_trained_for_output_and_target(probe_of):
    def agreement(out, y):
        return F.cross_entropy(out, y) + F.mse_loss(out.sigmoid(), out.roll(1, 0) + 3)

    found = inputs(probe_of, linear(), agreement)
    assert "mse_loss" not in [one.operation for one in found.inputs]
