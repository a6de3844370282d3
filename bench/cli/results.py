"""The results of a run, or of one session of pytest, on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from rich.console import Console

from ..common import units
from ..common.units import counted
from ..store.columns import FRAME, SIZES
from .console import Notes, by_size, print_table

HEADINGS = ("time", "speedup ±95 %", "peak", "error", "status")


def print_run(frame: pd.DataFrame, settings: Mapping[str, Any]) -> None:
    """Print a run's results, and under which conditions they hold."""
    console = Console()
    print_results(frame, console)
    processes = counted(settings["processes"], "process")
    console.print(
        f"Time: the median of {processes}, {counted(settings['threads'], 'thread')}, "
        "inputs in cache where they fit. Speedup: over the operation's torch.nn kernel, in "
        "alternating slices of one process, ± its 95 % interval. Peak: bytes held at once beyond "
        "the inputs.",
        highlight=False,
    )


def print_session(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the results of one process, and how much of it other work disturbed."""
    console = Console()
    frame = pd.DataFrame([{**row, "warnings": "; ".join(row["warnings"])} for row in rows])
    # Where nothing was measured there are no columns of it.
    frame = frame.reindex(columns=[column.name for column in FRAME])
    print_results(frame.astype({column.name: column.dtype for column in FRAME}), console)
    disturbed = sum(bool(row.get("contended_processes")) for row in rows)
    if disturbed:
        console.print(
            f"{disturbed} of {counted(len(rows), 'benchmark')} were disturbed by other work on "
            "this machine; measure again when it is idle",
            highlight=False,
        )


def print_results(frame: pd.DataFrame, console: Console) -> None:
    """Print one line a benchmark, by operation and size from the fastest on, then the notes."""
    notes = Notes()
    for part, rows in frame.groupby(["operation", "device", "dtype"], sort=False):
        ranked = rows.sort_values([*SIZES, "median_s", "kernel"], kind="stable").to_dict("records")
        lines = ((units.format_case(*(row[size] for size in SIZES)), _cells(row, notes))
                 for row in ranked)  # fmt: skip
        print_table(console, (", ".join(map(str, part)), *HEADINGS), by_size(lines))
    notes.print(console)


def _cells(row: Mapping[Any, Any], notes: Notes) -> tuple[str, ...]:
    failed = row["status"] != "ok"
    said = units.format_spread(row["speedup"], row["speedup_low"], row["speedup_high"])
    if failed or row["kernel"] == row["baseline"]:
        said = row["status"] if failed else "baseline"
    mark = notes.mark(row["reason"] if failed else row["warnings"])
    return (
        row["kernel"],
        units.format_time(row["median_s"]),
        said,
        units.format_bytes(row["peak_bytes"]),
        units.format_error(row["max_rel_error"]),
        mark if failed else f"ok {mark}".strip(),
    )
