"""How the cost of watching grows: over layers, over steps, and in memory: python tests/benchmarks/scaling.py

Times are process times of one thread; memory is the peak of a process that does nothing else.
"""

from __future__ import annotations

import contextlib
import gc
import resource
import statistics
import subprocess
import sys
import time
from itertools import pairwise

import torch
from models import resnet
from tabulate import tabulate
from torch import nn
from torch.nn import functional as F

import gradcheck_kit as gk


def loop(model, x, y, *, steps):
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()


def spent(action):
    gc.collect()
    start = time.process_time()
    action()
    return time.process_time() - start


def over_layers(rounds=5, steps=10):
    """Every step recorded: what a layer adds, in microseconds."""
    rows = []
    for layers in (10, 100, 1000):
        sizes = [32] * (layers + 1)
        model = nn.Sequential(*(part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), nn.ReLU())))
        x, y = torch.randn(16, 32), torch.randint(0, 32, (16,))

        def watched(model=model, x=x, y=y):
            with gk.Monitor(model, every=1, activations=False):
                loop(model, x, y, steps=steps)

        loop(model, x, y, steps=2)
        found = [(spent(lambda: loop(model, x, y, steps=steps)), spent(watched)) for _ in range(rounds)]  # noqa: B023
        extra = statistics.median(w - p for p, w in found) / steps
        plain = statistics.median(p for p, _ in found) / steps
        rows.append([layers, f"{1e3 * plain:.2f} ms", f"{1e3 * extra:.2f} ms", f"{1e6 * extra / layers:.0f} us"])
    return tabulate(rows, ["layers", "plain step", "recording adds", "per layer"], tablefmt="github")


def over_steps():
    """As it comes, over ever longer runs: what a step costs more, and how much is kept."""
    rows = []
    for steps in (100, 1000, 10_000, 100_000):
        model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
        x, y = torch.randn(16, 16), torch.randint(0, 4, (16,))
        plain = spent(lambda: loop(model, x, y, steps=steps))  # noqa: B023
        with gk.Monitor(model) as monitor:
            watched = spent(lambda: loop(model, x, y, steps=steps))  # noqa: B023
        facts = monitor.trace.facts[gk_training()]
        numbers = len(facts.losses) + sum(len(p.gradient_rms) * 3 for p in facts.parameters)
        numbers += sum(2 * len(o.output_rms) for o in facts.outputs)
        rows.append(
            [f"{steps:,}", f"{1e6 * plain / steps:.0f} us", f"{1e6 * (watched - plain) / steps:.0f} us",
             len(facts.recorded), f"{numbers:,}"]
        )  # fmt: skip
    return tabulate(rows, ["steps", "plain step", "watching adds", "recorded steps", "numbers kept"], tablefmt="github")


def gk_training():
    from gradcheck_kit.facts import Training

    return Training


def peak(how, steps=30):
    """The peak memory of a process of its own, in MiB: its imports, and what the loop adds to them."""
    program = f"import scaling; scaling.measure_memory({how!r}, {steps})"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=__file__.rpartition("/")[0], capture_output=True, text=True, check=True
    )
    return float(done.stdout.split()[-1])


def measure_memory(how, steps):
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model, x, y, _ = resnet(batch=128)
    watch = {"plain": contextlib.nullcontext(), "as it comes": gk.Monitor(model), "every=1": gk.Monitor(model, every=1)}
    with watch[how]:
        loop(model, x, y, steps=steps)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def over_memory():
    found = {how: statistics.median(peak(how) for _ in range(3)) for how in ("plain", "as it comes", "every=1")}
    rows = [[how, f"{value:.0f} MiB", f"{value / found['plain']:.3f}"] for how, value in found.items()]
    return tabulate(
        rows, ["ResNet, batch 128", "peak of the process", "ratio"], tablefmt="github", disable_numparse=True
    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    for table in (over_layers, over_steps, over_memory):
        print(table.__doc__ or "Peak memory.", "\n")
        print(table(), "\n", flush=True)
