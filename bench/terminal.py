"""What the commands show on a terminal: progress, the plan, the machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pandas as pd
from rich.console import Console, JustifyMethod
from rich.markup import escape
from rich.progress import (
    BarColumn,
    TextColumn,
    TimeElapsedColumn,
)
from rich.progress import Progress as Bar
from rich.table import Table

from bench.followed import Progress
from bench.grid import Planned
from bench.machine import Ceilings, absent, machine_info, measure_ceilings, packages, settings
from bench.ranking import fastest
from bench.repeatability import Promise
from bench.tables import SIZES
from bench.trial import Outcome
from bench.units import format_bytes, format_case, format_ratio, format_time

PLAN_COLUMNS: dict[str, JustifyMethod] = {
    "kernel": "left",
    "case": "left",
    "memory": "right",
    "at least": "right",
    "": "left",
}


@contextmanager
def following(total: int) -> Iterator[Callable[[Progress], None]]:
    """Show a run's progress with the time left; two lines at its end where no terminal is."""
    console = Console(stderr=True)
    bar = Bar(
        BarColumn(bar_width=10),
        TextColumn("{task.fields[cases]}"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
        TextColumn("{task.description}", markup=False),
        console=console,
        disable=not console.is_terminal,
    )
    last = Progress(total)

    def show(progress: Progress) -> None:
        nonlocal last
        last = progress
        step = f"pass {progress.number}" if progress.number else "examining"
        left_s = progress.left_s
        bar.update(
            task,
            # By time, not by cases: one may take a thousand times as long as another.
            total=None if left_s is None else progress.wall_s + left_s,
            completed=progress.wall_s,
            cases=f"{progress.done}/{progress.total}",
            left="" if left_s is None else f"{_duration(left_s)} left",
            description=_ends(progress.latest or step, 34),
        )

    with bar:
        task = bar.add_task("starting", total=None, cases=f"0/{total}", left="")
        yield show
    counts = ", ".join(f"{count} {status}" for status, count in sorted(last.statuses.items()))
    cases = sum(last.statuses.values())
    console.print(f"{cases} cases: {counts}; {last.passes} passes", highlight=False)
    if last.wall_s:
        noisy = f"; {last.contended} takes under contention" if last.contended else ""
        again = f", {last.again} taken again" if last.again else ""
        console.print(
            f"{_duration(last.wall_s)}, overhead {last.overhead:.0%}{noisy}{again}", highlight=False
        )


def _ends(text: str, width: int) -> str:
    """Return a text with its middle left out where it is too long: both ends say something."""
    half = (width - 1) // 2
    return text if len(text) <= width else f"{text[: width - 1 - half]}…{text[-half:]}"


def print_fastest(frame: pd.DataFrame) -> None:
    """Print the fastest kernel of each case of a run, where a terminal is."""
    console = Console()
    if not console.is_terminal:
        return
    table = Table("", box=None, header_style="bold", padding=(0, 1, 0, 0))
    for name in ("batch × in → out", "fastest"):
        table.add_column(name, no_wrap=True)
    for name in ("median", "to torch.nn"):
        table.add_column(name, justify="right", no_wrap=True)
    before = None
    for _, row in fastest(frame).iterrows():
        part = f"{row['stage']} {row['device']} {row['dtype']}"
        tied = " ≈" if row["also"] else ""
        table.add_row(
            "" if part == before else part,
            format_case(*(row[size] for size in SIZES)),
            escape(_ends(row["kernel"], 20)) + tied,
            format_time(row["median_s"]),
            format_ratio(row["speedup"]) if row["kernel"] != row["baseline"] else "baseline",
        )
        before = part
    console.print(table)


def _duration(seconds: float) -> str:
    return f"{seconds // 60:.0f} min {seconds % 60:.0f} s" if seconds >= 60 else f"{seconds:.0f} s"


def print_plan(
    entries: list[tuple[Planned, Outcome]],
    ceilings: dict[str, Ceilings],
    passes: int,
    pace_s: float | None,
) -> None:
    """Print every planned case with its predicted memory and least time, then the totals.

    Args:
        entries: What is planned, and what is foretold of it.
        ceilings: What each device can do at best.
        passes: How many would time each case.
        pace_s: Seconds that a case and pass took in an earlier run; None where there is none.
    """
    console = Console()
    reasons: list[str] = []
    table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0))
    for name, justify in PLAN_COLUMNS.items():
        table.add_column(name, justify=justify, no_wrap=True)
    for (kernel, case), outcome in entries:
        least = ""
        if case.device in ceilings:
            seconds = ceilings[case.device].floor_s(case, outcome.flops, outcome.bytes_moved)
            least = format_time(seconds)
        mark = ""
        if outcome.status != "ok":
            reasons.append(f"{outcome.kernel} {case.id}, {outcome.status}: {outcome.reason}")
            mark = f"{outcome.status} [{len(reasons)}]"
        memory = format_bytes(outcome.predicted_peak_bytes)
        table.add_row(kernel.name, case.id, memory, least, escape(mark))
    console.print(table)
    for number, reason in enumerate(reasons, start=1):
        console.print(f"[{number}] {reason}", markup=False, highlight=False)
    counts = Counter("to run" if o.status == "ok" else o.status for _, o in entries)
    console.print(", ".join(f"{count} {status}" for status, count in sorted(counts.items())))
    if pace_s is not None:
        about = _duration(counts["to run"] * (1 + passes) * pace_s)
        console.print(
            f"about {about} for {passes} passes, at the {pace_s:.2g} s that a case and pass took "
            "in this machine's last run",
            highlight=False,
        )


def print_promises(promises: list[Promise]) -> None:
    """Print what was promised, what was measured, and whether it was kept."""
    console = Console()
    for promise in promises:
        mark = "kept    " if promise.kept else "NOT KEPT"
        console.print(f"{mark} {promise.text}:\n         {promise.measured}", highlight=False)


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
    for device in ("cpu", "cuda"):
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
