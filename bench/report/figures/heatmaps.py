"""The Jacobian's overhead over n and o, and the speedup over torch.nn at each size."""

import numpy as np
import pandas as pd
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from ...analysis import ranking
from ...analysis.frame import WITH_JACOBIAN, WITHOUT_JACOBIAN
from ...common.units import digits
from .. import style
from . import Slot, View, figure


@figure(
    "jacobian",
    title="overhead of the Jacobian over n and o",
    when=lambda rows: bool(
        ((rows["operation"] == "gradient") & (rows["kernel"] == WITH_JACOBIAN)).any()
    ),
    slots=(Slot("jacobian", 1, "gradient"),),
    readme=True,
)
def draw_jacobian(view: View) -> Figure:
    """Draw the ratios at the batch size with the most pairs; a hatched cell says why."""
    every = ranking.jacobian_overhead(view.rows)
    overhead = ranking.overhead_at_one_batch(every)
    shape = overhead["out_features"].nunique(), overhead["in_features"].nunique()
    width, height = max(9.0, 3.4 + 1.5 * shape[1]), max(4.2, 2.2 + 0.5 * shape[0])
    figure = Figure(figsize=(min(width, 24), min(height, 16)))
    for axes, what in zip(figure.subplots(1, 2), ("time", "memory"), strict=True):
        _draw_ratios(axes, overhead, f"{what}_ratio")
        axes.set_title(f"{what}: {WITH_JACOBIAN} ÷ {WITHOUT_JACOBIAN}")
    batch = f", batch m = {overhead['batch'].iloc[0]:,}" if len(overhead) else ""
    others = len(every) - len(overhead)
    note = f"{others} more at other sizes (see the tables); " if others else ""
    where = f"({style.label(view.part.device)}, {style.label(view.part.dtype)}{batch})"
    question = f"What does forming the Jacobian cost? {where}"
    style.add_title_and_footer(figure, question, view.rows, note)
    return figure


def _draw_ratios(axes: Axes, overhead: pd.DataFrame, column: str) -> None:
    axes.set(xlabel="in features n", ylabel="out features o")
    if overhead.empty:
        axes.set(xticks=[], yticks=[])
        text = f"no case has both {WITH_JACOBIAN} and {WITHOUT_JACOBIAN}"
        axes.text(
            0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes, color=style.GREY
        )
        return
    failed = overhead["status"].map(style.label).where(overhead["status"] != "ok", "no number")
    ratios = overhead[column]
    said = ratios.map(lambda ratio: f"{digits(ratio)}×").where(ratios > 0, failed)
    cells = overhead.assign(ratio=ratios, said=said)
    values = cells.pivot(index="out_features", columns="in_features", values="ratio")
    texts = cells.pivot(index="out_features", columns="in_features", values="said")
    known = ratios[ratios > 0]
    low, high = (known.min(), known.max()) if len(known) else (1.0, 10.0)
    norm = LogNorm(low, max(high, low * 10))
    size = float(np.clip(60 / max(values.shape), 5, 10))
    texts = texts.fillna("not planned")
    _draw_cells(axes, values, texts, norm, "YlGnBu", size, "times as much")
    axes.set_yticks(range(len(values)), [f"{value:,}" for value in values.index])


_MAX_NAME = 18  # characters of a kernel's name in a cell


def _best(rows: pd.DataFrame) -> pd.DataFrame:
    best = ranking.fastest(rows)
    return best[best["speedup"].gt(0)]


@figure("speedup", title="speedup over m, n and o", when=lambda rows: len(_best(rows)) > 1)
def draw_speedup(view: View) -> Figure:
    """Draw a cell for each batch size and pair of n and o."""
    best = _best(view.rows)
    said = [
        f"{digits(speedup)}×\n{style.label(kernel, _MAX_NAME)}"
        for speedup, kernel in zip(best["speedup"], best["kernel"], strict=True)
    ]
    cells = best.assign(said=said, wide=best["in_features"] * best["out_features"])
    order = ["wide", "in_features", "out_features"]
    values = cells.pivot(index=order, columns="batch", values="speedup")
    texts = cells.pivot(index=order, columns="batch", values="said").fillna("")
    size = float(np.clip(3.2 + 1.25 * values.shape[1], 7, 24)), 2.1 + 0.52 * len(values)
    figure = Figure(figsize=size)
    axes = figure.add_subplot()
    reach = max(best["speedup"].max(), 1 / best["speedup"].min(), 2.0)
    norm = LogNorm(1 / reach, reach)
    _draw_cells(axes, values, texts, norm, "PuOr", 7.5, "speedup vs. torch.nn")
    axes.set_yticks(range(len(values)), [f"{n:,} → {o:,}" for _, n, o in values.index.to_list()])
    axes.set(xlabel="batch m", ylabel="features n → outputs o")
    question = f"How much is there to gain over torch.nn? {view.name}"
    style.add_title_and_footer(figure, question, view.rows)
    return figure


def _draw_cells(
    axes: Axes, table: pd.DataFrame, texts: pd.DataFrame, norm: LogNorm, cmap: str, size: float,
    unit: str,
) -> None:  # fmt: skip
    """Draw values above zero as colours, with a text in each cell; others are hatched."""
    axes.grid(False)
    axes.set_xticks(range(len(table.columns)), [f"{value:,}" for value in table.columns])
    values = table.where(table > 0).to_numpy(dtype=float)
    shown = np.ma.masked_invalid(values)
    picture = axes.imshow(shown, norm=norm, cmap=cmap, aspect="auto", origin="lower")
    for (row, column), value in np.ndenumerate(values):
        text, known = str(texts.iloc[row, column]), np.isfinite(value)
        dark = known and np.dot(picture.cmap(norm(value))[:3], (0.3, 0.6, 0.1)) < 0.5
        if not known and text:
            axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor="0.96",
                                     edgecolor="0.8", hatch="///", lw=0))  # fmt: skip
        axes.text(column, row, text, ha="center", va="center", fontsize=size,
                  color="white" if dark else "black" if known else "0.3")  # fmt: skip
    if shown.count():
        bar = axes.figure.colorbar(picture, ax=axes, label=unit, pad=0.02)
        bar.outline.set_visible(False)
        bar.ax.yaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}×"))
        bar.ax.yaxis.set_minor_locator(ticker.NullLocator())
