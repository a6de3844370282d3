"""The fastest kernel at each size."""

from collections import Counter

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from ...analysis import ranking
from ...analysis.frame import axes_of, sizes_of
from ...common.units import format_ratio
from ...store.columns import SIZES
from .. import style
from ..tables import format_held, format_shape
from . import View, figure

MOST_ROWS = 24  # of the map; beyond it is over two axes only


def map_sizes(sizes: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int]]:
    """Return the sizes that are on the map: the first axis across, and up all others together.

    Where that is too many rows the map is over the two axes with the most sizes; the others are
    held, at the sizes with the most cases, and returned.
    """
    if len(sizes.iloc[:, 1:].drop_duplicates()) <= MOST_ROWS:
        return sizes, {}
    varied = sorted(sizes, key=lambda axis: -sizes[axis].nunique())[:2]
    kept, others = [axis for axis in sizes if axis in varied], [*sizes.columns.drop(varied)]
    every = [tuple(map(int, one)) for one in sizes[others].to_numpy()]
    most = max(Counter(every).items(), key=lambda pair: pair[::-1])[0]
    chosen = sizes.loc[[one == most for one in every], kept]
    return chosen, dict(zip(others, most, strict=True))


@figure(
    "fastest",
    title="the fastest kernel at each size",
    when=lambda rows: len(ranking.fastest(rows)) > 0,
    rank=0,
)
def draw_fastest(view: View) -> Figure:
    """Draw the winner at each size of the first axis and the others, with its speedup.

    Two where they tie.
    """
    best = ranking.fastest(view.rows)
    sizes, held = map_sizes(sizes_of(best))
    across, *up = sizes.columns
    shapes = sorted({tuple(map(int, one)) for one in sizes[up].to_numpy()}, key=np.prod)
    columns = sorted(set(sizes[across]))
    width, height = max(2.2 + 1.5 * len(columns), 8.7), max(2.2 + 0.42 * len(shapes), 3.4)
    figure = Figure(figsize=(width, height))
    axes = figure.add_subplot()
    for row, size in zip(best.loc[sizes.index].to_dict("records"), sizes.to_numpy(), strict=True):
        x, y = columns.index(size[0]), shapes.index(tuple(map(int, size[1:])))
        colour = view.looks[row["kernel"]].colour
        axes.add_patch(Rectangle((x - 0.47, y - 0.45), 0.94, 0.9, color=colour, alpha=0.25, lw=0))
        tied = f" ≈ {style.label(row['ties'][0], 14)}" if row["ties"] else ""
        more = " …" if len(row["ties"]) > 1 else ""
        said = f"{style.label(row['kernel'], 18)}{tied}{more}\n{format_ratio(row['speedup'])}"
        axes.text(x, y, said, ha="center", va="center", fontsize=7)
    axes.grid(False)
    axes.set_xticks(range(len(columns)), [f"{size:,}" for size in columns])
    shown = shapes if up else []
    axes.set_yticks(range(len(shown)), [format_shape(shape, up) for shape in shown])
    axes.set(xlim=(-0.6, len(columns) - 0.4), ylim=(-0.6, len(shapes) - 0.4))
    between = " →\n" if tuple(up) == SIZES[1:] else " ×\n"
    labels = style.axis_labels(axes_of(best))
    axes.set(xlabel=labels[across], ylabel=between.join(labels[axis] for axis in up))
    entries = [Patch(color=view.looks[name].colour, alpha=0.4, label=style.label(name, 30))
               for name in view.looks if name in set(best["kernel"])]  # fmt: skip
    title = f"Which kernel is the fastest, and by how much? {view.name}"
    at = f"at {format_held(held, best['axes'].iloc[0])}; " if held else ""
    style.finish(
        figure, title, view.rows, entries, note=f"speedups vs. the baseline; {at}{style.HOT}; "
    )
    return figure
