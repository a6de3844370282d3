"""What the suite claims of itself, measured: runs repeat, and times agree with torch's Timer."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import pandas as pd
import torch
from torch.utils.benchmark import Timer

from mlr import OPERATIONS, Case, Problem, check, load_kernels

from ...machine.devices import Call
from ...measure.timing import repeats_of, time_batch, warm_up
from ...plan.benchmark import planned
from ...plan.selection import Selection
from ...run.runner import run_plan
from ...run.state import Progress
from ...store.files import write_whole
from ...store.runs import load_frame, load_run, plain
from .analysis import TWICE, Promise, coverage, spread, verdict

TWICE_FILE = Path(__file__).with_name("doubled_baseline.py")
# From dispatch alone to half a millisecond.
TWICE_SIZES: dict[str, Any] = {
    "batch": (33, 1_000, 10_000),
    "features": (6, 32),
    "outputs": (3, 12),
}
MOST_APART = 0.03
QUADS = 12
AGREED_S = 0.005  # a slice of each way: the Timer's own loop costs a call or two to start


class Proof(NamedTuple):
    """What several runs showed: each case's spread, the known intervals, and the verdict."""

    spread: pd.DataFrame
    known: pd.DataFrame
    promises: list[Promise]
    where: str
    settings: dict[str, Any]


def repeat(
    axes: Selection, count: int, passes: int, show: Callable[[Progress], None], steady: bool = True
) -> Proof:
    """Run the same cases several times over, one run after another, and compare the runs.

    Args:
        axes: The cases.
        count: How many runs.
        passes: Processes of each.
        show: Called with the progress of each.
        steady: Whether the measuring processes get the steady environment.
    """
    load_kernels(TWICE_FILE)
    doubled = replace(
        axes, kernel=("autograd", TWICE), stage=("gradient",), kernel_file=str(TWICE_FILE),
        **TWICE_SIZES,
    )  # fmt: skip
    mine = replace(axes, kernel=tuple(sorted(_kernels(axes))))
    with TemporaryDirectory(prefix="mlr-repeat-") as folder:
        paths: dict[str, list[Path]] = {"own": [], "known": []}
        for number in range(count):
            for name, wanted in (("own", mine), ("known", doubled)):
                out = Path(folder, f"{number}-{name}")
                path = run_plan(planned(wanted), wanted, out, show, passes=passes, steady=steady)
                paths[name].append(path)
        frames = {name: [load_frame([path]) for path in found] for name, found in paths.items()}
        run = load_run(paths["own"][-1])
    table, known = spread(frames["own"]), coverage(frames["known"])
    commit = f"{run.commit_info.id[:10]}{' with uncommitted changes' * run.commit_info.dirty}"
    where = f"{run.machine.slug}, commit {commit}, {run.datetime}"
    return Proof(table, known, verdict(table, known), where, run.settings)


def _kernels(axes: Selection) -> set[str]:
    return {entry.kernel.name for entry in planned(axes)} - {TWICE}


def agreement(axes: Selection) -> pd.DataFrame:
    """Time calls with this suite's slices and with torch's Timer, in turns, in this process.

    Returns:
        One row a case: `ratio`, the suite's seconds over the Timer's, the median over quads.
    """
    rows = []
    for kernel, case in planned(axes):
        short = not OPERATIONS[case.stage].iterative and case.out_features < 1_000
        if short and kernel.unsupported(case) is None:
            problem = Problem(case)
            call = kernel.bind(problem)
            if check(kernel, problem, call).ok:
                rows.append(_agree(case, kernel.name, call))
    return pd.DataFrame(rows)


def _agree(case: Case, name: str, call: Call) -> dict[str, Any]:
    repeats = repeats_of(warm_up(call, case.device), AGREED_S)
    timer = Timer("call()", globals={"call": call}, num_threads=torch.get_num_threads())
    logs, theirs = [], []
    for _ in range(QUADS):
        ours = [time_batch(call, repeats, case.device, warmup_calls=1).seconds]
        other = [float(timer.timeit(repeats).mean) for _ in range(2)]
        ours.append(time_batch(call, repeats, case.device, warmup_calls=1).seconds)
        logs.append(math.log(statistics.mean(ours) / statistics.mean(other)))
        theirs += other
    return {
        "kernel": name,
        "case": case.id,
        "timer_s": statistics.median(theirs),
        "ratio": math.exp(statistics.median(logs)),
    }


def agreement_promise(table: pd.DataFrame) -> Promise:
    """Hold the geometric mean of the ratios against 3 %."""
    mean = float(table["ratio"].map(math.log).mean())
    return Promise(
        f"times agree with torch.utils.benchmark.Timer within {MOST_APART:.0%} (geometric mean)",
        f"{math.expm1(mean):+.2%} over {len(table)} cases, worst {_worst(table)}",
        abs(mean) <= math.log1p(MOST_APART),
    )


def _worst(table: pd.DataFrame) -> str:
    far = table["ratio"].map(math.log).abs().sort_values().index[-1]
    ratio, kernel, case = (table.at[far, name] for name in ("ratio", "kernel", "case"))
    return f"{float(str(ratio)) - 1:+.1%} ({plain(kernel)}, {plain(case)})"


def write_proof(
    proof: Proof, apart: pd.DataFrame, promises: list[Promise], folder: Path, name: str
) -> Path:
    """Write what was shown, and what was promised of it, as one Markdown file; return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    said = pd.DataFrame([(p.text, p.measured, "yes" if p.kept else "**no**") for p in promises],
                        columns=["promise", "measured", "kept"])  # fmt: skip
    known = [(key, value) for key, value in sorted(proof.settings.items()) if value is not None]
    steady = ", ".join(f"{key} {plain(value)}" for key, value in known)
    columns = ["stage", "case", "kernel", "speedup", "sd_paired", "sd_stock", "inside", "runs"]
    cases = proof.spread[columns].sort_values("sd_paired", ascending=False)
    text = [
        "<!-- Written by `python -m bench repeatability`; changes are lost. -->",
        f"# Do runs repeat? {name}",
        f"Measured on {proof.where}. Settings: {steady}.",
        said.to_markdown(index=False),
        "Standard deviation over the runs of a case's log-speedup: `sd_paired` as this suite "
        "reports it, `sd_stock` from two medians timed apart in the same runs. `inside`: runs "
        "whose 95 % interval holds the mean of the others.",
        cases.to_markdown(index=False, floatfmt=".4f"),
        "The kernel that does the baseline's work twice; its speedup is 0.5.",
        proof.known.to_markdown(index=False, floatfmt=".4f"),
        "This suite's slices over torch's Timer, in turns in one process.",
        apart.to_markdown(index=False, floatfmt=".3g"),
    ]
    path = folder / f"{name}.md"
    write_whole(path, "\n\n".join(text) + "\n")
    return path
