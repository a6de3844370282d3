"""How well whole runs repeat, and whether their intervals hold what is true. Needs no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

TRUE_SPEEDUP = 0.5  # of the kernel that does the baseline's work twice, at any size
TWICE = "baseline_twice"
CASE = ["operation", "device", "dtype", "case"]
KEYS = [*CASE, "kernel"]
# What must hold of the standard deviation over runs of a case's log-speedup.
MOST_SD, MOST_SHARE = 0.05, 0.95
ANY_SD, MEDIAN_SD = 0.10, 0.025
LEAST_COVERAGE = 0.90
MOST_APART = 0.03  # geometric mean of this suite's times over those of torch's Timer


class Promise(NamedTuple):
    """One promise: what it says, what was measured, and whether it was kept."""

    text: str
    measured: str
    kept: bool


def spread(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return the standard deviation over runs of each case's log-speedup, paired and stock.

    The stock way is the ratio of two medians timed apart, the baseline's over the kernel's, from
    the same runs. `inside` counts the runs whose interval holds the mean of the other runs.
    Baselines and cases without numbers are left out.
    """
    table = pd.concat([_logs(frame) for frame in frames])
    paired = table.groupby(KEYS)["paired"]
    others = (paired.transform("sum") - table["paired"]) / (paired.transform("size") - 1)
    table["inside"] = (table["low"] <= others) & (others <= table["high"])
    found = table.groupby(KEYS).agg(
        runs=("paired", "size"),
        speedup=("paired", lambda logs: math.exp(logs.mean())),
        sd_paired=("paired", "std"),
        sd_stock=("stock", "std"),
        inside=("inside", "sum"),
    )
    return found.reset_index()


def _logs(frame: pd.DataFrame) -> pd.DataFrame:
    rows = frame[frame["status"] == "ok"]
    base = rows[rows["kernel"] == rows["baseline"]].set_index(CASE)["median_s"]
    rest = rows[rows["kernel"] != rows["baseline"]].set_index(CASE)
    columns = {"paired": "speedup", "low": "speedup_low", "high": "speedup_high"}
    logs = {name: np.log(rest[column]) for name, column in columns.items()}
    logs["stock"] = np.log(base.reindex(rest.index) / rest["median_s"])
    return pd.DataFrame({"kernel": rest["kernel"], **logs}).reset_index()


def coverage(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return every interval of the kernel that does the work twice, and whether it holds 1/2."""
    rows = pd.concat([frame.assign(number=number) for number, frame in enumerate(frames)])
    rows = rows[(rows["kernel"] == TWICE) & (rows["status"] == "ok")]
    table = rows[["number", "case", "speedup", "speedup_low", "speedup_high"]]
    low, high = table["speedup_low"], table["speedup_high"]
    return table.assign(holds=(low <= TRUE_SPEEDUP) & (high >= TRUE_SPEEDUP))


def promises(table: pd.DataFrame, known: pd.DataFrame) -> list[Promise]:
    """Hold `spread` and `coverage` against what is promised."""
    sd, stock = table["sd_paired"], table["sd_stock"]
    share, held = (sd <= MOST_SD).mean(), known["holds"].mean()
    said = (
        (f"at least {MOST_SHARE:.0%} of the cases repeat within {MOST_SD:.0%}",
         f"{share:.1%} of {len(sd)} (stock way: {(stock <= MOST_SD).mean():.1%})",
         share >= MOST_SHARE),
        (f"all cases repeat within {ANY_SD:.0%}",
         f"worst {sd.max():.1%} (stock way: {stock.max():.1%})", sd.max() <= ANY_SD),
        (f"the median case repeats within {MEDIAN_SD:.1%}",
         f"{sd.median():.2%} (stock way: {stock.median():.1%})", sd.median() <= MEDIAN_SD),
        (f"at least {LEAST_COVERAGE:.0%} of the intervals hold a known ratio",
         f"{held:.1%} of {len(known)} intervals hold {TRUE_SPEEDUP}; median centre "
         f"{known['speedup'].median():.4f}", held >= LEAST_COVERAGE),
    )  # fmt: skip
    return [Promise(text, measured, bool(kept)) for text, measured, kept in said]


def agreement_promise(table: pd.DataFrame) -> Promise:
    """Hold the times of this suite against those of torch's Timer."""
    logs = np.log(table["ratio"])
    worst = table.loc[logs.abs().idxmax()]
    return Promise(
        f"times agree with torch.utils.benchmark.Timer within {MOST_APART:.0%} (geometric mean)",
        f"{math.expm1(logs.mean()):+.2%} over {len(table)} cases, worst {worst['ratio'] - 1:+.1%} "
        f"({worst['kernel']}, {worst['case']})",
        bool(abs(logs.mean()) <= math.log1p(MOST_APART)),
    )
