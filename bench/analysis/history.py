"""Runs of one machine, one after the other -> each kernel's speedup in each. Pure functions.

Runs that differ in more than code, packages and commit are never joined: each grid and way of
measuring has a history of its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from ..store.runs import moment
from ..store.schema import Head
from ..store.settings import flat
from ..store.shards import group_shards
from .compare import IGNORED_SETTINGS
from .frame import AUTO
from .ranking import with_intervals

_KEYS = ["operation", "device", "dtype", "kernel"]
MAX_RUNS = 12  # of a history: the newest


class History(NamedTuple):
    """Runs of a machine under the same settings, from the oldest to the newest.

    Attributes:
        machine: Its slug.
        grid: That of the runs.
        frame: Their cases.
        runs: Their names, in order.
        points: The speedup of each kernel in each run, see `speedups`.
    """

    machine: str
    grid: str
    frame: pd.DataFrame
    runs: Sequence[str]
    points: pd.DataFrame


def comparable_runs(heads: Mapping[Path, Head]) -> list[list[Path]]:
    """Return the runs of each machine, grid and way of measuring that has two at least.

    From the oldest to the newest, and no more than the newest dozen. The shards of one run count as
    one, stand together, and where its newest would.
    """
    sharded = {
        one.newest: list(one.paths.values()) for one in group_shards(heads) if not one.missing
    }
    found: dict[tuple[str, str], list[list[Path]]] = {}
    for path in sorted(heads, key=lambda path: (moment(heads[path].datetime), path)):
        head = heads[path]
        if head.shard is None or path in sharded:
            settings = {name: value for name, value in flat(head.settings).items()
                        if name == "grid" or name not in IGNORED_SETTINGS}  # fmt: skip
            runs = found.setdefault((head.machine.slug, json.dumps(settings)), [])
            runs.append(sharded.get(path, [path]))
    histories = [some[-MAX_RUNS:] for _, some in sorted(found.items()) if len(some) > 1]
    return [[path for run in runs for path in run] for runs in histories]


def history_of(frame: pd.DataFrame, grid: str) -> History | None:
    """Return what comparable runs, in the order of the frame, tell; None where no kernel has two.

    Args:
        frame: Their cases.
        grid: That of the runs.
    """
    runs = list(frame["run"].unique())
    points = speedups(frame, runs)
    if points.empty:
        return None
    return History(str(frame["machine"].iloc[0]), grid, frame, runs, points)


def speedups(frame: pd.DataFrame, runs: Sequence[str]) -> pd.DataFrame:
    """Return the speedup of each kernel in each run that has all cases of its newest one.

    `speedup` is the geometric mean over these cases, from `low` to `high` its 95 % interval, over
    `cases`. `change` is the quotient to the kernel's `previous` run, from `change_low` to
    `change_high`; NaN in its first. A kernel that one run alone has is left out.
    """
    known = (frame["status"] == "ok") & frame["speedup"].gt(0) & (frame["role"] != AUTO)
    rows = with_intervals(frame[known & (frame["kernel"] != frame["baseline"])])
    rows = rows.assign(
        place=rows["run"].map(list(runs).index),
        log=np.log(rows["speedup"]),
        square=((np.log(rows["high"]) - np.log(rows["low"])) / 2) ** 2,
    )
    newest = rows["place"] == rows.groupby(_KEYS)["place"].transform("max")
    rows = rows.merge(rows.loc[newest, [*_KEYS, "case"]], on=[*_KEYS, "case"])
    points = (
        rows.groupby([*_KEYS, "place", "run", "commit"], as_index=False)
        .agg(cases=("case", "size"), log=("log", "mean"), square=("square", "sum"))
        .sort_values([*_KEYS, "place"])
    )
    each = points.groupby(_KEYS)
    points = points[points["cases"] == each["cases"].transform("last")]
    each = points.groupby(_KEYS)
    points = points[each["place"].transform("size") > 1]
    half = np.sqrt(points["square"]) / points["cases"]
    each = points.assign(half=half).groupby(_KEYS)
    change, reach = each["log"].diff(), np.hypot(half, each["half"].shift())
    return points.assign(
        previous=each["run"].shift(),
        **_ends("", points["log"], half).rename(columns={"": "speedup"}),
        **_ends("change_", change, reach).rename(columns={"change_": "change"}),
    ).reset_index(drop=True)


def changed(points: pd.DataFrame) -> pd.DataFrame:
    """Return the points whose change from the run before is outside its interval."""
    return points[(points["change_low"] > 1) | (points["change_high"] < 1)]


def _ends(name: str, log: pd.Series, reach: pd.Series) -> pd.DataFrame:
    ends = {name: log, f"{name}low": log - reach, f"{name}high": log + reach}
    return pd.DataFrame({key: np.exp(value) for key, value in ends.items()})
