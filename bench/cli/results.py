"""Benchmarks on a terminal of 80 columns: the results of a run, or of one session of pytest."""

import html
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..analysis.frame import by_size, threads_of
from ..common import units
from ..common.errors import single_line
from ..plan.grid import Processes
from ..report.tables import SIZE, STATUS, Column, headed
from ..store.runs import typed_frame

LONGEST_NAME = 38
# Of what a row ends with, where that is no everyday outcome; NO_COLOR leaves them out.
COLOURS = {
    **dict.fromkeys(("wrong", "crashed", "slower"), "red"),
    **dict.fromkeys(("oom", "timeout"), "yellow"),
    **dict.fromkeys(("infeasible", "unsupported"), "dim"),
    "faster": "green",
}


def _speedup(kernel: str, baseline: str, ratio: float, low: float, high: float) -> str:
    if kernel == baseline and ratio == ratio:
        return "baseline"
    half = (high / low) ** 0.5 - 1  # of the interval: the same up and down on a logarithmic scale
    return units.format_ratio(ratio) + (f" ±{100 * half:.1f} %" if half == half else "")


RESULTS = (
    Column("time", "median_s", units.format_time),
    Column(
        "speedup ±95 %", ("kernel", "baseline", "speedup", "speedup_low", "speedup_high"), _speedup
    ),
    Column("peak", "peak_bytes", units.format_bytes),
    Column("error", "max_rel_error", units.format_error),
    STATUS,
)


def print_session(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the results of one process."""
    print_results(
        typed_frame({**row, "warnings": "; ".join(row["warnings"]) or None} for row in rows)
    )


def print_results(frame: pd.DataFrame, processes: Processes | None = None) -> None:
    """Print one line a benchmark, by operation and size from the fastest on, then the notes.

    Of a run of so many processes it says under which conditions the results hold.
    """
    console = Console(highlight=False)
    notes = frame["reason"].where(frame["status"] != "ok", frame["warnings"])
    ranked = frame.assign(note=notes).sort_values(["median_s", "kernel"])
    print_by_size(console, ranked, RESULTS)
    if disturbed := int((frame["contended_processes"] > 0).sum()):
        console.print(
            f"{disturbed} of {units.counted(len(frame), 'benchmark')} were measured while the "
            "machine was slow or used by something else; measure again when it is idle"
        )
    held = frame.loc[frame["tolerance_of"] == "baseline", "operation"].unique()
    if len(held):
        console.print(
            f"Errors of {single_line(', '.join(held))} were held against the baseline's own.",
            markup=False,
        )
    if processes is not None:
        console.print(
            f"Time: the median of {processes}, inputs in cache where "
            "they fit. Speedup: over the operation's baseline, in alternating slices of one "
            "process, ± its 95 % interval. Peak: bytes held at once beyond the inputs."
        )


def print_answers(frame: pd.DataFrame) -> None:
    """Print what the results of a run say in words, as the report of it opens."""
    # With SciPy's statistics, which a plan does without.
    from ..report.answers import answers, groups, newest_changes

    console = Console(highlight=False)
    for where, rows in groups(frame):
        table = Table(box=None, show_header=False, padding=(0, 1, 0, 0))
        table.add_column(width=31)
        table.add_column()
        for one in answers(rows, newest_changes([])):
            said = html.unescape(f"{one.figure} {one.unit}. {one.said}".replace("**", ""))
            table.add_row(*map(escape, (one.question, said)))
        console.print(f"\nAnswers: {where.title}", style="bold", markup=False)
        console.print(table)


def print_by_size(console: Console, frame: pd.DataFrame, columns: Sequence[Column]) -> None:
    """Print a table of each operation, device, dtype and number of threads, then the notes.

    Each size has a row of its own, above the indented kernels that share it, in the frame's order.
    The last column but the note decides the colour.
    """
    numbers = {note: number for number, note in enumerate(frame["note"].dropna().unique(), start=1)}
    mark = Column("", "note", lambda note: f"[{numbers[note]}]" if note in numbers else "")
    for named, part in frame.groupby(["operation", "device", "dtype", "threads"]):
        title = ", ".join([*map(str, named[:3]), threads_of(part)])
        console.print(title, style="bold", markup=False)
        table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0))
        (size,) = headed([SIZE], part)
        table.add_column(escape(size.heading), overflow="ellipsis")
        for column in (*columns, mark):
            table.add_column(column.heading, justify="right", no_wrap=True)
        part = part.sort_values("case", kind="stable", key=by_size)
        for _, alike in part.groupby(SIZE.names, sort=False):
            table.add_row(escape(size.write(alike)[0]))
            kernels = [f" {single_line(kernel, LONGEST_NAME)}" for kernel in alike["kernel"]]
            cells = (column.write(alike) for column in (*columns, mark))
            for row in zip(kernels, *cells, strict=True):
                table.add_row(*map(escape, row), style=COLOURS.get(row[-2]))
        console.print(table, "")
    for note, number in numbers.items():
        console.print(f"[{number}] {note}", markup=False, soft_wrap=True)
