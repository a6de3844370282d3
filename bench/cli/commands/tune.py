"""Let `auto` take what runs found the fastest here."""

import argparse
from pathlib import Path

from mlr.tuning import TABLE_VARIABLE, table_path

from ...common.paths import RESULTS
from ...store.files import atomic_write, writing
from ...store.runs import find_runs
from ...tune import make_table
from ..types import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    runs = "stored runs (default: all of them)"
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN", help=runs)
    parser.description = (
        "Write down which kernel was the fastest of each case of stored runs, and from how much "
        "work on another thread pays. mlr reads that from then on in every program of this user on "
        "this machine: `auto` follows it. It is written to ~/.config/mlr/tuning.json "
        "($XDG_CONFIG_HOME/mlr/tuning.json where that is set), or to the file that "
        "MLR_TUNING_TABLE names; remove the file to undo it."
    )
    out = "another file, which mlr reads if MLR_TUNING_TABLE names it"
    parser.add_argument("--out", type=Path, metavar="PATH", help=out)
    parser.add_argument("--dry-run", action="store_true", help="print it and write nothing")


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    text, told = make_table(arguments.runs or find_runs(RESULTS / "runs"))
    path = arguments.out or table_path()
    if arguments.dry_run:
        print(text, end="")
        say(f"{path}: {told}; nothing is written")
        return 0
    with writing("the tuning table", path):
        atomic_write(path, text)
    print(f"{path}: {told}")
    if path.absolute() == table_path().absolute():
        print(
            "mlr reads this file from now on, in every program of this user on this machine; "
            "remove it to undo"
        )
    else:
        print(f"mlr reads this file only where {TABLE_VARIABLE} names it")
    return 0
