"""Whole runs held against each other, and against a known ratio."""

import argparse
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import pandas as pd

from mlr import load_kernels
from mlr.operations import GRADIENT

from ..gate.gate import Show
from ..machine.info import machine_slug
from ..plan.benchmark import planned, require_present
from ..plan.grid import Processes
from ..plan.selection import Selection, add_axes, process_count
from ..report.markdown import render_template
from ..run.runner import run_plan
from ..store.files import atomic_write
from ..store.runs import load_frame, load_run
from ..store.schema import Run
from .progress import on_exclusive_machine

GRID = "smoke"  # where the command line names none
TRUE_SPEEDUP = 0.5  # of the kernel that does the baseline's work twice, at any size
TWICE = "baseline_twice"
TWICE_FILE = Path(__file__).with_name("doubled_baseline.py")


class Found(NamedTuple):
    """The last run; each case's spread over runs, and the intervals of a known ratio."""

    run: Run
    spread: pd.DataFrame
    known: pd.DataFrame


def repeat(axes: Selection, count: int, processes: Processes, show: Show) -> Found:
    """Run the same cases `count` times over, one run after another."""
    own = planned(axes)  # before there is a kernel that does the work twice
    load_kernels(TWICE_FILE)
    known = replace(
        axes,
        kernel=("autograd", TWICE),
        operation=(GRADIENT.name,),
        kernel_file=str(TWICE_FILE),
        # from dispatch alone to half a millisecond
        sizes={"batch": (33, 1_000, 10_000), "features": (6, 32), "outputs": (3, 12)},
    )
    frames = []
    with TemporaryDirectory(prefix="mlr-repeat-") as folder:
        for number in range(count):
            show(f"run {number + 1} of {count}")
            for plan, one in ((planned(known), known), (own, axes)):
                out = Path(folder, f"{number}-{one is axes}")
                path = run_plan(plan, one, out, lambda _: None, processes=processes)
                frames.append(load_frame([path]).assign(number=number))
        run = load_run(path)
    rows = pd.concat(frames, ignore_index=True)
    return Found(run, spread(rows[rows["kernel"] != TWICE]), coverage(rows))


def spread(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the standard deviation over runs of each case's log-speedup, `sd`.

    Baselines and cases without numbers are left out.
    """
    rows = rows[(rows["status"] == "ok") & (rows["kernel"] != rows["baseline"])]
    case = ["operation", "device", "dtype", "threads", "case", "kernel"]
    logs = np.log(rows.set_index(case)["speedup"]).groupby(case)
    found = pd.DataFrame({"runs": logs.size(), "speedup": np.exp(logs.mean()), "sd": logs.std()})
    return found.reset_index()


def coverage(rows: pd.DataFrame) -> pd.DataFrame:
    """Return every interval of the kernel that does the work twice, and whether it holds 1/2."""
    rows = rows[(rows["kernel"] == TWICE) & (rows["status"] == "ok")]
    holds = rows["speedup_low"].le(TRUE_SPEEDUP) & rows["speedup_high"].ge(TRUE_SPEEDUP)
    columns = ["number", "case", "speedup", "speedup_low", "speedup_high"]
    return rows[columns].assign(holds=holds)


def promises(found: Found) -> pd.DataFrame:
    """Hold what was found against what is promised: one row a promise, and whether it is kept."""
    sd, held = found.spread["sd"], found.known["holds"].mean()
    repeated = (sd <= 0.05).mean()
    rows = [
        ("at least 95% of the cases repeat within 5%", repeated, repeated >= 0.95),
        ("all cases repeat within 10%", sd.max(), sd.max() <= 0.10),
        ("the median case repeats within 2.5%", sd.median(), sd.median() <= 0.025),
        ("at least 90% of the intervals hold a known ratio", held, held >= 0.90),
    ]
    table = pd.DataFrame(rows, columns=["promise", "measured", "kept"])
    return table.assign(measured=table["measured"].map("{:.2%}".format))


def write_proof(found: Found, results: Path) -> Path:
    """Write what was shown, and what was promised of it, as the Markdown file of this machine."""
    path = results / "repeatability" / f"{machine_slug()}.md"
    text = render_template("repeatability", promises=promises(found), **found._asdict())
    atomic_write(path, text + "\n")
    return path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add_axes(parser.add_argument, GRID)
    text = "of each run, as of `run` (default: 5)"
    parser.add_argument("--processes", type=process_count, default="5", help=text)
    parser.add_argument("--count", type=int, default=4, help="runs (default: 4)")


def run(given: argparse.Namespace) -> int:
    """Repeat a run, write the proof, print its promises; return 1 where one is broken."""
    with on_exclusive_machine() as show:
        axes = Selection.from_args(given, GRID)
        require_present(axes)
        found = repeat(axes, given.count, given.processes, show)
    kept = promises(found)
    print(kept.to_markdown(index=False), write_proof(found, given.out), sep="\n\n")
    return 0 if kept["kept"].all() else 1
