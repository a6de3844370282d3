"""What a report has to show -> each of its figures by the stem of its file, still to be drawn."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import partial
from types import MappingProxyType

import pandas as pd

from ..analysis.frame import Slice, slices
from ..analysis.jacobian import HEAVY
from ..store.schema import Ceilings, Run
from .figures.maps import error_figure, speed_figure, trade_figure
from .figures.roofline import roofline_figure
from .figures.sizes import memory_figure, price_figure, time_figure
from .history import Chapter, history_figures
from .subject import Make

# Each kind of figure of a slice, in the order of the page, and how its description ends.
WHAT = MappingProxyType(
    {
        "speed": "speed over m, n and o",
        "error": "error against m, n and o",
        "trade": "time, memory and error of one case",
        "time": "time against m, n and o",
        "memory": "peak memory against m, n and o",
        "price": "price of the Jacobian over n and o",
        "roofline": "operations per second under the machine's measured ceilings",
    }
)


def slice_figures(rows: pd.DataFrame, part: Slice, run: Run) -> dict[str, Make]:
    """Return the figures of a slice by their kind, see `WHAT`."""
    memory = run.machine.memory_bytes if part.device == "cpu" else None
    ceilings = run.machine.ceilings.get(part.device, Ceilings())
    found: dict[str, Make] = {
        "speed": partial(speed_figure, rows, part),
        "error": partial(error_figure, rows, part),
        "trade": partial(trade_figure, rows, part),
        "time": partial(time_figure, rows, part),
        "memory": partial(memory_figure, rows, part, memory),
        "roofline": partial(roofline_figure, rows, part, ceilings),
    }
    if part.stage == "gradient" and (part.of(rows)["kernel"] == HEAVY).any():
        found["price"] = partial(price_figure, rows, part)
    return found


def history_makes(chapters: Sequence[Chapter]) -> dict[str, Make]:
    """Return the figures of histories by stem."""
    return {
        history_stem(chapter, number, place): draw
        for number, chapter in enumerate(chapters, 1)
        for place, draw in enumerate(history_figures(chapter).values(), 1)
    }


def history_stem(chapter: Chapter, number: int, place: int) -> str:
    """Return the stem of a figure of a history; both count from 1."""
    return f"{safe(chapter.machine)}-history-{number}-{place}"


def slice_stems(frame: pd.DataFrame) -> dict[Slice, str]:
    """Return a file name for each slice; the run is named where a machine has several."""
    several = frame.groupby("machine")["run"].nunique() > 1
    stems: dict[Slice, str] = {}
    for part in slices(frame):
        named = [part.machine, part.run] if several[part.machine] else [part.machine]
        stem = safe("-".join([*named, *part[2:]]))
        taken = {other.lower() for other in stems.values()}
        count = 2
        unique = stem
        while unique.lower() in taken:
            unique, count = f"{stem}-{count}", count + 1
        stems[part] = unique
    return stems


def safe(name: str) -> str:
    """Return a name that a file can have anywhere."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name)[:150]
