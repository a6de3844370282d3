"""Whether intervals hold the truth of benchmarks that stop early, tried on stored samples.

A trial takes whole processes of a machine's stored runs in a random order, until no benchmark needs
another one. Of a process it takes how far each sample was off the mean of its run, all of them with
their sign or all with the other one: so each benchmark has a known speedup, and noise as measured.
A kernel beside itself has the speedup 1, and all that it is off that is noise: stored runs have
`auto_step`, which is the callable of `one_pass_step`.
"""

import argparse
import math
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd

from ..plan.grid import Processes
from ..run.stopping import SPEEDUPS, Timed, estimates, is_rival, wanting
from ..store.built_in import SAME_CALLABLE
from ..store.columns import SHARED
from ..store.runs import load_run
from ..store.schema import Benchmark, Run

TRIALS = 100
STORED = 5  # processes of a stored run
OVER = " ÷ "  # in the name of a kernel beside itself
Noise = dict[str, list[float]]  # by the column of a logarithm, off its truth in each process


def cover(
    runs: Sequence[Run], processes: Processes, trials: int = TRIALS, seed: int = 0
) -> pd.DataFrame:
    """Return how often intervals hold the truth, of two kernels and of a kernel beside itself.

    A row each, hot and cold: how many intervals there were, the share that held, and how many
    processes were behind one on average.
    """
    entries = [{one.fullname: one for one in run.benchmarks} for run in runs]
    plan, truth, noise = _stored(entries, processes)
    random, rows = np.random.default_rng(seed), []
    for _ in range(trials):
        order = random.permutation(STORED * len(runs))[: processes.most]
        signs = random.choice([-1.0, 1.0], processes.most)
        drawn = {
            name: [
                {column: truth[name][column] + sign * off[place] for column, off in of.items()}
                for place, sign in zip(order, signs, strict=True)
            ]
            for name, of in noise.items()
        }
        ended = until_enough(drawn, plan)
        for title, column in SPEEDUPS.items():
            for name, found in estimates(ended, column).items():
                what = "itself" if OVER in name else "two kernels"
                holds = found.holds(truth[name][column])
                rows.append((what, title, holds, len(ended[name].samples)))
    table = pd.DataFrame(rows, columns=["of", "speedup", "held", "processes"])
    return table.groupby(["of", "speedup"], as_index=False).agg(
        intervals=("held", "size"), held=("held", "mean"), processes=("processes", "mean")
    )


def until_enough(
    drawn: Mapping[str, Sequence[Mapping[str, Any]]], plan: Mapping[str, Timed]
) -> dict[str, Timed]:
    """Time benchmarks in as many processes as they need; their samples are given in order."""
    counts = {name: one.processes.least for name, one in plan.items()}
    calm = {name: [{"contended": False, **one} for one in some] for name, some in drawn.items()}
    while True:
        timed = {name: one._replace(samples=calm[name][: counts[name]])
                 for name, one in plan.items()}  # fmt: skip
        if not (more := wanting(timed)):
            return timed
        for name in more:
            counts[name] += 1


def _stored(
    entries: Sequence[Mapping[str, Benchmark]], processes: Processes
) -> tuple[dict[str, Timed], dict[str, dict[str, float]], dict[str, Noise]]:
    """Return of each benchmark that all processes timed what decides on it, its truth and noise."""
    plan: dict[str, Timed] = {}
    truth: dict[str, dict[str, float]] = {}
    noise: dict[str, Noise] = {}
    logs = {
        (name, column): [_logs(each[name], column) for each in entries]
        for name in entries[0]
        if all(len(_logs(each[name], "median_s")) == STORED for each in entries if name in each)
        and all(name in each for each in entries)
        for column in SPEEDUPS.values()
    }
    grow = math.sqrt(STORED / (STORED - 1))  # what is off the mean of five is less off their truth
    for (name, column), of_runs in logs.items():
        if not all(of_runs):
            continue
        plan[name] = _timed(entries[0][name], processes)
        truth.setdefault(name, {})[column] = fmean(map(fmean, of_runs))
        off = [grow * (log - fmean(some)) for some in of_runs for log in some]
        noise.setdefault(name, {})[column] = off
        for auto, kernel in SAME_CALLABLE.items():
            itself = name.replace(f"-{kernel}-", f"-{auto}-")
            if itself != name and (itself, column) in logs:
                both = f"{auto}{OVER}{name}"
                plan[both] = plan[name]._replace(case=both)
                truth.setdefault(both, {})[column] = 0.0
                pairs = zip(chain(*logs[itself, column]), chain(*of_runs), strict=True)
                noise.setdefault(both, {})[column] = [one - other for one, other in pairs]
    return plan, truth, noise


def _logs(entry: Benchmark, column: str) -> list[float]:
    values = (getattr(one, column) for one in entry.samples if one.number <= STORED)
    return [value for value in values if value is not None]


def _timed(entry: Benchmark, processes: Processes) -> Timed:
    extra = entry.extra_info
    rival = is_rival(extra.kernel, extra.baseline, extra.role)
    case = tuple(getattr(extra, name) for name in SHARED)
    return Timed([], processes, extra.threads or 1, case, rival)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    text = "run files of one machine and grid, each of five processes"
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help=text)
    parser.add_argument("--trials", type=int, default=TRIALS, help=f"(default: {TRIALS})")


def run(given: argparse.Namespace) -> int:
    """Print how often intervals hold, of as many processes as needed and of all; return 0."""
    runs = [load_run(path) for path in given.runs]
    for processes in (Processes(2, 5), Processes(5, 5)):
        found = cover(runs, processes, given.trials)
        print(f"{processes}:", found.to_string(index=False), "", sep="\n")
    return 0
