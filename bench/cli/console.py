"""What commands show on a terminal of 80 columns: progress, tables, notes to them."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from operator import attrgetter
from typing import NamedTuple

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from ..common.errors import single_line
from ..common.units import counted, format_case
from ..run.journal import RunProgress

LONGEST_NAME = 39


@contextmanager
def following(total: int) -> Iterator[Callable[[RunProgress], None]]:
    """Show a run's progress with the time left; a line every tenth of the way on no terminal."""
    console = Console(stderr=True, highlight=False)
    bar = Progress(
        BarColumn(bar_width=10),
        TextColumn("{task.fields[cases]}"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
        TextColumn("{task.description}", markup=False),
        console=console,
        disable=not console.is_terminal,
    )
    last, tenths = RunProgress(total), -1

    def show(progress: RunProgress) -> None:
        nonlocal last, tenths
        last, wall_s, left_s = progress, progress.wall_s, progress.left_s
        step = f"process {progress.process}" if progress.process else "checking results and memory"
        left = "" if left_s is None else f"{as_minutes(left_s)} left"
        # By time, not by cases: one may take a thousand times as long as another.
        whole_s = None if left_s is None else wall_s + left_s
        bar.update(
            task,
            total=whole_s,
            completed=wall_s,
            cases=f"{progress.done}/{progress.total}",
            left=left,
            description=single_line(progress.latest or step, 33),
        )
        if console.is_terminal:
            return
        if tenths < 0:
            console.print(f"{counted(progress.total, 'measurement')}: checks first, then times")
        reached = int(10 * wall_s / whole_s) if left_s and whole_s else 0
        if reached > max(tenths, 0):
            console.print(
                f"{10 * reached:3d} %  {as_minutes(wall_s)}, about {left}: "
                f"{progress.done} of {progress.total}, {step}"
            )
        tenths = max(tenths, reached)

    with bar:
        task = bar.add_task("starting", total=None, cases=f"0/{total}", left="")
        yield show
    _print_summary(last, console)


def _print_summary(last: RunProgress, console: Console) -> None:
    counts = ", ".join(f"{count} {status}" for status, count in sorted(last.statuses.items()))
    benchmarks = counted(sum(last.statuses.values()), "benchmark")
    console.print(f"{benchmarks}: {counts}; {counted(last.processes, 'process')} each")
    if last.wall_s:
        cost = [f"{as_minutes(last.wall_s)}, overhead {last.overhead:.0%}"]
        if last.contended:
            cost.append(f"{counted(last.contended, 'measurement')} disturbed by other work")
        if last.reruns:
            cost.append(f"{last.reruns} repeated")
        console.print("; ".join(cost))


@contextmanager
def doing() -> Iterator[Callable[[str], None]]:
    """Show what is being done, where a terminal is."""
    with Console(stderr=True).status("starting") as status:
        yield lambda text: status.update(escape(text))


def as_minutes(seconds: float) -> str:
    """Write a duration in minutes and whole seconds.

    >>> as_minutes(59.6), as_minutes(3_725)
    ('1 min 0 s', '62 min 5 s')
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


class Line(NamedTuple):
    """A benchmark in a table."""

    table: Sequence[str]  # its operation, device and dtype
    sizes: Sequence[int]
    cells: Sequence[str]
    note: str | None  # what the last cell points to


def print_by_size(console: Console, headings: Sequence[str], lines: Iterable[Line]) -> None:
    """Print a table of each operation, device and dtype, then the notes by number, each once.

    Each size has a row of its own, above the indented rows that share it.
    """
    notes: list[str] = []
    for named, table in groupby(lines, key=attrgetter("table")):
        rows: list[Sequence[str]] = []
        for sizes, alike in groupby(table, key=attrgetter("sizes")):
            rows.append((format_case(*sizes), *[""] * len(headings)))
            for *_, (name, *between, last), note in alike:
                if note and note not in notes:
                    notes.append(note)
                mark = f"[{notes.index(note) + 1}]" if note else ""
                rows.append((f" {name}", *between, f"{last} {mark}".strip()))
        print_table(console, (", ".join(named), *headings), rows)
    for number, note in enumerate(notes, start=1):
        console.print(f"[{number}] {note}", markup=False, soft_wrap=True)


def print_table(
    console: Console, headings: Sequence[str], rows: Iterable[Sequence[str]], *, right: bool = True
) -> None:
    """Print rows of text under their headings, then an empty line."""
    shortened = [(single_line(name, LONGEST_NAME), *others) for name, *others in rows]
    first, *columns = zip(headings, *shortened, strict=True)
    table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0))
    table.add_column(escape(first[0]), no_wrap=True)
    for texts in columns:
        if right:
            widest = max(map(len, texts))
            table.add_column(texts[0], justify="right", no_wrap=True, min_width=widest)
        else:
            table.add_column(texts[0], overflow="fold")
    for row in shortened:
        table.add_row(*map(escape, row))
    console.print(table, "")
