"""Time, peak memory and error against m, n and o."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib import ticker
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...analysis.frame import SIZES, longest_line
from ...common.units import format_bytes, format_error, format_tick
from .. import style
from . import Slot, View, figure

_WORDS = {"batch": "batch m", "in_features": "in features n", "out_features": "out features o"}


class Panel(NamedTuple):
    """The cases along one axis, the two other sizes held fixed."""

    axis: str
    rows: pd.DataFrame


def panels_of(rows: pd.DataFrame) -> list[Panel]:
    """Return what the panels show: one an axis, and up to three more for failures these would miss.

    Each is at the two other sizes that have the most points along it, or the most failures not yet
    shown; an axis with a single point is left out where another has more.
    """
    panels = [Panel(axis, longest_line(rows, axis)) for axis in SIZES]
    panels = [panel for panel in panels if panel.rows[panel.axis].nunique() > 1] or panels[:1]
    for axis in SIZES:
        shown = pd.concat([panel.rows for panel in panels]).index
        hidden = rows["status"].ne("ok") & ~rows.index.isin(shown)
        further = longest_line(rows.assign(hidden=hidden), axis, prefer="hidden")
        if hidden[further.index].any():
            panels.append(Panel(axis, further))
    return panels


class Chart:
    """A figure with log axes for each panel, in rows of three, or one row of four."""

    def __init__(self, view: View, quantity: str) -> None:
        """Lay the panels out."""
        self.view, self.panels = view, panels_of(view.rows)
        self.shown = pd.concat([panel.rows for panel in self.panels])
        wide = 4 if len(self.panels) == 4 else min(3, len(self.panels))
        deep = -(-len(self.panels) // wide)
        height = 1.5 + 3.5 * deep + 0.2 * (self.shown["kernel"].nunique() // 6)
        self.figure = Figure(figsize=(max(3.3 * wide + 2.1, 8.7), height))
        for place, (axis, rows) in enumerate(self.panels):
            axes = self.figure.add_subplot(deep, wide, 1 + place, xscale="log", yscale="log")
            axes.set(xlabel=f"{_WORDS[axis]} (log)", ylabel="" if place % wide else quantity)
            axes.tick_params(labelleft=place % wide == 0)
            held = [
                f"{_WORDS[name][-1]} = {rows[name].iloc[0]:,}" for name in SIZES if name != axis
            ]
            axes.set_title(f"against {_WORDS[axis][-1]}, at {', '.join(held)}")
            values = sorted(set(rows[axis]))
            room = (values[-1] / values[0]) ** 0.08 if len(values) > 1 else 2.0
            axes.set_xlim(values[0] / room, values[-1] * room)
            locator = ticker.FixedLocator(_apart(values))
            style.set_log_ticks(axes.xaxis, ticker.EngFormatter(sep=""), locator)

    def __iter__(self) -> Iterator[tuple[Axes, Panel]]:
        """Return the axes of each panel, and what it shows."""
        return zip(self.figure.axes, self.panels, strict=True)

    def lines(
        self, of: Callable[[pd.DataFrame], pd.DataFrame]
    ) -> Iterator[tuple[Axes, style.Style, pd.Series, pd.DataFrame]]:
        """Return the axes, the look, the sizes and the rows of each kernel's line in each panel."""
        for axes, panel in self:
            for kernel, rows in of(panel.rows).sort_values(panel.axis).groupby("kernel"):
                yield axes, self.view.looks[str(kernel)], rows[panel.axis], rows

    def share_log_axis(self, write: Callable[[float], str], base: float, top: float = 0.0) -> None:
        """Give the panels one range with a unit at each tick, and room above for what failed.

        Ticks are powers of `base`; `top` is the part of the height that the marks of failures need.
        """
        used = [axes.get_ylim() for axes in self.figure.axes if axes.has_data()]
        low, high = min((y[0] for y in used), default=1.0), max((y[1] for y in used), default=10.0)
        # A narrow range would leave no tick to read a value from.
        low, high = (low, high) if high / low > base**2 else (low / base, high * base)
        # A scale without a value on it would only mislead.
        locator = ticker.LogLocator(base=base, numticks=14) if used else ticker.NullLocator()
        for axes in self.figure.axes:
            style.set_log_ticks(axes.yaxis, write, locator)
            axes.set_ylim(low, high * (high / low) ** (top / (1 - top)))

    def finish(self, question: str, notes: Sequence[Artist], note: str = "") -> Figure:
        """Add title, legend and footer; return the figure."""
        entries = [*style.kernel_entries(self.shown, self.view.looks), *notes]
        style.finish(self.figure, question, self.view.rows, entries, note)
        return self.figure

    def unseen(self) -> str:
        """Say how many failed cases are on no panel."""
        rows = self.view.rows
        count = int((rows["status"].ne("ok") & ~rows.index.isin(self.shown.index)).sum())
        return f"{count} more without a result off these axes (see the tables); " * (count > 0)


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
    chart = Chart(view, "time of one call: median, q1–q3")
    for axes, (axis, rows) in chart:
        bound = rows.dropna(subset="roofline_s").groupby(axis)["roofline_s"].min()
        if len(bound):
            axes.plot(bound, color=style.GREY, linestyle=":", linewidth=1.4)
    for axes, look, sizes, rows in chart.lines(lambda rows: rows[rows["status"] == "ok"]):
        median = rows["median_s"]
        bars = np.array([median - rows["q1_s"], rows["q3_s"] - median])
        axes.errorbar(
            # Quartiles that rounding put on the wrong side of the median are no bar.
            sizes, median, yerr=bars.clip(min=0), capsize=2.5, elinewidth=1, color=look.colour,
            marker=look.marker, markersize=5, linestyle=look.line, linewidth=look.width,
        )  # fmt: skip
    most = max((place for panel in chart.panels for place in _failed(panel)["place"]), default=0)
    chart.share_log_axis(format_tick, base=10, top=min(0.02 + 0.05 * most, 0.4))
    for axes, panel in chart:
        failed = _failed(panel)[[panel.axis, "place", "kernel", "status"]]
        for size, place, kernel, status in failed.to_numpy():
            axes.plot(
                size, 0.98 - min(0.05, 0.38 / most) * (place - 1),
                transform=axes.get_xaxis_transform(), color=view.looks[kernel].colour,
                marker=style.FAILED[status][0], markersize=7, markeredgewidth=1.8, clip_on=False,
            )  # fmt: skip
    notes = []
    if chart.shown["roofline_s"].notna().any():
        notes.append(style.entry("roofline bound", line=":"))
    for status, (marker, words) in style.FAILED.items():
        if chart.shown["status"].eq(status).any():
            notes.append(style.entry(f"{words} (at the top)", marker))
    return chart.finish(f"How long does one {view.name} take?", notes, chart.unseen())


def _failed(panel: Panel) -> pd.DataFrame:
    """Return the failed cases of a panel, with the place of each among those of one size."""
    failed = panel.rows[panel.rows["status"] != "ok"].sort_values("kernel")
    return failed.assign(place=failed.groupby(panel.axis).cumcount() + 1)


@figure(
    "memory",
    title="peak memory against m, n and o",
    slots=(Slot("memory-gradient", 7, "gradient"),),
)
def draw_memory(view: View) -> Figure:
    """Draw what was measured, and hollow what was predicted for a case that was not."""
    chart = Chart(view, "peak memory of one call beyond its inputs")
    for axes, look, sizes, rows in chart.lines(lambda rows: rows):
        measured, theory = rows["peak_bytes"], rows["predicted_peak_bytes"]
        known, predicted = measured > 0, theory > 0
        missing = predicted & (rows["status"] != "ok")
        axes.plot(sizes[predicted], theory[predicted], color=look.colour, linestyle=look.line,
                  linewidth=look.width, alpha=0.7)  # fmt: skip
        look.draw(axes, sizes[known], measured[known], size=6)
        look.draw(axes, sizes[missing], theory[missing], hollow=True, size=6)
    notes = [style.entry("measured", "o"), style.entry("predicted", line="-")]
    if (chart.shown["status"] != "ok").any():
        notes.append(style.entry("predicted, not measured", "o", hollow=True))
    limit = view.run.machine.memory_bytes if view.part.device == "cpu" else None
    if limit and chart.shown["predicted_peak_bytes"].max() > limit / 10:
        notes.append(style.entry(f"this machine's {format_bytes(limit)}", line=":"))
        for axes, _ in chart:
            axes.axhline(limit, color=style.GREY, linestyle=":", linewidth=1.4)
    chart.share_log_axis(partial(format_tick, write=format_bytes), base=32)
    return chart.finish(f"How much memory does one {view.name} hold?", notes, chart.unseen())


_ROUNDOFF = {"float32": 2.0**-24, "float64": 2.0**-53, "bfloat16": 2.0**-8}


def _known(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[(rows["status"] == "ok") & rows["max_rel_error"].gt(0)]


@figure("error", title="error against m, n and o", when=lambda rows: len(_known(rows)) > 0)
def draw_error(view: View) -> Figure:
    """Draw the largest error of each kernel, relative to the terms of its sum."""
    chart = Chart(view, "largest error, relative to its sum's terms")
    for axes, look, sizes, rows in chart.lines(_known):
        look.draw(axes, sizes, rows["max_rel_error"], line=True)
    notes = []
    if unit := _ROUNDOFF.get(view.part.dtype):
        notes.append(style.entry(f"unit roundoff of {view.part.dtype}", line=":"))
        for axes, _ in chart:
            axes.axhline(unit, color=style.GREY, linestyle=":", linewidth=1.4)
    chart.share_log_axis(format_error, base=10)
    return chart.finish(f"How exact is one {view.name}?", notes)
