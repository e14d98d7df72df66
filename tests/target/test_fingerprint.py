"""Equal keys mean equal targets: everything that a probe could notice makes a difference."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import gradcheck_kit as gk
from gradcheck_kit.shared_traces import SharedTraces, sharing
from gradcheck_kit.target.fingerprint import fingerprint

OTHER_FORWARD = lambda self, x: self.layer(x)  # noqa: E731  # it takes a method's place


class Net(nn.Module):
    width = 8

    def __init__(self):
        super().__init__()
        self.layer, self.drop = nn.Linear(8, 4), nn.Dropout(0.1)
        self.twin = nn.Linear(8, 4)
        self.twin.weight = self.layer.weight

    def forward(self, x):
        return self.drop(self.layer(x)) + self.twin(x)


def make():
    torch.manual_seed(0)
    model, scale = Net(), [1.0]
    x = torch.randn(64, 8)
    loader = DataLoader(TensorDataset(x, x[:, :4].argmax(1)), 16, shuffle=True)
    optimizer = torch.optim.Adam(model.parameters())
    loss_fn = lambda output, target: scale[0] * nn.functional.cross_entropy(output, target)  # noqa: E731
    return gk.Target(model, loader, None, loss_fn, optimizer)


def test_it_is_the_same_for_the_same_target_before_and_after_a_scan():
    target = make()
    target.name = "Net"
    before = fingerprint(target)
    assert before is not None
    assert fingerprint(target) == before
    gk.scan(target, steps=3, select=["GK1"])
    assert fingerprint(target) == before
    assert hash(fingerprint(target)) == hash(before)


def test_it_is_the_same_for_a_target_that_was_built_again():
    assert fingerprint(make()) == fingerprint(make())


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.model.layer.weight.data.add_(1),
        lambda t: t.model.layer.bias.requires_grad_(False),
        lambda t: t.model.eval(),
        lambda t: setattr(t.model.drop, "p", 0.2),
        lambda t: setattr(t.model.twin, "weight", nn.Parameter(t.model.layer.weight.detach().clone())),
        lambda t: t.model.register_forward_hook(print),
        lambda t: t.model.to(torch.float64),
        lambda t: t.train_data.dataset.tensors[0].mul_(2),
        lambda t: setattr(t, "train_data", DataLoader(t.train_data.dataset, 16)),
        lambda t: setattr(t, "test_data", t.train_data),
        lambda t: t.optimizer.param_groups[0].update(lr=0.1),
        lambda t: setattr(t, "loss_fn", nn.CrossEntropyLoss()),
        lambda t: t.loss_fn.__closure__[0].cell_contents.append(2.0),
        lambda t: setattr(t, "name", "another"),
    ],
)
def test_it_differs_where_the_target_does(change):
    target = make()
    before = fingerprint(target)
    change(target)
    after = fingerprint(target)
    assert after is not None
    assert after != before


@pytest.mark.parametrize(("name", "value"), [("forward", OTHER_FORWARD), ("width", 9)])
def test_it_differs_where_the_class_was_patched(name, value, monkeypatch):
    before = fingerprint(make())
    monkeypatch.setattr(Net, name, value)
    assert fingerprint(make()) != before


class Open:
    def __init__(self, loader):
        self.loader, self.file = loader, open(__file__)  # noqa: SIM115, PTH123  # a file cannot be pickled

    def __iter__(self):
        return iter(self.loader)


def test_it_is_none_where_that_cannot_be_told():
    target = make()
    target.train_data = (batch for batch in list(target.train_data))
    assert fingerprint(target) is None
    target = make()
    target.train_data = Open(target.train_data)
    assert fingerprint(target) is None
    target.train_data.file.close()


def test_scans_that_share_traces_say_what_they_would_say_alone():
    def scan(**settings):
        target = make()
        return gk.scan(target.model, target.train_data, loss_fn=nn.CrossEntropyLoss(), steps=5, **settings)

    traces = SharedTraces()
    with sharing(traces):
        scan(select=["GK1", "GK2", "GK5"])
        shared = scan(select=["GK1"])
        assert len(traces.kept) == 1
        assert [len(kept) for kept in traces.kept.values()] == [1]
        scan(select=["GK6"])  # looks at what the first did not
        assert [len(kept) for kept in traces.kept.values()] == [2]
        scan(select=["GK1"], seed=1)
        assert len(traces.kept) == 2
    alone = scan(select=["GK1"])
    assert len(traces.kept) == 2
    assert shared.outcomes == alone.outcomes
    assert shared.trace.header == alone.trace.header
