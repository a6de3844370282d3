"""Frame -> frame: the tables of a report.

Every function is pure. Times are seconds and sizes bytes until `display` turns them into text;
runs, and so machines, are never pooled.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd

from bench.units import (
    format_bytes,
    format_case,
    format_error,
    format_percent,
    format_ratio,
    format_time,
)

SLICE = ["machine", "run", "stage", "device", "dtype"]
SIZES = ["batch", "in_features", "out_features"]
HEAVY, LIGHT = "kron_einsum", "matmul"
WITHIN = 1.1  # paired ratios of one pass that are nearer than this may be equal
_STAGES = ("gradient", "step", "fit")
_NUMBERS = [
    *(
        "case",
        *SIZES,
        "kernel",
        "baseline",
        "status",
        "median_s",
        "q1_s",
        "q3_s",
        "min_s",
        "mean_s",
    ),
    *("stddev_s", "rounds", "iterations", "passes", "speedup", "speedup_low", "speedup_high"),
    *("peak_bytes", "predicted_peak_bytes", "max_rel_error", "flops", "bytes_moved", "floor_s"),
    *("efficiency", "reason"),
]


class Slice(NamedTuple):
    """What one table or figure shows: nothing is compared across two of these."""

    machine: str
    run: str
    stage: str
    device: str
    dtype: str

    def of(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return this slice's rows of a frame."""
        keep = np.ones(len(frame), dtype=bool)
        for name, value in zip(SLICE, self, strict=True):
            keep &= (frame[name] == value).to_numpy(dtype=bool)
        return frame[keep]


def slices(frame: pd.DataFrame) -> list[Slice]:
    """Return the slices of a frame by machine, run, stage (gradient, step, fit), device, dtype."""
    found = {Slice(*row) for row in frame[SLICE].itertuples(index=False)}
    rank = {stage: place for place, stage in enumerate(_STAGES)}
    return sorted(found, key=lambda s: (*s[:2], rank.get(s.stage, len(rank)), *s[2:]))


def numbers(rows: pd.DataFrame) -> pd.DataFrame:
    """Return a slice as plain numbers: cases from small to large, in each the fastest first.

    The fastest is the one with the highest paired speedup: times taken apart are no ranking.
    """
    first = rows[_NUMBERS].sort_values([*SIZES, "median_s", "status", "kernel"])
    return first.sort_values("speedup", ascending=False, kind="stable").sort_values(
        SIZES, kind="stable", ignore_index=True
    )


def display(rows: pd.DataFrame) -> pd.DataFrame:
    """Return a slice as text: one row per kernel, the size written where a case begins."""
    table = numbers(rows)
    speedup = _each(format_ratio, table, "speedup", "speedup_low", "speedup_high")
    text = pd.DataFrame(
        {
            "batch × in → out": _sizes(table).where(~table.duplicated(SIZES), ""),
            "kernel": table["kernel"],
            "time: median (q1–q3)": _each(format_time, table, "median_s", "q1_s", "q3_s"),
            "speedup to torch.nn": speedup.where(table["kernel"] != table["baseline"], "baseline"),
            "peak memory": _each(format_bytes, table, "peak_bytes"),
            "predicted": _each(format_bytes, table, "predicted_peak_bytes"),
            "max. rel. error": _each(format_error, table, "max_rel_error"),
            "floor ÷ time": _each(format_percent, table, "efficiency"),
            "status": table["status"],
        },
        dtype=object,
    )
    return text if table["efficiency"].notna().any() else text.drop(columns="floor ÷ time")


def problems(frame: pd.DataFrame) -> pd.DataFrame:
    """Return every planned case that has no numbers, with its status and reason."""
    columns = [*SLICE, "case", *SIZES, "kernel", "status", "predicted_peak_bytes", "reason"]
    rows = frame.loc[frame["status"] != "ok", columns].copy()
    rows["reason"] = rows["reason"].fillna("no reason was recorded")
    return rows.sort_values([*SLICE, "status", *SIZES, "kernel"], ignore_index=True)


def jacobian_price(frame: pd.DataFrame, heavy: str = HEAVY, light: str = LIGHT) -> pd.DataFrame:
    """Return what forming the Jacobian costs at each size of the gradient stage.

    Ratios are `heavy` ÷ `light`. `time_ratio` is that of their speedups, both paired with the same
    baseline: times taken apart drift with the machine. Its interval holds the low end of one
    against the high end of the other. A pair that lacks a number keeps its row, with the status
    and the reason of the kernel that has none.
    """
    keys = ["machine", "run", "commit", "dirty", "device", "dtype", "case", *SIZES]
    values = [
        *("median_s", "speedup", "speedup_low", "speedup_high"),
        *("peak_bytes", "predicted_peak_bytes", "status", "reason"),
    ]
    gradient = frame[frame["stage"] == "gradient"].drop_duplicates([*keys, "kernel"])
    sides = [gradient.loc[gradient["kernel"] == name, keys + values] for name in (heavy, light)]
    pair = sides[0].merge(sides[1], on=keys, suffixes=("_heavy", "_light"))
    table = pair[keys].copy()
    table["time_ratio"] = pair["speedup_light"] / pair["speedup_heavy"]
    table["time_ratio_low"] = pair["speedup_low_light"] / pair["speedup_high_heavy"]
    table["time_ratio_high"] = pair["speedup_high_light"] / pair["speedup_low_heavy"]
    for name, source in (("memory_ratio", "peak"), ("predicted_memory_ratio", "predicted_peak")):
        below = pair[f"{source}_bytes_light"]
        table[name] = pair[f"{source}_bytes_heavy"] / below.where(below > 0)
    for name in ("median_s", "peak_bytes", "predicted_peak_bytes"):
        table[[f"{name}_heavy", f"{name}_light"]] = pair[[f"{name}_heavy", f"{name}_light"]]
    heavy_failed = pair["status_heavy"] != "ok"
    for name in ("status", "reason"):
        table[name] = pair[f"{name}_heavy"].where(heavy_failed, pair[f"{name}_light"])
    table["kernel"] = np.where(heavy_failed, heavy, light)
    return table.sort_values(["machine", "run", "device", "dtype", *SIZES], ignore_index=True)


def display_price(price: pd.DataFrame) -> pd.DataFrame:
    """Return the price of the Jacobian as text."""
    return pd.DataFrame(
        {
            "batch × in → out": _sizes(price),
            "time ratio": _each(
                format_ratio, price, "time_ratio", "time_ratio_low", "time_ratio_high"
            ),
            "memory ratio": _each(format_ratio, price, "memory_ratio"),
            "predicted": _each(format_ratio, price, "predicted_memory_ratio"),
            "peak memory with": _each(format_bytes, price, "peak_bytes_heavy"),
            "predicted with": _each(format_bytes, price, "predicted_peak_bytes_heavy"),
            "peak memory without": _each(format_bytes, price, "peak_bytes_light"),
            "status": price["status"].where(
                price["status"] == "ok", price["kernel"] + ": " + price["status"]
            ),
        },
        dtype=object,
    )


def fastest(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the kernel with the highest paired speedup of each slice and size.

    `also` names the kernels that this run cannot tell from it: those whose interval reaches into
    the winner's or, where there are no intervals, whose speedup is within 10 %. `baseline_s` is NaN
    where the baseline has no time.
    """
    keys = [*SLICE, "case", *SIZES]
    shown = ["commit", "kernel", "median_s", "q1_s", "q3_s", "baseline"]
    ranked = frame[frame["status"] == "ok"].sort_values(["median_s", "kernel"])
    ranked = ranked.sort_values("speedup", ascending=False, kind="stable")
    ranked = ranked.sort_values([*SLICE, *SIZES], kind="stable").assign(
        low=lambda rows: rows["speedup_low"].fillna(rows["speedup"] / WITHIN),
        high=lambda rows: rows["speedup_high"].fillna(rows["speedup"]),
    )
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
    time = _each(format_ratio, table, "time_ratio", "time_ratio_low", "time_ratio_high")
    memory = _each(format_ratio, table, "memory_ratio")
    return pd.DataFrame(
        {
            "device, dtype": table["device"] + ", " + table["dtype"],
            "batch × in → out": _sizes(table),
            "fastest": [_tied(*row) for row in table[["kernel", "also"]].itertuples(index=False)],
            "median (q1–q3)": _each(format_time, table, "median_s", "q1_s", "q3_s"),
            "torch.nn": _each(format_time, table, "baseline_s"),
            "speedup": _each(format_ratio, table, "speedup", "speedup_low", "speedup_high"),
            "Jacobian: time": time.where(table["time_ratio"].notna(), lacking),
            "Jacobian: memory": memory.where(table["memory_ratio"].notna(), lacking),
        },
        dtype=object,
    )


def _spread(group: pd.DataFrame, limit: int) -> pd.DataFrame:
    ordered = group.iloc[np.argsort(group[SIZES].astype(float).prod(axis=1), kind="stable")]
    count = min(limit, len(ordered))
    return ordered.iloc[np.unique(np.linspace(0, len(ordered) - 1, count).round().astype(int))]


def _sizes(table: pd.DataFrame) -> pd.Series:
    return pd.Series(
        [format_case(*row) for row in table[SIZES].itertuples(index=False)],
        index=table.index,
        dtype=object,
    )


def _each(write: Callable[..., str], table: pd.DataFrame, *columns: str) -> pd.Series:
    written = [write(*row) for row in table[list(columns)].itertuples(index=False)]
    return pd.Series(written, index=table.index, dtype=object)


def _tied(kernel: str, also: str) -> str:
    others = also.split(", ") if also else []
    more = f" and {len(others) - 2} more" if len(others) > 2 else ""
    return " ≈ ".join([kernel, *others[:2]]) + more
