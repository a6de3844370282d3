"""Time of one call against m, n and o, above the roofline bound."""

from collections import Counter

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...common.units import format_tick
from .. import style
from . import Slot, View, figure


@figure(
    "time",
    title="time against m, n and o",
    where={"html", "markdown", "readme"},
    slots=(
        Slot("time-gradient", 2, "gradient"),
        Slot("time-step-tall", 3, "step", grid="tall"),
        Slot("time-step-wide", 4, "step", grid="wide"),
        Slot("time-step", 8, "step"),
    ),
)
def draw(view: View) -> Figure:
    """Draw the median with a bar from q1 to q3, on log axes.

    A case without a time is a mark at the top edge, in its kernel's colour.
    """
    figure, every = style.make_panels(view.panels, "time of one call: median, q1–q3")
    for axes, panel in zip(every, view.panels, strict=True):
        _draw_bound(axes, panel)
        for kernel, line in panel.rows[panel.rows["status"] == "ok"].groupby("kernel"):
            _draw_times(axes, line.sort_values(panel.axis), panel.axis, view.looks[str(kernel)])
    failed = [Counter(_failed(panel)[panel.axis]).values() for panel in view.panels]
    most = max((count for counts in failed for count in counts), default=0)
    style.share_log_axis(every, format_tick, base=10, top=min(0.02 + 0.05 * most, 0.4))
    for axes, panel in zip(every, view.panels, strict=True):
        _draw_failures(axes, panel, view.looks, min(0.05, 0.38 / max(most, 1)))
    shown = pd.concat([panel.rows for panel in view.panels])
    notes = [style.entry("roofline bound", line=":")] if shown["roofline_s"].notna().any() else []
    entries = (
        style.kernel_entries(shown, view.looks) + notes + style.failure_entries(shown["status"])
    )
    style.add_legend(figure, entries)
    question = f"How long does one {view.name} take?"
    style.add_title_and_footer(figure, question, view.rows, view.unseen(shown))
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


def _draw_bound(axes: Axes, panel: style.Panel) -> None:
    bound = panel.rows.dropna(subset=["roofline_s"]).groupby(panel.axis)["roofline_s"].min()
    if len(bound):
        axes.plot(bound.index, bound.to_numpy(), color=style.GREY, linestyle=":", linewidth=1.4)


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
