"""Frame -> frame: with which power of each size a kernel's time and memory grow.

Every function is pure.

*The line.* For each kernel and axis, the sizes along it with the two others held fixed that have
the most points; among equals the largest ones, where the dispatch of a call weighs least.

*A point's time.* Cases are timed minutes apart and the machine drifts meanwhile; a speedup does not
drift. Each kernel of a size says what the baseline takes there, its median × its speedup, and each
says so from another moment. The median of these, each kernel's usual excess taken off, is the
baseline's time, and over a kernel's speedup it is the kernel's: one case that fell into a slow
minute moves it little. A kernel without a speedup is left with its own median.

*A point's noise* is the standard error of that median and of the speedup, from the scatter of the
kernels and the interval over passes, and never less than the spread of the passes.

From there on see `power`.
"""

import numpy as np
import pandas as pd

from ..common.units import UNKNOWN
from ..stats.power_law import FEWEST, SPAN, Array, Fit, settled, slope
from .frame import SIZES, SLICE
from .ranking import WITHIN

EXACT = 0.01  # bytes are counted, and then rounded up to whole blocks
_NORMAL = 1.96  # standard deviations on each side in a 95 % interval
LETTERS = {"batch": "m", "in_features": "n", "out_features": "o"}
_TIMED = ("time_s", "noise", "freedom")
_ENDS = ("exponent", "low", "high")
_FITTED = (*_ENDS, "first", "points")
_COLUMNS = (
    *(*SLICE, "axis", *SIZES, "kernel", "line_first", "line_last", "line_points"),
    *("time", *(f"time_{name}" for name in _FITTED), "time_formula"),
    *("memory", *(f"memory_{name}" for name in _FITTED), "memory_formula"),
)
_QUARTILES = 1.349  # standard deviations between the quartiles of normal values
_DEVIATIONS = 1.4826  # a standard deviation in median absolute deviations


def timed(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the measured cases with what is known of their times apart from drift.

    Columns: `time_s`, the time by the kernels' consensus; `noise`, the standard deviation of its
    logarithm; `freedom`, the degrees of freedom behind that. See the top of this file.
    """
    rows = frame[(frame["status"] == "ok") & frame["median_s"].notna()].copy()
    at = [rows[key] for key in (*SLICE, *SIZES)]
    paired = np.log(rows["median_s"]) + np.log(rows["speedup"])
    # What a kernel says of the baseline everywhere is its own; it may be missing at some sizes.
    habit = (paired - paired.groupby(at).transform("median")).groupby(
        [rows[key] for key in (*SLICE, "kernel")]
    )
    paired -= habit.transform("median")
    centre = paired.groupby(at).transform("median")
    count = paired.groupby(at).transform("count")
    scatter = (paired - centre).abs().groupby(at).transform("median") * _DEVIATIONS
    # What the medians of rows and columns took away of it.
    scatter *= np.sqrt(_freed(count) * _freed(habit.transform("count")))
    error = np.sqrt(np.pi / 2 / count.clip(lower=1)) * scatter
    together = np.sqrt(error**2 + _speedup_error(rows) ** 2)
    # One kernel alone says nothing about how far its moment was off.
    consensus = count.gt(1) & rows["speedup"].notna()
    spread, alone = _passes_spread(rows), rows["passes"].fillna(1) - 1
    rows["time_s"] = rows["median_s"].where(~consensus, np.exp(centre) / rows["speedup"])
    rows["noise"] = spread.where(~consensus, np.maximum(together, spread))
    rows["freedom"] = alone.where(~consensus, np.maximum(alone, count - 1)).astype(float)
    return rows


def scaling(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the exponents of time and memory of each kernel in m, n and o.

    One row per slice, axis and kernel that has a line of three points over a factor of four. `time`
    and `memory` say `settled`, `not settled` or, where there is nothing to fit, `unknown`. Beside
    them are the exponent, its 95 % interval, the first size of the tail and its number of points,
    and `formula`: the slope of `flops` or `predicted_peak_bytes` over the same points, or over the
    whole line where nothing has settled.
    """
    found = []
    for (*part, kernel), mine in timed(frame).groupby([*SLICE, "kernel"]):
        for axis in SIZES:
            line = _longest(mine, axis)
            if line is not None:
                held = {name: line[name].iloc[0] for name in SIZES if name != axis}
                key = dict(zip(SLICE, part, strict=True)) | {"axis": axis, **held}
                found.append(key | {"kernel": kernel} | _of_line(line, axis))
    table = pd.DataFrame(found, columns=list(_COLUMNS))
    for name in SIZES:
        table[name] = table[name].astype("Int64")
    axes = table["axis"].map({axis: place for place, axis in enumerate(SIZES)})
    return table.iloc[
        table.assign(axis=axes).sort_values([*SLICE, "axis", "kernel"], kind="stable").index
    ].reset_index(drop=True)


def display_scaling(table: pd.DataFrame) -> pd.DataFrame:
    """Return exponents as text: `1.02 (0.98–1.05) from 1,000`, beside the formulas' own."""
    return pd.DataFrame(
        {
            "kernel": table["kernel"],
            "along": _span(table),
            "at": format_held(table),
            "time grows as": _powers(table, "time", "line_first"),
            "operations": _plain_powers(table, "time_formula"),
            "memory grows as": _powers(table, "memory", "line_first"),
            "predicted": _plain_powers(table, "memory_formula"),
        },
        dtype=object,
    )


def format_held(table: pd.DataFrame) -> pd.Series:
    """Write the two sizes that each row holds fixed, the third being missing.

    >>> format_held(pd.DataFrame({"batch": [None], "in_features": [6], "out_features": [3]}))[0]
    'n = 6, o = 3'
    """
    rows = zip(*(table[name] for name in SIZES), strict=True)
    said = [
        ", ".join(
            f"{LETTERS[name]} = {int(value):,}"
            for name, value in zip(SIZES, row, strict=True)
            if not pd.isna(value)
        )
        for row in rows
    ]
    return pd.Series(said, index=table.index, dtype=object)


def _span(table: pd.DataFrame) -> pd.Series:
    ends = zip(table["axis"], table["line_first"], table["line_last"], strict=True)
    said = [f"{LETTERS[axis]}: {first:,.0f}–{last:,.0f}" for axis, first, last in ends]
    return pd.Series(said, index=table.index, dtype=object)


def _powers(table: pd.DataFrame, what: str, start: str) -> pd.Series:
    said = []
    for row in table.to_dict("records"):
        state = row[what]
        if state == "settled":
            exponent, low, high = (_power(row[f"{what}_{end}"]) for end in _ENDS)
            state = exponent if low == high else f"{exponent} ({low}–{high})"
            later = row[f"{what}_first"] > row[start]
            state += f" from {row[f'{what}_first']:,.0f}" if later else ""
        said.append(UNKNOWN if state == "unknown" else state)
    return pd.Series(said, index=table.index, dtype=object)


def _plain_powers(table: pd.DataFrame, name: str) -> pd.Series:
    said = [_power(value) for value in table[name]]
    return pd.Series(said, index=table.index, dtype=object)


def _power(exponent: float) -> str:
    # Not below zero by a rounding.
    return f"{round(exponent, 2) + 0.0:.2f}" if np.isfinite(exponent) else UNKNOWN


def _longest(rows: pd.DataFrame, axis: str) -> pd.DataFrame | None:
    others = [name for name in SIZES if name != axis]
    lines: dict[tuple[int, int], list[int]] = {}
    for *held, size in zip(*(rows[name] for name in [*others, axis]), strict=True):
        lines.setdefault((held[0], held[1]), []).append(size)
    sizes = {held: set(line) for held, line in lines.items()}
    long = {held: len(line) for held, line in sizes.items()
            if len(line) >= FEWEST and max(line) / min(line) >= SPAN}  # fmt: skip
    if not long:
        return None
    # Of the longest the one at the largest sizes.
    chosen = max(long, key=lambda held: (long[held], held))
    line = rows[(rows[others] == list(chosen)).all(axis=1)]
    return line.drop_duplicates(axis).sort_values(axis)


def _of_line(line: pd.DataFrame, axis: str) -> dict[str, object]:
    sizes = line[axis].to_numpy(dtype=float)
    time = settled(sizes, *(line[name].to_numpy(dtype=float) for name in _TIMED))
    held = line["peak_bytes"].to_numpy(dtype=float)
    known = bool((np.isfinite(held) & (held > 0)).all())
    memory = _memory(sizes, held) if known else None
    return {
        **{"line_first": sizes[0], "line_last": sizes[-1], "line_points": len(sizes)},
        **_described("time", time, sizes, line["flops"]),
        **_described("memory", memory, sizes, line["predicted_peak_bytes"]),
        **({} if known else {"memory": "unknown"}),
    }


def _memory(sizes: Array, held: Array) -> Fit | None:
    if held.max() <= held.min() * (1 + EXACT):  # counted, not timed: it does not grow
        return Fit(0.0, 0.0, 0.0, sizes[0], sizes[-1], len(sizes))
    known = np.full(len(sizes), EXACT / _NORMAL)
    return settled(sizes, held, known, np.full(len(sizes), np.inf))


def _described(what: str, fit: Fit | None, sizes: Array, said: pd.Series) -> dict[str, object]:
    tail = sizes >= (fit.first if fit else 0)
    found: dict[str, object] = {what: "settled" if fit else "not settled"}
    if fit:
        found |= {f"{what}_{name}": getattr(fit, name) for name in _FITTED}
    formula = slope(sizes[tail], said.to_numpy(dtype=float)[tail])
    return found | {f"{what}_formula": formula}


def _freed(count: pd.Series) -> pd.Series:
    return count / (count - 1).clip(lower=1)


def _speedup_error(rows: pd.DataFrame) -> pd.Series:
    # The baseline is its own pair; without an interval, ratios within 10 % may be equal.
    width = np.log(rows["speedup_high"]) - np.log(rows["speedup_low"])
    error: pd.Series = (width / 2).fillna(np.log(WITHIN)) / _NORMAL
    return error.where(rows["kernel"] != rows["baseline"], 0.0)


def _passes_spread(rows: pd.DataFrame) -> pd.Series:
    # The quartiles of few passes lie too near each other: not divided by the root of their number.
    spread: pd.Series = ((np.log(rows["q3_s"]) - np.log(rows["q1_s"])) / _QUARTILES).clip(lower=0)
    # The rounds of one process do not show how processes differ.
    single = rows["passes"].fillna(1) < 2
    return spread.where(~single, np.maximum(spread, np.log(WITHIN) / _NORMAL))
