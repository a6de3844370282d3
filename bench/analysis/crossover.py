"""Frame -> frame: the sizes at which one kernel overtakes another. Every function is pure."""

from itertools import combinations, pairwise
from typing import NamedTuple

import numpy as np
import pandas as pd

from ..common.units import digits
from .frame import AUTO, SIZES, SLICE
from .growth import LETTERS, format_held
from .ranking import with_intervals


class Lead(NamedTuple):
    """At one size, how far the first of two kernels is ahead of the second.

    `log` is the logarithm of their speedups' ratio; `fastest` says whether one of the two is the
    fastest of all kernels there.
    """

    size: int
    log: float
    fastest: bool


_COLUMNS = (*SLICE, "axis", *SIZES, "below", "above", "crossover", "after", "before")


def crossings(frame: pd.DataFrame) -> pd.DataFrame:
    """Return where the paired speedups of two kernels cross along m, n or o.

    One row per crossing: `below` is faster up to the measured size `after`, `above` from the
    measured size `before` on; `crossover` lies between them, on the straight line between both
    leads on log axes. At both ends the intervals of the two speedups are apart, see
    `with_intervals`; sizes at which they overlap may lie in between. Only crossings that involve
    the fastest kernel of at least one end. `auto` is none: it is one of the others.
    """
    known = (frame["status"] == "ok") & frame["speedup"].notna() & (frame["role"] != AUTO)
    rows = with_intervals(frame[known])
    rows["best"] = rows.groupby([*SLICE, *SIZES])["speedup"].transform("max")
    found = []
    for axis in SIZES:
        others = [name for name in SIZES if name != axis]
        for key, line in rows.groupby([*SLICE, *others]):
            shared = dict(zip([*SLICE, *others], key, strict=True)) | {"axis": axis}
            found += [shared | crossing for crossing in _along(line, axis)]
    table = pd.DataFrame(found, columns=list(_COLUMNS))
    for name in SIZES:
        table[name] = table[name].astype("Int64")
    return table


def display_crossings(table: pd.DataFrame) -> pd.DataFrame:
    """Return the crossings of a slice as text."""
    ends = zip(table["axis"], table["crossover"], table["after"], table["before"], strict=True)
    said = [
        f"{LETTERS[axis]} ≈ {digits(float(f'{size:.2g}')).removesuffix('.0')}"
        f" (between {after:,} and {before:,})"
        for axis, size, after, before in ends
    ]
    return pd.DataFrame(
        {
            "at": format_held(table),
            "faster below": table["below"],
            "faster above": table["above"],
            "crossover": pd.Series(said, index=table.index, dtype=object),
        },
        dtype=object,
    )


def _along(line: pd.DataFrame, axis: str) -> list[dict[str, object]]:
    best = line.groupby(axis)["best"].first()
    if len(best) < 2:
        return []
    sizes, first_of = best.index.to_numpy(), line.drop_duplicates(["kernel", axis])
    values = first_of.pivot(index=axis, columns="kernel", values=["speedup", "low", "high"])
    kernels = sorted(values["speedup"])
    known = {name: values.xs(name, axis=1, level=1).to_numpy(float).T for name in kernels}
    found: list[dict[str, object]] = []
    for first, second in combinations(kernels, 2):
        for one, other in pairwise(_leads(sizes, best.to_numpy(), known[first], known[second])):
            if one.log * other.log < 0 and (one.fastest or other.fastest):
                names = (first, second) if one.log > 0 else (second, first)
                found.append(
                    {
                        **{"below": names[0], "above": names[1]},
                        **{"crossover": _between(one, other)},
                        **{"after": one.size, "before": other.size},
                    }
                )
    return sorted(found, key=lambda row: (row["after"], row["crossover"], row["below"]))


def _leads(sizes: np.ndarray, best: np.ndarray, a: np.ndarray, b: np.ndarray) -> list[Lead]:
    """Return where two kernels are told apart, in the order of the sizes.

    Rows of `a` and `b` are speedup, low and high; NaN, where one was not measured, is not apart.
    """
    apart = (a[1] > b[2]) | (b[1] > a[2])
    log = np.log(a[0, apart] / b[0, apart])
    fastest = np.maximum(a[0, apart], b[0, apart]) == best[apart]
    return [Lead(*row) for row in zip(sizes[apart].tolist(), log.tolist(), fastest, strict=True)]


def _between(one: Lead, other: Lead) -> float:
    share = one.log / (one.log - other.log)
    return float(one.size ** (1 - share) * other.size**share)
