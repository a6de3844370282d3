"""Run several times over: do runs say the same?"""

from __future__ import annotations

import argparse
from pathlib import Path

from ...common.paths import RESULTS
from ...experiments.repeatability.experiment import (
    agreement,
    agreement_promise,
    repeat,
    write_proof,
)
from ...machine.info import machine_slug
from ...plan.selection import add_axes
from ..console import following, print_promises
from ..shared import read_axes
from ..types import count


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add_axes(parser.add_argument, "smoke")
    parser.set_defaults(default_grid="smoke")
    parser.add_argument("--passes", type=count, default=5, help="of each run (default: 5)")
    parser.add_argument("--runs", type=count, default=4, help="how many (default: 4)")
    parser.add_argument("--out", type=Path, default=RESULTS / "repeatability", help="where to")
    parser.add_argument(
        "--unsteady", action="store_true", help="leave the threads and the allocator as found"
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    axes = read_axes(arguments)
    with following(0) as show:
        proof = repeat(axes, arguments.runs, arguments.passes, show, steady=not arguments.unsteady)
    apart = agreement(axes)
    promises = [*proof.promises, agreement_promise(apart)]
    name = f"{machine_slug()}{'-unsteady' * arguments.unsteady}"
    print_promises(promises)
    print(write_proof(proof, apart, promises, arguments.out, name))
    return 0 if all(promise.kept for promise in promises) else 1
