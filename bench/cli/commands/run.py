"""Measure the benchmarks of a plan, store a run, print what was found."""

import argparse
from contextlib import suppress
from functools import partial
from pathlib import Path
from shlex import quote

import pandas as pd

from ...common.errors import UserError
from ...common.paths import COMMAND, RESULTS
from ...machine.info import machine_slug
from ...machine.lock import exclusive_machine
from ...plan.benchmark import (
    free_bytes_of_new_process,
    planned,
    predict,
    require_present,
    require_tried,
)
from ...plan.grid import GRIDS, Processes
from ...plan.selection import Selection, add_axes, process_count
from ...run.journal import seconds_per_sample
from ...run.runner import run_plan
from ...store.runs import find_runs, load_frame, load_heads
from ..console import TO_RUN, following, plan_in_words
from ..main import Parser
from ..output import Output, add_forms
from ..results import print_answers, print_results
from ..types import say


def add_arguments(parser: Parser) -> None:
    """Add the options."""
    add_axes(parser.add_argument, arguments=parser.arguments)
    add = parser.add_argument
    text = "processes that time each benchmark, as 5; or as 2:5 the least, and the most where its"
    text += " intervals need them (default: the grid's, see `plan`)"
    add("--processes", type=process_count, help=text)
    add("--out", type=Path, default=RESULTS, help="results folder (default: results)")
    text = "go on with an unfinished run of the same benchmarks, if there is one"
    add("--resume", action="store_true", help=text)
    add_forms(parser)


def run(arguments: argparse.Namespace) -> Output:
    """Measure, store and return what was found; exit status 1 for a wrong or crashed kernel."""
    axes = Selection.from_args(arguments, several_threads=True)
    require_present(axes)
    plan = planned(axes)
    processes = arguments.processes or GRIDS[axes.grid].processes
    free = free_bytes_of_new_process
    told = [predict(entry, free_bytes=free) for entry in plan]
    require_tried([outcome.columns() for outcome in told])  # before anything starts
    statuses = [TO_RUN if outcome.status == "ok" else outcome.status for outcome in told]
    pace: tuple[float, Path] | None = None
    with suppress(UserError):  # a file that cannot be read is no reason not to measure
        pace = seconds_per_sample(RESULTS / "runs", machine_slug(), axes.grid)
    words = plan_in_words(statuses, [entry.threads for entry in plan], processes, pace)
    with exclusive_machine(say), following(len(plan), words) as show:
        path = run_plan(
            plan, axes, arguments.out, show, processes=processes, resume=arguments.resume, say=say
        )
    heads = None  # those of this machine's stored runs, whose ceilings count too
    with suppress(UserError):  # one that cannot be read is no reason not to show this one
        heads = load_heads(find_runs(path.parent))
    frame = load_frame([path], heads)
    return Output(
        document={"run": path, "processes": processes, "results": frame.to_dict("records")},
        show=partial(_show, frame, processes, path, arguments.out),
        stored=[path],
        status=1 if frame["status"].isin(["wrong", "crashed"]).any() else 0,
    )


def _show(frame: pd.DataFrame, processes: Processes, path: Path, out: Path) -> None:
    print_results(frame, processes)
    print_answers(frame)
    where = "" if out == RESULTS else f" --out {quote(str(out))}"
    print(f"\nStored {path}\n`{COMMAND} report{where}` writes its report, with figures.")
