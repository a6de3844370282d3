"""The results of a run, or of one session of pytest, on a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from rich.console import Console

from ..common import units
from ..common.units import counted
from ..store.columns import FRAME, SIZES
from .console import Line, print_by_size

TABLE = ["operation", "device", "dtype"]  # that have one of their own
HEADINGS = ("time", "speedup ±95 %", "peak", "error", "status")


def print_run(frame: pd.DataFrame, settings: Mapping[str, Any]) -> None:
    """Print a run's results, and under which conditions they hold."""
    console = Console(highlight=False)
    print_results(frame, console)
    processes = counted(settings["processes"], "process")
    console.print(
        f"Time: the median of {processes}, {counted(settings['threads'], 'thread')}, "
        "inputs in cache where they fit. Speedup: over the operation's torch.nn kernel, in "
        "alternating slices of one process, ± its 95 % interval. Peak: bytes held at once beyond "
        "the inputs."
    )


def print_session(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the results of one process, and how much of it other work disturbed."""
    console = Console(highlight=False)
    types = {column.name: column.dtype for column in FRAME}
    joined = [{**row, "warnings": "; ".join(row["warnings"])} for row in rows]
    print_results(pd.DataFrame(joined, columns=list(types)).astype(types), console)
    disturbed = sum(bool(row.get("contended_processes")) for row in rows)
    if disturbed:
        console.print(
            f"{disturbed} of {counted(len(rows), 'benchmark')} were disturbed by other work on "
            "this machine; measure again when it is idle"
        )


def print_results(frame: pd.DataFrame, console: Console) -> None:
    """Print one line a benchmark, by operation and size from the fastest on, then the notes."""
    table = frame.groupby(TABLE, sort=False).ngroup()
    order = ["table", *SIZES, "median_s", "kernel"]
    ranked = frame.assign(table=table).sort_values(order, kind="stable")
    print_by_size(console, HEADINGS, map(_line, ranked.to_dict("records")))


def _line(row: Mapping[Any, Any]) -> Line:
    failed = row["status"] != "ok"
    speedup = units.format_spread(row["speedup"], row["speedup_low"], row["speedup_high"])
    if failed or row["kernel"] == row["baseline"]:
        speedup = row["status"] if failed else "baseline"
    cells = (
        row["kernel"],
        units.format_time(row["median_s"]),
        speedup,
        units.format_bytes(row["peak_bytes"]),
        units.format_error(row["max_rel_error"]),
        "" if failed else "ok",
    )
    table, sizes = ([row[name] for name in names] for names in (TABLE, SIZES))
    return Line(table, sizes, cells, row["reason" if failed else "warnings"])
