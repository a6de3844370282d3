"""Frame -> figure: achieved FLOP/s against arithmetic intensity, under the measured ceilings.

Pure; the figure is one that nobody else holds.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from ...analysis.frame import Slice
from ...common.units import digits, format_bytes
from ...store.schema import Ceilings
from ..style import GREY, Style, entry, kernel_entries, label, put_frame, put_legend, styles

_PREFIXES = (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3))


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
    fastest = max((roof.rate for roof in roofs(ceilings)), default=np.inf)
    peaks = [ceilings.flops_per_s.get(str(dtype), np.inf) for dtype in kept["dtype"]]
    least = np.maximum(kept["bytes_moved"] / fastest, kept["flops"] / np.array(peaks, dtype=float))
    table["by_dispatch"] = least.lt(ceilings.dispatch_s or 0.0)
    return table


def roofline_figure(frame: pd.DataFrame, part: Slice, ceilings: Ceilings) -> Figure | None:
    """Draw how near the kernels of a slice come to what the device reached in the suite's probes.

    Operations and least bytes are those of each kernel's own formulas. None where nothing was
    measured to draw: no case, or neither a peak of this dtype nor a bandwidth.
    """
    rows, looks = part.of(frame), styles(frame, part.stage)
    shown = points(rows, ceilings)
    peak = ceilings.flops_per_s.get(part.dtype)
    if shown.empty or not (peak or roofs(ceilings)):
        return None
    figure = Figure(figsize=(8.7, 5.4 + 0.2 * (len(looks) // 6)), layout="constrained", dpi=110)
    axes = figure.add_subplot()
    _set_axes(axes, shown, peak, roofs(ceilings))
    over = _draw_roofs(axes, peak, roofs(ceilings))
    for (kernel, bound), some in shown.groupby(["kernel", "by_dispatch"]):
        _draw_points(axes, some, looks[str(kernel)], hollow=bool(bound))
    entries = kernel_entries(shown, looks)
    for one in entries:
        one.set_linestyle("")
    if shown["by_dispatch"].any():
        entries.append(entry("hollow: bound by dispatch", "o", hollow=True))
    put_legend(figure, entries + over)
    where = f"{label(part.stage)} ({label(part.device)}, {part.dtype})"
    put_frame(figure, f"How near to this machine's measured ceilings? {where}", part.of(frame))
    return figure


def _draw_points(axes: Axes, some: pd.DataFrame, look: Style, hollow: bool) -> None:
    axes.plot(
        some["intensity"].to_numpy(),
        some["rate"].to_numpy(),
        linestyle="",
        marker=look.marker,
        color=look.colour,
        markerfacecolor="none" if hollow else look.colour,
        markersize=6,
    )


def _set_axes(axes: Axes, shown: pd.DataFrame, peak: float | None, over: list[Roof]) -> None:
    axes.set(xscale="log", yscale="log", ylabel="operations per second, median time")
    axes.set_xlabel("operations per byte that must move (log)")
    # Each slope is to be seen, also where no case is under it.
    ridge = min((peak / roof.rate for roof in over), default=np.inf) if peak else np.inf
    low, high = min(shown["intensity"].min() / 2, ridge / 4), shown["intensity"].max() * 4
    axes.set_xlim(low, high)
    axes.set_ylim(shown["rate"].min() / 2, max(shown["rate"].max(), peak or 0.0) * 2.5)
    axes.grid(True, which="major", color="0.9", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    steps = (1, 2, 5) if high / low < 200 else (1,)
    for axis, write, between in (
        (axes.xaxis, _plain_tick, steps),
        (axes.yaxis, _rate_tick, (1,)),
    ):
        axis.set_major_locator(LogLocator(base=10, subs=between, numticks=14))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda value, _, write=write: write(value)))


def _draw_roofs(axes: Axes, peak: float | None, over: list[Roof]) -> list[Line2D]:
    # A bandwidth rises to the peak and ends there.
    low, high = axes.get_xlim()
    entries = []
    for roof, line in zip(over, ("-", "--"), strict=False):
        ridge = min(peak / roof.rate, high) if peak else high
        ends = np.array([low, max(low, ridge)])
        axes.plot(ends, ends * roof.rate, color=GREY, linestyle=line, linewidth=1.4, zorder=1)
        text = f"{digits(roof.rate / 1e9)} GB/s over {format_bytes(roof.working_set)}"
        entries.append(entry(text, line=line))
    if peak:
        start = max(low, peak / max((roof.rate for roof in over), default=np.inf))
        axes.plot([start, high], [peak, peak], color=GREY, linestyle="-.", linewidth=1.4, zorder=1)
        text = f"operations: {digits(peak / 1e9)} GFLOP/s"
        entries.append(entry(text, line="-."))
    axes.set_xlim(low, high)
    return entries


def _plain_tick(value: float) -> str:
    return f"{value:g}"


def _rate_tick(value: float) -> str:
    fitting = (pair for pair in _PREFIXES if value >= pair[1] * (1 - 1e-9))
    prefix, scale = next(fitting, ("", 1.0))
    return f"{value / scale:g} {prefix}FLOP/s"
