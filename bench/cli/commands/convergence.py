"""Train to a target loss: how long does each way take?"""

import argparse
from pathlib import Path

from rich.console import Console

from ...common.paths import RESULTS
from ..types import above_zero, count, size


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    for name, default, text in (
        ("--rows", 10_000, "training rows"),
        ("--features", 6, "in features n"),
        ("--outputs", 3, "out features o"),
        ("--batch-size", 100, "rows of a mini-batch"),
    ):
        parser.add_argument(name, type=size, default=default, help=f"{text} (default: {default:,})")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float64")
    parser.add_argument("--lr", type=above_zero, default=0.1, help="learning rate (default: 0.1)")
    parser.add_argument("--processes", type=count, default=5, help="fresh processes (default: 5)")
    kept = RESULTS / "convergence"
    parser.add_argument("--out", type=Path, default=kept, help="where they are kept")


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    from ...convergence.records import TaskInfo
    from ...convergence.run import measure_convergence
    from ...convergence.section import COLUMNS, convergence_table
    from ...report.tables import render
    from ..console import doing

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
