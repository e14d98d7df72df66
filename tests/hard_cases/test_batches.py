"""Data of every form: iterators, endless streams, loaders with processes, batches that are objects."""

from __future__ import annotations

import gc
import multiprocessing
import random
from collections import namedtuple
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, get_worker_info

import gradcheck_kit as gk
from gradcheck_kit.errors import DataError
from gradcheck_kit.experiments import Probe
from gradcheck_kit.experiments.data_summary import summarize_data
from gradcheck_kit.target import ProbeSettings, Target
from gradcheck_kit.target.prepare import prepare

Pair = namedtuple("Pair", ["x", "y"])  # noqa: PYI024  # the old form is what people have


def mlp():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))


def sample(index):
    generator = torch.Generator().manual_seed(index)
    y = index % 4
    x = torch.randn(8, generator=generator)
    x[y] += 3
    return x, y


class Stream(IterableDataset):
    """Without an end, unless it is told one; several workers share it where they can."""

    def __init__(self, end=None, *, needs_worker=False):
        self.end, self.needs_worker = end, needs_worker

    def __iter__(self):
        info = get_worker_info()
        start, step = (info.id, info.num_workers) if info or self.needs_worker else (0, 1)
        index = start
        while self.end is None or index < self.end:
            yield sample(index)
            index += step


class Indexed(Dataset):
    def __len__(self):
        return 96

    def __getitem__(self, index):
        return sample(index)


@pytest.mark.parametrize("end", [None, 80], ids=["endless", "finite"])
@pytest.mark.case("iterable and endless data sets", "read as far as needed")
def test_an_iterable_data_set_is_healthy(end, healthy):
    data = Stream(end)
    healthy(mlp(), DataLoader(data, 16), test_data=DataLoader(Stream(160), 16))
    healthy(mlp(), data)


def test_an_endless_test_set_is_read_to_an_end(healthy):
    healthy(mlp(), DataLoader(Stream(), 64), test_data=DataLoader(Stream(), 64))


@pytest.mark.case("a generator as data", "read once")
def test_a_generator_is_read_once_and_only_as_far_as_it_is_needed(healthy):
    read = 0

    def batches():
        nonlocal read
        while True:
            yield torch.stack([sample(i)[0] for i in range(16)]), torch.arange(16) % 4
            read += 1

    healthy(mlp(), batches())
    assert read <= 16


@pytest.fixture
def no_process_left():
    before = set(multiprocessing.active_children())
    yield
    gc.collect()
    assert set(multiprocessing.active_children()) <= before


def open_in_worker(worker):
    get_worker_info().dataset.opened = True


class Opened(Indexed):
    opened = False

    def __getitem__(self, index):
        assert self.opened, "worker_init_fn opens it"
        return sample(index)


LOADERS = {
    "two": lambda: DataLoader(Indexed(), 16, shuffle=True, num_workers=2),
    "persistent": lambda: DataLoader(Indexed(), 16, num_workers=2, persistent_workers=True, prefetch_factor=4),
    "with a timeout": lambda: DataLoader(Indexed(), 16, num_workers=1, timeout=30, multiprocessing_context="fork"),
    "iterable": lambda: DataLoader(Stream(), 16, num_workers=2),
    "pinned": lambda: DataLoader(Indexed(), 16, num_workers=1, pin_memory=True),
}


@pytest.mark.parametrize("kind", LOADERS)
@pytest.mark.case("loaders with workers", "no process is left")
def test_a_loader_with_workers_is_healthy_and_leaves_no_process(kind, healthy, no_process_left):
    loader = LOADERS[kind]()
    before = dict(vars(loader))
    healthy(mlp(), loader, test_data=loader if kind != "iterable" else None)
    assert vars(loader) == before


@pytest.mark.parametrize(
    "loader",
    [
        lambda: DataLoader(Opened(), 16, num_workers=1, persistent_workers=True, worker_init_fn=open_in_worker),
        lambda: DataLoader(Stream(96, needs_worker=True), 16, num_workers=1, persistent_workers=True),
    ],
    ids=["opened in workers", "asks for its worker"],
)
def test_a_loader_that_cannot_do_without_workers_gets_them_for_a_while(loader, scan, no_process_left):
    loader = loader()
    report = scan(mlp(), loader, steps=6, quick=True, select=["GK1"])
    assert not report.failed
    assert report.trace.facts and loader._iterator is None


def test_a_persistent_loader_that_the_user_is_iterating_goes_on_where_it_was(healthy, no_process_left):
    loader = DataLoader(Indexed(), 16, num_workers=1, persistent_workers=True)
    running = iter(loader)
    first = next(running)
    iterator = loader._iterator
    healthy(mlp(), loader, steps=4)
    assert loader._iterator is iterator
    rest = list(running)
    assert len(rest) == 5 and torch.equal(first[0][0], sample(0)[0]) and torch.equal(rest[0][0][0], sample(16)[0])
    del running, iterator, loader


def test_a_data_set_that_raises_in_the_middle_gets_one_sentence(scan):
    class Torn(Indexed):
        def __getitem__(self, index):
            if index == 70:
                raise OSError("the file is torn")
            return sample(index)

    with pytest.raises(gk.errors.GradcheckKitError, match=r"OSError: the file is torn \(test_batches.py:"):
        scan(mlp(), DataLoader(Torn(), 16))


# ---- batches -----------------------------------------------------------------------------------------------------


@dataclass
class Record:
    x: torch.Tensor
    y: torch.Tensor
    path: str = "a.png"


@dataclass(frozen=True)
class Labelled:
    features: torch.Tensor
    labels: torch.Tensor


class Graph:
    """Like a batch of PyG: attributes, a `.to` that moves them, and `keys()`."""

    def __init__(self, x, edge_index, batch, y):
        self.x, self.edge_index, self.batch, self.y = x, edge_index, batch, y
        self.me = self

    def keys(self):
        return list(vars(self))

    def to(self, device):
        return Graph(*(value.to(device) for name, value in vars(self).items() if name != "me"))


def reads(*names):
    """A model whose forward takes the parts of a batch by these names."""

    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.net = mlp()

        def forward(self, batch):
            for name in names:
                batch = batch[name] if isinstance(name, str) and isinstance(batch, dict) else getattr(batch, name)
            return self.net(batch)

    return Reader()


class Features(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = mlp()

    def forward(self, features):
        return self.net(features)


BATCHES = {
    "dict": (lambda x, y: {"features": x, "labels": y, "id": ["a"] * len(x)}, Features),
    "dict for the model": (lambda x, y: {"image": x, "label": y}, lambda: reads("image")),
    "named tuple": (Pair, mlp),
    "data class for the model": (Record, lambda: reads("x")),
    "data class in parts": (Labelled, Features),
    "list": (lambda x, y: [x, y], mlp),
}


@pytest.mark.parametrize("kind", BATCHES)
@pytest.mark.case("batches that are dicts, data classes, objects", "taken apart")
def test_a_batch_of_any_form_is_healthy(kind, healthy, blobs):
    wrap, build = BATCHES[kind]
    batches = [wrap(x, y) for x, y in blobs()]
    healthy(build(), batches)
    data = summarize_data(Probe(prepare(Target(build(), batches, loss_fn=nn.CrossEntropyLoss()), ProbeSettings())))
    assert data.inputs[0].shape == (16, 8)
    assert data.targets[0].shape == (16,)
    assert sum(count for _, count in data.labels) == 192


def test_a_graph_that_brings_its_own_to_is_healthy(healthy, blobs):
    class GraphNet(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b = nn.Linear(8, 16), nn.Linear(16, 4)

        def forward(self, graph):
            source, to = graph.edge_index
            h = self.a(graph.x).relu()
            h = h.index_add(0, to, h[source])
            count = int(graph.batch.max()) + 1
            return self.b(torch.zeros(count, 16, dtype=h.dtype).index_add(0, graph.batch, h) / 6)

    graphs = []
    for x, y in blobs():
        nodes = x.repeat_interleave(3, 0)
        ring = torch.arange(len(nodes))
        edges = torch.stack([ring, (ring + 1) % 3 + ring // 3 * 3])
        graphs.append(Graph(nodes, edges, ring // 3, y))
    healthy(GraphNet(), graphs)
    healthy(GraphNet(), graphs, loss_fn=None)


def test_a_fault_is_found_behind_a_batch_that_is_an_object(found, blobs):
    model = reads("x")
    batches = [Record(x, y) for x, y in blobs()]
    assert found(model, batches, optimizer=torch.optim.Adam(model.net[2].parameters(), 1e-2))[0] == "GK201"


def test_a_training_step_takes_a_batch_of_any_form(healthy, blobs):
    model = mlp()
    healthy(
        model, [{"data": [Record(x, y)]} for x, y in blobs()], loss_fn=None,
        training_step=lambda m, b: nn.functional.cross_entropy(m(b["data"][0].x), b["data"][0].y),
    )  # fmt: skip


def test_a_batch_that_nothing_can_be_made_of_gets_one_sentence(scan):
    with pytest.raises((DataError, gk.errors.ProbeError), match=r"Sequential: the model's forward raised|does not fit"):
        scan(mlp(), [object(), object()])


def test_random_augmentation_draws_from_every_generator_and_all_come_back(healthy):
    class Augmented(Indexed):
        def __getitem__(self, index):
            x, y = sample(index)
            return x + 0.1 * random.random() + 0.1 * float(np.random.rand()) + 0.1 * torch.randn(8), y

    random.seed(3), np.random.seed(4), torch.manual_seed(5)
    states = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
    model = mlp()
    torch.set_rng_state(states[2])
    first = healthy(model, DataLoader(Augmented(), 16, shuffle=True))
    assert random.getstate() == states[0]
    assert (np.random.get_state()[1] == states[1]).all()
    assert torch.equal(torch.get_rng_state(), states[2])
    random.seed(77), np.random.seed(78), torch.manual_seed(79)
    assert healthy(model, DataLoader(Augmented(), 16, shuffle=True)).trace == first.trace
