"""Test the suite itself: error rates of the gate and of `paired`, repeated runs, a first GPU."""

import argparse
from pathlib import Path

from ...common.paths import RESULTS
from ...experiments import first_gpu_run, independent, repeatability, stopping
from ...experiments.gate_power import experiment as gate_power
from ...experiments.paired_power import experiment as paired_power
from ...experiments.torch_releases import experiment as torch_releases

# Each has `add_arguments`, and `run`, which returns the exit status; what it is about, in a line.
EXPERIMENTS = {
    "gate-power": (gate_power, "how often the gate is wrong"),
    "paired-power": (paired_power, "how often a test with paired is wrong"),
    "repeatability": (repeatability, "whether whole runs agree"),
    "first-gpu": (first_gpu_run, "whether all works on its first GPU"),
    "torch-releases": (torch_releases, "whether newer releases are slower"),
    "independent": (independent, "speedups by other timing code"),
    "stopping": (stopping, "how often intervals hold the truth"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add every experiment, with its options."""
    choices = parser.add_subparsers(dest="experiment", required=True, metavar="EXPERIMENT")
    for name, (experiment, text) in EXPERIMENTS.items():
        one = choices.add_parser(name, help=text)
        experiment.add_arguments(one)
        if experiment is not stopping:  # it writes nothing
            one.add_argument("--out", type=Path, default=RESULTS, help="folder (default: results)")


def run(given: argparse.Namespace) -> int:
    """Print what an experiment found; return 0, or 1 for a broken promise."""
    experiment, _ = EXPERIMENTS[given.experiment]
    found: int = experiment.run(given)
    return found
