"""Frame -> frame: how far the fastest kernel, `auto`, the peers and the floor stand apart. Pure."""

import numpy as np
import pandas as pd

from ..common.units import UNKNOWN, format_percent, format_ratio, format_time
from .frame import AUTO, PEER, SIZES, SLICE, each, sizes_text

# A floor below this is mostly the dispatch of the call, and says little of the kernel.
LEAST_FLOORS_S = (20e-6, 1e-3)
SLOW_FIRST_CALL_S = 0.02  # nothing but a compiler takes so long to get one call ready
_CASE = [*SLICE, *SIZES, "case"]
_SHOWN = ["kernel", "speedup", "speedup_low", "speedup_high", "efficiency"]


def standings(frame: pd.DataFrame) -> pd.DataFrame:
    """Return, of each case: its fastest kernel, the fastest peer, `auto`, and the ratios of them.

    `speedup` is the fastest kernel's over the baseline, `over_peer` its over the fastest peer,
    `auto_ratio` and `auto_over_peer` those of `auto` over the fastest kernel and the fastest peer:
    each the quotient of two ratios to the baseline, so above 1 where the first is faster. NaN where
    a case has no peer or no `auto`. A kernel of our own is what is neither.
    """
    rows = frame[(frame["status"] == "ok") & frame["floor_s"].notna()].copy()
    is_baseline = rows["kernel"] == rows["baseline"]
    rows["speedup"] = rows["speedup"].where(~is_baseline, 1.0)
    rows = rows[rows["speedup"].notna()].sort_values(["speedup", "kernel"], ascending=[False, True])
    own = _first(rows[~rows["role"].isin([AUTO, PEER])])
    table = own[[*_SHOWN, "floor_s"]]
    for role in (PEER, AUTO):
        others = _first(rows[rows["role"] == role])
        table = table.join(others[["kernel", "speedup"]].add_prefix(f"{role}_"))
    return table.assign(
        over_peer=table["speedup"] / table["peer_speedup"],
        auto_ratio=table["auto_speedup"] / table["speedup"],
        auto_over_peer=table["auto_speedup"] / table["peer_speedup"],
    ).reset_index()


def first_calls(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the kernels that take long to get ready, as text: binding and the first call."""
    rows = frame[(frame["status"] == "ok") & frame["first_call_s"].notna()]
    seconds = rows.groupby(["stage", "kernel"])["first_call_s"].agg(["count", "median", "max"])
    slow = seconds[seconds["max"] >= SLOW_FIRST_CALL_S].sort_values("median").reset_index()
    return pd.DataFrame(
        {
            "kernel": slow["kernel"],
            "stage": slow["stage"],
            "cases": slow["count"],
            "median": each(format_time, slow, "median"),
            "most": each(format_time, slow, "max"),
        },
        dtype=object,
    )


def with_others(table: pd.DataFrame) -> pd.DataFrame:
    """Return the standings of the cases that a peer or `auto` was measured at."""
    return table[table[["peer_kernel", "auto_kernel"]].notna().any(axis=1)]


def _first(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.drop_duplicates(_CASE).set_index(_CASE).sort_index()


def display_standings(table: pd.DataFrame) -> pd.DataFrame:
    """Return the cases of one stage and device, over all dtypes, summed up in words."""
    pairs = {
        "the fastest kernel ÷ torch.nn": "speedup",
        "the fastest kernel ÷ the fastest peer": "over_peer",
        "auto ÷ the fastest kernel": "auto_ratio",
        "auto ÷ the fastest peer": "auto_over_peer",
    }
    said = [(name, *_summed_up(table, column)) for name, column in pairs.items()]
    columns = ["speed of", "cases", "geometric mean", "least", "where"]
    return pd.DataFrame([row for row in said if row[1]], columns=columns, dtype=object)


def display_efficiency(table: pd.DataFrame) -> pd.DataFrame:
    """Return how near the fastest kernel of each case comes to the floor, by the floor's size."""
    said = []
    for least_s in LEAST_FLOORS_S:
        rows = table[(table["floor_s"] >= least_s) & table["efficiency"].notna()]
        if rows.empty:
            continue
        worst = rows.sort_values("efficiency", kind="stable").iloc[0]
        where = f"{_where(worst)}, {worst['kernel']}"
        middle = format_percent(rows["efficiency"].median())
        least = format_percent(worst["efficiency"])
        said.append((f"at least {format_time(least_s)}", len(rows), middle, least, where))
    columns = ["cases with a floor of", "cases", "median floor ÷ time", "least", "where"]
    return pd.DataFrame(said, columns=columns, dtype=object)


def _summed_up(table: pd.DataFrame, column: str) -> tuple[int, str, str, str]:
    rows = table[table[column].notna()]
    if rows.empty:
        return 0, UNKNOWN, UNKNOWN, UNKNOWN
    mean = float(np.exp(np.log(rows[column]).mean()))
    worst = rows.sort_values(column, kind="stable").iloc[0]
    return len(rows), format_ratio(mean), format_ratio(worst[column]), _where(worst)


def _where(row: pd.Series) -> str:
    return f"{sizes_text(row.to_frame().T).iloc[0]}, {row['dtype']}"
