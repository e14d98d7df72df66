"""What watching costs, as a ratio to the plain loop: python tests/benchmarks/overhead.py [--threads 1] [--rounds 7]

Each round runs the plain loop and each watched one in turn, in one process; what is printed is the median over rounds
of the ratio of process times. A loop is 300 steps where `Monitor` runs as people have it, 20 where every step is
recorded. Other tools are measured when they are installed: pip install torchmortem torch-audit wandb.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import io
import os
import statistics
import time
import warnings

import torch
from models import MODELS
from tabulate import tabulate

import gradcheck_kit as gk

LONG, SHORT = 300, 20


def loop(model, x, y, loss_fn, optimizer, *, steps):
    for _ in range(steps):
        optimizer.zero_grad()
        loss_fn(model(x), y).backward()
        optimizer.step()


def plain(model, _optimizer):
    return contextlib.nullcontext()


def monitor(**options):
    return lambda model, optimizer: gk.Monitor(model, optimizer=optimizer, **options)


def wandb_watch(model, _optimizer):
    import wandb

    os.environ["WANDB_MODE"], os.environ["WANDB_SILENT"] = "offline", "true"

    @contextlib.contextmanager
    def watched():
        with contextlib.redirect_stdout(io.StringIO()), wandb.init(dir="/tmp", settings={"console": "off"}) as run:
            run.watch(model, log="all", log_freq=1)
            yield
            run.unwatch(model)

    return watched()


def torch_audit(model, optimizer):
    from torch_audit import AuditConfig, Auditor

    return Auditor(model, optimizer, config=AuditConfig()) if hasattr(Auditor, "__enter__") else None


def torchmortem(model, optimizer):
    from torchmortem import Autopsy

    return Autopsy(model, optimizer=optimizer)


WAYS = {
    "Monitor, as it comes (300 steps)": (monitor(), LONG),
    "Monitor(every=1, activations=False)": (monitor(every=1, activations=False), SHORT),
    "Monitor(every=1)": (monitor(every=1), SHORT),
}


def measure(make, rounds, ways):
    """Median ratio of process times for each way, and the plain loop's time per step in milliseconds."""
    torch.manual_seed(0)
    model, x, y, loss_fn = make()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    ratios, step = {way: [] for way in ways}, []

    def run(watch, steps):
        gc.collect()
        start = time.process_time()
        with watch(model, optimizer):
            loop(model, x, y, loss_fn, optimizer, steps=steps)
        return time.process_time() - start

    loop(model, x, y, loss_fn, optimizer, steps=5)
    for _ in range(rounds):
        for way, (watch, steps) in ways.items():
            before, watched = run(plain, steps), run(watch, steps)
            ratios[way].append(watched / before)
            step.append(1e3 * before / steps)
    return {way: statistics.median(found) for way, found in ratios.items()}, statistics.median(step)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--model", default="", help="only models whose name contains this")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.simplefilter("ignore")
    table = {way: [] for way in WAYS}
    times = []
    models = {name: make for name, make in MODELS.items() if args.model in name}
    for make in models.values():
        ratios, step = measure(make, args.rounds, WAYS)
        times.append(f"{step:.1f} ms")
        for way in WAYS:
            table[way].append(f"{ratios[way]:.2f}")
    rows = [["plain step", *times], *([way, *found] for way, found in table.items())]
    print(f"torch {torch.__version__}, {args.threads} thread(s), Adam, medians of {args.rounds} rounds")
    print(tabulate(rows, ["", *models], tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    main()
