"""Frame -> frame: how time and memory grow with a size, and where kernels cross. Pure functions.

An exponent is the slope of a least-squares line on log axes through the three largest sizes of the
longest line of cases, with its 95 % interval. Where the points do not lie on a line there is no
asymptotic regime yet: most of the time may still be the constant cost of a call.
"""

from collections.abc import Iterator
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import linregress
from scipy.stats import t as student

from .frame import FACET, FITTED, NO_REGIME, UNKNOWN, axes_of, longest_line, may_win, sizes_of
from .ranking import with_intervals

POINTS, MIN_SPAN = 3, 4.0  # of the fit: largest sizes, and the last of them over the first
MIN_R_SQUARED = 0.99
_BLOCK = 1.01  # bytes are counted, and then rounded up to whole blocks
_FITS = {"time": ("median_s", "flops"), "memory": ("peak_bytes", "predicted_peak_bytes")}


def growth_exponents(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the exponents of time and memory of each kernel along each axis of its operation.

    One row per slice, axis and kernel that has a line of three points over a factor of four. `time`
    and `memory` say `fitted`, `no asymptotic regime` or `unknown`; beside them are the exponent,
    its 95 % interval and `formula`, the slope of the kernel's own formula over the same points.
    `axes` are those of the operation, and `held` the sizes of the other ones.
    """
    rows = frame[(frame["status"] == "ok") & frame["median_s"].notna()].reset_index(drop=True)
    found = []
    for part, axis, some in _along_axes(rows):
        for kernel, line in longest_line(some, axis, ["kernel"]).groupby("kernel"):
            sizes = sizes_of(line).drop_duplicates(axis).sort_values(axis)[-POINTS:]
            along = sizes[axis].to_numpy(dtype=float)
            if len(along) == POINTS and along[-1] / along[0] >= MIN_SPAN:
                told = {**part, "kernel": kernel, "axis": axis, **_held(sizes, axis)}
                found.append(told | _exponents(line.loc[sizes.index], along))
    return pd.DataFrame(found)


def _along_axes(rows: pd.DataFrame) -> Iterator[tuple[dict[str, Any], str, pd.DataFrame]]:
    """Yield each slice with each axis of its operation."""
    parts = list(rows.groupby(FACET))
    for place in range(max((len(axes_of(some)) for _, some in parts), default=0)):
        for part, some in parts:
            for axis in axes_of(some)[place : place + 1]:
                yield dict(zip(FACET, part, strict=True)), axis, some


def _held(sizes: pd.DataFrame, axis: str) -> dict[str, Any]:
    held = {name: int(sizes[name].iloc[0]) for name in sizes if name != axis}
    return {"axes": ", ".join(map(str, sizes)), "held": held}


def _exponents(line: pd.DataFrame, sizes: np.ndarray) -> dict[str, Any]:
    found: dict[str, Any] = {"first": int(sizes[0]), "last": int(sizes[-1])}
    for what, (column, formula) in _FITS.items():
        state, slope, low, high = _fit(sizes, line[column].to_numpy(float))
        predicted = _fit(sizes, line[formula].to_numpy(float))[1]
        found |= {what: state, f"{what}_exponent": slope, f"{what}_formula": predicted}
        found |= {f"{what}_low": low, f"{what}_high": high}
    return found


def _fit(sizes: np.ndarray, values: np.ndarray) -> tuple[str, float, float, float]:
    nothing = (np.nan, np.nan, np.nan)
    if not (np.isfinite(values) & (values > 0)).all():
        return UNKNOWN, *nothing
    if values.max() <= values.min() * _BLOCK:  # a count that does not grow: no line to fit
        return FITTED, 0.0, 0.0, 0.0
    line = linregress(np.log(sizes), np.log(values))
    if line.rvalue**2 < MIN_R_SQUARED:
        return NO_REGIME, *nothing
    reach = float(student.ppf(0.975, len(sizes) - 2)) * line.stderr
    return FITTED, float(line.slope), float(line.slope - reach), float(line.slope + reach)


def crossovers(frame: pd.DataFrame) -> pd.DataFrame:
    """Return where the paired speedups of two kernels cross along an axis of their operation.

    One row per crossover: `faster_below` is faster up to the measured size `last_size`,
    `faster_above` from the measured size `first_size` on; `crossover` lies between them, on the
    straight line between both leads on log axes. At both ends the intervals of the speedups are
    apart, and at one of them one of the two is the fastest. `auto` is one of the others, and what
    has a warning is left out.
    """
    rows = frame[may_win(frame)].dropna(subset="speedup").reset_index(drop=True)
    rows = with_intervals(rows)
    found = []
    for part, axis, some in _along_axes(rows):
        sizes = sizes_of(some)
        for _, held in sizes.groupby([name for name in sizes if name != axis] or [0] * len(sizes)):
            told = {**part, "axis": axis, **_held(held, axis)}
            crossings = _along(some.loc[held.index].assign(along=held[axis]))
            found += [told | crossing for crossing in crossings]
    return pd.DataFrame(found)


def _along(line: pd.DataFrame) -> list[dict[str, Any]]:
    if line["along"].nunique() < 2:
        return []
    columns = ["speedup", "low", "high"]
    first_of = line.drop_duplicates(["kernel", "along"])
    values = first_of.pivot(index="along", columns="kernel", values=columns)
    kernels, sizes = list(values["speedup"]), values.index.tolist()
    known = [values[name].to_numpy(float).T for name in columns]
    best = np.nanmax(known[0], axis=0)
    found: list[dict[str, Any]] = []
    for pair in combinations(range(len(kernels)), 2):
        speedup, low, high = (each[list(pair)] for each in known)
        # NaN, where one was not measured, is not apart.
        apart = (low > high[::-1]).any(axis=0)
        lead = np.log(speedup[0] / speedup[1]).tolist()
        leading = speedup.max(axis=0) == best
        for one, other in pairwise(np.flatnonzero(apart)):
            if lead[one] * lead[other] < 0 and (leading[one] or leading[other]):
                below, above = pair if lead[one] > 0 else pair[::-1]
                share = lead[one] / (lead[one] - lead[other])
                found.append(
                    {"faster_below": kernels[below], "faster_above": kernels[above],
                     "crossover": float(sizes[one] ** (1 - share) * sizes[other] ** share),
                     "last_size": sizes[one], "first_size": sizes[other]}
                )  # fmt: skip
    return sorted(found, key=lambda row: (row["last_size"], row["crossover"], row["faster_below"]))
