"""What the rules' limits are compared with, over the corpus: python tests/faults/calibration.py [--jobs 2] [--only GK1]

For each limit that was chosen and does not follow from anything: the distribution of its statistic over all healthy
programs, and over the broken ones whose first accepted cause is that rule; one seed. A limit lies well where the two
are apart. Where they are not, the rule asks for something more, as most do for a run that does not learn, or for one
that learns from the same start once the fault is mended; its page says what.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import sys
from statistics import fmean, median

os.environ["OMP_NUM_THREADS"] = "1"  # before torch: the programs are tiny, and each job has a core

import torch
from error_rates import maker, programs
from tabulate import tabulate

import gradcheck_kit as gk
from gradcheck_kit import facts as kinds
from gradcheck_kit import plugins


def _depth(run):
    ratios = [
        kinds.end_to_end([norm for _, norm in profile]) for profile in (run.weight_profile(), run.output_profile())
    ]
    return max((r for r in ratios if r is not None), default=None) if len(run.weights_in_order()) >= 3 else None


def _most(values):
    return max((v for v in values if v is not None), default=None)


def _dead(run):
    return _most(a.dead_share for a in run.hidden_activations() if a.samples >= 64)


def _flat(run):
    return _most(a.saturated_share for a in run.hidden_activations())


def _update(run):
    return kinds.middle(p.update_ratio() for p in run.parameters if p.is_weight and p.optimized and p.trainable)


def _start(run):
    return run.losses[0] / run.chance if run.chance else None


def _gap(gap):
    return fmean(gap.by_average) / fmean(gap.by_batch) if fmean(gap.by_batch) > 0 else None


def _heart(fit):
    best = min(fit.attempts, key=lambda attempt: attempt.losses[-1])
    return fmean(best.losses[-3:]) / best.losses[0] if best.losses[0] > 0 else None


def _imbalance(data):
    counts = [count for _, count in data.labels]
    return max(counts) / min(counts) if len(counts) > 1 else None


def _noise(noise):
    return noise.scale_at_end / noise.batch if noise.scale_at_end is not None and noise.batch else None


def _off(initialization):
    return _most(max(w.gain, 1 / w.gain) if w.gain > 0 else math.inf for w in initialization.weights)


def _distance(scale):
    """From mean 0 and standard deviation 1: how many times too large or small, or how many deviations away."""
    size = math.hypot(scale.mean, scale.std)
    return max(size, 1 / size if size else 1.0, abs(scale.mean) / scale.std if scale.std else 1.0)


STATISTICS = (  # rule, fact, what, limit, how it is read off the fact
    ("GK101", kinds.Training, "first / last gradient", "at least 1e-3", _depth),
    (
        "GK102",
        kinds.Training,
        "first / last gradient before training",
        "at most 70",
        lambda r: r.gradient_ratio_at_start,
    ),
    ("GK104", kinds.Training, "dead share of the worst activation", "at most 0.5", _dead),
    ("GK105", kinds.Training, "saturated share of the worst activation", "at most 0.5", _flat),
    ("GK107", kinds.TimeGradients, "gradient at the first / last step", "at least 1e-4", lambda t: t.worst.ratio),
    ("GK108", kinds.GradientNoise, "noise scale / batch", "see its page", _noise),
    ("GK109", kinds.RankCollapse, "spread of positions at the end", "at least 1e-2", lambda c: c.layers[-1].after),
    ("GK110", kinds.ActivationGrowth, "largest / first output", "at most 100", lambda g: g.growth),
    ("GK203", kinds.Training, "first update / weight", "at most 0.1", lambda r: r.first_update_ratio),
    ("GK204", kinds.Training, "update / weight, median", "at least 1e-4", _update),
    ("GK205", kinds.Training, "Mann-Kendall z of the loss", "at most -2.33", lambda r: r.trend()),
    ("GK206", kinds.Oscillation, "swing of the loss", "see its page", lambda o: o.swing),
    ("GK207", kinds.WeightDecay, "weights at the end / start", "at least 0.5", lambda d: d.shrinkage),
    ("GK210", kinds.BatchRepetition, "share of the loss that is a sum", "at most 0.5", lambda r: r.share),
    ("GK301", kinds.Training, "first loss / chance", "at most 2, or 20", _start),
    ("GK303", kinds.Initialization, "times too large or small, worst layer", "at most 3.2", _off),
    ("GK405", kinds.BatchMixing, "influence of other samples", "at most 1e-3", lambda m: m.influence),
    ("GK406", kinds.FutureMixing, "influence of the future", "at most 1e-3", lambda m: m.influence),
    ("GK501", kinds.InputScale, "distance of the worst feature", "see its page", lambda s: _distance(s.worst)),
    ("GK502", kinds.TargetScale, "distance of the worst column", "see its page", _distance),
    ("GK504", kinds.DataSummary, "commonest / rarest class", "at most 10", _imbalance),
    ("GK603", kinds.ModeGap, "loss in evaluation / training mode", "at most 1.5", _gap),
    ("GK606", kinds.OneBatchFit, "last / first loss of one batch", "at most 0.1", _heart),
    ("GK702", kinds.LowPrecision, "updates that round to nothing", "at most 0.5", lambda p: p.lost_updates),
    (
        "GK701",
        kinds.GradientCheck,
        "relative error",
        "at most 1e-2",
        lambda c: _most(f.relative_error for f in c.functions),
    ),
)


def measure(job):
    """The statistics of one program, by their place in the table."""
    program, only = job
    torch.manual_seed(0)
    rules = plugins.all_rules()
    try:
        report = gk.scan(maker(program)(), seed=0)
    except Exception:  # noqa: BLE001  # no verdict, so no number either
        return program, {}
    own = {rule.name: rule.code for rule in rules}
    found = {}
    for place, (code, fact, _, _, read) in enumerate(STATISTICS):
        guilty = program.causes and own[program.causes[0]] == code
        if code.startswith(only) and (not program.causes or guilty) and fact in report.trace.facts:
            value = read(report.trace.facts[fact])
            if value is not None and not math.isnan(value):
                found[place] = float(value)
    return program, found


def spread(values):
    """How many there are, and the least, the median and the most; of many healthy ones also where 95 % of them end."""
    if not values:
        return ["0", "", "", ""]
    return [str(len(values)), *(f"{v:.2g}" for v in (min(values), median(values), max(values)))]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", default="", help="only rules whose code begins so")
    args = parser.parse_args()
    healthy, broken = ([[] for _ in STATISTICS] for _ in range(2))
    jobs = [(program, args.only) for program in programs()]
    with multiprocessing.get_context("spawn").Pool(args.jobs) as pool:
        for done, (program, found) in enumerate(pool.imap(measure, jobs), 1):
            for place, value in found.items():
                (broken if program.causes else healthy)[place].append(value)
            if sys.stderr.isatty():
                print(f"\r{done}/{len(jobs)}", end="", file=sys.stderr)
    rows = [
        [code, what, limit, *spread(healthy[place]), *spread(broken[place])]
        for place, (code, _, what, limit, _) in enumerate(STATISTICS)
        if code.startswith(args.only)
    ]
    columns = ["least", "median", "most"]
    print(
        tabulate(rows, ["rule", "statistic", "healthy is", "healthy", *columns, "broken", *columns], tablefmt="github",
                 disable_numparse=True)
    )  # fmt: skip


if __name__ == "__main__":
    main()
