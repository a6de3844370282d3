"""What the figures share: looks, labels, axes, legends and footnotes.

Nothing here touches pyplot. Names out of a run file are text, never markup: see `label`.
"""

import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib import rc_context, ticker
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..analysis.frame import SIZES, longest_line
from ..common.errors import single_line

# Okabe and Ito's colours, with a purple for the yellow, which is too bright for a line: told apart
# with any colour vision. Black is kept for the baseline.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#6600CC")
_MARKERS = ("s", "^", "D", "v", "P", "X", "h", "<", ">", "p", "*")
LINES = ("-", "--", "-.", ":")
_WORDS = {"batch": "batch m", "in_features": "in features n", "out_features": "out features o"}
FAILED = {
    "infeasible": ("x", "infeasible"),
    "oom": ("1", "out of memory"),
    "timeout": ("2", "out of time"),
    "crashed": ("3", "crashed"),
    "wrong": ("4", "wrong result"),
    "unsupported": ("+", "unsupported"),
}
GREY = "0.45"
# Inches at the foot of a figure, for where its numbers come from.
_FOOT = 0.24


class Style(NamedTuple):
    """How one kernel is drawn in every figure of a run."""

    colour: str
    marker: str
    line: str
    width: float

    def draw(self, axes: Axes, x: Any, y: Any, line: bool = False, hollow: bool = False,
             size: float = 5) -> None:  # fmt: skip
        """Draw marks, joined or not."""
        axes.plot(
            np.asarray(x), np.asarray(y), color=self.colour, marker=self.marker, markersize=size,
            linestyle=self.line if line else "", linewidth=self.width,
            markerfacecolor="white" if hollow else self.colour,
        )  # fmt: skip


def in_style() -> AbstractContextManager[None]:
    """Return a context in which figures are made and drawn as all are."""
    rules: dict[Any, Any] = {
        **{"axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True},
        **{"axes.grid": True, "grid.color": "0.9", "grid.linewidth": 0.8, "axes.titlesize": 10},
        **{"figure.dpi": 110, "figure.constrained_layout.use": True},
        **{"figure.titlesize": 13, "figure.titleweight": "bold"},
        **{"legend.frameon": False, "legend.fontsize": 8.5},
    }
    return rc_context(rules)


def label(text: object, limit: int = 40) -> str:
    """Return a text that matplotlib draws as it stands, in one line and without a leading `_`."""
    shown = single_line(text, limit).encode("latin-1", "backslashreplace").decode("latin-1")
    return re.sub(r"^_", " _", shown.replace("$", r"\$"))


def styles(frame: pd.DataFrame, operation: str) -> dict[str, Style]:
    """Return a look for each kernel of an operation: none shared, the same on every device."""
    rows = frame[frame["operation"] == operation]
    kernels, baselines = set(rows["kernel"]), set(rows["baseline"])
    looks = {name: Style("black", "o", "-", 2.2) for name in sorted(kernels & baselines)}
    for place, name in enumerate(sorted(kernels - baselines)):
        line = LINES[place // len(COLOURS) % len(LINES)]
        marker = _MARKERS[place % len(_MARKERS)]
        looks[name] = Style(COLOURS[place % len(COLOURS)], marker, line, 1.4)
    return looks


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


def make_panels(panels: Sequence[Panel], quantity: str) -> tuple[Figure, list[Axes]]:
    """Return an empty figure with log axes for each panel, in rows of three, or one row of four."""
    kernels = len({name for panel in panels for name in panel.rows["kernel"]})
    wide = 4 if len(panels) == 4 else min(3, len(panels))
    deep = -(-len(panels) // wide)
    size = (max(3.3 * wide + 2.1, 8.7), 1.5 + 3.5 * deep + 0.2 * (kernels // 6))
    figure = Figure(figsize=size)
    every = [figure.add_subplot(deep, wide, 1 + place) for place in range(len(panels))]
    for place, (axes, panel) in enumerate(zip(every, panels, strict=True)):
        axes.set_yscale("log")
        axes.tick_params(labelleft=place % wide == 0)
        axes.set_ylabel("" if place % wide else quantity)
        _label_panel(axes, panel)
    return figure, every


def _label_panel(axes: Axes, panel: Panel) -> None:
    axis, chosen = panel
    axes.set_xlabel(f"{_WORDS[axis]} (log)")
    axes.set_xscale("log")
    if chosen.empty:
        axes.set_title("no case")
        return
    held = [name for name in SIZES if name != axis]
    fixed = ", ".join(f"{_WORDS[name][-1]} = {chosen[name].iloc[0]:,}" for name in held)
    axes.set_title(f"against {_WORDS[axis][-1]}, at {fixed}")
    values = sorted(set(chosen[axis]))
    low, high = values[0], values[-1]
    room = (high / low) ** 0.08 if high > low else 2.0
    axes.set_autoscalex_on(False)  # matplotlib warns where it has to scale to a single size
    axes.set_xlim(low / room, high * room)
    log_axis(axes.xaxis, ticker.EngFormatter(sep=""), ticker.FixedLocator(_apart(values)))


def log_axis(
    axis: Axis, write: Callable[[float], str], locator: ticker.Locator | None = None
) -> None:
    """Make an axis logarithmic, with a text at each of its ticks and none between."""
    scale = axis.axes.set_xscale if axis is axis.axes.xaxis else axis.axes.set_yscale
    scale("log")
    axis.set_major_locator(locator or ticker.LogLocator(base=10, numticks=14))
    axis.set_minor_locator(ticker.NullLocator())
    axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: write(value)))


def subdivisions(span: float) -> ticker.LogLocator:
    """Return ticks at the multiples of powers of ten that mark an axis over such a span."""
    subs = (1,) if span > 50 else (1, 2, 5) if span > 5 else (1, 1.2, 1.5, 2, 3, 4, 5, 6, 8)
    return ticker.LogLocator(base=10, subs=subs, numticks=14)


def share_log_axis(
    every: Sequence[Axes], write: Callable[[float], str], base: float, top: float = 0.0
) -> None:
    """Give the panels one range with a unit at each tick, and room above for what failed.

    Ticks are powers of `base`; `top` is the part of the height that the marks of failures need.
    """
    used = [axes.get_ylim() for axes in every if axes.has_data()]
    low, high = min((y[0] for y in used), default=1.0), max((y[1] for y in used), default=10.0)
    # A narrow range would leave no tick to read a value from.
    low, high = (low, high) if high / low > base**2 else (low / base, high * base)
    # A scale without a value on it would only mislead.
    locator = ticker.LogLocator(base=base, numticks=14) if used else ticker.NullLocator()
    for axes in every:
        log_axis(axes.yaxis, write, locator)
        axes.set_ylim(low, high * (high / low) ** (top / (1 - top)))


def kernel_entries(rows: pd.DataFrame, looks: dict[str, Style], line: bool = True) -> list[Line2D]:
    """Return a legend entry for each kernel of the rows, the baseline first."""
    baselines, present = set(rows["baseline"]), set(rows["kernel"])
    return [
        entry(label(name, 30) + (" (torch.nn)" if name in baselines else ""), look.marker,
              look.line if line else "", look.colour)
        for name, look in looks.items()
        if name in present
    ]  # fmt: skip


def entry(
    text: str, marker: str = "", line: str = "", colour: str = GREY, hollow: bool = False
) -> Line2D:
    """Return one legend entry."""
    face = "white" if hollow else colour
    return Line2D([], [], color=colour, marker=marker, ls=line, markerfacecolor=face, label=text)


def add_legend(figure: Figure, entries: list[Line2D]) -> None:
    """Put the legend below the panels, so that it hides no data."""
    if not entries:
        return
    longest = max(len(str(one.get_label())) for one in entries)
    columns = int(13 * figure.get_figwidth() / (longest + 7))
    figure.legend(
        handles=entries,
        loc="outside lower center",
        ncols=int(np.clip(columns, 1, min(6, len(entries)))),
        borderaxespad=_FOOT * 72 / 8.5,
    )


def add_title_and_footer(figure: Figure, question: str, rows: pd.DataFrame, note: str = "") -> None:
    """Put the question on top, and below everything where the numbers come from."""
    figure.suptitle(question, fontsize=13, fontweight="bold", x=0.01, ha="left")
    foot = _FOOT / figure.get_figheight()
    figure.set_layout_engine("constrained", rect=(0, foot, 1, 1 - foot))
    if len(rows):
        first = rows.iloc[0]
        changed = " with uncommitted changes" if first["dirty"] else ""
        where = f"{label(first['machine'])}, commit {label(first['commit'][:10])}{changed}"
        text = f"{note}{where}, run {label(first['run'])}"
        figure.text(0.99, foot / 4, text, ha="right", fontsize=7.5, color=GREY)


def draw_file(make: Callable[[], Figure | None], path: Path) -> bool:
    """Draw a figure as PNG, the same bytes for the same figure; say whether there is one."""
    with in_style():
        figure = make()
        if figure is None:
            return False
        if layout := figure.get_layout_engine():
            layout.execute(figure)
            figure.set_layout_engine("none")  # with one it would be laid out twice
        figure.savefig(path, metadata={"Software": None})
    return True


def _apart(values: list[int]) -> list[int]:
    # Ticks that would overprint each other are left out, the ends never.
    if len(values) == 1:
        return values
    gap = max((values[-1] / values[0]) ** 0.09, 1.0001)
    kept = values[:1]
    for value in values[1:-1]:
        if value / kept[-1] > gap and values[-1] / value > gap:
            kept.append(value)
    return kept + values[-1:]
