"""Measure speedups with none of the suite's timing code, and compare them with a stored run's."""

import argparse
import os
import statistics
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.utils.benchmark import Timer

from mlr import KERNELS, Case, Problem, get_kernel
from mlr.operations import GRADIENT, STEP

from ..common.errors import UserError
from ..common.provenance import commit_info
from ..machine.environment import pinned_environment
from ..machine.info import machine_slug
from ..report.markdown import markdown_table, render_template
from ..store.files import atomic_write
from ..store.runs import load_frame, load_run
from .progress import on_exclusive_machine

CASES = 12
PROCESSES = 5  # fresh ones, one after the other, each in an order of its own
ROUNDS = 11  # of the baseline and the kernel in turns
ROUND_S = 0.01
BEYOND_CACHES = 2**27  # bytes of all copies of the inputs
MOST_COPIES = 2_048  # of inputs of 64 KiB; smaller ones are not measured cold
MEAN, WORST = 0.05, 0.10  # how far speedups may be apart: the geometric mean of all, and each
COMPARABLE = (
    "kernel in @KERNELS and kernel != baseline and role == 'kernel' and device == 'cpu' and "
    "operation in @OPERATIONS and speedup > 0 and median_s < 0.02"
)
Calls = Sequence[Callable[[], Any]]


def choose(frame: pd.DataFrame) -> pd.DataFrame:
    """Return some results of a run, evenly over their times, with `hot` and `cold` speedups.

    They are all of one number of threads, the least of the run.
    """
    frame = frame[frame["threads"] == frame["threads"].min()]
    known = {"KERNELS": [*KERNELS], "OPERATIONS": [GRADIENT.name, STEP.name]}
    frame = frame.query(COMPARABLE, local_dict=known).sort_values("median_s")
    places = np.linspace(0, len(frame) - 1, min(CASES, len(frame))).round().astype(int)
    chosen = frame.iloc[places].reset_index(drop=True)
    return chosen.rename(columns={"speedup": "hot", "speedup_cold": "cold"})


def measure(chosen: pd.DataFrame) -> pd.DataFrame:
    """Return the speedups of results in this process: a row for each and `inputs`, by way.

    The index is that of the result.
    """
    found = []
    for row in chosen.itertuples():
        sizes: Any = row.batch, row.in_features, row.out_features
        case = Case(str(row.operation), str(row.device), str(row.dtype), *sizes)
        kernels = get_kernel(str(row.baseline)), get_kernel(str(row.kernel))
        for inputs, count in (("hot", 1), ("cold", -(-BEYOND_CACHES // (case.input_bytes or 1)))):
            if count > MOST_COPIES or not (stored := getattr(row, inputs)) > 0:
                continue
            problems = [Problem(case) for _ in range(count)]
            calls = [[one.bind(p.share_inputs()) for p in problems] for one in kernels]
            if inputs == "hot":
                calls = [own * max(1, int(ROUND_S / loop_s(own))) for own in calls]
            ratios = {"timer": _speedup(timer_s, *calls), "loop": _speedup(loop_s, *calls)}
            name = f"{row.kernel}-{case.id}"
            about = {"place": row.Index, "name": name, "inputs": inputs, "stored": stored}
            found.append(about | ratios)
    return pd.DataFrame(found).set_index("place")


def _speedup(seconds: Callable[[Calls], float], baseline: Calls, kernel: Calls) -> float:
    return statistics.median(seconds(baseline) / seconds(kernel) for _ in range(ROUNDS))


def timer_s(calls: Calls) -> float:
    """Return the seconds of a call by torch's Timer, which makes all of them twice before."""
    threads = torch.get_num_threads()
    timer = Timer("for call in calls: call()", globals={"calls": calls}, num_threads=threads)
    return float(timer.timeit(1).mean) / len(calls)


def loop_s(calls: Calls) -> float:
    """Return the seconds of a call in the second of two rounds of a plain loop."""
    for _ in range(2):
        start = perf_counter()
        for call in calls:
            call()
    return (perf_counter() - start) / len(calls)


def agreement(found: pd.DataFrame) -> pd.DataFrame:
    """Return how far speedups are from the stored ones by inputs and way, and if that is `kept`."""
    ways = found.melt(["name", "inputs", "stored"], ["timer", "loop"], "way", "speedup")
    ways["log"] = np.log(ways["speedup"] / ways["stored"])
    logs = ways.groupby(["inputs", "way"])["log"]
    mean, worst = np.expm1(logs.mean()), np.expm1(logs.agg(lambda some: some.abs().max()))
    table = pd.DataFrame({"cases": logs.size(), "mean": mean, "worst": worst}).reset_index()
    return table.assign(kept=table["mean"].abs().le(MEAN) & table["worst"].le(WORST))


def compare(path: Path) -> pd.DataFrame:
    """Measure again what a run of this machine has measured, in an environment as its own."""
    came, chosen = load_run(path).machine.slug, choose(load_frame([path]))
    if came != machine_slug() or chosen.empty:
        raise UserError(
            f"a run must be of {machine_slug()} and have speedups of mlr's kernels; {path} is of "
            f"{came} and has {len(chosen)} such; give another"
        )
    os.environ |= pinned_environment(os.environ, int(chosen["threads"].iloc[0]))
    # A process reads memory that it has used before faster than its first.
    orders = [chosen.sample(frac=1, random_state=number) for number in range(PROCESSES)]
    with get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        found = pd.concat(pool.map(measure, orders, chunksize=1)).sort_index(kind="stable")
    return found.groupby(["name", "inputs"], sort=False, as_index=False).median()


def _shown(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.3g}"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("path", type=Path, metavar="RUN", help="the run file to compare with")


def run(given: argparse.Namespace) -> int:
    """Write what was found as this machine's Markdown file; return 1 where it does not agree."""
    with on_exclusive_machine():
        found = compare(given.path)
    agreed, machine = agreement(found), machine_slug()
    rows, commit = markdown_table(found.map(_shown)), commit_info()
    head = {"run": given.path.stem, "machine": machine, "commit": commit}
    text = render_template("independent", found=agreed, rows=rows, **head)
    atomic_write(path := given.out / "independent" / f"{machine}.md", text + "\n")
    print(text, path, sep="\n\n")
    return 0 if agreed["kept"].all() else 1
