"""Train to a target loss: how long does each way take?"""

from __future__ import annotations

import argparse
from pathlib import Path

from ...common.paths import RESULTS
from ...convergence.records import curves_table, load_curves
from ...convergence.run import measure_curves
from ...convergence.worker import Wanted
from ..console import doing, print_curves
from ..types import above_zero, count, size


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    for name, least, text in (
        ("--rows", 10_000, "training rows"),
        ("--features", 6, "in features n"),
        ("--outputs", 3, "out features o"),
        ("--batch-size", 100, "rows of a mini-batch"),
    ):
        parser.add_argument(name, type=size, default=least, help=f"{text} (default: {least:,})")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float64")
    parser.add_argument("--lr", type=above_zero, default=0.1, help="learning rate (default: 0.1)")
    parser.add_argument("--passes", type=count, default=5, help="fresh processes (default: 5)")
    parser.add_argument("--out", type=Path, default=RESULTS / "curves", help="where they are kept")


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    named = ("rows", "features", "outputs", "dtype", "lr", "batch_size")
    wanted = Wanted(**{name: getattr(arguments, name) for name in named})
    with doing() as show:
        path = measure_curves(wanted, arguments.passes, arguments.out, show)
    print_curves(curves_table(load_curves(path)))
    print(path)
    return 0
