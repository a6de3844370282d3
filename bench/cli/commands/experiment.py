"""Test the suite itself: error rates of the gate and of `paired`, repeated runs, a first GPU."""

import argparse
import math
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from ...common.paths import RESULTS
from ...common.units import counted, duration
from ...experiments import first_gpu_run, independent, stopping
from ...experiments.gate_power import analysis as gate_power
from ...experiments.gate_power import experiment as gate_trials
from ...experiments.paired_power import analysis as paired_power
from ...experiments.paired_power import experiment as paired_trials
from ...experiments.repeatability import promises, repeat, write_proof
from ...experiments.torch_releases import experiment as torch_releases
from ...machine.lock import exclusive_machine
from ...plan.benchmark import require_present
from ...plan.selection import Selection, add_axes, process_count
from ...report.subject import Subject


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add every experiment, with its options."""
    experiments = parser.add_subparsers(dest="experiment", required=True, metavar="EXPERIMENT")
    trials = experiments.add_parser("gate-power", help="how often the gate is wrong")
    other = "interpreter of another environment, for kinds with two"
    trials.add_argument("--head-python", metavar="PYTHON", help=other)
    pairs = experiments.add_parser("paired-power", help="how often a test with paired is wrong")
    for one, kinds in ((trials, gate_power.KINDS), (pairs, paired_power.KINDS)):
        what = "what to try, in turn: %(choices)s (default: all)"
        one.add_argument(
            "--kind", choices=kinds, nargs="+", default=[*kinds], metavar="KIND", help=what
        )
        one.add_argument("--count", type=int, default=math.inf, help="at most (default: all)")
        one.add_argument("--max-time", type=duration, default=math.inf, help="after which to end")
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
    again = experiments.add_parser("independent", help="speedups by other timing code")
    independent.add_arguments(again)
    stops = experiments.add_parser("stopping", help="how often intervals hold the truth")
    stopping.add_arguments(stops)
    for one in (trials, pairs, runs, first, releases, again):
        one.add_argument("--out", type=Path, default=RESULTS, help="folder (default: results)")


def run(given: argparse.Namespace) -> int:
    """Print what an experiment found; return 0, or 1 for a broken promise."""
    if given.experiment == "first-gpu":  # its steps take the machine one after another
        return first_gpu_run.run(given)
    if given.experiment == "torch-releases":  # installs before it takes the machine
        return torch_releases.run(given)
    if given.experiment == "stopping":  # measures nothing
        return stopping.run(given)
    with Console(stderr=True).status("starting") as status, exclusive_machine(status.update):
        if given.experiment == "gate-power":
            limits, python = (given.count, given.max_time), given.head_python
            path = gate_trials.run_trials(
                given.kind, *limits, python, given.out / "gate", status.update
            )
        elif given.experiment == "paired-power":
            path = paired_trials.run_trials(
                given.kind, given.count, given.max_time, given.out / "paired", status.update
            )
        elif given.experiment == "independent":
            return independent.run(given)
        else:
            axes = Selection.from_args(given, "smoke")
            require_present(axes)
            found = repeat(axes, given.count, given.processes, status.update)
    if given.experiment == "gate-power":
        done = gate_power.read_trials(path)
        left = {kind if of is None else of: n for (kind, of), n in gate_power.missing(done).items()}
        return show_trials(path, gate_power.subject({path.stem: done}), left)
    if given.experiment == "paired-power":
        some = paired_power.read_trials(path)
        wanted = paired_power.missing(some).items()
        left = {f"{kind} with {counted(size, 'pair')}": number for (kind, size), number in wanted}
        return show_trials(path, paired_power.subject({path.stem: some}), left)
    kept = promises(found)
    print(kept.to_markdown(index=False), write_proof(found, given.out), sep="\n\n")
    return 0 if kept["kept"].all() else 1


def show_trials(path: Path, found: Subject, left: Mapping[str, int]) -> int:
    """Print what the trials of a file say, and how many are wanted still; return 0."""
    print(*(part.body for part in found.sections({})), sep="\n\n")
    for kind, number in left.items():
        print(f"still wanted: {number} of {kind}")
    print(path)
    return 0
