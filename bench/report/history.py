"""Runs of one machine, one after the other -> how each kernel's speed moved with the code.

Every function is pure. Runs that differ in more than code, packages and cases are never joined:
each way of measuring has a history of its own.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from ..analysis.compare import FREE, compared
from ..analysis.frame import AUTO, each
from ..common.units import digits, format_ratio
from ..store.runs import moment, runs_frame
from ..store.schema import Head, Run
from ..store.settings import flat
from ..store.shards import gather
from .markdown import escape, image, markdown_table
from .style import GREY, Style, entry, kernel_entries, label, put_frame, put_legend, styles

_KEYS = ["stage", "device", "dtype", "kernel"]
_MOST_RUNS = 12  # of a figure: the newest
_HOW_DRAWN = """\
A point is how far a kernel has moved since its line begins; hollow where the interval of its last
move holds no change. A run that has no case in common with the one before begins a line."""


class Chapter(NamedTuple):
    """Runs of a machine under the same settings, from the oldest to the newest.

    Attributes:
        machine: Its slug.
        frame: Their cases.
        runs: Their names, in order.
        steps: How kernels moved from each run to the next, see `moves`.
    """

    machine: str
    frame: pd.DataFrame
    runs: Sequence[str]
    steps: pd.DataFrame


def alike(heads: Mapping[Path, Head]) -> list[list[Path]]:
    """Return the runs of each machine and way of measuring that has two at least.

    From the oldest to the newest, and no more than the newest dozen. The shards of one run count as
    one, stand together, and where its newest would.
    """
    sharded = {one.newest: list(one.paths.values()) for one in gather(heads)}
    found: dict[tuple[str, str], list[list[Path]]] = {}
    for path in sorted(heads, key=lambda path: (moment(heads[path].datetime), path)):
        if heads[path].shard is not None and path not in sharded:
            continue
        settings = flat(heads[path].settings).items()
        way = json.dumps({name: value for name, value in settings if name not in FREE})
        runs = found.setdefault((heads[path].machine.slug, way), [])
        runs.append(sharded.get(path, [path]))
    histories = [some[-_MOST_RUNS:] for _, some in sorted(found.items()) if len(some) > 1]
    return [[path for run in runs for path in run] for runs in histories]


def chapters(histories: Iterable[Mapping[Path, Run]]) -> list[Chapter]:
    """Return what each history of `alike` runs tells, if any two of them have a case in common."""
    found = []
    for runs in histories:
        frame = runs_frame(runs)
        names = [path.stem for path in runs]
        steps = moves(frame, names)
        if len(steps):
            found.append(Chapter(str(frame["machine"].iloc[0]), frame, names, steps))
    return found


def moves(frame: pd.DataFrame, runs: Sequence[str]) -> pd.DataFrame:
    """Return how each kernel moved from a run to the next one that has a case of its.

    `ratio` is the geometric mean of its cases' ratios of paired speedups, above 1 where the later
    one is the faster, from `low` to `high` its 95 % interval, over `cases`. `changed` says that 1
    is outside it. Columns beside: stage, device, dtype, kernel, `before`, `after`, `commit`.
    """
    found = []
    for place, name in enumerate(runs[1:], 1):
        later = frame[(frame["run"] == name) & (frame["role"] != AUTO)]
        left = set(later[_KEYS].itertuples(index=False, name=None))
        for before in reversed(runs[:place]):
            if not left:
                break
            earlier = frame[frame["run"] == before]
            table = compared(earlier, later).dropna(subset=["ratio"])
            for key, rows in table.groupby(_KEYS):
                if key in left:
                    left.remove(key)
                    moved = dict(zip(_KEYS, key, strict=True)) | _mean(rows)
                    commit = str(later["commit"].iloc[0])
                    found.append(moved | {"before": before, "after": name, "commit": commit})
    columns = [*_KEYS, "before", "after", "commit", "cases", "ratio", "low", "high", "changed"]
    return pd.DataFrame(found, columns=columns)


def history_section(chapter: Chapter, figures: Mapping[str, str]) -> str:
    """Return what a history says: its figures, if any, and the changes that are more than noise."""
    changes = chapter.steps[chapter.steps["changed"].astype(bool)]
    count = len(chapter.steps)
    said = (
        f"{len(chapter.runs)} runs under the same settings, the newest last. A kernel's speed to "
        "torch.nn moves from run to run by the geometric mean over the cases that both have, with "
        f"the 95 % interval of that move. Of {count} moves about {count / 20:.0f} look changed by "
        "chance."
    )
    parts = [said]
    if figures:
        parts.append(_HOW_DRAWN)
        parts += [image(what, path) for what, path in figures.items()]
    if len(changes):
        parts.append(markdown_table(display_changes(changes)))
    return "\n\n".join(parts)


def display_changes(changes: pd.DataFrame) -> pd.DataFrame:
    """Return the moves that are more than noise as text."""
    return pd.DataFrame(
        {
            "commit": changes["commit"].str.slice(0, 10),
            "kernel": changes["kernel"],
            "stage": changes["stage"],
            "device, dtype": changes["device"] + ", " + changes["dtype"],
            "speed, to before": each(format_ratio, changes, "ratio", "low", "high"),
            "cases": changes["cases"].astype(str),
            "since run": changes["before"],
        },
        dtype=object,
    )


def history_figures(chapter: Chapter) -> dict[str, Callable[[], Figure]]:
    """Return how to draw each stage, device and dtype that has a move, by what it shows."""
    found: dict[str, Callable[[], Figure]] = {}
    for key, steps in chapter.steps.groupby(_KEYS[:3]):
        stage, device, dtype = map(str, key)
        name = f"{stage} on {device} in {dtype} on {chapter.machine}: speed from run to run"
        found[escape(name)] = partial(_figure, chapter, (stage, device, dtype), steps)
    return found


def _figure(chapter: Chapter, key: tuple[str, str, str], steps: pd.DataFrame) -> Figure:
    frame, runs = chapter.frame, list(chapter.runs)
    rows = frame[(frame[_KEYS[:3]] == list(key)).all(axis=1)]
    looks = styles(rows, key[0])
    figure = Figure(figsize=(8.7, 4.6 + 0.05 * len(looks)), layout="constrained", dpi=110)
    axes = figure.add_subplot()
    drawn = list(steps.groupby("kernel"))
    for nth, (kernel, mine) in enumerate(drawn):
        shift = (nth - (len(drawn) - 1) / 2) * 0.5 / max(len(drawn), 6)  # so that none hides one
        for line in _lines(mine, runs):
            _draw_line(axes, line, shift, looks[str(kernel)])
    axes.set_yscale("log")
    axes.axhline(1, color=GREY, linestyle=":", linewidth=1.2)
    low, high = axes.get_ylim()
    low, high = min(low, 0.8), max(high, 1.25)
    axes.set_ylim(low, high)
    subs = (1, 1.1, 1.25, 1.5, 2, 3, 5, 7, 8, 9) if high / low < 6 else (1, 2, 5)
    axes.yaxis.set_major_locator(LogLocator(base=10, subs=subs))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{digits(value)}×"))
    axes.set_ylabel("speed to where its line begins (log)")
    commits = frame.drop_duplicates("run").set_index("run")["commit"]
    shown = [f"{label(str(commits[name])[:8])}\n{label(name[:8])}" for name in runs]
    axes.set_xticks(range(len(runs)), shown)
    axes.set_xlabel("commit and day, in the order of the runs")
    axes.grid(True, which="major", color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    mine = rows[rows["kernel"].isin(steps["kernel"])]
    put_legend(figure, [*kernel_entries(mine, looks), entry("no change seen", "o", hollow=True)])
    newest = rows[rows["run"] == steps["after"].iloc[-1]]
    stage, device, dtype = key
    put_frame(figure, f"Did the code change it? ({label(stage)}, {label(device)}, {dtype})", newest)
    return figure


class _Point(NamedTuple):
    """The speed of a kernel at a run, to that of its line's first run, with the last move's ends.

    `changed` says that the last move was more than noise.
    """

    place: int
    speed: float
    low: float
    high: float
    changed: bool


def _lines(moves: pd.DataFrame, runs: Sequence[str]) -> list[list[_Point]]:
    """Return a kernel's moves from run to run, joined; one begins where a run joins no other."""
    found: list[list[_Point]] = []
    for move in moves.to_dict("records"):
        before, after = runs.index(str(move["before"])), runs.index(str(move["after"]))
        if not found or found[-1][-1].place != before:
            found.append([_Point(before, 1.0, 1.0, 1.0, changed=True)])
        speed = found[-1][-1].speed
        ratio, low, high = (speed * move[name] for name in ("ratio", "low", "high"))
        found[-1].append(_Point(after, ratio, low, high, changed=bool(move["changed"])))
    return found


def _draw_line(axes: Axes, line: Sequence[_Point], shift: float, look: Style) -> None:
    places = [point.place + shift for point in line]
    speeds = [point.speed for point in line]
    axes.plot(places, speeds, color=look.colour, linestyle=look.line, linewidth=look.width)
    for place, point in zip(places, line, strict=True):
        axes.vlines(place, point.low, point.high, color=look.colour, linewidth=1.2)
        face = look.colour if point.changed else "white"
        axes.plot([place], [point.speed], linestyle="", marker=look.marker, color=look.colour,
                  markerfacecolor=face)  # fmt: skip


def _mean(rows: pd.DataFrame) -> dict[str, float | int | bool]:
    """Return the geometric mean of ratios, with the interval that follows from theirs."""
    centre = float(np.log(rows["ratio"]).mean())
    reach = (np.log(rows["high"]) - np.log(rows["low"])) / 2
    half = float(np.sqrt((reach**2).sum()) / len(rows))
    low, high = np.exp([centre - half, centre + half])
    return {
        **{"cases": len(rows), "ratio": float(np.exp(centre)), "low": float(low)},
        **{"high": float(high), "changed": bool(low > 1 or high < 1)},
    }
