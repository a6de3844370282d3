"""Measure the benchmarks of a plan, store a run, print what was found."""

import argparse
from pathlib import Path

from ...common.paths import RESULTS
from ...machine.lock import exclusive_machine
from ...plan.benchmark import (
    free_bytes_of_new_process,
    planned,
    predict,
    require_present,
    require_tried,
)
from ...plan.grid import GRIDS
from ...plan.selection import Selection, add_axes
from ...run.runner import run_plan
from ...store.runs import load_frame
from ..console import following
from ..main import Parser
from ..results import print_results
from ..types import count, say


def add_arguments(parser: Parser) -> None:
    """Add the options."""
    add_axes(parser.add_argument, arguments=parser.arguments)
    add, text = parser.add_argument, "processes that time each benchmark (default: 5, smoke 2)"
    add("--processes", type=count, help=text)
    add("--out", type=Path, default=RESULTS, help="results folder (default: results)")
    add("--resume", action="store_true", help="go on with an unfinished run")


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    axes = Selection.from_args(arguments, several_threads=True)
    require_present(axes)
    plan = planned(axes)
    processes = arguments.processes or GRIDS[axes.grid].processes
    free = free_bytes_of_new_process
    told = [predict(entry, free_bytes=free) for entry in plan]
    require_tried([outcome.columns() for outcome in told])  # before anything starts
    with exclusive_machine(say), following(len(plan)) as show:
        path = run_plan(
            plan, axes, arguments.out, show, processes=processes, resume=arguments.resume
        )
    frame = load_frame([path])
    print_results(frame, processes)
    print(path)
    return 1 if frame["status"].isin(["wrong", "crashed"]).any() else 0
