"""Time, peak memory and error along each axis of an operation."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from textwrap import fill

import numpy as np
import pandas as pd
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ...analysis.frame import PEER, axes_of, longest_line, sizes_of
from ...common.units import format_bytes, format_error, format_tick
from ...store.columns import letters
from .. import style
from ..tables import format_held
from . import View, figure

_LEAST = ["least_flops", "least_bytes"]
PANEL_TITLE = 40  # characters of a line above a panel


def panels_of(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the cases along each axis, at the other sizes that have the most points along it.

    Adds `along`, the sizes on the axis. An axis with a single point is left out where another has
    more.
    """
    panels = {axis: longest_line(rows, axis) for axis in axes_of(rows)}
    panels = {axis: line.assign(along=sizes_of(line)[axis]) for axis, line in panels.items()}
    several = {axis: line for axis, line in panels.items() if line["along"].nunique() > 1}
    return several or dict([*panels.items()][:1])


class Chart:
    """A figure with log axes for each panel, side by side over one range."""

    def __init__(
        self, view: View, quantity: str, write: Callable[[float], str], base: float = 10
    ) -> None:
        """Lay the panels out, with ticks at the powers of `base`, as `write` writes them."""
        self.view, self.base, self.panels = view, base, panels_of(view.rows)
        self.shown = pd.concat(self.panels.values())
        height = 5.0 + 0.2 * (self.shown["kernel"].nunique() // 6)
        self.figure = Figure(figsize=(max(3.3 * len(self.panels) + 2.1, 8.7), height))
        self.figure.subplots(1, len(self.panels), sharey=True)
        self.figure.axes[0].set_ylabel(quantity)
        every = axes_of(view.rows)
        named, labels = letters(every), style.axis_labels(every)
        for axes, (axis, rows) in self:
            axes.set(xscale="log", yscale="log", xlabel=f"{labels[axis]} (log)")
            sizes = sizes_of(rows).iloc[0]
            held = {name: int(sizes[name]) for name in every if name != axis}
            at = f", at {format_held(held, ', '.join(every))}" if held else ""
            axes.set_title(fill(style.label(f"against {named[axis]}{at}", 200), PANEL_TITLE))
            values = sorted(set(rows["along"]))
            room = (values[-1] / values[0]) ** 0.08 if len(values) > 1 else 2.0
            axes.set_xlim(values[0] / room, values[-1] * room)
            locator = ticker.FixedLocator(_apart(values))
            style.set_log_ticks(axes.xaxis, ticker.EngFormatter(sep=""), locator)
        ticks = ticker.LogLocator(base=base, numticks=14)
        style.set_log_ticks(self.figure.axes[0].yaxis, write, ticks)

    def __iter__(self) -> Iterator[tuple[Axes, tuple[str, pd.DataFrame]]]:
        """Return the axes of each panel, and what it shows: a size and the cases along it."""
        return zip(self.figure.axes, self.panels.items(), strict=True)

    def lines(
        self, which: pd.Series
    ) -> Iterator[tuple[Axes, style.Style, pd.Series, pd.DataFrame]]:
        """Return axes, look, sizes and rows of each kernel's line in each panel: of such rows."""
        for axes, (_, panel) in self:
            for kernel, rows in panel[which[panel.index]].sort_values("along").groupby("kernel"):
                yield axes, self.view.looks[str(kernel)], rows["along"], rows

    def level(self, value: float, text: str) -> Line2D:
        """Draw a level that holds for every panel; return its legend entry."""
        for axes in self.figure.axes:
            axes.axhline(value, color=style.GREY, linestyle=":", linewidth=1.4)
        return style.entry(text, line=":")

    def finish(
        self, question: str, notes: Sequence[Line2D], top: float = 0.0, footnote: str = ""
    ) -> Figure:
        """Set the range; add title, legend and footer, which says how many failures are not shown.

        The marks of failures need the part `top` of the height above the values.
        """
        rows, first = self.view.rows, self.figure.axes[0]
        low, high = first.get_ylim()
        if high / low <= self.base**2:  # which might leave no tick to read a value from
            low, high = low / self.base, high * self.base
        first.set_ylim(low, high * (high / low) ** (top / (1 - top)))
        if not any(np.isfinite(axes.dataLim.y1) for axes in self.figure.axes):
            first.set_yticks([])  # a scale without a value on it would only mislead
        hidden = int((rows["status"].ne("ok") & ~rows.index.isin(self.shown.index)).sum())
        if hidden:
            footnote = f"{hidden} more without a result off these axes; {footnote}"
        entries = [*style.kernel_entries(self.shown, self.view.looks), *notes]
        style.finish(self.figure, question, rows, entries, footnote)
        return self.figure


def _apart(values: list[int]) -> list[int]:
    # Ticks that would overprint each other are left out, the ends never.
    gap = max((values[-1] / values[0]) ** 0.09, 1.0001)
    kept = values[:1]
    for value in values[1:-1]:
        if min(value / kept[-1], values[-1] / value) > gap:
            kept.append(value)
    return sorted({*kept, values[-1]})


@figure(
    "time",
    title="time against {axes}",
    rank=2,
    first=0,
)
def draw_time(view: View) -> Figure:
    """Draw the median with a bar from q1 to q3; a case without a time is a mark at the top.

    Hollow beside it is the time with inputs from memory, where it was measured.
    """
    chart = Chart(view, "time of one call: median, q1–q3", format_tick)
    ok = view.rows["status"] == "ok"
    for axes, (_, rows) in chart:
        bound = rows.dropna(subset="roofline_s").groupby("along")["roofline_s"].min()
        axes.plot(bound, color=style.GREY, linestyle=":", linewidth=1.4)
    for axes, look, sizes, rows in chart.lines(ok):
        look.draw(axes, sizes, rows["median_s"], line=True)
        axes.vlines(sizes, rows["q1_s"], rows["q3_s"], color=look.colour, linewidth=1.2)
    for axes, look, sizes, rows in chart.lines(ok & view.rows["cold_s"].notna()):
        look.draw(axes, sizes, rows["cold_s"], hollow=True)
    failed = sorted(set(chart.shown["kernel"][chart.shown["status"] != "ok"]))
    step = min(0.05, 0.38 / max(len(failed), 1))  # of the height, for each kernel that failed
    for axes, look, sizes, rows in chart.lines(~ok):
        height = 0.98 - step * failed.index(rows["kernel"].iloc[0])
        for size, status in zip(sizes, rows["status"], strict=True):
            axes.plot(
                size, height, transform=axes.get_xaxis_transform(), color=look.colour,
                marker=style.FAILED[status][0], markersize=7, markeredgewidth=1.8, clip_on=False,
            )  # fmt: skip
    notes: list[Line2D] = []
    footnote = f"{style.HOT}; "
    if chart.shown["cold_s"].notna().any():
        notes = [style.entry(style.HOT, "o"), style.entry("inputs from memory", "o", hollow=True)]
        footnote = ""
    if chart.shown["roofline_s"].notna().any():
        notes.append(style.entry("roofline bound", line=":"))
    elif chart.shown.loc[chart.shown["status"] == "ok", _LEAST].isna().any(axis=None):
        footnote = f"roofline bound: not declared; {footnote}"
    for status, (marker, words) in style.FAILED.items():
        if chart.shown["status"].eq(status).any():
            notes.append(style.entry(f"{words} (at the top)", marker))
    question = f"How long does one {view.name} take?"
    return chart.finish(question, notes, 0.02 + step * len(failed), footnote)


@figure(
    "memory",
    title="peak memory against {axes}",
    rank=7,
    first=0,
)
def draw_memory(view: View) -> Figure:
    """Draw what was measured, and hollow what was predicted for a case that was not.

    A point is what torch allocated and nothing else: peers, and what took memory elsewhere, have
    none.
    """
    write = partial(format_tick, write=format_bytes)
    chart = Chart(view, "peak memory of one call beyond its inputs", write, base=32)
    for axes, look, sizes, rows in chart.lines(view.rows["kernel"].notna()):
        measured, theory = rows["peak_bytes"], rows["predicted_peak_bytes"]
        counted = ~rows["untracked_bytes"].gt(0) & (rows["role"] != PEER)
        known, predicted = (measured > 0) & counted, theory > 0
        missing = predicted & (rows["status"] != "ok")
        axes.plot(sizes[predicted], theory[predicted], color=look.colour, linestyle=look.line,
                  linewidth=look.width, alpha=0.7)  # fmt: skip
        look.draw(axes, sizes[known], measured[known])
        look.draw(axes, sizes[missing], theory[missing], hollow=True)
    notes, declared = [style.entry("measured", "o")], chart.shown["predicted_peak_bytes"].notna()
    if declared.any():
        notes.append(style.entry("predicted", line="-"))
    if (declared & (chart.shown["status"] != "ok")).any():
        notes.append(style.entry("predicted, not measured", "o", hollow=True))
    limit = view.run.machine.memory_bytes if view.part.device == "cpu" else None
    if limit and chart.shown["predicted_peak_bytes"].max() > limit / 10:
        notes.append(chart.level(limit, f"this machine's {format_bytes(limit)}"))
    unknown = sorted(set(chart.shown.loc[~declared, "kernel"]))
    footnote = f"predicted of {', '.join(map(style.label, unknown))}: not declared; "
    question = f"How much memory does one {view.name} hold?"
    return chart.finish(question, notes, footnote=footnote if unknown else "")


_ROUNDOFF = {"float32": 2.0**-24, "float64": 2.0**-53, "bfloat16": 2.0**-8}


def _known(rows: pd.DataFrame) -> pd.Series:
    return rows["status"].eq("ok") & rows["max_rel_error"].gt(0)


@figure("error", title="error against {axes}", when=lambda rows: _known(rows).any())
def draw_error(view: View) -> Figure:
    """Draw the largest error of each kernel, relative to the terms of its sum.

    It says so where errors were held against the baseline's own instead of a bound.
    """
    beside = view.rows["tolerance_of"].eq("baseline").any()
    of = "the largest result" if beside else "its sum's terms"
    chart = Chart(view, f"largest error, relative to {of}", format_error)
    for axes, look, sizes, rows in chart.lines(_known(view.rows)):
        look.draw(axes, sizes, rows["max_rel_error"], line=True)
    unit, text = _ROUNDOFF.get(view.part.dtype), f"unit roundoff of {view.part.dtype}"
    notes = [chart.level(unit, text)] if unit else []
    footnote = "held against the baseline's own error; " if beside else ""
    return chart.finish(f"How exact is one {view.name}?", notes, footnote=footnote)
