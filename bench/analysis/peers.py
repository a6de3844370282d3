"""Frame -> frame: the fastest kernel beside the baseline, other libraries, `auto` and the roofline.

Every function is pure.
"""

import pandas as pd
from scipy.stats import gmean

from .frame import AUTO, FACET, PEER, SIZES

# A shorter bound is mostly the dispatch of the call, and says little of the kernel.
MIN_ROOFLINE_TIMES_S = (20e-6, 1e-3)
SLOW_FIRST_CALL_S = 0.02  # nothing but a compiler takes so long to get one call ready
_CASE = [*FACET, *SIZES, "case"]
RATIOS = {
    "fastest kernel ÷ torch.nn": "speedup",
    "fastest kernel ÷ fastest peer": "speedup_vs_peer",
    "auto ÷ fastest kernel": "auto_vs_best",
    "auto ÷ fastest peer": "auto_vs_peer",
}


def relative_performance(frame: pd.DataFrame) -> pd.DataFrame:
    """Return, of each case: its fastest kernel, the fastest peer, `auto`, and the ratios of them.

    `speedup` is the fastest kernel's over the baseline, `speedup_vs_peer` its over the fastest
    peer's, `auto_vs_best` and `auto_vs_peer` those of `auto` over the fastest kernel and the
    fastest peer: each the quotient of two ratios to the baseline, so above 1 where the first is
    faster. NaN where a case has no peer or no `auto`.
    """
    rows = frame[(frame["status"] == "ok") & frame["roofline_s"].notna()].copy()
    is_baseline = rows["kernel"] == rows["baseline"]
    rows["speedup"] = rows["speedup"].where(~is_baseline, 1.0)
    rows = rows[rows["speedup"].notna()].sort_values(["speedup", "kernel"], ascending=[False, True])
    own = _first(rows[~rows["role"].isin([AUTO, PEER])])
    table = own[["kernel", "speedup", "speedup_low", "speedup_high", "efficiency", "roofline_s"]]
    for role in (PEER, AUTO):
        others = _first(rows[rows["role"] == role])
        table = table.join(others[["kernel", "speedup"]].add_prefix(f"{role}_"))
    return table.assign(
        speedup_vs_peer=table["speedup"] / table["peer_speedup"],
        auto_vs_best=table["auto_speedup"] / table["speedup"],
        auto_vs_peer=table["auto_speedup"] / table["peer_speedup"],
    ).reset_index()


def with_others(table: pd.DataFrame) -> pd.DataFrame:
    """Return the cases that a peer or `auto` was measured at."""
    return table[table[["peer_kernel", "auto_kernel"]].notna().any(axis=1)]


def mean_ratios(table: pd.DataFrame) -> pd.DataFrame:
    """Sum up `relative_performance`: of each of `RATIOS` its geometric mean, and the least case."""
    found = []
    for name, column in RATIOS.items():
        rows = table[table[column].notna()]
        if len(rows):
            worst = rows.sort_values(column, kind="stable").iloc[0]
            found.append(
                {"ratio": name, "cases": len(rows), "mean": gmean(rows[column]),
                 "least": worst[column], **worst[[*SIZES, "dtype"]]}
            )  # fmt: skip
    return pd.DataFrame(found, columns=["ratio", "cases", "mean", "least", *SIZES, "dtype"])


def roofline_efficiency(table: pd.DataFrame) -> pd.DataFrame:
    """Sum up how near the fastest kernel of each case comes to its roofline bound, by its size."""
    found = []
    for least_s in MIN_ROOFLINE_TIMES_S:
        rows = table[(table["roofline_s"] >= least_s) & table["efficiency"].notna()]
        if len(rows):
            worst = rows.sort_values("efficiency", kind="stable").iloc[0]
            found.append(
                {"bound_s": least_s, "cases": len(rows), "median": rows["efficiency"].median(),
                 "least": worst["efficiency"], **worst[[*SIZES, "dtype", "kernel", "operation"]]}
            )  # fmt: skip
    columns = ["bound_s", "cases", "median", "least", *SIZES, "dtype", "kernel", "operation"]
    return pd.DataFrame(found, columns=columns)


def slow_first_calls(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the kernels that take long to get ready: binding and the first call, in seconds."""
    rows = frame[(frame["status"] == "ok") & frame["first_call_s"].notna()]
    seconds = rows.groupby(["operation", "kernel"])["first_call_s"].agg(["count", "median", "max"])
    return seconds[seconds["max"] >= SLOW_FIRST_CALL_S].sort_values("median").reset_index()


def _first(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.drop_duplicates(_CASE).set_index(_CASE).sort_index()
