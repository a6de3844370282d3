"""Scaling runs -> what a report tells of them: a table, a figure and a few sentences of each run.

The figure has the parts of a step, and all-reduces by themselves. Needs no torch.
"""

import math
from collections.abc import Sequence
from functools import partial
from statistics import geometric_mean
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

from ..common import units
from ..common.units import digits, format_percent, format_ratio, format_tick, format_time
from ..report import style
from ..report.markdown import render_template
from ..report.subject import Subject, subject_of
from ..report.tables import DTYPE, KERNEL, OUTCOME, SIZE, Column, with_quartiles
from .metrics import (
    LinkModel,
    ddp_speedup,
    efficiency,
    fit_link,
    largest_case,
    median,
    predicted_efficiency,
    speedups,
)
from .records import DDP, PEERS, ScalingResult, ScalingRun

_MOST_BARS = 14  # the fastest
_PARTS = (
    (style.COLOURS[0], "compute, slowest rank"),
    (style.COLOURS[1], "all-reduce"),
    ("0.8", "the rest of the step"),
    ("0.55", "compute and all-reduce overlapped"),
)


def subject(runs: Sequence[ScalingRun]) -> Subject:
    """Return what a report tells of scaling runs; it shows that of the most cases, strong ones."""

    def rank(run: ScalingRun) -> tuple[int, bool]:
        return sum(one.status == "ok" for one in run.results), run.mode == "strong"

    return subject_of("scaling", runs, scaling_section, scaling_figure, rank)


def scaling_section(run: ScalingRun, figure: str | None) -> str:
    """Return the report's part on one run, with its figure if that has a path."""
    link = fit_link(run)
    rows = scaling_table(run, link)
    own = rows[~rows["kernel"].isin(PEERS)]
    return render_template(
        "scaling",
        run=run,
        figure=figure,
        rows=rows,
        columns=COLUMNS,
        vs_ddp=own.dropna(subset=["ddp"]).sort_values("ddp"),
        mean=geometric_mean,
        link=link,
        errors=(own["predicted"] / own["efficiency"] - 1).abs().dropna(),
        digits=digits,
        rounds=max((len(one.step_s) for one in run.results), default=0),
        hosts=len({one.host for one in run.ranks}),
        machines={(one.machine, one.cores, one.threads): one for one in run.ranks}.values(),
    )


def _vs_ddp(kernel: str, status: str, *ratio: float) -> str:
    return "baseline" if kernel == DDP and status == "ok" else format_ratio(*ratio)


def _median(seconds: Sequence[float]) -> str:
    return format_time(median(seconds))


COLUMNS = (
    *(KERNEL, DTYPE, SIZE),
    Column("step: median (q1–q3)", "step_s", partial(with_quartiles, format_time)),
    Column("single process: median (q1–q3)", "single_process_s",
           partial(with_quartiles, format_time)),
    Column("speedup vs. single process (q1–q3)", "speedups",
           partial(with_quartiles, format_ratio), optional=True),
    Column("efficiency", "efficiency", format_percent),
    Column("predicted efficiency", "predicted", format_percent),
    Column("compute", "compute_max_s", _median),
    Column("all-reduce", "allreduce_s", _median),
    Column("speedup vs. DDP (95 %)", ("kernel", "status", "ddp", "ddp_low", "ddp_high"), _vs_ddp),
    OUTCOME,
)  # fmt: skip


def scaling_table(run: ScalingRun, link: LinkModel | None) -> pd.DataFrame:
    """Return every case, by its work and dtype, the fastest kernel first."""

    def place(one: ScalingResult) -> tuple[object, ...]:
        seconds = median(one.step_s) if one.step_s else math.inf
        return math.prod(one.case), one.case, one.dtype, seconds, one.kernel

    def row(one: ScalingResult) -> dict[str, Any]:
        ratio, low, high = ddp_speedup(one)
        return one.model_dump() | {
            "speedups": speedups(one) if run.mode == "strong" else [],
            "efficiency": efficiency(run, one),
            "predicted": predicted_efficiency(run, one, link) if link else math.nan,
            "ddp": ratio,
            "ddp_low": low,
            "ddp_high": high,
        }

    fields = ("speedups", "efficiency", "predicted", "ddp", "ddp_low", "ddp_high")
    rows = map(row, sorted(run.results, key=place))
    return pd.DataFrame(rows, columns=[*ScalingResult.model_fields, *fields])


def scaling_figure(run: ScalingRun) -> Figure:
    """Draw what a step consists of at the largest case, and all-reduces by themselves."""
    figure = Figure(figsize=(11, 5))
    left, right = figure.subplots(1, 2, width_ratios=[1.15, 1])
    entries = [*_draw_steps(left, run), *_draw_all_reduces(right, run)]
    title = f"{run.mode.capitalize()} scaling over {run.world} processes: where a step's time goes"
    style.finish(figure, title, run.source(), entries)
    return figure


def _draw_steps(axes: Axes, run: ScalingRun) -> list[Line2D]:
    found = largest_case(run)
    shown = found[:_MOST_BARS]
    if not shown:
        return _draw_nothing(axes, "no case has a time")
    axes.set_yticks(range(len(shown)), [style.label(one.kernel, 24) for one in shown])
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
    axes.set_title(f"a step at {units.format_case(*shown[0].case)}, {shown[0].dtype}{fastest}")
    rows = "all the rows" if run.mode == "strong" else "one rank's rows"
    drawn = parts.max(axis=0) > 1e-3 * parts.sum(axis=1).max()
    bars = [style.entry(text, "s", colour=colour)
            for (colour, text), there in zip(_PARTS, drawn, strict=True) if there]  # fmt: skip
    step = style.entry("the step, timed as a whole", "|", colour="black")
    return [*bars, step, style.entry(f"single process with {rows}", "D", colour="black")]


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
    axes.loglog(sizes, seconds, marker="o", ls="", color=style.COLOURS[2])
    entries = [style.entry("all-reduce by itself", "o", colour=style.COLOURS[2])]
    if (link := fit_link(run)) is not None:
        fitted = np.geomspace(sizes[0], sizes[-1], 60)
        times = [link.all_reduce_s(run.world, size) for size in fitted]
        axes.plot(fitted, times, lw=1.4, color=style.COLOURS[2], zorder=1.5)
        entries.append(style.entry("the α-β model", line="-", colour=style.COLOURS[2]))
    style.set_log_ticks(
        axes.xaxis, partial(format_tick, write=units.format_bytes), LogLocator(base=2, numticks=6)
    )
    style.set_log_ticks(axes.yaxis, format_tick, style.subdivisions(seconds.max() / seconds.min()))
    axes.set_xlabel("bytes of the message (log)")
    axes.set_ylabel("median time (log)")
    return entries


def _draw_nothing(axes: Axes, why: str) -> list[Line2D]:
    axes.set_title(why)
    axes.set_axis_off()
    return []
