"""Runs of equal settings -> how far speedups move from run to run, and intervals that say so.

An interval of one run is over its processes. What another hour or day brings is a random effect:
ln(speedup) of a case in a run is off its mean by an error of variance σ², which the interval tells
(half-width ÷ 1.96), and by one of variance τ², which all cases of an operation share.
"""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from scipy.optimize import brentq

from .frame import may_win

Z = 1.96  # standard deviations from the centre of an interval to its ends
BETWEEN = ["between_sd", "between_runs", "between_hours"]
_CASE = ["device", "dtype", "threads", "case", "kernel"]


def between_runs(frame: pd.DataFrame) -> pd.DataFrame:
    """Return τ of each operation, `between_sd`, from how many runs it is, and over how many hours.

    Paule and Mandel's equation: τ² is where the sum of (x − mean)² ÷ (σ² + τ²) equals its degrees
    of freedom. Each kernel has such a sum, of which the middle one counts, the lower of two, so
    that a kernel whose code changed between the runs widens no interval. An operation of which no
    two kernels have a case in two runs, with an interval and without a warning, has no row.
    """
    known = (frame["speedup_low"] < frame["speedup_high"]) & (frame["kernel"] != frame["baseline"])
    rows = frame[known & may_win(frame)]
    found = []
    for names, some in rows.groupby(["machine", "operation"]):
        several = some[some.groupby(_CASE)["run"].transform("nunique") > 1]
        if several["kernel"].nunique() > 1:
            hours = np.ptp(several["datetime"].map(pd.Timestamp)) / pd.Timedelta(hours=1)
            found.append((*names, _between_sd(several), several["run"].nunique(), hours))
    table = pd.DataFrame(found, columns=["machine", "operation", *BETWEEN])
    return table.astype(dict.fromkeys(BETWEEN, float))


def _between_sd(rows: pd.DataFrame) -> float:
    cases, kernels = [rows[name] for name in _CASE], rows["kernel"]
    logs = rows["speedup"].map(np.log)
    variance = ((rows["speedup_high"] / rows["speedup_low"]).map(np.log) / 2 / Z) ** 2
    freedom = kernels.groupby(kernels).size() - rows.drop_duplicates(_CASE).groupby("kernel").size()

    def excess(tau_squared: float) -> float:
        weight = 1 / (variance + tau_squared)
        mean, total = ((weight * one).groupby(cases).transform("sum") for one in (logs, 1))
        squares = (weight * (logs - mean / total) ** 2).groupby(kernels).sum()
        return float((squares / freedom).quantile(0.5, interpolation="lower")) - 1

    return float(brentq(excess, 0.0, np.ptp(logs) ** 2)) ** 0.5 if excess(0.0) > 0 else 0.0


def widened(frame: pd.DataFrame, groups: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Return a frame whose intervals of speedups hold for other runs too, where runs tell how far.

    Each group is of runs of one grid under the settings of the frame's; of several the largest τ of
    an operation counts. Half-widths on the logarithm become √(h² + (1.96·τ)²). The columns
    `BETWEEN` say from what; where they are NaN an interval is as it was stored.
    """
    told = pd.concat([between_runs(frame.iloc[:0]), *map(between_runs, groups)])
    told = told.sort_values("between_sd").drop_duplicates(["machine", "operation"], keep="last")
    table = frame.merge(told, on=["machine", "operation"], how="left")
    reach = Z * table["between_sd"].fillna(0.0)
    for name in ("speedup", "speedup_cold"):
        for end, sign in (("low", -1), ("high", 1)):
            half = np.log(table[f"{name}_{end}"] / table[name])
            table[f"{name}_{end}"] = table[name] * np.exp(sign * np.hypot(half, reach))
    return table
