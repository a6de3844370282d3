"""Try the gate on code that is the same, or slowed."""

from __future__ import annotations

import argparse
from pathlib import Path

from ...common.paths import RESULTS
from ...experiments.gate_power.analysis import (
    added_to,
    facts,
    more_needed,
    mutants_table,
    read_trials,
)
from ...experiments.gate_power.experiment import run_trials
from ...experiments.gate_power.output import print_trials
from ...gate.output import following
from ..types import count


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "kind",
        choices=("same", "loaded", "slow5", "slow10", "slow20", "all10", "mutants"),
        metavar="KIND",
        help="what to try: %(choices)s",
    )
    parser.add_argument("--count", type=count, default=1, help="how many to add (default: 1)")
    parser.add_argument("--out", type=Path, default=RESULTS / "gate", help="where they are kept")


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    with following() as show:
        path = run_trials(arguments.kind, arguments.count, arguments.out, show)
    known = read_trials(path)
    trials = added_to(known)
    said = [*facts(trials), f"{more_needed(trials)} more unchanged trials without a false alarm "
            "would bound their rate by 5 %"]  # fmt: skip
    print_trials(trials, mutants_table(known), said)
    print(path)
    return 0
