"""How well whole runs repeat, and whether their intervals hold what is true. Pure, without torch.

`python -m bench repeatability` measures the smoke grid several times over, and with it a kernel
that does the baseline's work exactly twice, whose speedup is 1/2 at any size on any machine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

TRUE_SPEEDUP = 0.5
TWICE = "baseline_twice"
KEYS = ["stage", "device", "dtype", "case", "kernel"]
# What must hold (see `verdict`): of the standard deviation over runs of a case's log-speedup.
MOST_SD, MOST_SHARE = 0.05, 0.95
ANY_SD, MEDIAN_SD = 0.10, 0.025
LEAST_COVERAGE = 0.90


class Promise(NamedTuple):
    """One promise: what it says, what was measured, and whether it was kept."""

    text: str
    measured: str
    kept: bool


def spread(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return the standard deviation over runs of each case's log-speedup, paired and stock.

    The stock way is the ratio of two medians timed apart, the baseline's over the kernel's, from
    the same runs. `inside` counts the runs whose interval holds the mean of the other runs.

    Args:
        frames: One a run, of the same cases; baselines and cases without numbers are left out.
    """
    pairs = [_logs(frame) for frame in frames]
    table = pd.concat(pairs, keys=range(len(pairs)), names=["number"]).reset_index(level="number")
    groups = table.groupby(KEYS)
    found = groups.agg(
        runs=("paired", "size"),
        speedup=("paired", lambda logs: math.exp(logs.mean())),
        sd_paired=("paired", "std"),
        sd_stock=("stock", "std"),
    )
    others = (groups["paired"].transform("sum") - table["paired"]) / (
        groups["paired"].transform("size") - 1
    )
    table["inside"] = (table["low"] <= others) & (others <= table["high"])
    found["inside"] = table.groupby(KEYS)["inside"].sum()
    return found.reset_index()


def _logs(frame: pd.DataFrame) -> pd.DataFrame:
    rows = frame[frame["status"] == "ok"]
    same = ["stage", "device", "dtype", "case"]
    base = rows[rows["kernel"] == rows["baseline"]].set_index(same)["median_s"]
    rest = rows[rows["kernel"] != rows["baseline"]].set_index(same)
    table = pd.DataFrame(
        {
            "kernel": rest["kernel"],
            "paired": np.log(rest["speedup"]),
            "low": np.log(rest["speedup_low"]),
            "high": np.log(rest["speedup_high"]),
            "stock": np.log(base.reindex(rest.index) / rest["median_s"]),
        }
    )
    return table.reset_index().set_index(KEYS)


def coverage(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return every interval of the kernel that does the work twice, and whether it holds 1/2."""
    rows = pd.concat(frames, keys=range(len(frames)), names=["number"]).reset_index(level="number")
    rows = rows[(rows["kernel"] == TWICE) & (rows["status"] == "ok")]
    table = rows[["number", "case", "speedup", "speedup_low", "speedup_high"]].copy()
    low, high = table["speedup_low"], table["speedup_high"]
    table["holds"] = (low <= TRUE_SPEEDUP) & (high >= TRUE_SPEEDUP)
    return table.reset_index(drop=True)


def verdict(table: pd.DataFrame, known: pd.DataFrame) -> list[Promise]:
    """Hold what was measured against what is promised."""
    sd = table["sd_paired"]
    share, held = float((sd <= MOST_SD).mean()), float(known["holds"].mean())
    stock = table["sd_stock"]
    return [
        Promise(
            f"at least {MOST_SHARE:.0%} of the cases repeat within {MOST_SD:.0%}",
            f"{share:.1%} of {len(sd)} (stock way: {float((stock <= MOST_SD).mean()):.1%})",
            share >= MOST_SHARE,
        ),
        Promise(
            f"all cases repeat within {ANY_SD:.0%}",
            f"worst {sd.max():.1%} (stock way: {stock.max():.1%})",
            bool(sd.max() <= ANY_SD),
        ),
        Promise(
            f"the median case repeats within {MEDIAN_SD:.1%}",
            f"{sd.median():.2%} (stock way: {stock.median():.1%})",
            bool(sd.median() <= MEDIAN_SD),
        ),
        Promise(
            f"at least {LEAST_COVERAGE:.0%} of the intervals hold a known ratio",
            f"{held:.1%} of {len(known)} intervals hold {TRUE_SPEEDUP}; median centre "
            f"{known['speedup'].median():.4f}",
            held >= LEAST_COVERAGE,
        ),
    ]
