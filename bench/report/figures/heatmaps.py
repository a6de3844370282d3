"""The Jacobian's overhead over n and o."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from ...analysis import ranking
from ...common.units import digits
from .. import style
from . import Slot, View, figure


@figure(
    "jacobian",
    title="overhead of the Jacobian over n and o",
    when=lambda rows: len(ranking.jacobian_overhead(rows)) > 0,
    slots=(Slot("jacobian", 1, "gradient"),),
    readme=True,
)
def draw_jacobian(view: View) -> Figure:
    """Draw the ratios at the batch size with the most pairs; a hatched cell says why."""
    every = ranking.jacobian_overhead(view.rows)
    overhead = ranking.overhead_at_one_batch(every)
    failed = overhead["status"].map(style.label).replace("ok", "no number")
    shape = overhead["out_features"].nunique(), overhead["in_features"].nunique()
    width, height = np.clip([3.4 + 1.5 * shape[1], 2.2 + 0.5 * shape[0]], [9, 4.2], [24, 16])
    figure = Figure(figsize=(width, height))
    for axes, what in zip(figure.subplots(1, 2), ("time", "memory"), strict=True):
        ratios = overhead[f"{what}_ratio"]
        said = ratios.map(lambda ratio: f"{digits(ratio)}×").where(ratios > 0, failed)
        cells = overhead.assign(ratio=ratios.where(ratios > 0), said=said)
        low, high = cells["ratio"].agg(["min", "max"]).fillna(1)
        axes.patch.set(facecolor="0.96", edgecolor="0.8", hatch="///", linewidth=0)
        table = cells.pivot(index="out_features", columns="in_features", values=["ratio", "said"])
        table = table.fillna({"said": "not planned"})
        _draw_cells(axes, table, LogNorm(low, max(high, low * 10)), "YlGnBu")
        axes.set_yticks(range(len(table)), [f"{value:,}" for value in table.index])
        axes.set(xlabel="in features n", ylabel="out features o")
        axes.set_title(f"{what}: {ranking.WITH_JACOBIAN} ÷ {ranking.WITHOUT_JACOBIAN}")
    others = len(every) - len(overhead)
    note = f"{others} more at other sizes (see the tables); " if others else ""
    question = f"What does forming the Jacobian cost at m = {overhead['batch'].iloc[0]:,}?"
    style.finish(figure, f"{question} {view.name}", view.rows, note=note)
    return figure


def _draw_cells(axes: Axes, table: pd.DataFrame, norm: LogNorm, cmap: str) -> None:
    """Draw each known `ratio` as a colour, with what is `said` in the cell."""
    axes.grid(False)
    values, texts = table["ratio"].to_numpy(dtype=float), table["said"].fillna("").to_numpy()
    columns = [f"{value:,}" for value in table["ratio"].columns]
    axes.set_xticks(range(len(columns)), columns)
    picture = axes.imshow(values, norm=norm, cmap=cmap, aspect="auto", origin="lower")
    for (row, column), value in np.ndenumerate(values):
        luminance = np.dot(picture.cmap(norm(value))[:3], (0.3, 0.6, 0.1))
        colour = "white" if np.isfinite(value) and luminance < 0.5 else "black"
        text = str(texts[row, column])
        axes.text(column, row, text, color=colour, ha="center", va="center", fontsize=8)
