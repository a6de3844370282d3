"""Trials that are wanted still -> one after another at the end of their file."""

import argparse
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel

from ..common.units import duration
from ..measure.timing import wall_clock
from ..report.subject import Subject
from ..store.files import append_line

_Trial = TypeVar("_Trial", bound=BaseModel)
_Unit = TypeVar("_Unit")


def add_arguments(parser: argparse.ArgumentParser, kinds: Iterable[str]) -> None:
    """Add the options that say which trials to add, and how many."""
    add = parser.add_argument
    text = "what to try, in turn: %(choices)s (default: all)"
    add("--kind", choices=[*kinds], nargs="+", default=[*kinds], metavar="KIND", help=text)
    add("--count", type=int, default=math.inf, help="at most (default: all)")
    add("--max-time", type=duration, default=math.inf, help="after which to end")


def add_trials(
    path: Path,
    count: float,
    max_time_s: float,
    read: Callable[[Path], Sequence[_Trial]],
    missing: Callable[[Sequence[_Trial]], Mapping[_Unit, float]],
    run: Callable[[_Unit, Sequence[_Trial]], _Trial],
) -> Path:
    """Append trials to a file until as many as are wanted are there, and return it.

    The next is always of what most of its trials are missing of. After `count` of them, or that
    much time, no further one is begun.

    Args:
        path: The file, which need not be there.
        count: How many trials at most.
        max_time_s: How long.
        read: Returns the trials that the file has.
        missing: Returns which share of its trials each unit lacks, of those that lack some.
        run: Makes a trial of a unit, given the earlier ones.
    """
    start = wall_clock()
    while count > 0 and wall_clock() - start < max_time_s:
        earlier = read(path)
        if not (left := missing(earlier)):
            break
        trial = run(max(left, key=lambda unit: left[unit]), earlier)
        append_line(path, trial.model_dump_json())
        count -= 1
    return path


def show_trials(path: Path, found: Subject, left: Mapping[str, int]) -> int:
    """Print what the trials of a file say, and how many are wanted still; return 0."""
    print(*(part.body for part in found.sections({})), sep="\n\n")
    for kind, number in left.items():
        print(f"still wanted: {number} of {kind}")
    print(path)
    return 0
