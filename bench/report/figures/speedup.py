"""How many times as fast as torch.nn the fastest kernel of each size is, and which it is."""

import numpy as np
import pandas as pd
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from ...analysis.frame import SIZES
from ...analysis.ranking import fastest
from ...common.units import digits
from .. import style
from . import View, figure

_MAX_NAME = 18  # characters of a kernel's name in a cell


def _best(rows: pd.DataFrame) -> pd.DataFrame:
    best = fastest(rows)
    return best[best["speedup"].gt(0)]


@figure("speedup", title="speedup over m, n and o", when=lambda rows: len(_best(rows)) > 1)
def draw(view: View) -> Figure:
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
