"""The figure of a scaling run: the parts of a step, and all-reduces by themselves. No torch."""

from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

from ..common.units import format_bytes, format_case, format_tick
from ..report.style import (
    COLOURS,
    add_legend,
    add_title_and_footer,
    entry,
    label,
    log_axis,
    subdivisions,
)
from .metrics import fit_link, largest_case, median
from .records import ScalingResult, ScalingRun

_MOST_BARS = 14  # the fastest
_PARTS = (
    (COLOURS[0], "compute, slowest rank"),
    (COLOURS[1], "all-reduce"),
    ("0.8", "the rest of the step"),
    ("0.55", "compute and all-reduce overlapped"),
)


def scaling_figure(run: ScalingRun) -> Figure:
    """Draw what a step consists of at the largest case, and all-reduces by themselves."""
    figure = Figure(figsize=(11, 5))
    left, right = figure.subplots(1, 2, width_ratios=[1.15, 1])
    add_legend(figure, [*_draw_steps(left, run), *_draw_all_reduces(right, run)])
    title = f"{run.mode.capitalize()} scaling over {run.world} processes: where a step's time goes"
    add_title_and_footer(figure, title, run.source())
    return figure


def _draw_steps(axes: Axes, run: ScalingRun) -> list[Line2D]:
    found = largest_case(run)
    shown = found[:_MOST_BARS]
    if not shown:
        return _draw_nothing(axes, "no case has a time")
    axes.set_yticks(range(len(shown)), [label(one.kernel, 24) for one in shown])
    parts = np.array([_parts_s(one) for one in shown])
    starts = parts.cumsum(axis=1) - parts
    for place, (colour, _) in enumerate(_PARTS):
        axes.barh(range(len(shown)), parts[:, place], left=starts[:, place], height=0.6,
                  color=colour)  # fmt: skip
    for place, one in enumerate(shown):
        axes.plot([median(one.step_s)], [place], marker="|", ls="", color="black",
                  markersize=min(26, 150 / len(shown)), markeredgewidth=2)  # fmt: skip
        axes.plot([median(one.single_process_s)], [place], marker="D", ls="", color="black",
                  markersize=7, markeredgecolor="white")  # fmt: skip
    axes.invert_yaxis()
    axes.set_xlim(0, 1.03 * axes.get_xlim()[1])
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda s, _: format_tick(s) if s else "0"))
    axes.set_xlabel("median time")
    fastest = f": the {len(shown)} fastest of {len(found)}" if len(found) > len(shown) else ""
    axes.set_title(f"a step at {format_case(*shown[0].case)}, {shown[0].dtype}{fastest}")
    rows = "all the rows" if run.mode == "strong" else "one rank's rows"
    drawn = parts.max(axis=0) > 1e-3 * parts.sum(axis=1).max()
    bars = [entry(text, "s", colour=colour)
            for (colour, text), there in zip(_PARTS, drawn, strict=True) if there]  # fmt: skip
    step = entry("the step, timed as a whole", "|", colour="black")
    return [*bars, step, entry(f"single process with {rows}", "D", colour="black")]


def _parts_s(one: ScalingResult) -> list[float]:
    step = median(one.step_s)
    if not one.compute_s:
        return [0.0, 0.0, 0.0, step]
    compute, all_reduce = median(one.compute_max_s), median(one.allreduce_s)
    return [compute, all_reduce, max(0.0, step - compute - all_reduce), 0.0]


def _draw_all_reduces(axes: Axes, run: ScalingRun) -> list[Line2D]:
    if not run.all_reduces:
        return _draw_nothing(axes, "no all-reduce was measured by itself")
    points = sorted((point.bytes, median(point.seconds)) for point in run.all_reduces)
    sizes, seconds = np.array(points).T
    axes.set_title(f"an all-reduce over {run.world} processes by itself")
    axes.loglog(sizes, seconds, marker="o", ls="", color=COLOURS[2])
    entries = [entry("all-reduce by itself", "o", colour=COLOURS[2])]
    if (link := fit_link(run)) is not None:
        fitted = np.geomspace(sizes[0], sizes[-1], 60)
        times = [link.all_reduce_s(run.world, size) for size in fitted]
        axes.plot(fitted, times, lw=1.4, color=COLOURS[2], zorder=1.5)
        entries.append(entry("the α-β model", line="-", colour=COLOURS[2]))
    log_axis(axes.xaxis, partial(format_tick, write=format_bytes), LogLocator(base=2, numticks=6))
    log_axis(axes.yaxis, format_tick, subdivisions(seconds.max() / seconds.min()))
    axes.set_xlabel("bytes of the message (log)")
    axes.set_ylabel("median time (log)")
    return entries


def _draw_nothing(axes: Axes, why: str) -> list[Line2D]:
    axes.set_title(why)
    axes.set_axis_off()
    return []
