"""Time against memory, and against error, of every kernel at one case."""

from functools import partial

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, LogLocator

from ...analysis.frame import AUTO, SIZES
from ...common.units import format_bytes, format_case, format_error, format_tick
from .. import style
from . import View, figure


def _case(rows: pd.DataFrame) -> pd.DataFrame:
    known = rows[(rows["status"] == "ok") & rows["median_s"].gt(0) & rows["peak_bytes"].notna()]
    known = known[known["max_rel_error"].notna() & (known["role"] != AUTO)]
    if known.empty:
        return known
    counts = known.groupby(SIZES).size()
    chosen = max(counts.index, key=lambda sizes: (counts[sizes], np.prod(sizes, dtype=float)))
    return known[(known[SIZES] == list(chosen)).all(axis=1)].sort_values("median_s")


@figure(
    "pareto", title="time, memory and error of one case", when=lambda rows: len(_case(rows)) > 1
)
def draw(view: View) -> Figure:
    """Draw a mark a kernel; the line joins those that no other beats in both."""
    case = _case(view.rows)
    figure = Figure(figsize=(9.6, 4.6 + 0.2 * (len(case) // 6)))
    left, right = figure.subplots(1, 2)
    for axes, column, words, write in (
        (
            left,
            "peak_bytes",
            "peak memory beyond the inputs (log)",
            partial(format_tick, write=format_bytes),
        ),
        (right, "max_rel_error", "largest relative error (log)", format_error),
    ):
        for row in case.to_dict("records"):
            look = view.looks[str(row["kernel"])]
            look.draw(axes, [row["median_s"]], [row[column]], size=8)
        costs = case[column].to_numpy(dtype=float)
        _draw_front(axes, case["median_s"].to_numpy(), costs)
        low, high = axes.get_xlim()
        style.log_axis(axes.xaxis, format_tick, style.subdivisions(high / low if low > 0 else 10))
        ticks = _set_costs(axes, costs, binary=column == "peak_bytes")
        axes.yaxis.set_major_locator(ticks)
        axes.yaxis.set_minor_locator(FixedLocator([]))
        axes.yaxis.set_major_formatter(lambda value, _, write=write: write(value))
        axes.set(xlabel="median time (log)", ylabel=words)
    beaten = style.entry("beaten by none in both", line="-")
    style.add_legend(figure, [*style.kernel_entries(case, view.looks, line=False), beaten])
    at = format_case(*(int(case[size].iloc[0]) for size in SIZES))
    style.add_title_and_footer(figure, f"What does speed cost? {view.name}, {at}", view.rows)
    return figure


def _draw_front(axes: Axes, times: np.ndarray, costs: np.ndarray) -> None:
    # Times rise: a kernel is on the front where it costs less than every faster one.
    least = np.minimum.accumulate(costs)
    on = np.concatenate([[True], costs[1:] < least[:-1]])
    axes.set_xscale("log")
    axes.plot(times[on], costs[on], color=style.GREY, linewidth=1.2, zorder=1)


def _set_costs(axes: Axes, costs: np.ndarray, binary: bool) -> FixedLocator:
    above = costs[costs > 0]
    low, high = (above.min() / 1.5, above.max() * 1.5) if above.size else (1.0, 10.0)
    span = above.max() / above.min() if above.size else 1.0
    base = 32 if span > 32**3 else 4 if span > 4**2 else 2
    between = LogLocator(base=base, numticks=14) if binary else style.subdivisions(span)
    places = [place for place in between.tick_values(low, high) if low <= place <= high]
    if above.size < costs.size:
        axes.set_yscale("symlog", linthresh=low, linscale=0.5)
        axes.set_ylim(-low / 4, high)
        places.insert(0, 0.0)
    else:
        axes.set_yscale("log")
        axes.set_ylim(low, high)
    return FixedLocator(places)
