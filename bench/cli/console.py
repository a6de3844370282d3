"""What commands show while they work, and how long they took."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.markup import escape

from ..common.progress import progress_console
from ..common.units import counted, tally
from ..plan.grid import Processes
from ..run.journal import RunProgress

TO_RUN = "to run"  # a planned benchmark that can be tried


def plan_in_words(
    statuses: Sequence[str],
    threads: Sequence[int],
    processes: Processes,
    pace: tuple[float, Path] | None,
) -> str:
    """Say what is planned, one status a benchmark, and about how long it takes.

    `pace` is the seconds of a benchmark in a process, and the run which took them.
    """
    counts = " or ".join(counted(number, "thread") for number in dict.fromkeys(threads))
    head = f"{counted(len(statuses), 'benchmark')}: {tally(statuses)}\n"
    about = f"each in {processes} of {counts}, after one that verifies"
    if pace is not None and TO_RUN in statuses:
        seconds, run = pace
        each = (as_minutes(seconds * samples_in(statuses, count)) for count in processes)
        about += (
            f": about {' to '.join(dict.fromkeys(each))}, at the "
            f"{seconds:.2g} s that a benchmark took in a process of the run {run.stem} on "
            f"{run.parent.name}"
        )
    return head + about


def samples_in(statuses: Sequence[str], processes: int) -> int:
    """Return how many samples a plan takes; to verify a benchmark takes as long as one."""
    return statuses.count(TO_RUN) * (1 + processes)


@contextmanager
def following(total: int, plan: str) -> Iterator[Callable[[RunProgress], None]]:
    """Show a plan in words once it starts, and then the run's progress with the time left.

    In CI and on no terminal that is a line every tenth.
    """
    console = progress_console()
    last, tenths = RunProgress(total), -1

    def show(progress: RunProgress) -> None:
        nonlocal last, tenths
        if tenths < 0:
            console.print(plan, markup=False)
            console.print("Results and memory are checked first, then times are taken.")
            tenths = 0
        last, wall_s, left_s = progress, progress.wall_s, progress.left_s
        step = f"process {progress.process}" if progress.process else "checking results and memory"
        # By time, not by cases: one may take a thousand times as long as another.
        part = wall_s / (wall_s + left_s) if left_s else 0.0
        about = "at least" if progress.is_open else "about"
        left = f", {about} {as_minutes(left_s)} left" if left_s else ""
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


def as_minutes(seconds: float) -> str:
    """Write a duration in minutes and whole seconds.

    >>> as_minutes(0.4), as_minutes(59.6), as_minutes(3_725)
    ('0 s', '1 min 0 s', '62 min 5 s')
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
