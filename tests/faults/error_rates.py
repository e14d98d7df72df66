"""How often the verdicts on the fault corpus are right: python tests/faults/error_rates.py [--seeds 5] [--jobs 2]

Six parts: programs that the rules were developed on, programs that nothing was set on, programs written later by
someone who had not read the rules, plain files by two others, a grid of faults over ten plain files by a third, and
plain files by four more. Each is scanned as `gk.scan(target)` does it, with every seed drawing other data, other
weights and other batches; the seeds leave the data of files as it is.

alarm      a healthy program on which a rule failed; noise: on which one warned and none failed
found      a broken program on which a rule failed or warned
named      ... and a right cause is among these rules
first      ... and a right cause is the first of the report's causes
no verdict any program at which scan raised, or a rule crashed
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field

os.environ["OMP_NUM_THREADS"] = "1"  # before torch: the programs are tiny, and each job has a core

import torch
from bases import BASES
from broken import BROKEN
from kept_out_bases import KEPT_OUT_BASES
from kept_out_broken import KEPT_OUT_BROKEN
from later_programs import LATER_BASES, LATER_BROKEN
from plain_files import BLIND_BROKEN, BLIND_HEALTHY, GRID_BROKEN, GRID_HEALTHY, PLAIN_BROKEN, PLAIN_HEALTHY
from tabulate import tabulate

import gradcheck_kit as gk


@dataclass(frozen=True)
class Program:
    half: str
    name: str
    causes: tuple[str, ...] = ()  # none: healthy
    base: str = ""


PARTS = {
    "developed on": (BASES, BROKEN),
    "kept out": (KEPT_OUT_BASES, KEPT_OUT_BROKEN),
    "written later": (LATER_BASES, LATER_BROKEN),
    "plain files": (PLAIN_HEALTHY, PLAIN_BROKEN),
    "grid": (GRID_HEALTHY, GRID_BROKEN),
    "blind": (BLIND_HEALTHY, BLIND_BROKEN),
}
HALVES = tuple(PARTS)


def programs():
    for half, (bases, _) in PARTS.items():
        yield from (Program(half, name, base=name) for name in bases)
    for half, (_, broken) in PARTS.items():
        yield from (Program(half, name, causes, *base) for name, (_, causes, *base) in broken.items())


def maker(program):
    bases, broken = PARTS[program.half]
    return broken[program.name][0] if program.causes else bases[program.name]


@dataclass
class Verdict:
    program: Program
    seed: int
    failed: list[str] = field(default_factory=list)
    warned: list[str] = field(default_factory=list)
    causes: list[str] = field(default_factory=list)
    trouble: str = ""
    seconds: float = 0.0

    @property
    def hits(self):
        return self.failed + self.warned

    @property
    def words(self):
        """What this verdict counts as."""
        if self.trouble:
            return {"no verdict"}
        if not self.program.causes:
            return {"alarm"} if self.failed else {"noise"} if self.warned else {"silent"}
        words = {"found"} if self.hits else set()
        if set(self.hits) & set(self.program.causes):
            words.add("named")
        if set(self.causes[:1]) & set(self.program.causes):
            words.add("first")
        return words

    @property
    def right(self):
        return bool(self.words & {"silent", "first"})


def judge(job):
    program, seed = job
    verdict = Verdict(program, seed)
    start = time.perf_counter()
    torch.manual_seed(seed)
    try:
        report = gk.scan(maker(program)(), seed=seed)
    except Exception as error:  # noqa: BLE001  # counted as what it is: no verdict
        verdict.trouble = f"{type(error).__name__}: {error}"
    else:
        verdict.failed, verdict.warned = ([o.rule.name for o in report.of(s)] for s in ("failed", "warned"))
        verdict.causes = [o.rule.name for o in report.causes]
        verdict.trouble = "; ".join(o.reason for o in report.of("error"))
    verdict.seconds = time.perf_counter() - start
    return verdict


def share(verdicts, word):
    count = sum(word in v.words for v in verdicts)
    return f"{count}/{len(verdicts)} = {count / len(verdicts):.1%}" if verdicts else "-"


def summary(verdicts):
    rows = []
    for half in HALVES:
        own = [v for v in verdicts if v.program.half == half]
        healthy = [v for v in own if not v.program.causes]
        broken = [v for v in own if v.program.causes]
        rows.append(
            [half, *(share(healthy, w) for w in ("alarm", "noise")), *(share(broken, w) for w in ("found", "named")),
             share(broken, "first"), share(own, "no verdict")]
        )  # fmt: skip
    return tabulate(rows, ["programs", "alarm", "noise", "found", "named", "first", "no verdict"], tablefmt="github")


def by_rule(verdicts):
    """For each rule the programs whose cause it is, and how often it spoke on a healthy one, or came first wrongly."""
    rules = sorted({c for v in verdicts for c in (*v.program.causes[:1], *v.hits)})
    rows = []
    for name in rules:
        row = [name]
        for half in HALVES:
            own = [v for v in verdicts if v.program.half == half]
            mine = [v for v in own if v.program.causes[:1] == (name,)]
            counts = Counter(word for v in mine for word in v.words)
            row.append("/".join(str(counts[w]) for w in ("found", "named", "first")) + f" of {len(mine)}")
            healthy = [v for v in own if not v.program.causes]
            row.append(f"{sum(name in v.failed for v in healthy)}+{sum(name in v.warned for v in healthy)}")
            wrong = [v for v in own if v.program.causes and name not in v.program.causes and v.causes[:1] == [name]]
            row.append(str(sum(not v.right for v in wrong)))
        rows.append(row)
    columns = [f"{half}: {what}" for half in HALVES for what in ("found/named/first", "alarm+noise", "wrongly first")]
    return tabulate(rows, ["rule", *columns], tablefmt="github")


def by_base(verdicts):
    groups = defaultdict(list)
    for v in verdicts:
        if v.program.base:
            groups[v.program.half, v.program.base].append(v)
    rows = []
    for (half, name), own in groups.items():
        healthy, broken = ([v for v in own if bool(v.program.causes) is sick] for sick in (False, True))
        counts = Counter(word for v in broken for word in v.words)
        silent = sum("silent" in v.words for v in healthy)
        faults = "/".join(str(counts[w]) for w in ("found", "named", "first")) + f" of {len(broken)}" if broken else ""
        rows.append([half, name, f"{silent} of {len(healthy)}", faults])
    return tabulate(rows, ["programs", "base", "silent when healthy", "found/named/first"], tablefmt="github")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--half", choices=HALVES, help="one part alone")
    parser.add_argument("--only", default="", help="only programs whose name, base or cause contains this")
    args = parser.parse_args()
    chosen = [
        p
        for p in programs()
        if args.half in (None, p.half) and any(args.only in text for text in (p.name, p.base, *p.causes))
    ]
    if not chosen:
        parser.error(f"no program's name, base or cause contains {args.only!r}; leave out --only for all of them")
    jobs = [(program, seed) for program in chosen for seed in range(args.seeds)]
    verdicts = []
    with multiprocessing.get_context("spawn").Pool(args.jobs) as pool:
        for verdict in pool.imap(judge, jobs):
            verdicts.append(verdict)
            if not verdict.right:
                p = verdict.program
                print(
                    f"{p.half}: {p.name} (seed {verdict.seed}, {verdict.seconds:.1f} s): "
                    f"{' or '.join(p.causes) or 'healthy'}; failed {verdict.failed}, warned {verdict.warned}, "
                    f"causes {verdict.causes} {verdict.trouble}",
                    flush=True,
                )
            if sys.stderr.isatty():
                print(f"\r{len(verdicts)}/{len(jobs)}", end="", file=sys.stderr)
    seconds = sorted(v.seconds for v in verdicts)
    print(
        f"\n{args.seeds} seeds; a scan took {seconds[len(seconds) // 2]:.1f} s (median), {seconds[-1]:.1f} s at most\n"
    )
    print(summary(verdicts), by_rule(verdicts), by_base(verdicts), sep="\n\n")


if __name__ == "__main__":
    main()
