"""What commands show while they work, and how long they took."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape

from ..common.units import counted, tally
from ..run.journal import RunProgress


@contextmanager
def following(total: int) -> Iterator[Callable[[RunProgress], None]]:
    """Show a run's progress with the time left; a line every tenth of the way on no terminal."""
    console = Console(stderr=True, highlight=False)
    last, tenths = RunProgress(total), -1

    def show(progress: RunProgress) -> None:
        nonlocal last, tenths
        if tenths < 0:
            console.print(f"{counted(total, 'benchmark')}: checks first, then times")
            tenths = 0
        last, wall_s, left_s = progress, progress.wall_s, progress.left_s
        step = f"process {progress.process}" if progress.process else "checking results and memory"
        # By time, not by cases: one may take a thousand times as long as another.
        part = wall_s / (wall_s + left_s) if left_s else 0.0
        left = f", about {as_minutes(left_s)} left" if left_s else ""
        text = f"{part:4.0%}{left}: {progress.done} of {progress.total}, {step}"
        status.update(escape(text))
        if not console.is_terminal and int(10 * part) > tenths:
            tenths = int(10 * part)
            console.print(text, markup=False)

    with console.status("starting") as status:
        yield show
    ended = Counter(last.statuses)
    console.print(f"{counted(ended.total(), 'benchmark')}: {tally(ended.elements())}")
    if last.wall_s:
        console.print(as_minutes(last.wall_s))


@contextmanager
def doing() -> Iterator[Callable[[str], None]]:
    """Show what is being done, where a terminal is."""
    with Console(stderr=True).status("starting") as status:
        yield lambda text: status.update(escape(text))


def as_minutes(seconds: float) -> str:
    """Write a duration in minutes and whole seconds.

    >>> as_minutes(0.4), as_minutes(59.6), as_minutes(3_725)
    ('0 s', '1 min 0 s', '62 min 5 s')
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
