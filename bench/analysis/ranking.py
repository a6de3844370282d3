"""Frame -> frame: the fastest kernel, beside others and the roofline."""

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import gmean

from ..store.built_in import SAME_CALLABLE
from ..store.columns import BOUNDS
from .frame import AUTO, CASE, FACET, PEER, in_order, may_win

TIE_RATIO = 1.1  # paired ratios of one process that are nearer than this may be equal


def with_intervals(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows with `low` and `high`, between which each speedup may be; two overlap if equal.

    The 95 % interval over processes where there is one. A slice without any, of one process, lets
    speedups within 10 % be equal. The baseline's own is 1 by definition.
    """
    known = rows["speedup_low"].notna() & rows["speedup_high"].notna()
    several = known.groupby([rows[key] for key in FACET]).transform("any")
    defined = several & (rows["kernel"] == rows["baseline"])
    reach = pd.Series(TIE_RATIO**0.5, index=rows.index).where(~defined, 1.0)
    return rows.assign(
        low=rows["speedup_low"].where(known, rows["speedup"] / reach),
        high=rows["speedup_high"].where(known, rows["speedup"] * reach),
    )


def fastest(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the kernel with the highest paired speedup of each slice and size, and what it has.

    `auto` is none of them, as it is one of the others, and no result with a warning is: `doubtful`
    lists those that seem faster than the winner. `ties` lists the kernels whose interval reaches
    into the winner's, see `with_intervals`.
    """
    measured = (frame["status"] == "ok") & (frame["role"] != AUTO)
    every = with_intervals(in_order(frame[measured]))
    best = every[may_win(every)].drop_duplicates(CASE)
    beside = every.merge(best[[*CASE, "kernel", "low", "speedup"]], on=CASE, suffixes=("", "_best"))
    beside = beside[beside["kernel"] != beside["kernel_best"]]
    doubtful, base = beside["flagged"], every[every["kernel"] == every["baseline"]]
    others = {
        "ties": ~doubtful & (beside["high"] >= beside["low_best"]),
        "doubtful": doubtful & (beside["speedup"] > beside["speedup_best"]),
    }
    best = best.set_index(CASE).drop(columns=["status", "datetime"])
    best["baseline_s"] = base.groupby(CASE)["median_s"].min().reindex(best.index)
    for name, chosen in others.items():
        listed = beside[chosen].groupby(CASE)["kernel"].agg(list).to_dict()
        best[name] = pd.Series([listed.get(key, []) for key in best.index], best.index, object)
    return best.reset_index()


def spread(group: pd.DataFrame) -> pd.DataFrame:
    """Return at most six rows of an operation, from the least to the most product of its sizes."""
    work = [prod(map(float, case.split("x"))) for case in group["case"]]
    ordered = group.iloc[np.argsort(work, kind="stable")]
    count = min(6, len(ordered))
    return ordered.iloc[np.unique(np.linspace(0, len(ordered) - 1, count).round().astype(int))]


MIN_ROOFLINE_S = 20e-6  # most of a shorter time is the dispatch, whatever sets the bound
SLOW_FIRST_CALL_S = 0.02  # nothing but a compiler takes so long to get one call ready
RATIOS = {
    "fastest kernel ÷ baseline": "speedup",
    "fastest kernel ÷ fastest peer": "speedup_vs_peer",
    "auto ÷ fastest kernel": "auto_vs_best",
    "auto ÷ fastest peer": "auto_vs_peer",
}


def relative_performance(frame: pd.DataFrame) -> pd.DataFrame:
    """Return, of each case: its fastest kernel, the fastest peer, `auto`, and the ratios of them.

    Each is the quotient of two ratios to the baseline, so above 1 where the first is faster; NaN
    where a case has no peer or no `auto`. A result with a warning is none of these, nor is another
    in its place: a case has no row where the fastest kernel is doubtful. Where `auto` is the very
    callable of the fastest kernel (of `SAME_CALLABLE` and with the same memory) the quotient is no
    result but an A/A: `a_a` instead of `auto_vs_best`.
    """
    rows = frame[(frame["status"] == "ok") & frame["roofline_s"].notna()]
    rows = rows.assign(speedup=rows["speedup"].where(rows["kernel"] != rows["baseline"], 1.0))
    best = in_order(rows.dropna(subset="speedup")).drop_duplicates([*CASE, "role"])
    best = best[~best["flagged"]].set_index(CASE)
    shown = ["kernel", "speedup", "peak_bytes", "efficiency", "bound", "roofline_s"]
    table = best.loc[best["role"] == "kernel", shown]
    for role in (PEER, AUTO):
        others = best.loc[best["role"] == role, shown[:3]]
        table = table.join(others.add_prefix(f"{role}_"))
    auto = table["auto_speedup"] / table["speedup"]
    same = table["auto_kernel"].map(SAME_CALLABLE) == table["kernel"]
    same &= table["auto_peak_bytes"] == table["peak_bytes"]
    return table.assign(
        speedup_vs_peer=table["speedup"] / table["peer_speedup"],
        auto_vs_best=auto.where(~same),
        a_a=auto.where(same),
        auto_vs_peer=table["auto_speedup"] / table["peer_speedup"],
    ).reset_index()


_LEAST = ["cases", "least", "axes", "case", "dtype", "kernel", "operation"]


def _by_bound(table: pd.DataFrame, column: str) -> Iterator[tuple[pd.Series, dict[str, Any]]]:
    """Yield the values of the cases of each kind of bound, with how many they are and the least."""
    for bound in BOUNDS:
        if len(rows := table[table["bound"] == bound].dropna(subset=column)):
            worst = rows.sort_values(column, kind="stable").iloc[0]
            least = {"cases": len(rows), "least": worst[column], **worst[_LEAST[2:]]}
            yield rows[column], {"bound": bound, **least}


def mean_ratios(table: pd.DataFrame) -> pd.DataFrame:
    """Sum up `relative_performance`: of each of `RATIOS` its geometric mean, and the least case.

    Cases with another kind of bound are never in one mean: where a call's dispatch decides, ratios
    are of overheads.
    """
    found = [
        {"ratio": name, "column": column, "mean": gmean(values), "most": values.max(), **least}
        for name, column in RATIOS.items()
        for values, least in _by_bound(table, column)
    ]
    return pd.DataFrame(found, columns=["ratio", "column", "bound", "mean", "most", *_LEAST])


def roofline_efficiency(table: pd.DataFrame) -> pd.DataFrame:
    """Sum up how near the fastest kernels come to the roofline bound, by what sets it."""
    long = table["roofline_s"].ge(MIN_ROOFLINE_S) | table["bound"].eq("dispatch")
    found = [
        {"median": values.median(), **least}
        for values, least in _by_bound(table[long], "efficiency")
    ]
    return pd.DataFrame(found, columns=["bound", "median", *_LEAST])


def slow_first_calls(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the kernels that take long to get ready: binding and the first call, in seconds."""
    rows = frame[(frame["status"] == "ok") & frame["first_call_s"].notna()]
    seconds = rows.groupby(["operation", "kernel"])["first_call_s"].agg(["count", "median", "max"])
    return seconds[seconds["max"] >= SLOW_FIRST_CALL_S].sort_values("median").reset_index()
