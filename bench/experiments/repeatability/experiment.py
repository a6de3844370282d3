"""Run the same cases several times over, and time calls beside torch's own Timer."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch.utils.benchmark import Timer

from mlr import OPERATIONS, Problem, check, load_kernels

from ...common.errors import single_line
from ...machine.devices import Call
from ...measure.timing import repeats_of, time_batch, warm_up
from ...plan.benchmark import planned
from ...plan.selection import Selection
from ...run.runner import run_plan
from ...store.files import atomic_write
from ...store.runs import load_frame, load_run
from .analysis import TWICE, Promise, coverage, spread

TWICE_FILE = Path(__file__).with_name("doubled_baseline.py")
# From dispatch alone to half a millisecond.
TWICE_SIZES: dict[str, Any] = {
    "batch": (33, 1_000, 10_000), "features": (6, 32), "outputs": (3, 12),
}  # fmt: skip
REPEATS = 12
AGREED_S = 0.005  # a slice of each way: the Timer's own loop costs a call or two to start


class Repeated(NamedTuple):
    """What several runs showed: the spread of each case, the known intervals, and where."""

    spread: pd.DataFrame
    known: pd.DataFrame
    where: str
    settings: Mapping[str, Any]


def repeat(axes: Selection, count: int, processes: int, *, pinned: bool) -> Repeated:
    """Run the same cases `count` times over, one run after another, and compare the runs."""
    kernels = sorted({entry.kernel.name for entry in planned(axes)})
    load_kernels(TWICE_FILE)
    doubled = replace(
        axes, kernel=("autograd", TWICE), operation=("gradient",), kernel_file=str(TWICE_FILE),
        **TWICE_SIZES,
    )  # fmt: skip
    wanted = {"known": doubled, "own": replace(axes, kernel=tuple(kernels))}
    frames: dict[str, list[pd.DataFrame]] = {name: [] for name in wanted}
    how: dict[str, Any] = {"processes": processes, "pinned": pinned}
    with TemporaryDirectory(prefix="mlr-repeat-") as folder:
        for number in range(count):
            for name, one in wanted.items():
                out = Path(folder, f"{number}-{name}")
                path = run_plan(planned(one), one, out, lambda _: None, **how)
                frames[name].append(load_frame([path]))
        run = load_run(path)
    commit = f"{run.commit_info.id[:10]}{' with uncommitted changes' * run.commit_info.dirty}"
    where = f"{run.machine.slug}, commit {commit}, {run.datetime}"
    return Repeated(spread(frames["own"]), coverage(frames["known"]), where, run.settings)


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


def write_proof(
    found: Repeated, apart: pd.DataFrame, promises: Sequence[Promise], path: Path
) -> None:
    """Write what was shown, and what was promised of it, as one Markdown file."""
    said = pd.DataFrame([(p.text, p.measured, "yes" if p.kept else "**no**") for p in promises],
                        columns=["promise", "measured", "kept"])  # fmt: skip
    known = [(key, value) for key, value in sorted(found.settings.items()) if value is not None]
    settings = ", ".join(f"{key} {single_line(value)}" for key, value in known)
    columns = ["operation", "case", "kernel", "speedup", "sd_paired", "sd_stock", "inside", "runs"]
    cases = found.spread[columns].sort_values("sd_paired", ascending=False)
    text = [
        "<!-- Written by `python -m bench.experiments.repeatability`; changes are lost. -->",
        f"# Do runs repeat? {path.stem}",
        f"Measured on {found.where}. Settings: {settings}.",
        said.to_markdown(index=False),
        "Standard deviation over the runs of a case's log-speedup: `sd_paired` as this suite "
        "reports it, `sd_stock` from two medians timed apart in the same runs. `inside`: runs "
        "whose 95 % interval holds the mean of the others.",
        cases.to_markdown(index=False, floatfmt=".4f"),
        "The kernel that does the baseline's work twice; its speedup is 0.5.",
        found.known.to_markdown(index=False, floatfmt=".4f"),
        "This suite's slices over torch's Timer, in turns in one process.",
        apart.to_markdown(index=False, floatfmt=".3g"),
    ]
    atomic_write(path, "\n\n".join(text) + "\n")
