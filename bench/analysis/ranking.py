"""Frame -> frame: which kernel is the fastest, and at a few sizes. Every function is pure."""

import numpy as np
import pandas as pd

from .frame import AUTO, FACET, SIZES
from .jacobian import jacobian_overhead

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
    """Return the kernel with the highest paired speedup of each slice and size.

    `auto` is none of them: it is one of the others, and has its place in `bench.analysis.peers`.
    `ties` lists the kernels whose interval reaches into the winner's, see `with_intervals`.
    `baseline_s` is NaN where the baseline has no time.
    """
    keys = [*FACET, "case", *SIZES]
    measured = (frame["status"] == "ok") & (frame["role"] != AUTO)
    ranked = frame[measured].sort_values(["median_s", "kernel"])
    ranked = ranked.sort_values("speedup", ascending=False, kind="stable")
    ranked = with_intervals(ranked.sort_values([*FACET, *SIZES], kind="stable"))
    shown = ["commit", "kernel", "median_s", "q1_s", "q3_s", "baseline"]
    shown += ["speedup", "speedup_low", "speedup_high", "low"]
    best = ranked.drop_duplicates(keys)[[*keys, *shown]].set_index(keys)
    pairs = ranked.set_index(keys)[["kernel", "median_s", "high", "baseline"]].join(
        best[["kernel", "low"]].rename(columns={"kernel": "winner", "low": "reach"})
    )
    near = pairs[(pairs["high"] >= pairs["reach"]) & (pairs["kernel"] != pairs["winner"])]
    base = pairs.loc[pairs["kernel"] == pairs["baseline"], "median_s"]
    best["baseline_s"] = base.groupby(level=keys).min()
    ties = near.groupby(level=keys)["kernel"].agg(list).to_dict()
    best["ties"] = pd.Series([ties.get(key, []) for key in best.index], best.index, dtype=object)
    return best.drop(columns="low").reset_index()


def gradient_overview(frame: pd.DataFrame, limit: int = 6) -> pd.DataFrame:
    """Return the fastest gradient and the Jacobian's overhead at a few sizes, see `spread`."""
    best = fastest(frame[frame["operation"] == "gradient"])
    keys = ["machine", "run", "device", "dtype", *SIZES]
    ratios = ["time_ratio", "time_ratio_low", "time_ratio_high", "memory_ratio", "status"]
    table = best.merge(jacobian_overhead(frame)[[*keys, *ratios]], on=keys, how="left")
    groups = [spread(group, limit) for _, group in table.groupby(keys[:4], sort=True)]
    return pd.concat(groups) if groups else table


def spread(group: pd.DataFrame, limit: int = 6) -> pd.DataFrame:
    """Return at most so many rows, spread from the least to the most work (batch × in × out)."""
    ordered = group.iloc[np.argsort(group[SIZES].astype(float).prod(axis=1), kind="stable")]
    count = min(limit, len(ordered))
    return ordered.iloc[np.unique(np.linspace(0, len(ordered) - 1, count).round().astype(int))]
