"""Frame -> frame: what forming the Jacobian costs. Every function is pure."""

import numpy as np
import pandas as pd

from ..common.units import format_bytes, format_ratio
from .frame import SIZES, each, sizes_text

HEAVY, LIGHT = "kron_einsum", "matmul"


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
            "batch × in → out": sizes_text(price),
            "time ratio": each(
                format_ratio, price, "time_ratio", "time_ratio_low", "time_ratio_high"
            ),
            "memory ratio": each(format_ratio, price, "memory_ratio"),
            "predicted": each(format_ratio, price, "predicted_memory_ratio"),
            "peak memory with": each(format_bytes, price, "peak_bytes_heavy"),
            "predicted with": each(format_bytes, price, "predicted_peak_bytes_heavy"),
            "peak memory without": each(format_bytes, price, "peak_bytes_light"),
            "status": price["status"].where(
                price["status"] == "ok", price["kernel"] + ": " + price["status"]
            ),
        },
        dtype=object,
    )


def price_at_one_batch(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the price of the Jacobian at the batch size with the most pairs of n and o.

    Values of n and o that stand there but once are left out where the others then fill a grid.
    """
    price = jacobian_price(rows)
    if price.empty:
        return price
    counts = (
        price.groupby("batch", as_index=False)
        .agg(pairs=("case", "size"), known=("time_ratio", "count"))
        .sort_values(["pairs", "known", "batch"])
    )
    chosen: pd.DataFrame = price.loc[price["batch"] == counts["batch"].iloc[-1]]
    names = ["in_features", "out_features"]
    often = [chosen.groupby(name)["case"].transform("size") > 1 for name in names]
    kept = chosen[often[0] & often[1]]
    columns, rows_left = (kept[name].nunique() for name in names)
    fills_a_grid = min(columns, rows_left) > 1 and columns * rows_left == len(kept)
    return kept if fills_a_grid else chosen
