"""Prove the harness: try the gate on what is known, hold runs against each other, meet a GPU."""

import argparse
import math
import signal
import sys
from pathlib import Path

from rich.console import Console

from ..common.errors import UserError
from ..common.paths import RESULTS
from ..common.units import duration
from ..machine.lock import exclusive_machine
from ..plan.benchmark import require_present
from ..plan.selection import Selection, add_axes, process_count
from . import first_gpu_run
from .gate_power.analysis import KINDS, missing, read_trials, subject
from .gate_power.experiment import run_trials
from .repeatability import promises, repeat, write_proof
from .torch_releases import experiment as torch_releases


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add every experiment, with its options."""
    experiments = parser.add_subparsers(dest="experiment", required=True, metavar="EXPERIMENT")
    trials = experiments.add_parser("gate-power", help="how often the gate is wrong")
    kinds = "what to try, in turn: %(choices)s (default: all)"
    trials.add_argument(
        "--kind", choices=KINDS, nargs="+", default=[*KINDS], metavar="KIND", help=kinds
    )
    trials.add_argument("--count", type=int, default=math.inf, help="at most (default: all)")
    trials.add_argument("--max-time", type=duration, default=math.inf, help="after which to end")
    other = "interpreter of another environment, for kinds with two"
    trials.add_argument("--head-python", metavar="PYTHON", help=other)
    runs = experiments.add_parser("repeatability", help="whether whole runs agree")
    add_axes(runs.add_argument, "smoke")
    runs.add_argument(
        "--processes", type=process_count, default="5", help="of each run, as of `run` (default: 5)"
    )
    runs.add_argument("--count", type=int, default=4, help="runs (default: 4)")
    first = experiments.add_parser("first-gpu", help="whether all works on its first GPU")
    first_gpu_run.add_arguments(first)
    releases = experiments.add_parser("torch-releases", help="whether newer releases are slower")
    torch_releases.add_arguments(releases)
    for one in (trials, runs, first, releases):
        one.add_argument("--out", type=Path, default=RESULTS, help="folder (default: results)")


def run(given: argparse.Namespace) -> int:
    """Print what an experiment found; return 0, or 1 for a broken promise."""
    if given.experiment == "first-gpu":  # its steps take the machine one after another
        return first_gpu_run.run(given)
    if given.experiment == "torch-releases":  # installs before it takes the machine
        return torch_releases.run(given)
    with Console(stderr=True).status("starting") as status, exclusive_machine(status.update):
        if given.experiment == "gate-power":
            limits, python = (given.count, given.max_time), given.head_python
            path = run_trials(given.kind, *limits, python, given.out / "gate", status.update)
        else:
            axes = Selection.from_args(given, "smoke")
            require_present(axes)
            found = repeat(axes, given.count, given.processes, status.update)
    if given.experiment == "gate-power":
        stored = read_trials(path)
        print(*(part.body for part in subject({path.stem: stored}).sections({})), sep="\n\n")
        for (kind, mutation), number in missing(stored).items():
            print(f"still wanted: {number} of {mutation or kind}")
        print(path)
        return 0
    kept = promises(found)
    print(kept.to_markdown(index=False), write_proof(found, given.out), sep="\n\n")
    return 0 if kept["kept"].all() else 1


def main() -> int:
    """Run an experiment and return its exit status; a user's mistake is one line and 2."""
    parser = argparse.ArgumentParser(f"python -m {__package__}", description=__doc__)
    add_arguments(parser)
    given = parser.parse_args()
    try:
        return run(given)
    except UserError as error:
        parser.exit(2, f"error: {error}\n")
    except KeyboardInterrupt:
        parser.exit(130, "stopped; gate-power and torch-releases go on after what has ended\n")


if __name__ == "__main__":
    # What Ctrl-C clears, SIGTERM clears too, also where the background has SIGINT ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    sys.exit(main())
