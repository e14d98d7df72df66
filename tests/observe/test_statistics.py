"""Statistics that cost next to nothing are still right: samples, norms, one read, fingerprints, losses of long runs."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from gradcheck_kit.observe.loss_history import LossHistory
from gradcheck_kit.observe.outputs import OutputWatch
from gradcheck_kit.observe.statistics import SAMPLE, TINY, fingerprint, measurable, norms, read, sample


def layouts():
    whole = torch.randn(64, 32, 24, 24, generator=torch.Generator().manual_seed(0))
    return {
        "contiguous": whole,
        "channels last": whole.to(memory_format=torch.channels_last),
        "transposed": whole.permute(3, 1, 0, 2),
        "every second": whole[:, ::2],
        "a slice": whole[:, 3:20, 1:],
        "expanded": whole[:, :1].expand(-1, 32, -1, -1),
    }


@pytest.mark.parametrize("name", layouts())
def test_a_sample_is_a_small_view_that_is_like_the_whole(name):
    tensor = layouts()[name]
    part = sample(tensor)
    assert part.numel() <= SAMPLE
    assert part.numel() > SAMPLE / 8
    assert part.untyped_storage().data_ptr() == tensor.untyped_storage().data_ptr()
    assert float(part.square().mean()) == pytest.approx(float(tensor.square().mean()), rel=0.15)


def test_a_sample_walks_through_every_column_of_power_of_two_rows():
    columns = torch.arange(1024.0).repeat(1024, 1)
    assert len(sample(columns).unique()) > 1000


def test_a_small_tensor_is_its_own_sample():
    small = torch.randn(8, 8).T
    assert sample(small) is small


def test_what_holds_no_values_of_its_own_is_not_measured():
    assert measurable(torch.ones(2))
    assert not measurable(torch.ones(0))
    assert not measurable(torch.ones(2, device="meta"))
    assert not measurable(torch.ones(2).to_sparse())
    seen = []
    torch.func.vmap(lambda t: (seen.append(measurable(t)), t)[1])(torch.ones(2, 3))
    assert seen == [False]


def test_norms_are_each_tensors_own_whatever_its_type():
    tensors = [torch.full((4,), 3.0), torch.full((4,), 3e4, dtype=torch.float16), torch.ones(0),
               torch.full((2,), 3 + 4j), torch.full((4,), 1e-30)]  # fmt: skip
    assert read(norms(tensors)) == pytest.approx([6.0, 6e4, 0.0, math.sqrt(50), 0.0], rel=1e-3)
    assert read(norms(tensors[4:], factor=TINY))[0] / TINY == pytest.approx(2e-30)


def test_one_read_brings_numbers_and_rows_of_any_type_in_their_order():
    found = read([torch.tensor(1), torch.tensor([2.0, 3.0]), torch.tensor(True), torch.tensor(math.nan).half(),
                  torch.tensor([4.0, 5.0], dtype=torch.float64)])  # fmt: skip
    assert found[:4] + found[5:] == [1, 2, 3, 1, 4, 5]
    assert found[4] is math.nan  # noqa: PLW0177  # the very object: traces compare by identity first


# ---- outputs ----


def test_gradients_below_the_squares_of_float32_are_measured_and_exact_zeros_are_zero():
    layers = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    watch = OutputWatch(layers, lambda *_: None)
    for factor, expected in ((1e-25, 1e-25), (1.0, 1.0), (0.0, 0.0)):
        watch.begin()
        y = layers[0](torch.ones(2, 4))
        watch.returned(layers[0], y)
        (y * factor).sum().backward()
        _, gradients = watch.sort(read(watch.scalars))
        assert gradients == {0: pytest.approx(expected, rel=1e-3)}


def test_a_gradient_of_an_earlier_pass_does_not_count_for_a_later_one():
    layers = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    watch = OutputWatch(layers, lambda *_: None)
    watch.begin()
    old = layers[0](torch.ones(2, 4))
    watch.returned(layers[0], old)
    watch.begin()
    watch.returned(layers[1], layers[1](torch.ones(2, 4)))
    old.sum().backward()
    assert watch.sort(read(watch.scalars))[1] == {}


def test_a_parameter_that_a_module_returns_keeps_no_hook():
    class Query(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(3))

        def forward(self):
            return self.weight

    model = nn.ModuleList([Query(), nn.Linear(3, 3)])
    watch = OutputWatch(model, lambda *_: None)
    watch.begin()
    watch.returned(model[0], model[0]())
    assert model[0].weight._backward_hooks
    watch.begin()
    assert not model[0].weight._backward_hooks


# ---- fingerprints ----


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.complex64])
def test_a_fingerprint_tells_a_single_bit(dtype):
    tensor = torch.randn(70_000, generator=torch.Generator().manual_seed(0)).to(dtype)
    other = tensor.clone()
    assert fingerprint(tensor) == fingerprint(other)
    real = torch.view_as_real(other) if other.is_complex() else other
    for place in (0, 69_999):
        kept = real.view(-1)[place].clone()
        bits = real.view(-1).view({2: torch.int16, 4: torch.int32, 8: torch.int64}[real.element_size()])
        bits[place] ^= 1
        assert fingerprint(tensor) != fingerprint(other)
        real.view(-1)[place] = kept
    assert fingerprint(tensor) == fingerprint(other)


def test_a_fingerprint_is_of_values_and_places_not_of_the_layout():
    tensor = torch.randn(33, 17)
    assert fingerprint(tensor.T) == fingerprint(tensor.T.contiguous())
    assert fingerprint(tensor) != fingerprint(tensor.flip(0))
    assert fingerprint(torch.tensor([1.0, 2.0])) != fingerprint(torch.tensor([2.0, 1.0]))


# ---- losses ----


def test_losses_are_kept_one_by_one_and_then_as_means_of_equal_windows():
    history = LossHistory(most=8)
    for i in range(20):
        history.add(torch.tensor(float(i)))
    assert history.window == 4
    history.fill(read(history.unread))
    assert history.values() == (1.5, 5.5, 9.5, 13.5, 17.5)


def test_a_long_history_stays_small_and_exact():
    history = LossHistory(most=16)
    for i in range(5000):
        history.add(torch.tensor(float(i)))
        if i % 700 == 0:
            history.fill(read(history.unread))
        assert len(history._known) + len(history._unread) <= 16
        assert len(history._waiting) <= 64
    history.fill(read(history.unread))
    assert history.window == 512
    assert history.values() == tuple(512 * k + 255.5 for k in range(9))


def test_a_nan_stays_a_nan():
    history = LossHistory(most=4)
    for loss in (1.0, math.nan, 1.0, 1.0, 1.0, 1.0):
        history.add(torch.tensor(loss))
    history.fill(read(history.unread))
    assert math.isnan(history.values()[0])
    assert history.values()[1:] == (1.0, 1.0)
