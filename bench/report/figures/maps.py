"""Frame -> figure: what the page of a report shows beyond time and memory.

Error against each size, speed over all sizes, and speed, memory and error of one case beside one
another. Every function is pure and returns a figure that nobody else holds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from ...analysis.frame import AUTO, SIZES, Slice
from ...analysis.ranking import fastest
from ...common.units import digits, format_byte_tick, format_case, format_error, format_tick
from ..style import (
    GREY,
    Style,
    entry,
    finish_panel,
    kernel_entries,
    label,
    lay_out,
    panels_of,
    put_frame,
    put_legend,
    share_y,
    styles,
)

_ROUNDOFF = {"float32": 2.0**-24, "float64": 2.0**-53, "bfloat16": 2.0**-8}
_MOST_NAMED = 18  # characters of a kernel's name in a cell


def error_figure(frame: pd.DataFrame, part: Slice) -> Figure | None:
    """Draw the error of one slice against m, n and o, and the unit roundoff of its dtype.

    None where no case has an error above zero, which a log axis could show.
    """
    rows, looks = part.of(frame), styles(frame, part.stage)
    known = rows[(rows["status"] == "ok") & rows["max_rel_error"].gt(0)]
    if known.empty:
        return None
    panels = panels_of(rows)
    figure, every = lay_out(panels, "largest error, relative to its sum's terms")
    unit = _ROUNDOFF.get(part.dtype)
    for axes, panel in zip(every, panels, strict=True):
        line = panel.rows[panel.rows.index.isin(known.index)]
        for kernel, some in line.groupby("kernel"):
            some, look = some.sort_values(panel.axis), looks[str(kernel)]
            axes.plot(
                some[panel.axis].to_numpy(), some["max_rel_error"].to_numpy(), color=look.colour,
                marker=look.marker, linestyle=look.line, linewidth=look.width, markersize=5,
            )  # fmt: skip
        if unit:
            axes.axhline(unit, color=GREY, linestyle=":", linewidth=1.4)
        finish_panel(axes, panel)
    share_y(every, format_error, base=10)
    shown = pd.concat([panel.rows for panel in panels])
    notes = [entry(f"unit roundoff of {part.dtype}", line=":")] if unit else []
    put_legend(figure, kernel_entries(shown, looks) + notes)
    put_frame(figure, f"How exact is it? {_where(part)}", rows)
    return figure


def speed_figure(frame: pd.DataFrame, part: Slice) -> Figure | None:
    """Draw how many times as fast as torch.nn the fastest kernel of each size is, and which it is.

    None where a single size, or none, has a ratio.
    """
    rows = part.of(frame)
    best = fastest(rows)
    best = best[best["speedup"].gt(0)]
    batches = sorted(set(best["batch"]))
    wides = sorted({*zip(best["in_features"], best["out_features"], strict=True)},
                   key=lambda pair: (pair[0] * pair[1], pair))  # fmt: skip
    if len(best) < 2:
        return None
    figure = Figure(
        figsize=(float(np.clip(3.2 + 1.25 * len(batches), 7, 24)), 2.1 + 0.52 * len(wides)),
        layout="constrained",
        dpi=110,
    )
    axes = figure.add_subplot()
    grid = np.full((len(wides), len(batches)), np.nan)
    names = np.full(grid.shape, "", dtype=object)
    for m, n, o, kernel, speedup in best[[*SIZES, "kernel", "speedup"]].itertuples(index=False):
        place = wides.index((n, o)), batches.index(m)
        grid[place], names[place] = speedup, kernel
    known = grid[np.isfinite(grid)]
    reach = max(known.max(), 1 / known.min(), 2.0)
    shown = np.ma.masked_invalid(grid)
    image = axes.imshow(shown, norm=LogNorm(1 / reach, reach), cmap="PuOr", aspect="auto",
                        origin="lower")  # fmt: skip
    for (row, column), speedup in np.ndenumerate(grid):
        if np.isfinite(speedup):
            dark = abs(np.log(speedup)) > 0.6 * np.log(reach)
            text = f"{digits(speedup)}×\n{label(names[row, column], _MOST_NAMED)}"
            colour = "white" if dark else "black"
            axes.text(column, row, text, ha="center", va="center", fontsize=7.5, color=colour)
    axes.set_xticks(range(len(batches)), [f"{m:,}" for m in batches])
    axes.set_yticks(range(len(wides)), [f"{n:,} → {o:,}" for n, o in wides])
    axes.set(xlabel="batch m", ylabel="features n → outputs o")
    bar = figure.colorbar(image, ax=axes, label="times as fast as torch.nn", pad=0.02)
    bar.outline.set_visible(False)
    bar.ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}×"))
    bar.ax.yaxis.set_minor_locator(NullLocator())
    put_frame(figure, f"How much is there to gain over torch.nn? {_where(part)}", rows)
    return figure


def trade_figure(frame: pd.DataFrame, part: Slice) -> Figure | None:
    """Draw time, memory and error of every kernel at the case that the most kernels have.

    Among equals the one with the most work. The line joins the kernels that no other beats in both
    time and memory. None where fewer than two kernels have all three at one case.
    """
    rows, looks = part.of(frame), styles(frame, part.stage)
    known = rows[(rows["status"] == "ok") & rows["median_s"].gt(0) & rows["peak_bytes"].notna()]
    known = known[known["max_rel_error"].notna() & (known["role"] != AUTO)]
    if known.empty:
        return None
    counts = known.groupby(SIZES).size()
    work = pd.Series([float(np.prod(sizes)) for sizes in counts.index], counts.index)
    chosen = max(counts.index, key=lambda sizes: (counts[sizes], work[sizes]))
    case = known[(known[SIZES] == list(chosen)).all(axis=1)].sort_values("median_s")
    if len(case) < 2:
        return None
    figure = Figure(figsize=(9.6, 4.6 + 0.2 * (len(case) // 6)), layout="constrained", dpi=110)
    memory, error = figure.subplots(1, 2)
    for axes, column in ((memory, "peak_bytes"), (error, "max_rel_error")):
        for row in case.to_dict("records"):
            _draw_mark(axes, row["median_s"], row[column], looks[str(row["kernel"])])
        costs = case[column].to_numpy(dtype=float)
        _draw_front(axes, case["median_s"].to_numpy(), costs)
        _set_times(axes)
        if column == "peak_bytes":
            span = _span(costs)
            _set_costs(axes, costs, 32 if span > 32**3 else 4 if span > 4**2 else 2, (1,))
        else:
            _set_costs(axes, costs, 10, _decimals(_span(costs)))
    memory.set_ylabel("peak memory beyond the inputs (log)")
    memory.yaxis.set_major_formatter(FuncFormatter(lambda value, _: format_byte_tick(value)))
    error.set_ylabel("largest relative error (log)")
    error.yaxis.set_major_formatter(FuncFormatter(lambda value, _: format_error(value)))
    put_legend(figure, [*kernel_entries(case, looks), entry("beaten by none in both", line="-")])
    at = format_case(*(int(size) for size in chosen))
    put_frame(figure, f"What does speed cost? {_where(part)}, {at}", rows)
    return figure


def _draw_mark(axes: Axes, x: float, y: float, look: Style) -> None:
    axes.plot([x], [y], linestyle="", marker=look.marker, color=look.colour, markersize=8)


def _draw_front(axes: Axes, times: np.ndarray, costs: np.ndarray) -> None:
    # Times rise: a kernel is on the front where it costs less than every faster one.
    least = np.minimum.accumulate(costs)
    on = np.concatenate([[True], costs[1:] < least[:-1]])
    axes.plot(times[on], costs[on], color=GREY, linewidth=1.2, zorder=1)


def _set_times(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.set_xlabel("median time (log)")
    axes.grid(True, which="major", color="0.9", linewidth=0.8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_axisbelow(True)
    low, high = axes.get_xlim()
    axes.xaxis.set_major_locator(LogLocator(base=10, subs=_decimals(high / low)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: format_tick(value)))


def _set_costs(axes: Axes, costs: np.ndarray, base: int, subs: Sequence[float]) -> None:
    """Make the axis of costs logarithmic, with a place for zero below where one has none."""
    above = costs[costs > 0]
    low, high = (above.min() / 1.5, above.max() * 1.5) if above.size else (1.0, 10.0)
    between = LogLocator(base=base, subs=subs, numticks=14).tick_values(low, high)
    places = [place for place in between if low <= place <= high]
    if above.size < costs.size:
        axes.set_yscale("symlog", linthresh=low, linscale=0.5)
        axes.set_ylim(-low / 4, high)
        places.insert(0, 0.0)
    else:
        axes.set_yscale("log")
        axes.set_ylim(low, high)
    axes.yaxis.set_major_locator(FixedLocator(places))
    axes.yaxis.set_minor_locator(NullLocator())


def _decimals(span: float) -> Sequence[float]:
    """Return the multiples of powers of ten that mark an axis over such a span."""
    if span > 50:
        return (1,)
    return (1, 2, 5) if span > 5 else (1, 1.2, 1.5, 2, 3, 4, 5, 6, 8)


def _span(costs: np.ndarray) -> float:
    above = costs[costs > 0]
    return float(above.max() / above.min()) if above.size else 1.0


def _where(part: Slice) -> str:
    return f"({label(part.stage)}, {label(part.device)}, {part.dtype})"
