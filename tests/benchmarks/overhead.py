"""What watching costs, as a ratio to the plain loop: python tests/benchmarks/overhead.py [--threads 1] [--rounds 7]

A plain loop and a watched one take turns, ten steps each, in one process: what else the machine does meets both alike.
What is printed is the median over rounds of the ratio of process times; making and ending the watch is part of it. A
loop is 300 steps where `Monitor` runs as people have it, 60 where every step is recorded and for the probe's own. Other
tools are measured when they are installed: pip install torchmortem torch-audit wandb
"""

from __future__ import annotations

import argparse
import contextlib
import functools
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


# ---- ways of watching: each is entered once for a loop ----
#
# and gives what is entered for every turn of the loop, and what the tool wants called after each step.


@contextlib.contextmanager
def monitor(loop, **options):
    yield gk.Monitor(loop.model, optimizer=loop.optimizer, **options), None


@contextlib.contextmanager
def torchmortem(loop):
    from torchmortem import Autopsy

    with Autopsy(loop.model, optimizer=loop.optimizer) as autopsy:
        yield contextlib.nullcontext(), lambda loss: autopsy.step(loss=loss.item())


@contextlib.contextmanager
def torch_audit(loop):
    from torch_audit import Auditor

    auditor = Auditor(loop.model, optimizer=loop.optimizer, every_n_steps=1, reporters=[]).autopatch()
    yield contextlib.nullcontext(), None
    auditor.finish()
    auditor.unpatch()


@contextlib.contextmanager
def wandb(loop):
    import wandb

    os.environ |= {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    with tempfile.TemporaryDirectory() as folder, wandb.init(dir=folder) as run:
        run.watch(loop.model, log="all", log_freq=1)
        yield contextlib.nullcontext(), lambda loss: run.log({"loss": loss.item()})
        run.unwatch(loop.model)


WAYS = {
    "Monitor, as it comes, over 300 steps": (monitor, 300),
    "Monitor(every=1, activations=False)": (functools.partial(monitor, every=1, activations=False), 60),
    "Monitor(every=1)": (functools.partial(monitor, every=1), 60),
    "torch-audit, every step": (torch_audit, 60),
    "wandb.watch, log_freq=1": (wandb, 60),
    "torchmortem, as it comes": (torchmortem, 60),
}
NEEDS = {torch_audit: "torch_audit", wandb: "wandb", torchmortem: "torchmortem"}
TURN = 10  # steps


class Clock:
    """Adds up the process time within `with`."""

    def __init__(self):
        self.seconds = 0.0

    def __enter__(self):
        self.start = time.process_time()

    def __exit__(self, *_):
        self.seconds += time.process_time() - self.start


def quietly():
    stack = contextlib.ExitStack()
    stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
    stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
    return stack


def compare(make, way, steps):
    """Process seconds of so many plain steps, and of as many watched ones."""
    plain, watched = Loop(make), Loop(make)
    for loop in (plain, watched):
        loop.run(5)
    gc.collect()
    plain_clock, clock = Clock(), Clock()
    watching = way(watched)
    with clock:
        turn, after_step = watching.__enter__()
    for _ in range(steps // TURN):
        with plain_clock:
            plain.run(TURN)
        with clock, turn:
            watched.run(TURN, after_step)
    with clock:
        watching.__exit__(None, None, None)
    return plain_clock.seconds, clock.seconds


def measure(make, rounds):
    """The median ratio of each way, and the plain step in milliseconds."""
    ratios, step = {}, []
    for name, (way, steps) in WAYS.items():
        if importlib.util.find_spec(NEEDS.get(way, "torch")) is None:
            continue
        found = []
        for _ in range(rounds):
            with contextlib.suppress(RuntimeError), quietly():  # torchmortem's hooks break in-place activations
                plain, watched = compare(make, way, steps)
                step.append(1e3 * plain / steps)
                found.append(watched / plain)
        ratios[name] = f"{statistics.median(found):.2f}" if found else "crashes"
    return ratios, statistics.median(step)


def probe(make, rounds, steps=60):
    """The probe's training run over the same run with nothing recorded, which is made before it and after."""
    torch.manual_seed(0)
    model, x, y, loss_fn = make()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    prepared = prepare(Target(model, [(x, y)], None, loss_fn, optimizer), ProbeSettings(steps=steps))

    def run(recorded):
        schedules = {"schedule": lambda _: recorded, "activation_steps": lambda _: recorded & late}
        with workspace(prepared) as work, mock.patch.multiple(training, **schedules), quietly():
            gc.collect()
            clock = Clock()
            with clock:
                training._Run(work, Probe(prepared)).go()
            return clock.seconds

    late = training.activation_steps(steps)
    recorded = training.schedule(steps)
    plain, ratios = run(set()), []
    for _ in range(rounds):
        watched, after = run(recorded), run(set())
        ratios.append(2 * watched / (plain + after))
        plain = after
    return statistics.median(ratios)


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
