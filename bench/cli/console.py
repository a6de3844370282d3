"""What commands show on a terminal of 80 columns: progress, tables, notes to them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from ..common.units import counted
from ..run.journal import RunProgress

LONGEST_NAME = 40


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
        if tenths < 0 and not console.is_terminal:
            console.print(f"{counted(progress.total, 'measurement')}: checks first, then times")
        last, tenths = progress, max(tenths, 0)
        step = f"process {progress.process}" if progress.process else "checking results and memory"
        left = "" if progress.left_s is None else f"{as_minutes(progress.left_s)} left"
        bar.update(
            task,
            # By time, not by cases: one may take a thousand times as long as another.
            total=None if progress.left_s is None else progress.wall_s + progress.left_s,
            completed=progress.wall_s,
            cases=f"{progress.done}/{progress.total}",
            left=left,
            description=shorten(progress.latest or step, 34),
        )
        left_s = progress.left_s
        reached = int(10 * progress.wall_s / (progress.wall_s + left_s)) if left_s else 0
        if not console.is_terminal and reached > tenths:
            tenths = reached
            console.print(
                f"{10 * tenths:3d} %  {as_minutes(progress.wall_s)}, about {left}: "
                f"{progress.done} of {progress.total}, {step}"
            )

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


def shorten(text: str, width: int) -> str:
    """Return a text with its middle left out where it is too long: both ends say something.

    >>> shorten("a_long_name", 7)
    'a_l…ame'
    """
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


def print_table(
    console: Console, headings: Sequence[str], rows: Iterable[Sequence[str]], *, right: bool = True
) -> None:
    """Print rows of text under their headings, then an empty line."""
    cells = [(shorten(name, LONGEST_NAME), *others) for name, *others in rows]
    table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0))
    table.add_column(escape(headings[0]), no_wrap=True)
    for place, heading in enumerate(headings[1:], start=1):
        widest = max(len(text) for text in (heading, *(row[place] for row in cells)))
        if right:
            table.add_column(heading, justify="right", no_wrap=True, min_width=widest)
        else:
            table.add_column(heading, overflow="fold")
    for row in cells:
        table.add_row(*map(escape, row))
    console.print(table, "")


def by_size(lines: Iterable[tuple[str, Sequence[str]]]) -> Iterator[Sequence[str]]:
    """Yield each size in a row of its own, then the rows that share it, indented."""
    for size, rows in groupby(lines, key=lambda line: line[0]):
        for number, (_, (name, *others)) in enumerate(rows):
            if not number:
                yield (size, *[""] * len(others))
            yield (f" {name}", *others)
