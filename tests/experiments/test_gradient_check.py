"""Backward against central differences."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.autograd import Function
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from gradcheck_kit.experiments import NotApplicable
from gradcheck_kit.experiments.gradient_check import check_gradients


def function(forward, backward, name="Custom"):
    """A function of one tensor; backward is given the upstream gradient and the input."""

    def keep(ctx, x):
        ctx.save_for_backward(x)
        return forward(x)

    members = {
        "forward": staticmethod(keep),
        "backward": staticmethod(lambda ctx, g: backward(g, *ctx.saved_tensors)),
    }
    return type(name, (Function,), members)


class Act(nn.Module):
    def __init__(self, custom):
        super().__init__()
        self.custom = custom.apply

    def forward(self, x):
        return self.custom(x)


@pytest.fixture
def check_of(probe_of, blobs):
    def run(model, **options):
        torch.manual_seed(0)
        if isinstance(model, type):
            model = nn.Sequential(nn.Linear(4, 8), Act(model), nn.Linear(8, 2))
        own = {"loss_fn": nn.CrossEntropyLoss(), **options}
        return check_gradients(probe_of(model, train=blobs(), **own))

    return run


# ---- right and wrong ----

RIGHT = {
    "swish": (lambda x: x * x.sigmoid(), lambda g, x: g * x.sigmoid() * (1 + x * (1 - x.sigmoid()))),
    "relu, which has a kink": (lambda x: x.clamp_min(0), lambda g, x: g * (x > 0)),
    "normalisation": (
        lambda x: x / x.norm(dim=1, keepdim=True),
        lambda g, x: (
            (g - x * (g * x).sum(1, keepdim=True) / x.square().sum(1, keepdim=True)) / x.norm(dim=1, keepdim=True)
        ),
    ),
    "a clipped exponential": (torch.exp, lambda g, x: g * x.clamp(-15, 15).exp()),
}


@pytest.mark.parametrize("name", RIGHT)
def test_measures_next_to_no_error_of(check_of, name):
    (found,) = check_of(function(*RIGHT[name])).functions
    assert found.relative_error < 1e-6


WRONG = {
    "half of the derivative": (lambda x: x * x, lambda g, x: g * x, 0.5),
    "the wrong sign": (torch.tanh, lambda g, x: -g * (1 - x.tanh() ** 2), -1.0),
    "a part that was forgotten": (lambda x: x * x.sigmoid(), lambda g, x: g * x.sigmoid(), None),
    "a normalisation taken for a scale": (
        lambda x: x / x.norm(dim=1, keepdim=True), lambda g, x: g / x.norm(dim=1, keepdim=True), None,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_measures_a_large_error_of(check_of, name):
    forward, backward, factor = WRONG[name]
    check = check_of(function(forward, backward, "Wrong"))
    (found,) = check.functions
    assert (found.function, found.module, found.module_type) == ("Wrong", "1", "Act")
    assert found.source.startswith("test_gradient_check.py:")
    assert found.relative_error > 0.05
    assert found.factor == (pytest.approx(factor, rel=1e-4) if factor else None)
    assert check.loss_error > 0.01


def test_tells_a_backward_that_ignores_its_upstream_gradient(check_of):
    check = check_of(function(torch.sin, lambda _, x: x.cos()))
    assert check.functions[0].ignores_upstream
    assert check.loss_error > 0.5


def test_names_the_argument_with_the_error(check_of):
    class Product(Function):
        @staticmethod
        def forward(x, weight):
            return x @ weight.T

        @staticmethod
        def setup_context(ctx, inputs, output):
            ctx.save_for_backward(*inputs)

        @staticmethod
        def backward(ctx, gradient):
            x, weight = ctx.saved_tensors
            return gradient @ weight, 2 * gradient.T @ x

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.weight = nn.Linear(4, 6), nn.Parameter(torch.randn(2, 6))

        def forward(self, x):
            return Product.apply(self.first(x), self.weight)

    (found,) = check_of(Net()).functions
    assert found.argument == "weight"
    assert found.factor == pytest.approx(2)


def test_finds_functions_of_the_loss(check_of):
    class Error(Function):
        @staticmethod
        def forward(ctx, out, y):
            ctx.save_for_backward(out, y)
            return F.cross_entropy(out, y)

        @staticmethod
        def backward(ctx, gradient):
            out, y = ctx.saved_tensors
            return gradient * (F.one_hot(y, 2) - out.softmax(1)) / len(y), None

    def loss_fn(out, y):
        return Error.apply(out, y)

    (found,) = check_of(nn.Linear(4, 2), loss_fn=loss_fn).functions
    assert found.module == "loss"
    assert found.factor == pytest.approx(-1)


def test_looks_at_training_steps_too(check_of):
    model = nn.Sequential(nn.Linear(4, 8), Act(function(lambda x: x * x, lambda g, x: g * x)), nn.Linear(8, 2))
    check = check_of(model, loss_fn=None, training_step=lambda m, b: F.cross_entropy(m(b[0]), b[1]))
    assert check.functions[0].factor == pytest.approx(0.5)


# ---- on purpose ----

ON_PURPOSE = {
    "rounding, straight through": (torch.round, lambda g, _: g, "flat"),
    "the sign, straight through where small": (torch.sign, lambda g, x: g * (x.abs() < 1), "flat"),
    "a spike with a surrogate": (lambda x: (x > 0).to(x), lambda g, x: g / (1 + 10 * x.abs()) ** 2, "flat"),
    "clamping, straight through": (lambda x: x.clamp(-0.3, 0.3), lambda g, _: g, "flat"),
    "gradient reversal": (lambda x: x.view_as(x), lambda g, _: -g, "returns what it is given"),
    "gradient clipping": (torch.clone, lambda g, _: g.clamp(-0.01, 0.01), "returns what it is given"),
    "guided relu": (lambda x: x.clamp_min(0), lambda g, x: g.clamp_min(0) * (x > 0), "not linear"),
    "a lower bound": (lambda x: x.clamp_min(0.1), lambda g, x: g * ((x > 0.1) | (g < 0)), "not linear"),
    "float32 only": (lambda x: x.float().tanh(), lambda g, _: g, "float32"),
}


@pytest.mark.parametrize("name", ON_PURPOSE)
def test_leaves_out(check_of, name):
    forward, backward, reason = ON_PURPOSE[name]
    check = check_of(function(forward, backward))
    assert check.functions[0].relative_error is None
    assert reason in check.functions[0].left_out
    assert check.loss_error is None


def test_takes_a_stopped_gradient_for_no_error(check_of):
    (found,) = check_of(function(torch.tanh, lambda g, _: torch.zeros_like(g))).functions
    assert found.relative_error == 0.0


def test_leaves_out_feedback_alignment(check_of):
    class Feedback(Function):
        @staticmethod
        def forward(ctx, x, weight, feedback):
            ctx.save_for_backward(x, weight, feedback)
            return x @ weight.T

        @staticmethod
        def backward(ctx, gradient):
            x, _, feedback = ctx.saved_tensors
            return gradient @ feedback, gradient.T @ x, None

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.weight = nn.Linear(4, 6), nn.Parameter(torch.randn(2, 6))
            self.register_buffer("feedback", torch.randn(2, 6))

        def forward(self, x):
            return Feedback.apply(self.first(x), self.weight, self.feedback)

    assert "only its backward uses" in check_of(Net()).functions[0].left_out


def test_leaves_out_a_learned_step_size(check_of):
    class Quantize(Function):
        @staticmethod
        def forward(ctx, x, step):
            ctx.save_for_backward(x, step)
            return (x / step).round() * step

        @staticmethod
        def backward(ctx, gradient):
            x, step = ctx.saved_tensors
            return gradient, (gradient * ((x / step).round() - x / step)).sum()

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.step = nn.Linear(4, 2), nn.Parameter(torch.tensor(0.1))

        def forward(self, x):
            return Quantize.apply(self.first(x), self.step)

    assert "surrogate" in check_of(Net()).functions[0].left_out


def test_measures_no_error_of_the_loss_for_a_loss_that_ignores_its_upstream_gradient(check_of):
    class Errors(Function):
        @staticmethod
        def forward(ctx, out, y):
            ctx.save_for_backward(out, y)
            return F.cross_entropy(out, y, reduction="none")

        @staticmethod
        def backward(ctx, gradient):
            out, y = ctx.saved_tensors
            return out.softmax(1) - F.one_hot(y, 2), None

    check = check_of(nn.Linear(4, 2), loss_fn=lambda out, y: Errors.apply(out, y).sum())
    assert check.functions[0].ignores_upstream
    assert check.loss_error < 1e-6


# ---- what works with it ----


def test_compares_a_function_that_writes_into_its_input(check_of):
    class InPlace(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.mark_dirty(x)
            x.clamp_(min=0)
            ctx.save_for_backward(x)
            return x

        @staticmethod
        def backward(ctx, gradient):
            return gradient * (ctx.saved_tensors[0] > 0)

    assert check_of(InPlace).functions[0].relative_error < 1e-6


def test_compares_a_function_that_draws_numbers_with_the_same_numbers(check_of):
    class Drop(Function):
        @staticmethod
        def forward(ctx, x):
            kept = (torch.rand_like(x) > 0.3).to(x)
            ctx.save_for_backward(kept)
            return x * kept

        @staticmethod
        def backward(ctx, gradient):
            return gradient * ctx.saved_tensors[0]

    assert check_of(Drop).functions[0].relative_error < 1e-6


def test_does_not_blame_torchs_own_functions_nor_detach(check_of):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(4, 8), nn.Linear(8, 2)

        def forward(self, x):
            h = checkpoint(self.a, x, use_reentrant=True)
            return self.b(h + (h.round() - h).detach())

    function(torch.sin, lambda g, x: g * x.cos())  # one that exists and does not run
    with pytest.raises(NotApplicable, match="no custom"):
        check_of(Net())


def test_leaves_the_function_as_it_was(check_of):
    custom = function(torch.sin, lambda g, x: g * x.cos())
    before = vars(custom)["forward"]
    assert check_of(custom) == check_of(custom)
    assert vars(custom)["forward"] is before
