"""Measure how long training takes to reach a loss, by each way of training."""

import argparse
from pathlib import Path

from rich.console import Console

from ...common.paths import RESULTS
from ..types import above_zero, count, size


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add = parser.add_argument
    add("--rows", type=size, default=10_000, help="training rows (default: 10,000)")
    add("--features", type=size, default=6, help="in features n (default: 6)")
    add("--outputs", type=size, default=3, help="out features o (default: 3)")
    add("--batch-size", type=size, default=100, help="rows of a mini-batch (default: 100)")
    add("--dtype", choices=("float32", "float64"), default="float64")
    add("--lr", type=above_zero, default=0.1, help="learning rate (default: 0.1)")
    add("--processes", type=count, default=5, help="fresh processes (default: 5)")
    add("--out", type=Path, default=RESULTS / "convergence", help="folder for the result")


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    from ...common.progress import doing
    from ...convergence.records import TaskInfo
    from ...convergence.run import measure_convergence
    from ...convergence.section import COLUMNS, convergence_table
    from ...report.tables import render

    named = ("rows", "features", "outputs", "dtype", "lr", "batch_size")
    task = TaskInfo(**{name: getattr(arguments, name) for name in named})
    with doing() as show:
        path, measured = measure_convergence(task, arguments.processes, arguments.out, show)
    console = Console()
    console.print(render(convergence_table(measured), COLUMNS[:4], to="console"))
    for one in measured.results:
        if one.status != "ok":
            console.print(f"{one.trainer}: {one.status}: {one.reason}", markup=False)
    print(path)
    return 0
