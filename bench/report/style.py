"""What the figures share: looks, labels, axes, legends and footnotes.

Nothing here touches pyplot. Names out of a run file are text, never markup: see `label`.
"""

import re
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from textwrap import fill
from typing import Any, NamedTuple

import pandas as pd
from matplotlib import rc_context, ticker
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..analysis.frame import Facet, threads_of
from ..common.errors import single_line
from ..store.columns import LETTERS

# Okabe and Ito's colours, with a purple for the yellow, which is too bright for a line: told apart
# with any colour vision. Black is kept for the baseline.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#6600CC")
_LINES = ("-", "--", "-.", ":")
_MARKERS = ("s", "^", "D", "v", "P", "X", "h", "<", ">", "p", "*")
FAILED = {
    "infeasible": ("x", "infeasible"),
    "oom": ("1", "out of memory"),
    "timeout": ("2", "out of time"),
    "crashed": ("3", "crashed"),
    "wrong": ("4", "wrong result"),
    "unsupported": ("+", "unsupported"),
}
GREY = "0.45"
HOT = "inputs in cache where they fit"
# Inches at the foot of a figure, for where its numbers come from.
_FOOT = 0.24
_LETTERS_AN_INCH = 8.8  # of a title


class Style(NamedTuple):
    """How one kernel is drawn in every figure of a run."""

    colour: str
    marker: str
    line: str
    width: float

    def draw(self, axes: Axes, x: Any, y: Any, line: bool = False, hollow: bool = False) -> None:
        """Draw marks, joined or not."""
        axes.plot(
            x, y, color=self.colour, marker=self.marker, markersize=5, linewidth=self.width,
            linestyle=self.line if line else "", markerfacecolor="white" if hollow else self.colour,
        )  # fmt: skip


def in_style() -> AbstractContextManager[None]:
    """Return a context in which figures are made and drawn as all are."""
    return rc_context(fname=Path(__file__).with_name("figures.mplstyle"))


def label(text: object, limit: int = 40) -> str:
    """Return a text that matplotlib draws as it stands, in one line and without a leading `_`."""
    shown = single_line(text, limit).encode("latin-1", "backslashreplace").decode("latin-1")
    return re.sub(r"^_", " _", shown.replace("$", r"\$"))


def axis_labels(axes: Sequence[str]) -> dict[str, str]:
    """Name the axes of an operation beside the axes of figures: `in features n`."""
    words = {axis: axis.replace("_", " ") for axis in axes}
    if list(axes) == [*LETTERS]:
        words = {axis: f"{words[axis]} {letter}" for axis, letter in LETTERS.items()}
    return {axis: label(text) for axis, text in words.items()}


def name_of_slice(part: Facet) -> str:
    """Return a slice in words, for a title."""
    return f"{label(part.operation)} ({label(part.device)}, {label(part.dtype)})"


def styles(frame: pd.DataFrame, operation: str) -> dict[str, Style]:
    """Return a look for each kernel of an operation: none shared, the same on every device."""
    rows = frame[frame["operation"] == operation]
    kernels, baselines = set(rows["kernel"]), set(rows["baseline"])
    looks = {name: Style("black", "o", "-", 2.2) for name in sorted(kernels & baselines)}
    for place, name in enumerate(sorted(kernels - baselines)):
        line = _LINES[place // len(COLOURS) % len(_LINES)]
        marker = _MARKERS[place % len(_MARKERS)]
        looks[name] = Style(COLOURS[place % len(COLOURS)], marker, line, 1.4)
    return looks


def set_log_ticks(
    axis: Axis, write: Callable[[float], str], locator: ticker.Locator | None = None
) -> None:
    """Put a text at each tick of a logarithmic axis, and no tick between."""
    axis.set_major_locator(locator or ticker.LogLocator(base=10, numticks=14))
    axis.set_minor_locator(ticker.NullLocator())
    axis.set_major_formatter(lambda value, _: write(value))


def subdivisions(span: float) -> ticker.LogLocator:
    """Return ticks at the multiples of powers of ten that mark an axis over such a span."""
    subs = (1,) if span > 200 else (1, 2, 5) if span > 5 else (1, 1.2, 1.5, 2, 3, 4, 5, 6, 8)
    return ticker.LogLocator(base=10, subs=subs, numticks=14)


def kernel_entries(rows: pd.DataFrame, looks: dict[str, Style], line: bool = True) -> list[Line2D]:
    """Return a legend entry for each kernel of the rows, the baseline first."""
    baselines, present = set(rows["baseline"]), set(rows["kernel"])
    return [
        entry(label(name, 30) + (" (baseline)" if name in baselines else ""), look.marker,
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


def finish(
    figure: Figure, title: str, rows: pd.DataFrame, entries: Sequence[Any] = (), note: str = ""
) -> None:
    """Put a title on top, the legend below the panels, last where the numbers come from."""
    figure.suptitle(fill(title, int(_LETTERS_AN_INCH * figure.get_figwidth())), x=0.01, ha="left")
    foot = _FOOT / figure.get_figheight()
    figure.set_layout_engine("constrained", rect=(0, foot, 1, 1 - foot))
    if entries:
        longest = max(len(str(one.get_label())) for one in entries)
        columns = min(int(13 * figure.get_figwidth() / (longest + 7)), 6, len(entries))
        figure.legend(
            handles=list(entries),
            loc="outside lower center",  # it hides no data
            ncols=max(columns, 1),
            borderaxespad=_FOOT * 72 / 8.5,
        )
    text = f"{note}{label(source_of(rows), 160)}"
    figure.text(0.99, foot / 4, text, ha="right", fontsize=7.5, color=GREY)


def source_of(rows: pd.DataFrame) -> str:
    """Say where results of one run come from, and of how many threads they are if that is known."""
    first = rows.iloc[0]
    changed = " with uncommitted changes" if first["dirty"] else ""
    threads = f", {threads_of(rows)}" if "threads" in rows else ""
    where = f"{first['machine']}, commit {first['commit'][:10]}{changed}"
    return f"{where}, run {first['run']}{threads}"


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
