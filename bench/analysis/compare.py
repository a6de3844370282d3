"""Two runs of one machine -> how each case's speedup and memory changed. Needs no torch."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ..common.errors import UserError
from ..store.runs import single_line
from ..store.schema import Head, Run
from ..store.settings import flat
from .frame import SIZES
from .ranking import with_intervals

# What two runs may differ in and still be compared: what was to be measured, and how often.
IGNORED_SETTINGS = {"grid", "processes", "seed", "plan", "shard"}
FASTER, SLOWER = "faster", "slower"
UNCHANGED, NOT_COMPARED = "no significant change", "not compared"
# Why a case is not compared, where it is not by its status.
ONLY_ONE = ONLY_FIRST, ONLY_SECOND = "only in the first run", "only in the second run"
BASELINE, NO_RATIO = "baseline", "without a baseline"
_KEY = ["operation", "device", "dtype", "case", *SIZES, "kernel"]
_VALUES = ["baseline", "status", "speedup", "low", "high", "peak_bytes", "median_s"]


def require_same_settings(a: Run, b: Run) -> None:
    """Refuse two runs that differ in more than their code, packages and cases.

    Raises:
        UserError: They are of two machines, or a setting differs: its name, and both values.
    """
    if a.machine.slug != b.machine.slug:
        raise UserError(
            f"two runs are compared on one machine; these are of {single_line(a.machine.slug)} and "
            f"{single_line(b.machine.slug)}; `report` shows machines side by side"
        )
    if differ := differing_setting(a, b):
        raise UserError(
            "two runs are compared under the same settings; {} was {} and is {}; measure one of "
            "them anew".format(*differ)
        )


def differing_setting(a: Head, b: Head) -> tuple[str, str, str] | None:
    """Return the first setting that two runs differ in, and both values; None where none is."""
    ours, theirs = flat(a.settings), flat(b.settings)
    for name in sorted((ours.keys() & theirs.keys()) - IGNORED_SETTINGS):
        if ours[name] != theirs[name]:
            return single_line(name), single_line(ours[name]), single_line(theirs[name])
    return None


def compare_runs(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """Return each case of either run with the ratio of its speedups, b's over a's: above 1, faster.

    `verdict` is what came out, and `why` the reason where that is `NOT_COMPARED`.

    Both speedups are to the same baseline in the same process, so the ratio holds even where the
    machine was slower on one of the days. `low` and `high` are the ends of its 95 % interval: the
    half-widths of both, on the logarithm, added in squares. The baseline has no ratio, nor has any
    case that only one of the runs holds or could measure.
    """
    sides = [with_intervals(frame)[[*_KEY, *_VALUES]] for frame in (a, b)]
    table = sides[0].merge(sides[1], on=_KEY, how="outer", suffixes=("_a", "_b"))
    ends = ["speedup_a", "speedup_b", "low_a", "low_b", "high_a", "high_b"]
    logs = table[ends].astype(float).apply(np.log)
    centre = logs["speedup_b"] - logs["speedup_a"]
    reach = np.hypot(logs["high_a"] - logs["low_a"], logs["high_b"] - logs["low_b"]) / 2
    both = (table["status_a"] == "ok") & (table["status_b"] == "ok")
    timed = both & (table["kernel"] != table["baseline_a"]) & centre.notna()
    for name, value in (("ratio", centre), ("low", centre - reach), ("high", centre + reach)):
        table[name] = pd.Series(np.exp(value), table.index).where(timed)
    table["memory_ratio"] = (table["peak_bytes_b"] / table["peak_bytes_a"]).where(both)
    table["verdict"] = NOT_COMPARED
    table.loc[timed, "verdict"] = UNCHANGED
    table.loc[timed & (table["low"] > 1), "verdict"] = FASTER
    table.loc[timed & (table["high"] < 1), "verdict"] = SLOWER
    table["why"] = _why(table).where(table["verdict"] == NOT_COMPARED, "")
    return table.sort_values([*_KEY[:3], *SIZES, "kernel"], ignore_index=True)


def has_changed(table: pd.DataFrame) -> pd.Series:
    """Say of each compared case of both runs whether its speed, its memory or its status did."""
    speed = table["verdict"].isin([FASTER, SLOWER])
    memory = table["memory_ratio"].notna() & (table["memory_ratio"] != 1)
    status = (table["status_a"] != table["status_b"]) & ~table["why"].isin(ONLY_ONE)
    return speed | memory | status


def _why(table: pd.DataFrame) -> pd.Series:
    """Return why each case is not compared, if it is not."""
    a, b = table["status_a"], table["status_b"]
    why = pd.Series(NO_RATIO, table.index).mask(table["kernel"] == table["baseline_a"], BASELINE)
    why = why.mask(a != "ok", a).mask(a != b, a.astype(str) + " → " + b.astype(str))
    return why.mask(a.isna(), ONLY_SECOND).mask(b.isna(), ONLY_FIRST)
