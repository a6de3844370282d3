"""Frame -> frame: the sizes at which one kernel becomes faster than another. Pure functions."""

from itertools import combinations, pairwise
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from .frame import AUTO, FACET, SIZES
from .ranking import with_intervals


class Lead(NamedTuple):
    """At one size, how far the first of two kernels is ahead of the second.

    `log` is the logarithm of their speedups' ratio; `fastest` says whether one of the two is the
    fastest of all kernels there.
    """

    size: int
    log: float
    fastest: bool


_COLUMNS = (
    *(*FACET, "axis", *SIZES, "faster_below", "faster_above"),
    *("crossover", "last_size", "first_size"),
)


def crossovers(frame: pd.DataFrame) -> pd.DataFrame:
    """Return where the paired speedups of two kernels cross along m, n or o.

    One row per crossover: `faster_below` is faster up to the measured size `last_size`,
    `faster_above` from the measured size `first_size` on; `crossover` lies between them, on the
    straight line between both leads on log axes. At both ends the intervals of the two speedups
    are apart, see `with_intervals`; sizes at which they overlap may lie in between. Only crossovers
    that involve the fastest kernel of at least one end. `auto` has none: it is one of the others.
    """
    known = (frame["status"] == "ok") & frame["speedup"].notna() & (frame["role"] != AUTO)
    rows = with_intervals(frame[known])
    rows["best"] = rows.groupby([*FACET, *SIZES])["speedup"].transform("max")
    found = []
    for axis in SIZES:
        others = [name for name in SIZES if name != axis]
        for key, line in rows.groupby([*FACET, *others]):
            shared = dict(zip([*FACET, *others], key, strict=True)) | {"axis": axis}
            found += [shared | crossing for crossing in _along(line, axis)]
    table = pd.DataFrame(found, columns=list(_COLUMNS))
    return table.astype(dict.fromkeys(SIZES, "Int64"))


def _along(line: pd.DataFrame, axis: str) -> list[dict[str, Any]]:
    best = line.groupby(axis)["best"].first()
    if len(best) < 2:
        return []
    sizes, first_of = best.index.to_numpy(), line.drop_duplicates(["kernel", axis])
    values = first_of.pivot(index=axis, columns="kernel", values=["speedup", "low", "high"])
    kernels = sorted(values["speedup"])
    known = {name: values.xs(name, axis=1, level=1).to_numpy(float).T for name in kernels}
    found: list[dict[str, Any]] = []
    for first, second in combinations(kernels, 2):
        for one, other in pairwise(_leads(sizes, best.to_numpy(), known[first], known[second])):
            if one.log * other.log < 0 and (one.fastest or other.fastest):
                below, above = (first, second) if one.log > 0 else (second, first)
                share = one.log / (one.log - other.log)
                found.append(
                    {"faster_below": below, "faster_above": above,
                     "crossover": float(one.size ** (1 - share) * other.size**share),
                     "last_size": one.size, "first_size": other.size}
                )  # fmt: skip
    return sorted(found, key=lambda row: (row["last_size"], row["crossover"], row["faster_below"]))


def _leads(sizes: np.ndarray, best: np.ndarray, a: np.ndarray, b: np.ndarray) -> list[Lead]:
    """Return where the intervals of two kernels are apart, in the order of the sizes.

    Rows of `a` and `b` are speedup, low and high; NaN, where one was not measured, is not apart.
    """
    apart = (a[1] > b[2]) | (b[1] > a[2])
    log = np.log(a[0, apart] / b[0, apart])
    fastest = np.maximum(a[0, apart], b[0, apart]) == best[apart]
    return [Lead(*row) for row in zip(sizes[apart].tolist(), log.tolist(), fastest, strict=True)]
