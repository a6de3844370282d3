"""The speedup of each kernel from run to run of the same grid and settings."""

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from ...analysis.compare import History
from ...common.units import format_ratio
from .. import style
from ..tables import bound_in_words

# What the figure of a history is of.
PART = ["operation", "device", "dtype", "threads", "bound"]


def history_figure(history: History, part: Sequence[Any]) -> Figure:
    """Draw each run's speedup with its 95 % interval, of the cases that are alike in `PART`."""
    points, rows = (
        frame[(frame[PART] == list(part)).all(axis=1)] for frame in (history.points, history.frame)
    )
    looks = style.styles(rows, part[0])
    places = {name: place for place, name in enumerate(history.runs)}
    figure = Figure(figsize=(8.7, 4.6 + 0.05 * len(looks)))
    axes = figure.add_subplot(yscale="log")
    drawn = list(points.groupby("kernel"))
    for nth, (kernel, mine) in enumerate(drawn):
        look = looks[str(kernel)]
        shift = (nth - (len(drawn) - 1) / 2) * 0.5 / max(len(drawn), 6)  # so that none hides
        x = mine["run"].map(places) + shift
        look.draw(axes, x, mine["speedup"], line=True)
        axes.vlines(x, mine["low"], mine["high"], color=look.colour, linewidth=1.2)
    low, high = points["low"].min() / 1.1, points["high"].max() * 1.1
    style.set_log_ticks(axes.yaxis, format_ratio, style.subdivisions(high / low))
    axes.set(ylim=(low, high), ylabel="speedup vs. the baseline, geometric mean (log)")
    commits = history.frame.groupby("run")["commit"].first()
    shown = [f"{style.label(commits[name][:8])}\n{style.label(name[:8])}" for name in history.runs]
    axes.set_xticks(range(len(shown)), shown)
    axes.set_xlabel("commit and day, in the order of the runs")
    entries = style.kernel_entries(rows[rows["kernel"].isin(points["kernel"])], looks)
    where = ", ".join(
        map(style.label, (*part[:3], bound_in_words(part[-1]), f"grid {history.grid}"))
    )
    newest = rows[rows["run"] == rows["run"].iloc[-1]]
    title = f"Did the code change it? ({where})"
    style.finish(figure, title, newest, entries, f"{style.HOT}; ")
    return figure
