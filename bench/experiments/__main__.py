"""Prove the harness: try the gate on what is known, or hold whole runs against each other."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from ..common.errors import UserError
from ..common.paths import RESULTS
from ..gate.gate import Show
from ..machine.info import machine_slug
from ..plan.selection import Selection, add_axes
from .gate_power.analysis import KINDS, read_trials, to_frame, trials_section
from .gate_power.experiment import run_trials
from .repeatability import promises, repeat, write_proof


def gate_power(arguments: argparse.Namespace, show: Show) -> int:
    """Try the gate on code that is the same, is slowed, or holds a mistake."""
    path = run_trials(arguments.kind, arguments.count, arguments.out / "gate", show)
    print(trials_section(to_frame(read_trials(path)), None), path, sep="\n\n")
    return 0


def repeatability(arguments: argparse.Namespace, show: Show) -> int:
    """Run several times over: do whole runs agree with each other, and with torch's Timer?"""
    axes = Selection.from_args(arguments, "smoke")
    found, run = repeat(axes, arguments.runs, arguments.processes, show)
    path = arguments.out / "repeatability" / f"{machine_slug()}.md"
    write_proof(found, run, path)
    table = promises(found)
    print(table.to_markdown(index=False), path, sep="\n\n")
    return 0 if table["kept"].all() else 1


def main() -> int:
    """Run an experiment and return its exit status; a user's mistake is one line and 2."""
    parser = argparse.ArgumentParser("python -m bench.experiments", description=__doc__)
    experiments = parser.add_subparsers(required=True, metavar="EXPERIMENT")

    def add_experiment(name: str, run: Callable[[argparse.Namespace, Show], int]) -> Any:
        added = experiments.add_parser(name, help=run.__doc__, description=run.__doc__)
        added.set_defaults(run=run)
        added.add_argument("--out", type=Path, default=RESULTS, help="default: results")
        return added.add_argument

    add = add_experiment("gate-power", gate_power)
    add("kind", choices=KINDS, metavar="KIND", help="what to try: %(choices)s")
    add("--count", type=int, default=1, help="how many to add (default: 1)")
    add = add_experiment("repeatability", repeatability)
    add_axes(add, "smoke")
    add("--processes", type=int, default=5, help="of each run (default: 5)")
    add("--runs", type=int, default=4, help="how many (default: 4)")
    arguments = parser.parse_args()
    try:
        with Console(stderr=True).status("starting") as status:
            exit_status: int = arguments.run(arguments, status.update)
    except UserError as error:
        parser.exit(2, f"error: {error}\n")
    return exit_status


if __name__ == "__main__":
    sys.exit(main())
