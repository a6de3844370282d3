"""The fastest kernel at each size, and the Jacobian's overhead over n and o."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from ...analysis import ranking
from ...common.units import digits, format_ratio
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
        table = cells.pivot(index="out_features", columns="in_features", values=["ratio", "said"])
        _draw_cells(axes, table.fillna({"said": "not planned"}))
        axes.set_title(f"{what}: {ranking.WITH_JACOBIAN} ÷ {ranking.WITHOUT_JACOBIAN}")
    others = len(every) - len(overhead)
    more = f"{others} more sizes in the tables; " if others else ""
    question = f"What does forming the Jacobian cost at m = {overhead['batch'].iloc[0]:,}?"
    note = f"{more}{style.HOT}; "
    style.finish(figure, f"{question} {view.name}", view.rows, note=note)
    return figure


def _draw_cells(axes: Axes, table: pd.DataFrame) -> None:
    """Draw each known `ratio` as a colour, with what is `said` in the cell; hatch the others."""
    ratios, texts = table["ratio"], table["said"].to_numpy()
    values = ratios.to_numpy(dtype=float)
    low, high = pd.Series(values.ravel()).agg(["min", "max"]).fillna(1)
    norm = LogNorm(low, max(high, low * 10))
    axes.grid(False)
    axes.patch.set(facecolor="0.96", edgecolor="0.8", hatch="///", linewidth=0)
    picture = axes.imshow(values, norm=norm, cmap="YlGnBu", aspect="auto", origin="lower")
    axes.set_xticks(range(ratios.shape[1]), [f"{size:,}" for size in ratios.columns])
    axes.set_yticks(range(ratios.shape[0]), [f"{size:,}" for size in ratios.index])
    axes.set(xlabel="in features n", ylabel="out features o")
    for (row, column), value in np.ndenumerate(values):
        luminance = np.dot(picture.cmap(norm(value))[:3], (0.3, 0.6, 0.1))
        colour = "white" if np.isfinite(value) and luminance < 0.5 else "black"
        said = str(texts[row, column])
        axes.text(column, row, said, color=colour, ha="center", va="center", fontsize=8)


@figure(
    "fastest",
    title="the fastest kernel at each size",
    when=lambda rows: len(ranking.fastest(rows)) > 0,
    slots=(Slot("fastest-gradient", 0, "gradient"), Slot("fastest-step", 0.5, "step")),
)
def draw_fastest(view: View) -> Figure:
    """Draw the winner at each batch size and shape, with its speedup; two where they tie."""
    best = ranking.fastest(view.rows)
    shapes = sorted(set(zip(best["in_features"], best["out_features"], strict=True)), key=np.prod)
    batches = sorted(set(best["batch"]))
    width = max(2.2 + 1.5 * len(batches), 7.5)
    figure = Figure(figsize=(width, 2.2 + 0.42 * len(shapes)))
    axes = figure.add_subplot()
    for row in best.to_dict("records"):
        x = batches.index(row["batch"])
        y = shapes.index((row["in_features"], row["out_features"]))
        colour = view.looks[row["kernel"]].colour
        axes.add_patch(Rectangle((x - 0.47, y - 0.45), 0.94, 0.9, color=colour, alpha=0.25, lw=0))
        tied = f" ≈ {style.label(row['ties'][0], 14)}" if row["ties"] else ""
        more = " …" if len(row["ties"]) > 1 else ""
        said = f"{style.label(row['kernel'], 18)}{tied}{more}\n{format_ratio(row['speedup'])}"
        axes.text(x, y, said, ha="center", va="center", fontsize=7)
    axes.grid(False)
    axes.set_xticks(range(len(batches)), [f"{size:,}" for size in batches])
    axes.set_yticks(range(len(shapes)), [f"{n:,} → {o:,}" for n, o in shapes])
    axes.set(xlim=(-0.6, len(batches) - 0.4), ylim=(-0.6, len(shapes) - 0.4))
    axes.set(xlabel="batch m", ylabel="in features n → out features o")
    entries = [Patch(color=view.looks[name].colour, alpha=0.4, label=style.label(name, 30))
               for name in view.looks if name in set(best["kernel"])]  # fmt: skip
    title = f"Which kernel is the fastest, and how many times as fast as torch.nn? {view.name}"
    style.finish(figure, title, view.rows, entries, note=f"{style.HOT}; ")
    return figure
