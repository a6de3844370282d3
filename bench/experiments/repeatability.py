"""Whole runs held against each other, against a known ratio, and against torch's Timer."""

import math
import statistics
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch.utils.benchmark import Timer

from mlr import OPERATIONS, Problem, check, load_kernels

from ..gate.gate import Show
from ..machine.devices import Call
from ..measure.timing import repeats_of, time_batch, warm_up
from ..plan.benchmark import planned
from ..plan.selection import Selection
from ..report.markdown import render_template
from ..run.runner import run_plan
from ..store.files import atomic_write
from ..store.runs import load_frame, load_run
from ..store.schema import Run

TRUE_SPEEDUP = 0.5  # of the kernel that does the baseline's work twice, at any size
TWICE = "baseline_twice"
TWICE_FILE = Path(__file__).with_name("doubled_baseline.py")
REPEATS = 12
AGREED_S = 0.005  # a slice of each way: the Timer's own loop costs a call or two to start
CASE = ["operation", "device", "dtype", "case"]
KEYS = [*CASE, "kernel"]


class Found(NamedTuple):
    """The spread of each case over runs, the known intervals, and the times beside the Timer's."""

    spread: pd.DataFrame
    known: pd.DataFrame
    apart: pd.DataFrame


def repeat(axes: Selection, count: int, processes: int, show: Show) -> tuple[Found, Run]:
    """Run the same cases `count` times over, one run after another; return also the last run."""
    own = replace(axes, kernel=tuple(sorted({entry.kernel.name for entry in planned(axes)})))
    load_kernels(TWICE_FILE)
    known = replace(
        axes,
        kernel=("autograd", TWICE),
        operation=("gradient",),
        kernel_file=str(TWICE_FILE),
        batch=(33, 1_000, 10_000),  # from dispatch alone to half a millisecond
        features=(6, 32),
        outputs=(3, 12),
    )
    frames = []
    with TemporaryDirectory(prefix="mlr-repeat-") as folder:
        for number in range(count):
            show(f"run {number + 1} of {count}")
            for one in (known, own):
                out = Path(folder, f"{number}-{one is own}")
                path = run_plan(planned(one), one, out, lambda _: None, processes=processes)
                frames.append(load_frame([path]).assign(number=number, own=one is own))
        run = load_run(path)
    rows = pd.concat(frames, ignore_index=True)
    return Found(spread(rows[rows["own"]]), coverage(rows[~rows["own"]]), agreement(axes)), run


def spread(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the standard deviation over runs of each case's log-speedup, paired and stock.

    The stock way is the ratio of two medians timed apart, the baseline's over the kernel's, from
    the same run, by its `number`. `inside` counts the runs whose interval holds the mean of the
    other runs. Baselines and cases without numbers are left out.
    """
    rows = rows[rows["status"] == "ok"]
    is_baseline = rows["kernel"] == rows["baseline"]
    rows = rows.assign(base_s=rows["median_s"].where(is_baseline))
    rows["stock"] = rows.groupby(["number", *CASE])["base_s"].transform("max") / rows["median_s"]
    rows = rows[~is_baseline].copy()
    numbers = ["speedup", "speedup_low", "speedup_high", "stock"]
    rows[numbers] = np.log(rows[numbers])
    paired = rows.groupby(KEYS)["speedup"]
    others = (paired.transform("sum") - rows["speedup"]) / (paired.transform("size") - 1)
    rows["inside"] = rows["speedup_low"].le(others) & rows["speedup_high"].ge(others)
    found = rows.groupby(KEYS).agg(
        runs=("speedup", "size"),
        speedup=("speedup", lambda logs: math.exp(logs.mean())),
        sd_paired=("speedup", "std"),
        sd_stock=("stock", "std"),
        inside=("inside", "sum"),
    )
    return found.reset_index()


def coverage(rows: pd.DataFrame) -> pd.DataFrame:
    """Return every interval of the kernel that does the work twice, and whether it holds 1/2."""
    rows = rows[(rows["kernel"] == TWICE) & (rows["status"] == "ok")]
    holds = rows["speedup_low"].le(TRUE_SPEEDUP) & rows["speedup_high"].ge(TRUE_SPEEDUP)
    columns = ["number", "case", "speedup", "speedup_low", "speedup_high"]
    return rows[columns].assign(holds=holds)


def agreement(axes: Selection) -> pd.DataFrame:
    """Time calls with this suite's slices and with torch's Timer, in turns, in this process.

    One row a case: `ratio` is the suite's seconds over the Timer's, the median over repeats.
    """
    rows = []
    for kernel, case in planned(axes):
        short = not OPERATIONS[case.operation].iterative and case.out_features < 1_000
        if short and kernel.unsupported(case) is None:
            problem = Problem(case)
            call = kernel.bind(problem)
            if check(kernel, problem, call).ok:
                rows.append((kernel.name, case.id, *_agree(call, case.device)))
    return pd.DataFrame(rows, columns=["kernel", "case", "timer_s", "ratio"])


def _agree(call: Call, device: str) -> tuple[float, float]:
    repeats = repeats_of(warm_up(call, device), AGREED_S)
    timer = Timer("call()", globals={"call": call}, num_threads=torch.get_num_threads())
    logs, theirs = [], []
    for _ in range(REPEATS):
        before = time_batch(call, repeats, device, warmup_calls=1).seconds
        other = [float(timer.timeit(repeats).mean) for _ in range(2)]
        after = time_batch(call, repeats, device, warmup_calls=1).seconds
        logs.append(math.log((before + after) / sum(other)))
        theirs += other
    return statistics.median(theirs), math.exp(statistics.median(logs))


def promises(found: Found) -> pd.DataFrame:
    """Hold what was found against what is promised: one row a promise, and whether it is kept."""
    sd, stock = found.spread["sd_paired"], found.spread["sd_stock"]
    share, held, centre = (sd <= 0.05).mean(), found.known["holds"].mean(), found.known["speedup"]
    logs = np.log(found.apart["ratio"])
    worst = found.apart.loc[logs.abs().idxmax()]
    rows = [
        (
            "at least 95% of the cases repeat within 5%",
            f"{share:.1%} of {len(sd)} (stock way: {(stock <= 0.05).mean():.1%})",
            share >= 0.95,
        ),
        (
            "all cases repeat within 10%",
            f"worst {sd.max():.1%} (stock way: {stock.max():.1%})",
            sd.max() <= 0.10,
        ),
        (
            "the median case repeats within 2.5%",
            f"{sd.median():.2%} (stock way: {stock.median():.1%})",
            sd.median() <= 0.025,
        ),
        (
            "at least 90% of the intervals hold a known ratio",
            f"{held:.1%} of {len(centre)} intervals hold {TRUE_SPEEDUP}; "
            f"median centre {centre.median():.4f}",
            held >= 0.90,
        ),
        (
            "times agree with torch.utils.benchmark.Timer within 3% (geometric mean)",
            f"{math.expm1(logs.mean()):+.2%} over {len(logs)} cases, "
            f"worst {worst['ratio'] - 1:+.1%} ({worst['kernel']}, {worst['case']})",
            abs(logs.mean()) <= math.log1p(0.03),
        ),
    ]
    return pd.DataFrame(rows, columns=["promise", "measured", "kept"])


def write_proof(found: Found, run: Run, path: Path) -> None:
    """Write what was shown, and what was promised of it, as one Markdown file."""
    text = render_template(
        "repeatability", title=path.stem, run=run, promises=promises(found), **found._asdict()
    )
    atomic_write(path, text + "\n")
