"""Frame -> frame: which kernel is the fastest, and the README's table. Every function is pure."""

import numpy as np
import pandas as pd

from ..common.units import UNKNOWN, format_ratio, format_time
from .frame import AUTO, SIZES, SLICE, each, sizes_text
from .jacobian import jacobian_price

WITHIN = 1.1  # paired ratios of one pass that are nearer than this may be equal


def with_intervals(rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows with `low` and `high`, between which each speedup may be; two overlap if equal.

    The 95 % interval over passes where there is one. A slice without any, of one pass, lets
    speedups within 10 % be equal. The baseline's own is 1 by definition.
    """
    known = rows["speedup_low"].notna() & rows["speedup_high"].notna()
    several = known.groupby([rows[key] for key in SLICE]).transform("any")
    defined = several & (rows["kernel"] == rows["baseline"])
    reach = pd.Series(WITHIN**0.5, index=rows.index).where(~defined, 1.0)
    return rows.assign(
        low=rows["speedup_low"].where(known, rows["speedup"] / reach),
        high=rows["speedup_high"].where(known, rows["speedup"] * reach),
    )


def fastest(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the kernel with the highest paired speedup of each slice and size.

    `auto` is none of them: it is one of the others, and has its place in `bench.analysis.peers`.
    `also` names the kernels that this run cannot tell from it: those whose interval reaches into
    the winner's, see `with_intervals`. `baseline_s` is NaN where the baseline has no time.
    """
    keys = [*SLICE, "case", *SIZES]
    shown = ["commit", "kernel", "median_s", "q1_s", "q3_s", "baseline"]
    measured = (frame["status"] == "ok") & (frame["role"] != AUTO)
    ranked = frame[measured].sort_values(["median_s", "kernel"])
    ranked = ranked.sort_values("speedup", ascending=False, kind="stable")
    ranked = with_intervals(ranked.sort_values([*SLICE, *SIZES], kind="stable"))
    best = ranked.drop_duplicates(keys)[
        [*keys, *shown, "speedup", "speedup_low", "speedup_high", "low"]
    ].set_index(keys)
    pairs = ranked.set_index(keys)[["kernel", "median_s", "high", "baseline"]].join(
        best[["kernel", "low"]].rename(columns={"kernel": "winner", "low": "reach"})
    )
    near = pairs[(pairs["high"] >= pairs["reach"]) & (pairs["kernel"] != pairs["winner"])]
    base = pairs.loc[pairs["kernel"] == pairs["baseline"], "median_s"]
    best["also"] = near.groupby(level=keys)["kernel"].agg(", ".join)
    best["also"] = best["also"].astype(object).fillna("")
    best["baseline_s"] = base.groupby(level=keys).min()
    return best.drop(columns="low").reset_index()


def summary(frame: pd.DataFrame, limit: int = 6) -> pd.DataFrame:
    """Return the README's table: fastest gradient and price of the Jacobian at a few sizes.

    At most `limit` sizes of each machine, device and dtype, spread from the least to the most
    work (batch × in × out).
    """
    best = fastest(frame[frame["stage"] == "gradient"])
    keys = ["machine", "run", "device", "dtype", *SIZES]
    ratios = ["time_ratio", "time_ratio_low", "time_ratio_high", "memory_ratio"]
    price = jacobian_price(frame)
    price["price_status"] = price["status"]
    table = best.merge(price[[*keys, *ratios, "price_status"]], on=keys, how="left")
    groups = [group for _, group in table.groupby(keys[:4], sort=True)]
    return pd.concat([_spread(group, limit) for group in groups]) if groups else table


def display_summary(table: pd.DataFrame) -> pd.DataFrame:
    """Return the README's table as text."""
    lacking = table["price_status"].where(table["price_status"].notna(), "–")
    time = each(format_ratio, table, "time_ratio", "time_ratio_low", "time_ratio_high")
    memory = each(format_ratio, table, "memory_ratio")
    return pd.DataFrame(
        {
            "device, dtype": table["device"] + ", " + table["dtype"],
            "batch × in → out": sizes_text(table),
            "fastest": [_tied(*row) for row in table[["kernel", "also"]].itertuples(index=False)],
            "median (q1–q3)": each(format_time, table, "median_s", "q1_s", "q3_s"),
            "torch.nn": each(format_time, table, "baseline_s"),
            "speedup": each(format_ratio, table, "speedup", "speedup_low", "speedup_high"),
            "Jacobian: time": time.where(table["time_ratio"].notna(), lacking),
            "Jacobian: memory": memory.where(table["memory_ratio"].notna(), lacking),
        },
        dtype=object,
    )


def display_steps(rows: pd.DataFrame, limit: int = 6) -> pd.DataFrame:
    """Return the fastest kernel of a slice at a few sizes as text, beside the baseline's time."""
    table = _spread(fastest(rows), limit)
    return pd.DataFrame(
        {
            "rows × inputs → outputs": sizes_text(table),
            "fastest kernel": [
                _tied(*row) for row in table[["kernel", "also"]].itertuples(index=False)
            ],
            "time (q1–q3)": each(format_time, table, "median_s", "q1_s", "q3_s"),
            "torch.nn": each(format_time, table, "baseline_s"),
            "speedup (95 %)": each(format_ratio, table, "speedup", "speedup_low", "speedup_high"),
        },
        dtype=object,
    )


def display_fastest(best: pd.DataFrame) -> pd.DataFrame:
    """Return what `fastest` found as text, by size; what all rows share has no column."""
    rows = best.sort_values([*SIZES, "device", "machine", "run"], kind="stable")
    speedup = each(format_ratio, rows, "speedup", "speedup_low", "speedup_high")
    apart = [name for name in ("device", "machine", "run") if rows[name].nunique() > 1]
    return pd.DataFrame(
        {
            "batch × in → out": sizes_text(rows),
            "fastest": rows["kernel"],
            "ties": [_several(also, ", ") or UNKNOWN for also in rows["also"]],
            "median (q1–q3)": each(format_time, rows, "median_s", "q1_s", "q3_s"),
            "speedup to torch.nn": speedup.where(rows["kernel"] != rows["baseline"], "baseline"),
            **{name: rows[name] for name in apart},
        },
        dtype=object,
    )


def _spread(group: pd.DataFrame, limit: int) -> pd.DataFrame:
    ordered = group.iloc[np.argsort(group[SIZES].astype(float).prod(axis=1), kind="stable")]
    count = min(limit, len(ordered))
    return ordered.iloc[np.unique(np.linspace(0, len(ordered) - 1, count).round().astype(int))]


def _tied(kernel: str, also: str) -> str:
    return f"{kernel} ≈ {_several(also, ' ≈ ')}" if also else kernel


def _several(also: str, between: str) -> str:
    """Return the first two names, and how many more there are."""
    names = also.split(", ")
    more = f" and {len(names) - 2} more" if len(names) > 2 else ""
    return between.join(names[:2]) + more
