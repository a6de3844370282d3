"""Show what would run, with predicted memory and time; measure nothing."""

from __future__ import annotations

import argparse

from ...common.paths import RESULTS
from ...machine.devices import absent
from ...machine.info import machine_slug
from ...measure.ceilings import measure_ceilings
from ...plan.benchmark import planned
from ...plan.feasibility import foretell
from ...plan.grid import LONGEST_CALL_S, PASSES
from ...plan.selection import add_axes
from ...plan.split import part_of
from ...store.runs import pace
from ..console import print_plan
from ..shared import read_axes
from ..types import count, shard


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add_axes(parser.add_argument)
    parser.add_argument("--passes", type=count, help="as of run")
    parser.add_argument("--shard", type=shard, metavar="I/K", help="as of run")


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    axes = read_axes(arguments)
    plan, _ = part_of(planned(axes), axes, arguments.shard)
    longest = LONGEST_CALL_S[axes.grid]
    devices = {entry.case.device for entry in plan}
    ceilings = {d: measure_ceilings(d) for d in devices if absent(d) is None}
    told = [(e, foretell(e, ceilings.get(e.case.device), longest)) for e in plan]
    passes = arguments.passes or PASSES[axes.grid]
    print_plan(told, ceilings, passes, pace(RESULTS / "runs", machine_slug()))
    return 0
