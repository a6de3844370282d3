"""Cases -> what the kernels of a declared pair cost over one another. Needs no torch."""

import tomllib
from importlib.resources import files
from typing import NamedTuple

import numpy as np
import pandas as pd

from ..analysis.frame import CASE, axes_of, by_size, sizes_of
from ..report.subject import figure_name


class Pair(NamedTuple):
    """Two kernels of an operation; `pairs.toml` explains each field."""

    name: str
    operation: str
    kernel: str
    over: str
    axes: tuple[str, str]
    label: str
    question: str
    first: str
    second: str
    caption: str
    text: str

    @property
    def of_memory(self) -> str:
        """The short name of the figure of its operation's memory, which tells of it too."""
        return figure_name("memory", self.operation)


_TEXT = (files(__package__) / "pairs.toml").read_text(encoding="utf-8")
PAIRS = tuple(Pair(name, **fields) for name, fields in tomllib.loads(_TEXT).items())


def overhead(frame: pd.DataFrame, pair: Pair) -> pd.DataFrame:
    """Return what the first kernel of a pair costs over the second at each size that has both.

    `time_ratio` is the quotient of their paired speedups, its interval the low end of one against
    the high end of the other. A row that lacks a number has the status of the kernel without one.
    """
    values = ["speedup", "speedup_low", "speedup_high", "peak_bytes", "predicted_peak_bytes"]
    rows = frame[frame["operation"] == pair.operation].drop_duplicates([*CASE, "kernel"])
    sides = [
        rows.loc[rows["kernel"] == name, [*CASE, *values, "status"]]
        for name in (pair.kernel, pair.over)
    ]
    both = sides[0].merge(sides[1], on=CASE, suffixes=("_first", "_second"))
    both["time_ratio"] = both["speedup_second"] / both["speedup_first"]
    both["time_ratio_low"] = both["speedup_low_second"] / both["speedup_high_first"]
    both["time_ratio_high"] = both["speedup_high_second"] / both["speedup_low_first"]
    for name, source in (("memory_ratio", "peak"), ("predicted_memory_ratio", "predicted_peak")):
        below = both[f"{source}_bytes_second"]
        both[name] = both[f"{source}_bytes_first"] / below.where(below > 0)
    failed = both["status_first"] != "ok"
    both["status"] = both["status_first"].where(failed, both["status_second"])
    both["kernel"] = np.where(failed, pair.kernel, pair.over)
    return both.sort_values(CASE, ignore_index=True, key=by_size)


def on_map(rows: pd.DataFrame, pair: Pair) -> tuple[pd.DataFrame, dict[str, int]]:
    """Return the overhead of a slice over the pair's two axes, and the other sizes, which are held.

    These have the most pairs. Adds `across` and `up`, the sizes along both axes. Sizes that stand
    there but once are left out where the others then fill a grid.
    """
    sizes = sizes_of(rows)
    others = [axis for axis in axes_of(rows) if axis not in pair.axes]
    held = [tuple(map(int, one)) for one in sizes[others].to_numpy()]
    across, up = (sizes[axis] for axis in pair.axes)
    table = rows.assign(across=across, up=up, known=rows["time_ratio"].notna())
    counts = {
        one: (held.count(one), table.loc[[other == one for other in held], "known"].sum(), one)
        for one in set(held)
    }
    best = max(counts.values())[-1]
    chosen = table[[one == best for one in held]]
    often = [chosen.groupby(name)["case"].transform("size") > 1 for name in ("across", "up")]
    kept = chosen[often[0] & often[1]]
    wide, high = (kept[name].nunique() for name in ("across", "up"))
    full = min(wide, high) > 1 and wide * high == len(kept)
    return (kept if full else chosen), dict(zip(others, best, strict=True))
