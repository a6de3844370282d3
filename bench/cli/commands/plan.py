"""Show what would run, with predicted memory and time; measure nothing."""

import argparse
from collections import Counter

from rich.console import Console

from ...common.paths import RESULTS
from ...common.units import UNKNOWN, counted, format_bytes, format_time
from ...machine.devices import unavailable_reason
from ...machine.info import machine_slug
from ...measure.ceilings import measure_ceilings
from ...plan.benchmark import Benchmark, planned
from ...plan.feasibility import Outcome, predict, roofline_s
from ...plan.grid import LONGEST_CALL_S, PROCESSES
from ...plan.selection import Selection, add_axes
from ...run.journal import seconds_per_sample
from ...store.schema import Ceilings
from ..console import Line, as_minutes, print_by_size
from ..types import count

HEADINGS = ("predicted peak", "least time", "status")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    add_axes(parser.add_argument)
    parser.add_argument("--processes", type=count, help="as of run")


def run(arguments: argparse.Namespace) -> int:
    """Run the command and return its exit status."""
    axes = Selection.from_args(arguments)
    plan = planned(axes)
    devices = {entry.case.device for entry in plan}
    ceilings = {d: measure_ceilings(d) for d in devices if unavailable_reason(d) is None}
    longest = LONGEST_CALL_S[axes.grid]
    told = [(entry, predict(entry, ceilings.get(entry.case.device), longest)) for entry in plan]
    processes = arguments.processes or PROCESSES[axes.grid]
    print_plan(told, ceilings, processes, seconds_per_sample(RESULTS / "runs", machine_slug()))
    return 0


def print_plan(
    entries: list[tuple[Benchmark, Outcome]],
    ceilings: dict[str, Ceilings],
    processes: int,
    seconds: float | None,
) -> None:
    """Print the totals, then every planned case with its predicted memory and least time."""
    console = Console(highlight=False)
    counts = Counter(map(_status, (outcome for _, outcome in entries)))
    told = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    console.print(f"{counted(len(entries), 'benchmark')}: {told}")
    if seconds is not None and counts["to run"]:
        about = as_minutes(counts["to run"] * (1 + processes) * seconds)
        console.print(
            f"about {about} for {counted(processes, 'process')}, at the {seconds:.2g} s that a "
            "benchmark took in a process of this machine's last run"
        )
    console.print()
    lines = (_line(*entry, ceilings.get(entry[0].case.device)) for entry in entries)
    print_by_size(console, HEADINGS, lines)


def _status(outcome: Outcome) -> str:
    return "to run" if outcome.status == "ok" else outcome.status


def _line(entry: Benchmark, outcome: Outcome, ceilings: Ceilings | None) -> Line:
    case, least, memory = entry.case, UNKNOWN, format_bytes(outcome.predicted_peak_bytes)
    if outcome.status == "unsupported":
        memory = UNKNOWN
    elif ceilings is not None:
        least = format_time(roofline_s(ceilings, case, outcome.flops, outcome.bytes_moved))
    cells = (entry.kernel.name, memory, least, _status(outcome))
    return Line((case.operation, case.device, case.dtype), case.sizes, cells, outcome.reason)
