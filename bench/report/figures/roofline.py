"""Achieved FLOP/s against arithmetic intensity, under the measured ceilings."""

from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import EngFormatter, LogLocator

from ...common.units import digits, format_bytes
from ...store.schema import Ceilings
from .. import style
from . import Slot, View, figure


class Roof(NamedTuple):
    """A bandwidth in bytes per second, and the bytes of the working set it was measured over."""

    working_set: float
    rate: float


def roofs(ceilings: Ceilings) -> list[Roof]:
    """Return the bandwidths that bound a case: over the largest working set, and the best one."""
    measured = [Roof(*pair) for pair in sorted(ceilings.bandwidth_bytes_per_s)]
    if not measured:
        return []
    best = max(measured, key=lambda roof: roof.rate)
    return [measured[-1]] if best.rate <= measured[-1].rate * 1.05 else [measured[-1], best]


def points(rows: pd.DataFrame, ceilings: Ceilings) -> pd.DataFrame:
    """Return the measured cases as points of a roofline.

    Columns beside `kernel`, `baseline` and `case`: `intensity`, flops ÷ bytes_moved; `rate`,
    flops ÷ median time; `by_dispatch`, whether one call's dispatch alone takes longer than the
    operations at peak and the bytes at the best bandwidth.
    """
    known = (rows["status"] == "ok") & rows["flops"].gt(0) & rows["bytes_moved"].gt(0)
    kept = rows[known & rows["median_s"].notna()]
    table = kept[["kernel", "baseline", "case"]].copy()
    table["intensity"] = kept["flops"] / kept["bytes_moved"]
    table["rate"] = kept["flops"] / kept["median_s"]
    bandwidth = max((roof.rate for roof in roofs(ceilings)), default=np.inf)
    peaks = [ceilings.flops_per_s.get(str(dtype), np.inf) for dtype in kept["dtype"]]
    least = np.maximum(kept["bytes_moved"] / bandwidth, kept["flops"] / np.array(peaks, float))
    table["by_dispatch"] = least.lt(ceilings.dispatch_s or 0.0)
    return table


@figure(
    "roofline",
    title="operations per second under the machine's measured ceilings",
    slots=(Slot("roofline-step", 5, "step"), Slot("roofline-gradient", 9, "gradient")),
)
def draw(view: View) -> Figure | None:
    """Draw how near the kernels come to what the device reached in the suite's own probes.

    None where there is no case, or neither a peak of this dtype nor a bandwidth.
    """
    ceilings = view.run.machine.ceilings.get(view.part.device, Ceilings())
    shown, over = points(view.rows, ceilings), roofs(ceilings)
    peak = ceilings.flops_per_s.get(view.part.dtype)
    if shown.empty or not (peak or over):
        return None
    figure = Figure(figsize=(8.7, 5.4 + 0.2 * (len(view.looks) // 6)))
    axes = figure.add_subplot()
    _set_axes(axes, shown, peak, over)
    lines = _draw_roofs(axes, peak, over)
    for (kernel, bound), some in shown.groupby(["kernel", "by_dispatch"]):
        look = view.looks[str(kernel)]
        look.draw(axes, some["intensity"], some["rate"], hollow=bool(bound), size=6)
    entries = style.kernel_entries(shown, view.looks, line=False)
    if shown["by_dispatch"].any():
        entries.append(style.entry("hollow: bound by dispatch", "o", hollow=True))
    style.add_legend(figure, entries + lines)
    question = f"How near to this machine's measured ceilings? {view.name}"
    style.add_title_and_footer(figure, question, view.rows)
    return figure


def _set_axes(axes: Axes, shown: pd.DataFrame, peak: float | None, over: list[Roof]) -> None:
    axes.set_xlabel("operations per byte that must move (log)")
    axes.set_ylabel("operations per second, median time (log)")
    # Each slope is to be seen, also where no case is under it.
    ridge = min((peak / roof.rate for roof in over), default=np.inf) if peak else np.inf
    low, high = min(shown["intensity"].min() / 2, ridge / 4), shown["intensity"].max() * 4
    subs = (1, 2, 5) if high / low < 200 else (1,)
    style.log_axis(
        axes.xaxis, lambda value: f"{value:g}", LogLocator(base=10, subs=subs, numticks=14)
    )
    style.log_axis(axes.yaxis, EngFormatter("FLOP/s"))
    axes.set_xlim(low, high)
    axes.set_ylim(shown["rate"].min() / 2, max(shown["rate"].max(), peak or 0.0) * 2.5)


def _draw_roofs(axes: Axes, peak: float | None, over: list[Roof]) -> list[Line2D]:
    # A bandwidth rises to the peak and ends there.
    low, high = axes.get_xlim()
    entries = []
    for roof, line in zip(over, ("-", "--"), strict=False):
        ridge = min(peak / roof.rate, high) if peak else high
        ends = np.array([low, max(low, ridge)])
        axes.plot(ends, ends * roof.rate, color=style.GREY, linestyle=line, linewidth=1.4, zorder=1)
        text = f"{digits(roof.rate / 1e9)} GB/s over {format_bytes(roof.working_set)}"
        entries.append(style.entry(text, line=line))
    if peak:
        start = max(low, peak / max((roof.rate for roof in over), default=np.inf))
        axes.plot(
            [start, high], [peak, peak], color=style.GREY, linestyle="-.", linewidth=1.4, zorder=1
        )
        entries.append(style.entry(f"operations: {digits(peak / 1e9)} GFLOP/s", line="-."))
    axes.set_xlim(low, high)
    return entries
