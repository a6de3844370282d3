"""Scaling runs -> what a report tells of them: a table, a figure and a few sentences of each run.

The figure has the parts of a step, and all-reduces by themselves. Needs no torch.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator

from ..common import units
from ..common.units import format_percent, format_ratio, format_tick, format_time
from ..report import style
from ..report.markdown import render_template
from ..report.subject import Subject, subject_of
from ..report.tables import DTYPE, KERNEL, OUTCOME, SIZE, Column, format_case, with_quartiles
from .metrics import fit_link, scaling_table
from .records import DDP, PEERS, ScalingRun


def subject(runs: Sequence[ScalingRun]) -> Subject:
    """Return what a report tells of scaling runs; it shows a strong one before a weak one."""
    return subject_of(
        "scaling", runs, scaling_section, scaling_figure, lambda run: run.mode == "strong"
    )


def scaling_section(run: ScalingRun, figure: str | None) -> str:
    """Return the report's part on one run, with its figure if that has a path."""
    rows = scaling_table(run)
    own = rows[~rows["kernel"].isin(PEERS)]
    return render_template(
        "scaling",
        run=run,
        figure=figure,
        rows=rows,
        columns=COLUMNS,
        vs_ddp=own.dropna(subset=["ddp"]).sort_values("ddp"),
        link=fit_link(run),
        errors=(own["predicted"] / own["efficiency"] - 1).abs().dropna(),
        hosts=len({one.host for one in run.ranks}),
        machines={(one.machine, one.cores, one.threads): one for one in run.ranks}.values(),
    )


def _vs_ddp(kernel: str, status: str, *ratio: float) -> str:
    return "baseline" if kernel == DDP and status == "ok" else format_ratio(*ratio)


COLUMNS = (
    *(KERNEL, DTYPE, SIZE),
    Column("step: median (q1–q3)", "step_s", partial(with_quartiles, format_time)),
    Column("single process: median (q1–q3)", "single_process_s",
           partial(with_quartiles, format_time)),
    Column("speedup vs. single process (q1–q3)", "speedups",
           partial(with_quartiles, format_ratio), optional=True),
    Column("efficiency", "efficiency", format_percent),
    Column("predicted efficiency", "predicted", format_percent),
    Column("compute", "compute_max_median_s", format_time),
    Column("all-reduce", "allreduce_median_s", format_time),
    Column("speedup vs. DDP", ("kernel", "status", "ddp", "ddp_low", "ddp_high"), _vs_ddp),
    OUTCOME,
)  # fmt: skip


def scaling_figure(run: ScalingRun) -> Figure | None:
    """Draw the parts of a step at the largest case, and all-reduces by themselves, if any are.

    Of several dtypes the case has the widest one, by name the last.
    """
    table = scaling_table(run).query("status == 'ok'")
    if table.empty or not run.all_reduces:
        return None
    rows = table.merge(table[["case", "dtype"]].tail(1))
    figure = Figure(figsize=(11, 5))
    left, right = figure.subplots(1, 2, width_ratios=[1.15, 1])
    entries = [*_draw_steps(left, run, rows), *_draw_all_reduces(right, run)]
    title = f"{run.mode.capitalize()} scaling over {run.world} processes: where a step's time goes"
    style.finish(figure, title, pd.DataFrame([run.source()]), entries)
    return figure


def _draw_steps(axes: Axes, run: ScalingRun, rows: pd.DataFrame) -> list[Line2D]:
    step, compute, all_reduce = (
        rows[f"{name}_median_s"] for name in ("step", "compute_max", "allreduce")
    )
    parts = (
        ("compute, slowest rank", style.COLOURS[0], compute),
        ("all-reduce", style.COLOURS[1], all_reduce),
        ("the rest of the step", "0.8", (step - compute - all_reduce).clip(lower=0)),
        ("compute and all-reduce overlapped", "0.55", step.where(compute.isna())),
    )
    entries, start = [], 0 * step
    for text, colour, seconds in parts:
        width = seconds.fillna(0)
        axes.barh(rows.index, width, left=start, height=0.6, color=colour)
        start += width
        if width.any():
            entries.append(style.entry(text, "s", colour=colour))
    axes.plot(step, rows.index, marker="|", ls="", color="black",
              markersize=min(26, 150 / len(rows)), markeredgewidth=2)  # fmt: skip
    axes.plot(rows["single_process_median_s"], rows.index, marker="D", ls="", color="black",
              markersize=7, markeredgecolor="white")  # fmt: skip
    axes.set_yticks(rows.index, [style.label(name, 24) for name in rows["kernel"]])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.03 * axes.get_xlim()[1])
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter(lambda s, _: format_tick(s) if s else "0")
    axes.set_xlabel("median time")
    case = format_case(rows["case"][0], rows["axes"][0])
    axes.set_title(f"a step at {case}, {rows['dtype'][0]}")
    shared = "all the rows" if run.mode == "strong" else "one rank's rows"
    return [
        *entries,
        style.entry("the step, timed as a whole", "|", colour="black"),
        style.entry(f"single process with {shared}", "D", colour="black"),
    ]


def _draw_all_reduces(axes: Axes, run: ScalingRun) -> list[Line2D]:
    points = sorted((point.bytes, np.median(point.seconds)) for point in run.all_reduces)
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
