"""Frame -> frame: what forming the Jacobian costs. Every function is pure."""

import numpy as np
import pandas as pd

from .frame import SIZES

WITH_JACOBIAN, WITHOUT_JACOBIAN = "kron_einsum", "matmul"
_VALUES = [
    *("median_s", "speedup", "speedup_low", "speedup_high"),
    *("peak_bytes", "predicted_peak_bytes", "status", "reason"),
]


def jacobian_overhead(frame: pd.DataFrame) -> pd.DataFrame:
    """Return what forming the Jacobian costs at each size of the gradient.

    Ratios are of the kernel with the Jacobian over the one without. `time_ratio` is that of their
    speedups, both paired with the same baseline: times taken apart drift with the machine. Its
    interval holds the low end of one against the high end of the other. A pair that lacks a number
    keeps its row, with the status and the reason of the kernel that has none.
    """
    keys = ["machine", "run", "commit", "dirty", "device", "dtype", "case", *SIZES]
    gradient = frame[frame["operation"] == "gradient"].drop_duplicates([*keys, "kernel"])
    sides = [
        gradient.loc[gradient["kernel"] == name, keys + _VALUES]
        for name in (WITH_JACOBIAN, WITHOUT_JACOBIAN)
    ]
    pair = sides[0].merge(sides[1], on=keys, suffixes=("_jacobian", "_matmul"))
    pair["time_ratio"] = pair["speedup_matmul"] / pair["speedup_jacobian"]
    pair["time_ratio_low"] = pair["speedup_low_matmul"] / pair["speedup_high_jacobian"]
    pair["time_ratio_high"] = pair["speedup_high_matmul"] / pair["speedup_low_jacobian"]
    for name, source in (("memory_ratio", "peak"), ("predicted_memory_ratio", "predicted_peak")):
        below = pair[f"{source}_bytes_matmul"]
        pair[name] = pair[f"{source}_bytes_jacobian"] / below.where(below > 0)
    failed = pair["status_jacobian"] != "ok"
    for name in ("status", "reason"):
        pair[name] = pair[f"{name}_jacobian"].where(failed, pair[f"{name}_matmul"])
    pair["kernel"] = np.where(failed, WITH_JACOBIAN, WITHOUT_JACOBIAN)
    return pair.sort_values(["machine", "run", "device", "dtype", *SIZES], ignore_index=True)


def overhead_at_one_batch(overhead: pd.DataFrame) -> pd.DataFrame:
    """Return the overhead at the batch size with the most pairs of n and o.

    Values of n and o that stand there but once are left out where the others then fill a grid.
    """
    if overhead.empty:
        return overhead
    counts = (
        overhead.groupby("batch", as_index=False)
        .agg(pairs=("case", "size"), known=("time_ratio", "count"))
        .sort_values(["pairs", "known", "batch"])
    )
    chosen: pd.DataFrame = overhead.loc[overhead["batch"] == counts["batch"].iloc[-1]]
    names = ["in_features", "out_features"]
    often = [chosen.groupby(name)["case"].transform("size") > 1 for name in names]
    kept = chosen[often[0] & often[1]]
    across, up = (kept[name].nunique() for name in names)
    fills_a_grid = min(across, up) > 1 and across * up == len(kept)
    return kept if fills_a_grid else chosen
