"""The Jacobian's overhead over n and o, and the speedup over torch.nn at each size."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from ...analysis import ranking
from ...analysis.frame import SIZES
from ...common.units import digits
from .. import style
from . import Slot, View, figure


@figure(
    "jacobian",
    title="overhead of the Jacobian over n and o",
    when=lambda rows: bool(
        ((rows["operation"] == "gradient") & (rows["kernel"] == ranking.WITH_JACOBIAN)).any()
    ),
    where={"html", "markdown", "readme"},
    slots=(Slot("jacobian", 1, "gradient"),),
)
def draw_jacobian(view: View) -> Figure:
    """Draw the ratios at the batch size with the most pairs; a hatched cell says why."""
    every = ranking.jacobian_overhead(view.rows)
    overhead = ranking.overhead_at_one_batch(every)
    shape = overhead["out_features"].nunique(), overhead["in_features"].nunique()
    width, height = max(9.0, 3.4 + 1.5 * shape[1]), max(4.2, 2.2 + 0.5 * shape[0])
    figure = Figure(figsize=(min(width, 24), min(height, 16)))
    for place, what in enumerate(("time", "memory"), 1):
        axes = figure.add_subplot(1, 2, place)
        _draw_ratios(axes, overhead, f"{what}_ratio")
        axes.set_title(f"{what}: {ranking.WITH_JACOBIAN} ÷ {ranking.WITHOUT_JACOBIAN}")
    batch = f", batch m = {overhead['batch'].iloc[0]:,}" if len(overhead) else ""
    others = len(every) - len(overhead)
    note = f"{others} more at other sizes (see the tables); " if others else ""
    where = f"({style.label(view.part.device)}, {style.label(view.part.dtype)}{batch})"
    question = f"What does forming the Jacobian cost? {where}"
    style.add_title_and_footer(figure, question, view.rows, note)
    return figure


def _draw_ratios(axes: Axes, overhead: pd.DataFrame, column: str) -> None:
    axes.set(xlabel="in features n", ylabel="out features o")
    across, up = (sorted(set(overhead[name])) for name in ("in_features", "out_features"))
    if not across:
        axes.set(xticks=[], yticks=[])
        text = f"no case has both {ranking.WITH_JACOBIAN} and {ranking.WITHOUT_JACOBIAN}"
        axes.text(
            0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes, color=style.GREY
        )
        return
    values = np.full((len(up), len(across)), np.nan)
    texts = [["not planned"] * len(across) for _ in up]
    names = ["in_features", "out_features", column, "status"]
    for n, o, ratio, status in overhead[names].itertuples(index=False):
        row, place = up.index(o), across.index(n)
        values[row, place] = ratio
        failed = style.label(status) if status != "ok" else "no number"
        texts[row][place] = f"{digits(ratio)}×" if ratio > 0 else failed
    known = values[values > 0]
    low, high = (known.min(), known.max()) if known.size else (1.0, 10.0)
    size = float(np.clip(60 / max(values.shape), 5, 10))
    norm = LogNorm(low, max(high, low * 10))
    style.draw_heatmap(axes, values, texts, norm, "YlGnBu", size, "times as much")
    axes.set_xticks(range(len(across)), [f"{value:,}" for value in across])
    axes.set_yticks(range(len(up)), [f"{value:,}" for value in up])


_MAX_NAME = 18  # characters of a kernel's name in a cell


def _best(rows: pd.DataFrame) -> pd.DataFrame:
    best = ranking.fastest(rows)
    return best[best["speedup"].gt(0)]


@figure("speedup", title="speedup over m, n and o", when=lambda rows: len(_best(rows)) > 1)
def draw_speedup(view: View) -> Figure:
    """Draw a cell for each batch size and pair of n and o."""
    best = _best(view.rows)
    batches = sorted(set(best["batch"]))
    wides = sorted({*zip(best["in_features"], best["out_features"], strict=True)},
                   key=lambda pair: (pair[0] * pair[1], pair))  # fmt: skip
    size = float(np.clip(3.2 + 1.25 * len(batches), 7, 24)), 2.1 + 0.52 * len(wides)
    figure = Figure(figsize=size)
    axes = figure.add_subplot()
    values = np.full((len(wides), len(batches)), np.nan)
    texts = [[""] * len(batches) for _ in wides]
    for m, n, o, kernel, speedup in best[[*SIZES, "kernel", "speedup"]].itertuples(index=False):
        row, column = wides.index((n, o)), batches.index(m)
        values[row, column] = speedup
        texts[row][column] = f"{digits(speedup)}×\n{style.label(kernel, _MAX_NAME)}"
    reach = max(best["speedup"].max(), 1 / best["speedup"].min(), 2.0)
    norm = LogNorm(1 / reach, reach)
    style.draw_heatmap(axes, values, texts, norm, "PuOr", 7.5, "speedup vs. torch.nn")
    axes.set_xticks(range(len(batches)), [f"{m:,}" for m in batches])
    axes.set_yticks(range(len(wides)), [f"{n:,} → {o:,}" for n, o in wides])
    axes.set(xlabel="batch m", ylabel="features n → outputs o")
    question = f"How much is there to gain over torch.nn? {view.name}"
    style.add_title_and_footer(figure, question, view.rows)
    return figure
