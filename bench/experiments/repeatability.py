"""Run several times over: do whole runs agree with each other, and with torch's Timer?"""

import argparse
import math
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch.utils.benchmark import Timer

from mlr import OPERATIONS, Problem, check, load_kernels

from ..common.errors import UserError, single_line
from ..common.paths import RESULTS
from ..machine.devices import Call
from ..machine.info import machine_slug
from ..measure.timing import repeats_of, time_batch, warm_up
from ..plan.benchmark import planned
from ..plan.selection import Selection, add_axes
from ..report.markdown import Markdown, render_template
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
# What must hold of the standard deviation over runs of a case's log-speedup.
MOST_SD, MOST_SHARE = 0.05, 0.95
ANY_SD, MEDIAN_SD = 0.10, 0.025
LEAST_COVERAGE = 0.90
MOST_APART = 0.03  # geometric mean of this suite's times over those of torch's Timer


class Promise(NamedTuple):
    """One promise: what it says, what was measured, and whether it was kept."""

    text: str
    measured: str
    kept: bool


class Found(NamedTuple):
    """The spread of each case over runs, the known intervals, and the times beside the Timer's."""

    spread: pd.DataFrame
    known: pd.DataFrame
    apart: pd.DataFrame


def repeat(axes: Selection, count: int, processes: int, *, pinned: bool) -> tuple[Found, Run]:
    """Run the same cases `count` times over, one run after another; return also the last run."""
    kernels = sorted({entry.kernel.name for entry in planned(axes)})
    load_kernels(TWICE_FILE)
    doubled = replace(
        axes,
        kernel=("autograd", TWICE),
        operation=("gradient",),
        kernel_file=str(TWICE_FILE),
        batch=(33, 1_000, 10_000),  # from dispatch alone to half a millisecond
        features=(6, 32),
        outputs=(3, 12),
    )
    own = replace(axes, kernel=tuple(kernels))
    frames: dict[Selection, list[pd.DataFrame]] = {doubled: [], own: []}
    with TemporaryDirectory(prefix="mlr-repeat-") as folder:
        for number in range(count):
            for one in (doubled, own):
                out = Path(folder, f"{number}-{'own' if one is own else 'known'}")
                path = run_plan(
                    planned(one), one, out, lambda _: None, processes=processes, pinned=pinned
                )
                frames[one].append(load_frame([path]))
        run = load_run(path)
    return Found(spread(frames[own]), coverage(frames[doubled]), agreement(axes)), run


def spread(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return the standard deviation over runs of each case's log-speedup, paired and stock.

    The stock way is the ratio of two medians timed apart, the baseline's over the kernel's, from
    the same runs. `inside` counts the runs whose interval holds the mean of the other runs.
    Baselines and cases without numbers are left out.
    """
    table = pd.concat([_logs(frame) for frame in frames])
    paired = table.groupby(KEYS)["paired"]
    others = (paired.transform("sum") - table["paired"]) / (paired.transform("size") - 1)
    table["inside"] = (table["low"] <= others) & (others <= table["high"])
    found = table.groupby(KEYS).agg(
        runs=("paired", "size"),
        speedup=("paired", lambda logs: math.exp(logs.mean())),
        sd_paired=("paired", "std"),
        sd_stock=("stock", "std"),
        inside=("inside", "sum"),
    )
    return found.reset_index()


def _logs(frame: pd.DataFrame) -> pd.DataFrame:
    rows = frame[frame["status"] == "ok"]
    base = rows[rows["kernel"] == rows["baseline"]].set_index(CASE)["median_s"]
    rest = rows[rows["kernel"] != rows["baseline"]].set_index(CASE)
    columns = {"paired": "speedup", "low": "speedup_low", "high": "speedup_high"}
    logs = {name: np.log(rest[column]) for name, column in columns.items()}
    logs["stock"] = np.log(base.reindex(rest.index) / rest["median_s"])
    return pd.DataFrame({"kernel": rest["kernel"], **logs}).reset_index()


def coverage(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return every interval of the kernel that does the work twice, and whether it holds 1/2."""
    rows = pd.concat([frame.assign(number=number) for number, frame in enumerate(frames)])
    rows = rows[(rows["kernel"] == TWICE) & (rows["status"] == "ok")]
    table = rows[["number", "case", "speedup", "speedup_low", "speedup_high"]]
    low, high = table["speedup_low"], table["speedup_high"]
    return table.assign(holds=(low <= TRUE_SPEEDUP) & (high >= TRUE_SPEEDUP))


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


def promises(found: Found) -> Iterator[Promise]:
    """Hold what was found against what is promised."""
    sd, stock = found.spread["sd_paired"], found.spread["sd_stock"]
    share, stock_share = (sd <= MOST_SD).mean(), (stock <= MOST_SD).mean()
    yield Promise(
        f"at least {MOST_SHARE:.0%} of the cases repeat within {MOST_SD:.0%}",
        f"{share:.1%} of {len(sd)} (stock way: {stock_share:.1%})",
        share >= MOST_SHARE,
    )
    yield Promise(
        f"all cases repeat within {ANY_SD:.0%}",
        f"worst {sd.max():.1%} (stock way: {stock.max():.1%})",
        sd.max() <= ANY_SD,
    )
    yield Promise(
        f"the median case repeats within {MEDIAN_SD:.1%}",
        f"{sd.median():.2%} (stock way: {stock.median():.1%})",
        sd.median() <= MEDIAN_SD,
    )
    held, centre = found.known["holds"].mean(), found.known["speedup"].median()
    yield Promise(
        f"at least {LEAST_COVERAGE:.0%} of the intervals hold a known ratio",
        f"{held:.1%} of {len(found.known)} intervals hold {TRUE_SPEEDUP}; "
        f"median centre {centre:.4f}",
        held >= LEAST_COVERAGE,
    )
    logs = np.log(found.apart["ratio"])
    worst = found.apart.loc[logs.abs().idxmax()]
    yield Promise(
        f"times agree with torch.utils.benchmark.Timer within {MOST_APART:.0%} (geometric mean)",
        f"{math.expm1(logs.mean()):+.2%} over {len(logs)} cases, worst {worst['ratio'] - 1:+.1%} "
        f"({worst['kernel']}, {worst['case']})",
        abs(logs.mean()) <= math.log1p(MOST_APART),
    )


def write_proof(found: Found, run: Run, path: Path) -> None:
    """Write what was shown, and what was promised of it, as one Markdown file."""
    said = [(text, seen, "yes" if kept else "**no**") for text, seen, kept in promises(found)]
    known = sorted((key, value) for key, value in run.settings.items() if value is not None)
    columns = ["operation", "case", "kernel", "speedup", "sd_paired", "sd_stock", "inside", "runs"]
    cases = found.spread[columns].sort_values("sd_paired", ascending=False)
    tables = {
        "promises": pd.DataFrame(said, columns=["promise", "measured", "kept"]).to_markdown(
            index=False
        ),
        "cases": cases.to_markdown(index=False, floatfmt=".4f"),
        "known": found.known.to_markdown(index=False, floatfmt=".4f"),
        "apart": found.apart.to_markdown(index=False, floatfmt=".3g"),
    }
    text = render_template(
        "repeatability",
        title=path.stem,
        run=run,
        settings=Markdown(", ".join(f"{key} {single_line(value)}" for key, value in known)),
        **{name: Markdown(table) for name, table in tables.items()},
    )
    atomic_write(path, text + "\n")


def main() -> int:
    """Measure, write what was found, and return 0 where every promise was kept."""
    parser = argparse.ArgumentParser(
        "python -m bench.experiments.repeatability", description=__doc__
    )
    add = parser.add_argument
    add_axes(add, "smoke")
    add("--processes", type=int, default=5, help="of each run (default: 5)")
    add("--runs", type=int, default=4, help="how many (default: 4)")
    add("--out", type=Path, default=RESULTS / "repeatability", help="where to")
    add("--no-pinned-env", action="store_true", help="leave the threads and the allocator as found")
    given = parser.parse_args()
    try:
        axes = Selection.from_args(given, "smoke")
        found, run = repeat(axes, given.runs, given.processes, pinned=not given.no_pinned_env)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    path = given.out / f"{machine_slug()}{'-no_pinned_env' * given.no_pinned_env}.md"
    write_proof(found, run, path)
    for text, measured, kept in promises(found):
        print(f"{'kept    ' if kept else 'NOT KEPT'} {text}:\n         {measured}")
    print(path)
    return 0 if all(promise.kept for promise in promises(found)) else 1


if __name__ == "__main__":
    sys.exit(main())
