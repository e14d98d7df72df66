"""What watching costs, as a ratio to the plain loop: python tests/benchmarks/overhead.py [--threads 1] [--rounds 7]

In each round the plain loop and each watched one run in turn, in one process; what is printed is the median over
rounds of the ratio of process times. A loop is 300 steps where `Monitor` runs as people have it, 60 where every step is
recorded and for the probe's own. Other tools are measured when they are installed:
pip install torchmortem torch-audit wandb
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib.util
import io
import logging
import os
import statistics
import tempfile
import time
import warnings
from unittest import mock

import torch
from models import MODELS
from tabulate import tabulate

import gradcheck_kit as gk
from gradcheck_kit.experiments import Probe, training
from gradcheck_kit.target import ProbeSettings, Target
from gradcheck_kit.target.prepare import prepare
from gradcheck_kit.target.workspace import workspace


class Loop:
    """A model and its training loop."""

    def __init__(self, make):
        torch.manual_seed(0)
        self.model, self.x, self.y, self.loss_fn = make()
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=1e-4)

    def run(self, steps, after_step=None):
        for _ in range(steps):
            self.optimizer.zero_grad()
            loss = self.loss_fn(self.model(self.x), self.y)
            loss.backward()
            self.optimizer.step()
            if after_step is not None:
                after_step(loss)

    def plain(self, steps):
        self.run(steps)


# ---- ways of watching: each runs a loop for so many steps ----


def monitor(**options):
    def run(loop, steps):
        with gk.Monitor(loop.model, optimizer=loop.optimizer, **options):
            loop.run(steps)

    return run


def torchmortem(loop, steps):
    from torchmortem import Autopsy

    with Autopsy(loop.model, optimizer=loop.optimizer) as autopsy:
        loop.run(steps, lambda loss: autopsy.step(loss=loss.item()))


def torch_audit(loop, steps):
    from torch_audit import Auditor

    auditor = Auditor(loop.model, optimizer=loop.optimizer, every_n_steps=1, reporters=[]).autopatch()
    loop.run(steps)
    auditor.finish()
    auditor.unpatch()


def wandb(loop, steps):
    import wandb

    os.environ |= {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    with tempfile.TemporaryDirectory() as folder, wandb.init(dir=folder) as run:
        run.watch(loop.model, log="all", log_freq=1)
        loop.run(steps, lambda loss: run.log({"loss": loss.item()}))
        run.unwatch(loop.model)


WAYS = {
    "Monitor, as it comes, over 300 steps": (monitor(), 300),
    "Monitor(every=1, activations=False)": (monitor(every=1, activations=False), 60),
    "Monitor(every=1)": (monitor(every=1), 60),
    "torch-audit, every step": (torch_audit, 60),
    "wandb.watch, log_freq=1": (wandb, 60),
    "torchmortem, as it comes": (torchmortem, 60),
}
NEEDS = {torch_audit: "torch_audit", wandb: "wandb", torchmortem: "torchmortem"}


def spent(action, *arguments):
    gc.collect()
    start = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        action(*arguments)
    return time.process_time() - start


def measure(make, rounds):
    """The median ratio of each way, and the plain step in milliseconds."""
    loop = Loop(make)
    loop.run(5)
    ratios, step = {}, []
    for way, (watched, steps) in WAYS.items():
        if importlib.util.find_spec(NEEDS.get(watched, "torch")) is None:
            continue
        found = []
        for _ in range(rounds):
            plain = spent(loop.plain, steps)
            step.append(1e3 * plain / steps)
            with contextlib.suppress(RuntimeError):  # torchmortem's hooks break in-place activations
                found.append(spent(watched, loop, steps) / plain)
        ratios[way] = f"{statistics.median(found):.2f}" if found else "crashes"
    return ratios, statistics.median(step)


def probe(make, rounds, steps=60):
    """The probe's training run over the same run with nothing recorded."""
    torch.manual_seed(0)
    model, x, y, loss_fn = make()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    prepared = prepare(Target(model, [(x, y)], None, loss_fn, optimizer), ProbeSettings(steps=steps))

    def run(recorded):
        schedules = {"schedule": lambda _: recorded, "activation_steps": lambda _: recorded & late}
        with workspace(prepared) as work, mock.patch.multiple(training, **schedules):
            return spent(training._Run(work, Probe(prepared)).go)

    late = training.activation_steps(steps)
    recorded = training.schedule(steps)
    return statistics.median(run(recorded) / run(set()) for _ in range(rounds))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--model", default="", help="only models whose name contains this")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.simplefilter("ignore")
    logging.disable()
    models = {name: make for name, make in MODELS.items() if args.model in name}
    rows = {way: [way] for way in ("plain step", *WAYS, "scan's own 60 steps, recorded")}
    for make in models.values():
        ratios, step = measure(make, args.rounds)
        rows["plain step"].append(f"{step:.1f} ms")
        for way, ratio in ratios.items():
            rows[way].append(ratio)
        rows["scan's own 60 steps, recorded"].append(f"{probe(make, args.rounds):.2f}")
    print(f"torch {torch.__version__}, {args.threads} thread(s), Adam, medians of {args.rounds} rounds\n")
    measured = [row for row in rows.values() if len(row) > 1]
    print(tabulate(measured, ["", *models], tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    main()
