"""Scaling runs -> their figures. Needs no torch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from ..common.units import format_byte_tick, format_bytes, format_case, format_tick, format_time
from ..report.style import COLOURS, GREY, LINES, entry, label, put_frame, put_legend
from .link_model import (
    MOST_WORKERS,
    fit_link,
    links,
    predicted_step_s,
    predictions,
    worth_until,
)
from .records import Scaled, Scaling, largest, median

_MOST_BARS = 14  # of the figure: the fastest
_PARTS = (
    (COLOURS[0], "compute, slowest rank"),
    (COLOURS[1], "all-reduce"),
    ("0.8", "the rest of the step"),
    ("0.55", "compute and all-reduce at once"),
)


def scaling_figures(scaling: Scaling) -> dict[str, Callable[[], Figure]]:
    """Return how to draw what a run has to show: `scaling` and, if it has one, `prediction`."""
    figures: dict[str, Callable[[], Figure]] = {"scaling": partial(scaling_figure, scaling)}
    if len(predictions(scaling, None)):
        figures["prediction"] = partial(prediction_figure, scaling)
    return figures


def scaling_figure(scaling: Scaling) -> Figure:
    """Draw of what a step consists at the largest case, and all-reduces by themselves."""
    figure = Figure(figsize=(11, 7), layout="constrained", dpi=110)
    rooms = figure.subplot_mosaic([["step", "bytes"], ["step", "work"]], width_ratios=[1.15, 1])
    entries = _draw_steps(rooms["step"], scaling)
    entries += _draw_exchanges(rooms["bytes"], scaling, "bytes")
    _draw_exchanges(rooms["work"], scaling, "work")
    for axes in rooms.values():
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    put_legend(figure, entries)
    mode = scaling.mode.capitalize()
    _frame(figure, scaling, f"{mode} scaling over {scaling.world} processes: where a step's time "
           "goes")  # fmt: skip
    return figure


def prediction_figure(scaling: Scaling) -> Figure:
    """Draw the predicted time of a step against the number of workers, for each link."""
    one = largest(scaling, own=True)[0]
    figure = Figure(figsize=(8.7, 5), layout="constrained", dpi=110)
    axes = figure.add_subplot()
    workers = sorted({round(2 ** (place / 8)) for place in range(8 * MOST_WORKERS.bit_length())})
    workers = [number for number in workers if number <= MOST_WORKERS]
    axes.plot(workers, median(one.alone_s) / np.array(workers), color=GREY, lw=1)
    entries = [entry("compute alone, divided without loss", line="-")]
    for place, (name, link) in enumerate(links(scaling, fit_link(scaling.exchanges)).items()):
        colour, line = COLOURS[place], LINES[place]
        steps = [predicted_step_s(one, link, number) for number in workers]
        axes.plot(workers, steps, color=colour, ls=line, lw=1.8)
        if (until := worth_until(one, link)) is not None:
            axes.plot([until], [predicted_step_s(one, link, until)], color=colour, marker="o",
                      markersize=8, markerfacecolor="white", markeredgewidth=1.8)  # fmt: skip
        entries.append(entry(name, line=line, colour=colour))
    axes.plot([1, scaling.world], [median(one.alone_s), median(one.step_s)], ls="", marker="D",
              color="black", markersize=6)  # fmt: skip
    entries.append(entry("another worker no longer pays", "o", hollow=True))
    entries.append(entry("measured", "D", colour="black"))
    _log_axes(axes)
    axes.set_title(f"{label(one.kernel, 30)} at {format_case(*one.case)}, {one.dtype}", fontsize=10)
    put_legend(figure, entries)
    _frame(figure, scaling, "Prediction, not measured: how many workers would pay?")
    return figure


def _draw_steps(axes: Axes, scaling: Scaling) -> list[Line2D]:
    found = largest(scaling)
    shown = found[:_MOST_BARS]
    axes.set_yticks(range(len(shown)), [label(one.kernel, 24) for one in shown])
    if not shown:
        axes.set_title("no case has a time", fontsize=10)
        axes.set_axis_off()
        return []
    for place, one in enumerate(shown):
        start = 0.0
        for seconds, (colour, _) in zip(_parts(one), _PARTS, strict=True):
            axes.barh(place, seconds, left=start, height=0.6, color=colour)
            start += seconds
        axes.plot([median(one.step_s)], [place], marker="|", ls="", color="black",
                  markersize=min(26, 150 / len(shown)), markeredgewidth=2)  # fmt: skip
        axes.plot([median(one.alone_s)], [place], marker="D", ls="", color="black", markersize=7,
                  markeredgecolor="white")  # fmt: skip
    axes.invert_yaxis()
    axes.set_xlim(0, 1.03 * axes.get_xlim()[1])
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value)))
    axes.grid(True, axis="x", color="0.9", linewidth=0.8)
    axes.set_xlabel("median time")
    fastest = f": the {len(shown)} fastest of {len(found)}" if len(found) > len(shown) else ""
    case = f"a step at {format_case(*shown[0].case)}, {shown[0].dtype}{fastest}"
    axes.set_title(case, fontsize=10)
    rows = "all the rows" if scaling.mode == "strong" else "one rank's rows"
    parts = np.array([_parts(one) for one in shown])
    drawn = parts.max(axis=0) > 1e-3 * parts.sum(axis=1).max()
    bars = [entry(text, "s", colour=colour)
            for (colour, text), there in zip(_PARTS, drawn, strict=True) if there]  # fmt: skip
    whole = entry("the step, timed as a whole", "|", colour="black")
    return [*bars, whole, entry(f"one process with {rows}", "D", colour="black")]


def _parts(one: Scaled) -> list[float]:
    """Return the seconds of each of `_PARTS`."""
    step = median(one.step_s)
    if not one.compute_s:
        return [0.0, 0.0, 0.0, step]
    compute, exchange = median(one.slowest_s), median(one.exchange_s)
    return [compute, exchange, max(0.0, step - compute - exchange), 0.0]


def _draw_exchanges(axes: Axes, scaling: Scaling, swept: str) -> list[Line2D]:
    """Draw all-reduces against what differs between them: the bytes, or the work before."""
    shown = [one for one in scaling.exchanges if one.swept == swept]
    if not shown:
        axes.set_title("no all-reduce was measured by itself", fontsize=10)
        axes.set_axis_off()
        return []
    size, work_s = (median([getattr(one, name) for one in shown]) for name in ("bytes", "work_s"))
    by_bytes = swept == "bytes"
    fixed = f"after {format_time(work_s)} of work" if by_bytes else f"of {format_bytes(size)}"
    axes.set_title(f"an all-reduce by itself, {fixed}", fontsize=10)
    link, entries = fit_link(scaling.exchanges), []
    axes.set_xscale("log")
    axes.set_yscale("log")
    for place, world in enumerate(sorted({one.world for one in shown})):
        colour = COLOURS[(place + 2) % len(COLOURS)]
        mine = [(one.bytes if by_bytes else one.work_s, one) for one in shown if one.world == world]
        for value, one in mine:
            axes.plot([value], [median(one.seconds)], marker="o", ls="", color=colour,
                      markerfacecolor=colour if one.fitted else "white")  # fmt: skip
        if link is not None:
            values = np.geomspace(
                min(value for value, _ in mine), max(value for value, _ in mine), 60
            )
            kinds = [(value, work_s) if by_bytes else (size, value) for value in values]
            seconds = [link.all_reduce_s(world, round(sent), work_s) for sent, work_s in kinds]
            axes.plot(values, seconds, lw=1.4, color=colour, zorder=1.5)
        entries.append(entry(f"{world:,} processes", "o", "-" * (link is not None), colour))
    format_x = format_byte_tick if by_bytes else format_tick
    bases = {"base": 2, "numticks": 6} if by_bytes else {"base": 10, "subs": (1, 3), "numticks": 14}
    axes.xaxis.set_major_locator(LogLocator(**bases))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: format_x(value)))
    axes.yaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5), numticks=14))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: format_tick(value)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(NullLocator())
    axes.grid(True, color="0.9", linewidth=0.8)
    axes.set_xlabel("bytes of the message (log)" if by_bytes else "work before it (log)")
    axes.set_ylabel("median time (log)")
    hollow = [entry("held out of the fit", "o", hollow=True)] if link is not None else []
    lines = [entry("the model", line="-")] if link is not None else []
    return [*entries, *hollow, *lines]


def _log_axes(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(FixedLocator([4.0**power for power in range(7)]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.yaxis.set_major_locator(LogLocator(base=10, numticks=14))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: format_tick(value)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(NullLocator())
    axes.set_xlabel("workers (log)")
    axes.set_ylabel("predicted time of a step (log)")
    axes.grid(True, color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _frame(figure: Figure, scaling: Scaling, question: str) -> None:
    commit = scaling.commit_info
    shown = {"machine": scaling.machine, "commit": commit.id, "dirty": commit.dirty}
    put_frame(figure, question, pd.DataFrame([shown | {"run": scaling.datetime}]))


def _tick(seconds: float) -> str:
    return format_tick(seconds) if seconds else "0"
