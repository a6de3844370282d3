"""What the figures share: looks, labels, axes, legends and footnotes.

Nothing here touches pyplot or any other global state of matplotlib. Names out of a run file are
text, never markup: see `label`.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from ..analysis.frame import SIZES
from ..store.runs import plain

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


def label(text: object, limit: int = 40) -> str:
    """Return a text that matplotlib draws as it stands, in one line and without a leading `_`."""
    shown = plain(text, limit).encode("latin-1", "backslashreplace").decode("latin-1")
    return re.sub(r"^_", " _", shown.replace("$", r"\$"))


def styles(frame: pd.DataFrame, stage: str) -> dict[str, Style]:
    """Return a look for each kernel of a stage: none shared, the same on every device."""
    rows = frame[frame["stage"] == stage]
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

    The first are for m, n and o, each at the two other sizes that have the most points along it;
    an axis with a single point is left out where another has more. A further panel, for the same
    axis, holds the sizes with the most failed cases not yet shown.
    """
    panels = [Panel(axis, _best(rows, axis, ["points", "ok"])) for axis in SIZES]
    telling = [panel for panel in panels if panel.rows[panel.axis].nunique() > 1]
    panels = telling or panels[:1]
    for axis in SIZES:
        shown = pd.concat([panel.rows for panel in panels]).index
        hidden = rows["status"].ne("ok") & ~rows.index.isin(shown)
        further = _best(rows.assign(hidden=hidden), axis, ["hidden", "points", "ok"])
        if hidden[further.index].any() and further[axis].nunique() > 1:
            panels.append(Panel(axis, further[list(rows.columns)]))
    return panels


def _best(rows: pd.DataFrame, axis: str, order: list[str]) -> pd.DataFrame:
    # The rows at those two other sizes that come last in the order; among equals the largest.
    held = [name for name in SIZES if name != axis]
    hidden = rows["hidden"] if "hidden" in order else [False] * len(rows)
    groups: dict[tuple[int, int], list[tuple[int, bool, bool]]] = {}
    for first, second, *row in zip(*(rows[name] for name in [*held, axis]),
                                   rows["status"] == "ok", hidden, strict=True):  # fmt: skip
        groups.setdefault((first, second), []).append(tuple(row))
    counts = {
        sizes: {"points": len({size for size, _, _ in some}), "ok": sum(ok for _, ok, _ in some),
                "hidden": sum(unseen for _, _, unseen in some)}
        for sizes, some in groups.items()
    }  # fmt: skip
    if "hidden" in order:  # a further panel is worth its room only with something to compare
        counts = {sizes: count for sizes, count in counts.items() if count["points"] > 1}
    if not counts:
        return rows.iloc[:0]
    best = max(counts, key=lambda sizes: (*(counts[sizes][name] for name in order), *sizes))
    chosen: pd.DataFrame = rows[(rows[held] == list(best)).all(axis=1)]
    return chosen


def lay_out(panels: Sequence[Panel], quantity: str) -> tuple[Figure, list[Axes]]:
    """Return an empty figure with log axes for each panel, in rows of three, or one row of four."""
    kernels = len({name for panel in panels for name in panel.rows["kernel"]})
    wide = 4 if len(panels) == 4 else min(3, len(panels))
    deep = -(-len(panels) // wide)
    size = (max(3.3 * wide + 2.1, 8.7), 1.5 + 3.5 * deep + 0.2 * (kernels // 6))
    figure = Figure(figsize=size, layout="constrained", dpi=110)
    every = [figure.add_subplot(deep, wide, 1 + place) for place in range(len(panels))]
    for place, axes in enumerate(every):
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.grid(True, which="major", color="0.9", linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_axisbelow(True)
        first = place % wide == 0
        axes.tick_params(labelleft=first)
        axes.set_ylabel(quantity if first else "")
    return figure, every


def finish_panel(axes: Axes, panel: Panel) -> None:
    """Label a panel: which sizes it holds fixed, and the sizes of the cases as ticks."""
    axis, chosen = panel
    held = [name for name in SIZES if name != axis]
    axes.set_xlabel(f"{_WORDS[axis]} (log)")
    if chosen.empty:
        axes.set_title("no case", fontsize=10)
        return
    fixed = ", ".join(f"{_WORDS[name][-1]} = {chosen[name].iloc[0]:,}" for name in held)
    axes.set_title(f"against {_WORDS[axis][-1]}, at {fixed}", fontsize=10)
    values = sorted(set(chosen[axis]))
    low, high = values[0], values[-1]
    room = (high / low) ** 0.08 if high > low else 2.0
    axes.set_autoscalex_on(False)  # matplotlib warns where it has to scale to a single size
    axes.set_xlim(low / room, high * room)
    axes.xaxis.set_major_locator(FixedLocator(_apart(values)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
    if low == high:
        axes.text(
            *(0.5, 0.02, f"only one {_WORDS[axis][-1]} at these sizes"),
            transform=axes.transAxes,
            ha="center",
            fontsize=8,
            color=GREY,
        )


def share_y(
    every: Sequence[Axes], write: Callable[[float], str], base: float, top: float = 0.0
) -> None:
    """Give the panels one range with a unit at each tick, and room above for what failed.

    Ticks are powers of `base`; `top` is the part of the height that the marks of failures need.
    """
    used = [axes.get_ylim() for axes in every if axes.has_data()]
    low, high = min((y[0] for y in used), default=1.0), max((y[1] for y in used), default=10.0)
    # A narrow range would leave no tick to read a value from.
    low, high = (low, high) if high / low > base**2 else (low / base, high * base)
    for axes in every:
        axes.set_ylim(low, high * (high / low) ** (top / (1 - top)))
        axes.yaxis.set_minor_locator(NullLocator())
        if not used:  # a scale without a value on it would only mislead
            axes.yaxis.set_major_locator(NullLocator())
            continue
        axes.yaxis.set_major_locator(LogLocator(base=base, numticks=14))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: write(value)))


def kernel_entries(rows: pd.DataFrame, looks: dict[str, Style]) -> list[Line2D]:
    """Return a legend entry for each kernel of the rows, the baseline first."""
    entries = []
    baselines = set(rows["baseline"])
    present = set(rows["kernel"])
    for name, look in looks.items():
        if name in present:
            text = label(name, 30) + (" (torch.nn)" if name in baselines else "")
            entries.append(entry(text, look.marker, look.line, look.colour))
    return entries


def failure_entries(statuses: Iterable[str]) -> list[Line2D]:
    """Return a legend entry for each way in which a case failed."""
    present = set(statuses)
    return [
        entry(f"{words} (at the top)", marker, colour=GREY)
        for status, (marker, words) in FAILED.items()
        if status in present
    ]


def entry(
    text: str, marker: str = "", line: str = "", colour: str = GREY, hollow: bool = False
) -> Line2D:
    """Return one legend entry."""
    face = "white" if hollow else colour
    return Line2D([], [], color=colour, marker=marker, ls=line, markerfacecolor=face, label=text)


def put_legend(figure: Figure, entries: list[Line2D]) -> None:
    """Put the legend below the panels, so that it hides no data."""
    if not entries:
        return
    longest = max(len(str(one.get_label())) for one in entries)
    columns = int(13 * figure.get_figwidth() / (longest + 7))
    figure.legend(
        handles=entries,
        loc="outside lower center",
        ncols=int(np.clip(columns, 1, min(6, len(entries)))),
        fontsize=8.5,
        frameon=False,
        borderaxespad=_FOOT * 72 / 8.5,
    )


def put_frame(figure: Figure, question: str, rows: pd.DataFrame, note: str = "") -> None:
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


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, the same bytes for the same figure."""
    layout = figure.get_layout_engine()
    if layout is not None:
        layout.execute(figure)
        figure.set_layout_engine(None)  # with one it would be drawn twice
    figure.savefig(path, metadata={"Software": None})


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


def _short(value: float) -> str:
    for unit, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= 10 * scale or (value >= scale and np.isclose(value % scale, 0)):
            return f"{value / scale:.3g}{unit}"
    return f"{value:.0f}"
