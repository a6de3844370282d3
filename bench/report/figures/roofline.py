"""Achieved FLOP/s against arithmetic intensity, under the measured ceilings."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter

from ...common.units import counted, digits, format_bytes
from ...store.schema import Ceilings
from .. import style
from . import View, figure


def roofs(ceilings: Ceilings) -> dict[float, float]:
    """Return the bandwidths that bound a case, by the bytes of the working set measured over.

    They are those over the largest working set and, where it is higher, the best one.
    """
    rates = sorted(ceilings.bandwidth_bytes_per_s, reverse=True)
    ends = [rates[0], max(rates, key=lambda pair: pair[1])] if rates else []
    return {size: rate for size, rate in ends}


def points(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the measured cases as points of a roofline.

    Adds `intensity`, flops ÷ bytes_moved; `rate`, flops ÷ median time; `by_dispatch`, whether one
    call's dispatch sets the roofline bound.
    """
    kept = rows[(rows["status"] == "ok") & rows["flops"].gt(0) & rows["bytes_moved"].gt(0)]
    return kept.assign(
        intensity=kept["flops"] / kept["bytes_moved"],
        rate=kept["flops"] / kept["median_s"],
        by_dispatch=kept["bound"] == "dispatch",
    ).dropna(subset="rate")


@figure(
    "roofline",
    title="operations per second under the machine's measured ceilings",
    when=lambda rows: len(points(rows)) > 0,
    rank=5,
    first=1,
)
def draw(view: View) -> Figure | None:
    """Draw how near the kernels come to what the device reached in the suite's own probes.

    None where there is no case, or neither a peak of this dtype nor a bandwidth.
    """
    ceilings = view.run.machine.ceilings_of(view.part.device, view.part.threads)
    shown, over = points(view.rows), roofs(ceilings)
    peak = ceilings.flops_per_s.get(view.part.dtype)
    if shown.empty or not (peak or over):
        return None
    figure = Figure(figsize=(8.7, 5.4 + 0.2 * (len(view.looks) // 6)))
    axes = figure.add_subplot(xscale="log", yscale="log")
    lines = _draw_roofs(axes, shown, peak, over)
    for (kernel, bound), some in shown.groupby(["kernel", "by_dispatch"]):
        view.looks[str(kernel)].draw(axes, some["intensity"], some["rate"], hollow=bool(bound))
    entries = style.kernel_entries(shown, view.looks, line=False)
    if shown["by_dispatch"].any():
        entries.append(style.entry("hollow: bound by dispatch", "o", hollow=True))
    question = f"How near to this machine's measured ceilings? {view.name}"
    unknown = (
        view.rows.loc[view.rows["status"] == "ok", ["flops", "bytes_moved"]].isna().any(axis=1)
    )
    note = f"{counted(unknown.sum(), 'case')} with costs not declared; " if unknown.any() else ""
    style.finish(figure, question, view.rows, entries + lines, f"{note}{style.HOT}; ")
    return figure


def _draw_roofs(
    axes: Axes, shown: pd.DataFrame, peak: float | None, over: dict[float, float]
) -> list[Line2D]:
    """Draw the ceilings over a range in which each slope is seen, also where no case is below."""
    ridges = [peak / rate if peak else np.inf for rate in over.values()]
    low = min(shown["intensity"].min() / 2, min(ridges, default=np.inf) / 4)
    high = shown["intensity"].max() * 4
    axes.set(xlim=(low, high), xlabel="operations per byte that must move (log)")
    axes.set_ylim(shown["rate"].min() / 2, max(shown["rate"].max(), peak or 0.0) * 2.5)
    axes.set_ylabel("operations per second, median time (log)")
    style.set_log_ticks(axes.xaxis, "{:g}".format, style.subdivisions(high / low))
    style.set_log_ticks(axes.yaxis, EngFormatter("FLOP/s"))
    looks: dict[str, Any] = {"color": style.GREY, "linewidth": 1.4, "zorder": 1}
    entries: list[Line2D] = []
    for (working_set, rate), ridge, line in zip(over.items(), ridges, ("-", "--"), strict=False):
        ends = np.array([low, min(ridge, high)])  # it rises to the peak and ends there
        text = f"{digits(rate / 1e9)} GB/s over {format_bytes(working_set)}"
        entries += axes.plot(ends, ends * rate, linestyle=line, label=text, **looks)
    if peak:
        text, first = f"operations: {digits(peak / 1e9)} GFLOP/s", min(ridges, default=low)
        entries += axes.plot([first, high], [peak, peak], linestyle="-.", label=text, **looks)
    return entries
