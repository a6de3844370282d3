"""What the commands show on a terminal: progress, the plan, the machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any

import pandas as pd
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.progress import Progress as Bar
from rich.table import Table

from mlr import Case

from ..analysis.frame import SIZES
from ..common.units import (
    UNKNOWN,
    counted,
    format_bytes,
    format_case,
    format_error,
    format_spread,
    format_time,
)
from ..machine.devices import DEVICES, absent
from ..machine.info import machine_info, packages, settings
from ..measure.ceilings import measure_ceilings
from ..plan.benchmark import Benchmark
from ..plan.feasibility import Ceilings, Outcome
from ..run.state import Progress

MEASURED = ("median_s", "speedup", "speedup_low", "speedup_high", "peak_bytes", "max_rel_error")


@contextmanager
def following(total: int) -> Iterator[Callable[[Progress], None]]:
    """Show a run's progress with the time left; a line every tenth of the way on no terminal."""
    console = Console(stderr=True, highlight=False)
    bar = Bar(
        BarColumn(bar_width=10),
        TextColumn("{task.fields[cases]}"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
        TextColumn("{task.description}", markup=False),
        console=console,
        disable=not console.is_terminal,
    )
    last, tenths = Progress(total), -1

    def show(progress: Progress) -> None:
        nonlocal last, tenths
        if tenths < 0 and not console.is_terminal:
            console.print(f"{counted(progress.total, 'measurement')}: checks first, then times")
        last, tenths = progress, max(tenths, 0)
        step = f"process {progress.number}" if progress.number else "checking results and memory"
        left = "" if progress.left_s is None else f"{_duration(progress.left_s)} left"
        bar.update(
            task,
            # By time, not by cases: one may take a thousand times as long as another.
            total=None if progress.left_s is None else progress.wall_s + progress.left_s,
            completed=progress.wall_s,
            cases=f"{progress.done}/{progress.total}",
            left=left,
            description=_ends(progress.latest or step, 34),
        )
        reached = _tenths(progress)
        if not console.is_terminal and reached > tenths:
            tenths = reached
            console.print(
                f"{10 * tenths:3d} %  {_duration(progress.wall_s)}, about {left}: "
                f"{progress.done} of {progress.total}, {step}"
            )

    with bar:
        task = bar.add_task("starting", total=None, cases=f"0/{total}", left="")
        yield show
    counts = ", ".join(f"{count} {status}" for status, count in sorted(last.statuses.items()))
    cases = sum(last.statuses.values())
    console.print(
        f"{counted(cases, 'benchmark')}: {counts}; {counted(last.passes, 'process')} each"
    )
    if last.wall_s:
        cost = [f"{_duration(last.wall_s)}, overhead {last.overhead:.0%}"]
        if last.contended:
            cost.append(f"{counted(last.contended, 'measurement')} disturbed by other work")
        if last.again:
            cost.append(f"{last.again} repeated")
        console.print("; ".join(cost))


def _tenths(progress: Progress) -> int:
    """Return how many tenths of a run's time have gone by."""
    if not progress.left_s:
        return 0
    return int(10 * progress.wall_s / (progress.wall_s + progress.left_s))


def _ends(text: str, width: int) -> str:
    """Return a text with its middle left out where it is too long: both ends say something."""
    half = (width - 1) // 2
    return text if len(text) <= width else f"{text[: width - 1 - half]}…{text[-half:]}"


class Notes:
    """Texts that a table points to by number, each once."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def mark(self, text: str | None) -> str:
        """Return the mark of a text, `[2]`; nothing for none."""
        if not text:
            return ""
        if text not in self.texts:
            self.texts.append(text)
        return f"[{self.texts.index(text) + 1}]"

    def print(self, console: Console) -> None:
        """Print every text after its number."""
        for number, text in enumerate(self.texts, start=1):
            console.print(f"[{number}] {text}", markup=False, highlight=False, soft_wrap=True)


def _table(
    title: str, columns: Sequence[str], rows: Iterable[tuple[str, tuple[str, ...]]]
) -> Table:
    """Return a table of kernels under the size that they share; a name that is long gives way.

    Args:
        title: The head of the first column.
        columns: The heads of the others.
        rows: The size and the cells of each kernel, those of a size one after another.
    """
    cells, before = [], ""
    for size, row in rows:
        if size != before:
            cells.append((size, *[""] * len(columns)))
        before = size
        cells.append((f" {_ends(row[0], 40)}", *row[1:]))
    table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0))
    table.add_column(title, no_wrap=True)
    for place, name in enumerate(columns, start=1):
        widest = max(len(text) for text in (name, *(row[place] for row in cells)))
        table.add_column(name, justify="right", no_wrap=True, min_width=widest)
    for row in cells:
        table.add_row(*map(escape, row))
    return table


def print_results(frame: pd.DataFrame, console: Console) -> None:
    """Print one line a benchmark, by stage and size from the fastest on, then the notes to some.

    Args:
        frame: One row a planned case, with the columns of `store.COLUMNS` that are printed here.
        console: Where to; 80 columns are enough.
    """
    notes = Notes()
    columns = ("time", "speedup ±95 %", "peak", "error", "status")
    for part, rows in frame.groupby(["stage", "device", "dtype"], sort=False):
        ranked = rows.sort_values([*SIZES, "median_s", "kernel"], kind="stable").to_dict("records")
        lines = [
            (format_case(*(row[size] for size in SIZES)), _result(row, notes)) for row in ranked
        ]
        console.print(_table(", ".join(map(str, part)), columns, lines))
        console.print()
    notes.print(console)


def _result(row: Mapping[Any, Any], notes: Notes) -> tuple[str, ...]:
    failed = row["status"] != "ok"
    said = format_spread(row["speedup"], row["speedup_low"], row["speedup_high"])
    if failed or row["kernel"] == row["baseline"]:
        said = row["status"] if failed else "baseline"
    mark = notes.mark(row["reason"] if failed else row["suspicions"])
    return (
        row["kernel"],
        format_time(row["median_s"]),
        said,
        format_bytes(row["peak_bytes"]),
        format_error(row["max_rel_error"]),
        mark if failed else f"ok {mark}".strip(),
    )


def print_run(frame: pd.DataFrame, settings: Mapping[str, Any]) -> None:
    """Print a run's results, and under which conditions they hold."""
    console = Console()
    print_results(frame, console)
    processes = counted(settings["passes"], "process")
    console.print(
        f"Time: the median of {processes}, {counted(settings['threads'], 'thread')}, "
        "inputs in cache where they fit. Speedup: over the stage's torch.nn kernel, in alternating "
        "slices of one process, ± its 95 % interval. Peak: bytes held at once beyond the inputs.",
        highlight=False,
    )


def print_session(rows: Sequence[Mapping[str, Any]]) -> None:
    """Print the results of one process, and how much of it other work disturbed."""
    console = Console()
    missing = dict.fromkeys(MEASURED)
    said = [{**missing, **row, "suspicions": "; ".join(row["suspicions"])} for row in rows]
    frame = pd.DataFrame(said)
    print_results(frame.astype(dict.fromkeys(MEASURED, float)), console)
    disturbed = sum(bool(row.get("contended_passes")) for row in rows)
    if disturbed:
        console.print(
            f"{disturbed} of {counted(len(rows), 'benchmark')} were disturbed by other work on "
            "this machine; measure again when it is idle",
            highlight=False,
        )


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def print_plan(
    entries: list[tuple[Benchmark, Outcome]],
    ceilings: dict[str, Ceilings],
    passes: int,
    pace_s: float | None,
) -> None:
    """Print the totals, then every planned case with its predicted memory and least time.

    Args:
        entries: What is planned, and what is foretold of it.
        ceilings: What each device can do at best.
        passes: How many would time each case.
        pace_s: Seconds that a case and pass took in an earlier run; None where there is none.
    """
    console = Console(highlight=False)
    counts = Counter("to run" if o.status == "ok" else o.status for _, o in entries)
    told = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    console.print(f"{counted(len(entries), 'benchmark')}: {told}")
    if pace_s is not None and counts["to run"]:
        about = _duration(counts["to run"] * (1 + passes) * pace_s)
        console.print(
            f"about {about} for {counted(passes, 'process')}, at the {pace_s:.2g} s that a "
            "benchmark took in a process of this machine's last run"
        )
    console.print()
    notes = Notes()
    for part, some in groupby(entries, key=lambda entry: _part(entry[0].case)):
        lines = [
            (format_case(*entry.case.sizes), _planned(entry, outcome, ceilings, notes))
            for entry, outcome in some
        ]
        console.print(_table(part, ("predicted peak", "least time", "status"), lines))
        console.print()
    notes.print(console)


def _part(case: Case) -> str:
    return f"{case.stage}, {case.device}, {case.dtype}"


def _planned(
    entry: Benchmark, outcome: Outcome, ceilings: dict[str, Ceilings], notes: Notes
) -> tuple[str, ...]:
    case, least, memory = entry.case, UNKNOWN, format_bytes(outcome.predicted_peak_bytes)
    if outcome.status == "unsupported":
        memory = UNKNOWN
    elif case.device in ceilings:
        seconds = ceilings[case.device].floor_s(case, outcome.flops, outcome.bytes_moved)
        least = format_time(seconds)
    status = "to run" if outcome.status == "ok" else outcome.status
    return entry.kernel.name, memory, least, f"{status} {notes.mark(outcome.reason)}".strip()


@contextmanager
def doing() -> Iterator[Callable[[str], None]]:
    """Show what is being done, where a terminal is."""
    with Console(stderr=True).status("starting") as status:
        yield lambda text: status.update(escape(text))


def print_curves(text: pd.DataFrame) -> None:
    """Print how long each trainer took until it fitted, and what became of the others."""
    console = Console()
    table = Table("trainer", box=None, header_style="bold", padding=(0, 1, 0, 0))
    for name in ("until it fits", "torch.nn's ÷ its", "legs"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, seconds, ratio, legs, *_ in text.itertuples(index=False):
        table.add_row(escape(name), seconds, ratio, legs)
    console.print(table)
    for name, status in zip(text["trainer"], text["status"], strict=True):
        if status != "ok":
            console.print(f"{name}: {status}", markup=False, highlight=False)


def print_machine() -> None:
    """Measure and print what this machine is, how it is set and what it can do at best."""
    console = Console()
    for title, facts in (
        ("machine", machine_info()),
        ("settings", settings()),
        ("packages", packages()),
    ):
        table = Table(title=title, box=None, show_header=False, title_justify="left")
        for name, value in facts.items():
            table.add_row(name, str(value))
        console.print(table, "")
    for device in DEVICES:
        if absent(device) is None:
            console.print(_ceilings_table(device), "")


def _ceilings_table(device: str) -> Table:
    measured = measure_ceilings(device)
    table = Table(title=f"{device} at best, measured", box=None, show_header=False,
                  title_justify="left")  # fmt: skip
    table.add_row("one dispatch", format_time(measured.dispatch_s))
    for size, rate in measured.bandwidth_bytes_per_s:
        table.add_row(f"bandwidth, {format_bytes(size)}", f"{rate / 1e9:.4g} GB/s")
    for dtype, rate in measured.flops_per_s.items():
        table.add_row(f"operations, {dtype}", f"{rate / 1e9:.4g} GFLOP/s")
    return table
