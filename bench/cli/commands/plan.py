"""Show what would run, with predicted memory and time; measure nothing."""

import argparse
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from rich.console import Console

from ...common.paths import COMMAND, RESULTS
from ...common.units import NOT_DECLARED, UNKNOWN, format_predicted, format_time
from ...machine.devices import unavailable_reason
from ...machine.info import machine_slug
from ...measure.ceilings import measure_ceilings
from ...plan.benchmark import Benchmark, planned, predict
from ...plan.grid import GRIDS, Processes
from ...plan.selection import Selection, add_axes, process_count
from ...report.tables import STATUS, Column
from ...run.journal import seconds_per_sample
from ...store.runs import typed_frame
from ...store.schema import Ceilings
from ..console import TO_RUN, plan_in_words, samples_in
from ..main import Parser
from ..output import Output, add_forms
from ..results import print_by_size


def _peak(count: float) -> str:
    # The formulas of a kernel that does not support a case need not hold: zero stands for them.
    return format_predicted(count) if count else UNKNOWN


def _least_time(seconds: float, flops: float) -> str:
    return NOT_DECLARED if np.isnan(flops) else format_time(seconds)


COLUMNS = (
    Column("predicted peak", "predicted_peak_bytes", _peak),
    Column("least time", ("least_s", "flops"), _least_time),
    STATUS,
)


def add_arguments(parser: Parser) -> None:
    """Add the options."""
    add_axes(parser.add_argument, arguments=parser.arguments)
    parser.add_argument("--processes", type=process_count, help="as of run")
    add_forms(parser, stores=False)


def run(arguments: argparse.Namespace) -> Output:
    """Return every planned benchmark with its predicted memory and least time."""
    axes = Selection.from_args(arguments, several_threads=True)
    plan = planned(axes)
    ceilings: dict[tuple[str, int], Ceilings] = {}
    for device, threads in {(entry.case.device, entry.threads) for entry in plan}:
        if unavailable_reason(device) is None:
            torch.set_num_threads(threads)
            ceilings[device, threads] = measure_ceilings(device)
    frame = predict_all(plan, ceilings, GRIDS[axes.grid].longest_call_s)
    processes = arguments.processes or GRIDS[axes.grid].processes
    pace = seconds_per_sample(RESULTS / "runs", machine_slug(), axes.grid)
    counts = [samples_in(list(frame["status"]), count) for count in processes]
    document = {
        "processes": processes,
        "about_s": None if pace is None else [pace[0] * count for count in counts],
        "benchmarks": frame.to_dict("records"),
    }
    return Output(document, partial(print_plan, frame, processes, pace))


def predict_all(
    plan: Sequence[Benchmark], ceilings: Mapping[tuple[str, int], Ceilings], longest_s: float
) -> pd.DataFrame:
    """Return a row of each benchmark, with its predicted memory and least time.

    `ceilings` are those of each device and number of threads.
    """
    rows = []
    for entry in plan:
        known, least_s = ceilings.get((entry.case.device, entry.threads)), np.nan
        outcome = predict(entry, known, longest_s)
        declared = None not in (outcome.flops, outcome.bytes_moved)
        if known is not None and outcome.status != "unsupported" and declared:
            work = entry.case.dtype, outcome.flops, outcome.bytes_moved
            least_s = known.roofline(*work).hot_s
        rows.append(outcome.columns() | {"least_s": least_s})
    frame = typed_frame(rows)
    table = frame.assign(note=frame["reason"], least_s=[row["least_s"] for row in rows])
    return table.replace({"status": {"ok": TO_RUN}})


def print_plan(frame: pd.DataFrame, processes: Processes, pace: tuple[float, Path] | None) -> None:
    """Print the totals, then every planned case with its predicted memory and least time.

    `pace` is the seconds of a benchmark in a process, and the run which took them.
    """
    console, statuses = Console(highlight=False), list(frame["status"])
    console.print(plan_in_words(statuses, list(frame["threads"]), processes, pace))
    console.print()
    print_by_size(console, frame, COLUMNS)
    if TO_RUN in statuses:
        console.print(f"\nNothing was measured: `{COMMAND} run` with the same options does it.")
