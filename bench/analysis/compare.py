"""Runs of one machine -> how each case, or each kernel from run to run, changed. Needs no torch.

Runs that differ in more than code, packages and commit are never joined.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from ..common.errors import UserError, single_line
from ..common.units import NOT_DECLARED
from ..store.runs import by_time
from ..store.schema import Head, Run, flatten_settings
from .between import Z, between_runs
from .frame import FACET, SIZE, by_size, may_win
from .ranking import with_intervals

# What two runs may differ in and still be compared: what was to be measured, and how often. Threads
# are of each case.
IGNORED_SETTINGS = {"grid", "processes", "threads", "omp_num_threads"}
MIN_MEMORY_CHANGE = 0.005  # a smaller one is for the gate to judge
FASTER, SLOWER = "faster", "slower"
UNCHANGED, NOT_COMPARED = "no significant change", "not compared"
# Why a case is not compared, where it is not by its status.
ONLY_ONE = ONLY_FIRST, ONLY_SECOND = "only in the first run", "only in the second run"
BASELINE, NO_RATIO = "baseline", "without a baseline"
_PART = FACET[2:]  # of a run
_KEY = [*_PART, *SIZE, "kernel"]
_VALUES = ["baseline", "status", "speedup", "low", "high", "peak_bytes"]


def _shared_settings(head: Head) -> dict[str, str]:
    """Return the settings that comparable runs share."""
    settings = flatten_settings(head.settings)
    return {name: text for name, text in settings.items() if name not in IGNORED_SETTINGS}


def kind_of(head: Head) -> str:
    """Return what runs must share to be comparable: the machine, and all settings that matter."""
    return json.dumps([head.machine.slug, _shared_settings(head)])


def require_same_settings(runs: Mapping[Path, Run]) -> None:
    """Refuse runs of one machine that differ in more than their code, packages and cases.

    A setting that one of them does not say, as it is older, keeps no two apart here.
    """
    for path, run in runs.items():
        earlier = next(one for one in runs if runs[one].machine.slug == run.machine.slug)
        ours, theirs = _shared_settings(runs[earlier]), _shared_settings(run)
        for name in ours:
            if ours[name] != theirs.get(name, ours[name]):
                raise UserError(
                    "runs of one machine are shown together where their settings are the same; "
                    f"{single_line(name)} is {single_line(ours[name])} in "
                    f"{single_line(earlier.name)} and {single_line(theirs[name])} in "
                    f"{single_line(path.name)}; name one of them, or measure one anew"
                )


def compare_runs(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """Return each case of either run with the ratio of its speedups, b's over a's: above 1, faster.

    `verdict` is what came out, and `why` the reason where that is `NOT_COMPARED`. Both speedups are
    to the baseline in the same process, so a slower day changes nothing. `low` and `high` are the
    ends of the 95 % interval: the half-widths of both, on the logarithm, added in squares.
    """
    sides = [with_intervals(frame)[[*_KEY, *_VALUES]] for frame in (a, b)]
    table = sides[0].merge(sides[1], on=_KEY, how="outer", suffixes=("_a", "_b"))
    ends = ["speedup_a", "speedup_b", "low_a", "low_b", "high_a", "high_b"]
    logs = table[ends].astype(float).apply(np.log)
    centre = logs["speedup_b"] - logs["speedup_a"]
    reach = np.hypot(logs["high_a"] - logs["low_a"], logs["high_b"] - logs["low_b"]) / 2
    both = (table["status_a"] == "ok") & (table["status_b"] == "ok")
    is_baseline = table["kernel"] == table["baseline_a"]
    timed = both & ~is_baseline & centre.notna()
    for name, value in (("ratio", centre), ("low", centre - reach), ("high", centre + reach)):
        table[name] = np.exp(value).where(timed)
    table["memory_ratio"] = (table["peak_bytes_b"] / table["peak_bytes_a"]).where(both)
    table["verdict"] = np.select(
        [~timed, table["low"] > 1, table["high"] < 1], [NOT_COMPARED, FASTER, SLOWER], UNCHANGED
    )
    was, now = table["status_a"], table["status_b"]
    table["why"] = np.select(
        [timed, now.isna(), was.isna(), was != now, was != "ok", is_baseline],
        ["", ONLY_FIRST, ONLY_SECOND, was + " → " + now, was, BASELINE],
        NO_RATIO,
    )
    return table.sort_values([*_PART, "case", "kernel"], ignore_index=True, key=by_size)


def has_changed(table: pd.DataFrame) -> pd.Series:
    """Say of each compared case of both runs whether its speed, its memory or its status did."""
    speed = table["verdict"].isin([FASTER, SLOWER])
    memory = (table["memory_ratio"] - 1).abs() >= MIN_MEMORY_CHANGE
    status = (table["status_a"] != table["status_b"]) & ~table["why"].isin(ONLY_ONE)
    return speed | memory | status


_KEYS = [*_PART, "bound", "kernel"]
NO_BOUND = NOT_DECLARED  # in a history: of cases whose costs nobody declared
MAX_RUNS = 12  # of a history: the newest


class History(NamedTuple):
    """Runs of a machine under the same settings, from the oldest to the newest."""

    machine: str  # its slug
    grid: str  # that of the runs
    frame: pd.DataFrame  # their cases
    runs: Sequence[str]  # their names, in order
    points: pd.DataFrame  # the speedup of each kernel in each run, see `history_of`


def comparable_runs(heads: Mapping[Path, Head]) -> list[list[Path]]:
    """Return the runs of each machine, grid and way of measuring that has two at least.

    From the oldest to the newest, at most a dozen.
    """
    found: dict[tuple[str, str], list[Path]] = {}
    for path in by_time(heads):
        grid = str(heads[path].settings.get("grid"))
        found.setdefault((kind_of(heads[path]), grid), []).append(path)
    return [runs[-MAX_RUNS:] for _, runs in sorted(found.items()) if len(runs) > 1]


def history_of(frame: pd.DataFrame, grid: str) -> History | None:
    """Return what comparable runs, in order, tell; None where no kernel has two.

    A point is of a run that has all cases of the kernel's newest one with the same `bound`, or all
    with `NO_BOUND`, none of them with a warning. Its `speedup` is the geometric mean over these
    cases, from `low` to `high` its 95 % interval, over `cases`. What differs `between` runs is
    taken to move all of them at once. `change` is the quotient to the kernel's `previous` run, from
    `change_low` to `change_high`; NaN in its first. A kernel that one run alone has is left out.
    """
    runs = list(frame["run"].unique())
    bound = frame.groupby([*_PART, "case"])["bound"].transform("last")
    frame = frame.assign(bound=bound.fillna(NO_BOUND))
    known = may_win(frame) & (frame["kernel"] != frame["baseline"])
    rows = with_intervals(frame[known].dropna(subset="speedup"))
    rows = rows.assign(
        place=rows["run"].map(runs.index),
        log=np.log(rows["speedup"]),
        square=((np.log(rows["high"]) - np.log(rows["low"])) / 2) ** 2,
    )
    newest = rows["place"] == rows.groupby(_KEYS)["place"].transform("max")
    rows = rows.merge(rows.loc[newest, [*_KEYS, "case"]], on=[*_KEYS, "case"])
    points = rows.groupby([*_KEYS, "place", "run", "commit"], as_index=False).agg(
        cases=("case", "size"), log=("log", "mean"), square=("square", "sum")
    )
    points = points[points["cases"] == points.groupby(_KEYS)["cases"].transform("last")]
    points = points[points.groupby(_KEYS)["place"].transform("size") > 1]
    if points.empty:
        return None
    between = points["operation"].map(between_runs(frame).set_index("operation")["between_sd"])
    half = np.hypot(np.sqrt(points["square"]) / points["cases"], Z * between.fillna(0.0))
    each = points.assign(half=half).groupby(_KEYS)
    change, reach = each["log"].diff(), np.hypot(half, each["half"].shift())
    ends = {
        **{"speedup": points["log"], "low": points["log"] - half, "high": points["log"] + half},
        **{"change": change, "change_low": change - reach, "change_high": change + reach},
    }
    exponentials = {name: np.exp(value) for name, value in ends.items()}
    points = points.assign(previous=each["run"].shift(), **exponentials).reset_index(drop=True)
    return History(frame["machine"].iloc[0], grid, frame, runs, points)


def changed(points: pd.DataFrame) -> pd.DataFrame:
    """Return the points whose change from the run before is outside its interval."""
    return points[(points["change_low"] > 1) | (points["change_high"] < 1)]
