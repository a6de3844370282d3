"""Time, peak memory and error against m, n and o."""

from collections import Counter
from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...common.units import format_bytes, format_error, format_tick
from .. import style
from . import Slot, View, figure


@figure(
    "time",
    title="time against m, n and o",
    readme=True,
    slots=(
        Slot("time-gradient", 2, "gradient"),
        Slot("time-step-tall", 3, "step", grid="tall"),
        Slot("time-step-wide", 4, "step", grid="wide"),
        Slot("time-step", 8, "step"),
    ),
)
def draw_time(view: View) -> Figure:
    """Draw the median with a bar from q1 to q3; a case without a time is a mark at the top."""
    figure, every = style.make_panels(view.panels, "time of one call: median, q1–q3")
    for axes, panel in zip(every, view.panels, strict=True):
        bound = panel.rows.dropna(subset=["roofline_s"]).groupby(panel.axis)["roofline_s"].min()
        if len(bound):
            axes.plot(bound.index, bound.to_numpy(), color=style.GREY, linestyle=":", linewidth=1.4)
        for kernel, line in panel.rows[panel.rows["status"] == "ok"].groupby("kernel"):
            _draw_times(axes, line.sort_values(panel.axis), panel.axis, view.looks[str(kernel)])
    failed = [Counter(_failed(panel)[panel.axis]).values() for panel in view.panels]
    most = max((count for counts in failed for count in counts), default=0)
    style.share_log_axis(every, format_tick, base=10, top=min(0.02 + 0.05 * most, 0.4))
    for axes, panel in zip(every, view.panels, strict=True):
        _draw_failures(axes, panel, view.looks, min(0.05, 0.38 / max(most, 1)))
    entries = style.kernel_entries(view.shown, view.looks)
    if view.shown["roofline_s"].notna().any():
        entries.append(style.entry("roofline bound", line=":"))
    for status, (marker, words) in style.FAILED.items():
        if view.shown["status"].eq(status).any():
            entries.append(style.entry(f"{words} (at the top)", marker))
    style.add_legend(figure, entries)
    question = f"How long does one {view.name} take?"
    style.add_title_and_footer(figure, question, view.rows, view.unseen)
    return figure


def _draw_times(axes: Axes, line: pd.DataFrame, axis: str, look: style.Style) -> None:
    median = line["median_s"]
    # Quartiles that rounding put on the wrong side of the median are no bar.
    bars = [(median - line["q1_s"]).clip(lower=0), (line["q3_s"] - median).clip(lower=0)]
    axes.errorbar(
        line[axis].to_numpy(), median.to_numpy(), yerr=np.array([bar.to_numpy() for bar in bars]),
        color=look.colour, marker=look.marker, linestyle=look.line, linewidth=look.width,
        markersize=5, capsize=2.5, elinewidth=1,
    )  # fmt: skip


def _draw_failures(
    axes: Axes, panel: style.Panel, looks: dict[str, style.Style], step: float
) -> None:
    for size, column in _failed(panel).sort_values("kernel").groupby(panel.axis):
        pairs = zip(column["kernel"], column["status"], strict=True)
        for place, (kernel, status) in enumerate(pairs):
            axes.plot(
                [float(str(size))], [0.98 - step * place], transform=axes.get_xaxis_transform(),
                linestyle="", marker=style.FAILED[status][0], color=looks[kernel].colour,
                markersize=7, markeredgewidth=1.8, clip_on=False,
            )  # fmt: skip


def _failed(panel: style.Panel) -> pd.DataFrame:
    return panel.rows[panel.rows["status"] != "ok"]


@figure(
    "memory",
    title="peak memory against m, n and o",
    slots=(Slot("memory-gradient", 7, "gradient"),),
)
def draw_memory(view: View) -> Figure:
    """Draw what was measured, and hollow what was predicted for a case that was not."""
    figure, every = style.make_panels(view.panels, "peak memory of one call beyond its inputs")
    for axes, panel in zip(every, view.panels, strict=True):
        for kernel, line in panel.rows.groupby("kernel"):
            _draw_kernel(axes, line.sort_values(panel.axis), panel.axis, view.looks[str(kernel)])
    notes = [style.entry("measured", "o"), style.entry("predicted", line="-")]
    if (view.shown["status"] != "ok").any():
        notes.append(style.entry("predicted, not measured", "o", hollow=True))
    limit = view.run.machine.memory_bytes if view.part.device == "cpu" else None
    if limit and view.shown["predicted_peak_bytes"].max() > limit / 10:
        notes.append(style.entry(f"this machine's {format_bytes(limit)}", line=":"))
        for axes in every:
            axes.axhline(limit, color=style.GREY, linestyle=":", linewidth=1.4)
    style.share_log_axis(every, partial(format_tick, write=format_bytes), base=32)
    style.add_legend(figure, style.kernel_entries(view.shown, view.looks) + notes)
    question = f"How much memory does one {view.name} hold?"
    style.add_title_and_footer(figure, question, view.rows, view.unseen)
    return figure


def _draw_kernel(axes: Axes, line: pd.DataFrame, axis: str, look: style.Style) -> None:
    theory = line[line["predicted_peak_bytes"] > 0]
    axes.plot(theory[axis].to_numpy(), theory["predicted_peak_bytes"].to_numpy(),
              color=look.colour, linestyle=look.line, linewidth=look.width, alpha=0.7)  # fmt: skip
    known, missing = line[line["peak_bytes"] > 0], theory[theory["status"] != "ok"]
    look.draw(axes, known[axis], known["peak_bytes"], size=6)
    look.draw(axes, missing[axis], missing["predicted_peak_bytes"], hollow=True, size=6)


_ROUNDOFF = {"float32": 2.0**-24, "float64": 2.0**-53, "bfloat16": 2.0**-8}


def _known(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[(rows["status"] == "ok") & rows["max_rel_error"].gt(0)]


@figure("error", title="error against m, n and o", when=lambda rows: len(_known(rows)) > 0)
def draw_error(view: View) -> Figure:
    """Draw the largest error of each kernel, relative to the terms of its sum."""
    figure, every = style.make_panels(view.panels, "largest error, relative to its sum's terms")
    unit = _ROUNDOFF.get(view.part.dtype)
    for axes, panel in zip(every, view.panels, strict=True):
        for kernel, some in _known(panel.rows).sort_values(panel.axis).groupby("kernel"):
            look = view.looks[str(kernel)]
            look.draw(axes, some[panel.axis], some["max_rel_error"], line=True)
        if unit:
            axes.axhline(unit, color=style.GREY, linestyle=":", linewidth=1.4)
    style.share_log_axis(every, format_error, base=10)
    notes = [style.entry(f"unit roundoff of {view.part.dtype}", line=":")] if unit else []
    style.add_legend(figure, style.kernel_entries(view.shown, view.looks) + notes)
    style.add_title_and_footer(figure, f"How exact is one {view.name}?", view.rows)
    return figure
