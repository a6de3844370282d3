"""Check a run file that is to be added to this repository's results, and say how to send it."""

import argparse
from pathlib import Path

from ...common.paths import RESULTS
from ...common.units import counted
from ...run.submission import find_problems


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run files")


def run(arguments: argparse.Namespace) -> int:
    """Print what is wrong with each file; return 1 if anything is, and 0 if nothing."""
    found = {path: find_problems(path, RESULTS) for path in arguments.runs}
    for path, problems in found.items():
        for problem in problems:
            print(f"{path}: {problem}")
    if any(found.values()):
        return 1
    print(
        f"{counted(len(found), 'run file')} can be sent: copy below results/runs/, in the folder "
        "of the machine,\nrun `python -m bench report --readme README.md`, commit what is new,\n"
        "and open a pull request."
    )
    return 0
