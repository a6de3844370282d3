"""Frame -> frame: the tables of a report.

Every function is pure. Times are seconds and sizes bytes until `display` turns them into text;
runs, and so machines, are never pooled.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd

from ..common.units import (
    UNKNOWN,
    format_bytes,
    format_case,
    format_error,
    format_percent,
    format_ratio,
    format_time,
)

SLICE = ["machine", "run", "stage", "device", "dtype"]
SIZES = ["batch", "in_features", "out_features"]
AUTO, PEER = "auto", "peer"  # roles of kernels, beside `kernel`
MARK = "†"  # a measured case that something is doubtful about
_STAGES = ("gradient", "step", "fit")
_NUMBERS = [
    *("case", *SIZES, "kernel", "baseline", "status", "median_s", "q1_s", "q3_s", "min_s"),
    *("mean_s", "stddev_s", "rounds", "iterations", "passes", "contended_passes", "speedup"),
    *("speedup_low", "speedup_high", "peak_bytes", "predicted_peak_bytes", "outside_torch_bytes"),
    *("max_rel_error", "flops", "bytes_moved", "floor_s", "efficiency", "device_hot_s"),
    *("device_cold_s", "launch_gap_s", "first_call_s", "suspicions", "reason"),
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


def lead(frame: pd.DataFrame, stage: str, kernel: str | None = None) -> Slice | None:
    """Return the slice of a stage with the most measured cases, in float64 among equals.

    With a kernel, of the slices that have it. None where there is no such slice.
    """
    rows = frame[frame["stage"] == stage]
    parts = [
        part for part in slices(rows) if kernel is None or (part.of(rows)["kernel"] == kernel).any()
    ]

    def measured(part: Slice) -> tuple[int, bool]:
        return int((part.of(rows)["status"] == "ok").sum()), part.dtype == "float64"

    return max(parts, key=measured, default=None)


def numbers(rows: pd.DataFrame) -> pd.DataFrame:
    """Return a slice as plain numbers: cases from small to large, in each the fastest first.

    The fastest is the one with the highest paired speedup: times taken apart are no ranking.
    """
    first = rows[_NUMBERS].sort_values([*SIZES, "median_s", "status", "kernel"])
    return first.sort_values("speedup", ascending=False, kind="stable").sort_values(
        SIZES, kind="stable", ignore_index=True
    )


def display(rows: pd.DataFrame) -> pd.DataFrame:
    """Return a slice as text: one row per kernel, the size written where a case begins.

    Columns that no case has a value for are left out where only some devices have them. A kernel
    with something doubtful at that size carries a `†`.
    """
    table = numbers(rows)
    speedup = each(format_ratio, table, "speedup", "speedup_low", "speedup_high")
    optional = {
        "device time, cold": each(format_time, table, "device_cold_s"),
        "device time, hot": each(format_time, table, "device_hot_s"),
        "launch gap": each(format_time, table, "launch_gap_s"),
        "floor ÷ time": each(format_percent, table, "efficiency"),
    }
    shown = {name: text for name, text in optional.items() if text.ne(UNKNOWN).any()}
    return pd.DataFrame(
        {
            "batch × in → out": sizes_text(table).where(~table.duplicated(SIZES), ""),
            "kernel": table["kernel"].where(~doubtful(table), table["kernel"] + f" {MARK}"),
            "time: median (q1–q3)": each(format_time, table, "median_s", "q1_s", "q3_s"),
            "speedup to torch.nn": speedup.where(table["kernel"] != table["baseline"], "baseline"),
            **shown,
            "peak memory": each(format_bytes, table, "peak_bytes"),
            "predicted": each(format_bytes, table, "predicted_peak_bytes"),
            "max. rel. error": each(format_error, table, "max_rel_error"),
            "status": table["status"] + each(_contended, table, "contended_passes", "passes"),
        },
        dtype=object,
    )


def doubtful(rows: pd.DataFrame) -> pd.Series:
    """Say of each row whether something is doubtful about it, its memory outside torch included."""
    return rows["suspicions"].notna() | rows["outside_torch_bytes"].gt(0)


def doubts(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the measured cases that are worth a second look, with what is doubtful about each."""
    columns = [*SLICE, "case", *SIZES, "kernel", "median_s", "outside_torch_bytes"]
    columns += ["passes", "contended_passes", "suspicions"]
    rows = frame.loc[(frame["status"] == "ok") & doubtful(frame), columns].copy()
    rows["suspicions"] = rows["suspicions"].fillna("memory taken outside torch")
    return rows.sort_values([*SLICE, *SIZES, "kernel"], ignore_index=True)


def display_doubts(table: pd.DataFrame) -> pd.DataFrame:
    """Return the cases worth a second look as text."""
    text = pd.DataFrame(
        {
            "case": sizes_text(table),
            "kernel": table["kernel"],
            "stage": table["stage"],
            "device, dtype": table["device"] + ", " + table["dtype"],
            "outside torch, at least": each(format_bytes, table, "outside_torch_bytes"),
            "what is doubtful": table["suspicions"],
        },
        dtype=object,
    )
    known = table["outside_torch_bytes"].gt(0).any()
    return text if known else text.drop(columns="outside torch, at least")


def problems(frame: pd.DataFrame) -> pd.DataFrame:
    """Return every planned case that has no numbers, with its status and reason."""
    columns = [*SLICE, "case", *SIZES, "kernel", "status", "predicted_peak_bytes", "reason"]
    rows = frame.loc[frame["status"] != "ok", columns].copy()
    rows["reason"] = rows["reason"].fillna("no reason was recorded")
    return rows.sort_values([*SLICE, "status", *SIZES, "kernel"], ignore_index=True)


def sizes_text(table: pd.DataFrame) -> pd.Series:
    """Write the sizes of each row."""
    return each(format_case, table, *SIZES)


def each(write: Callable[..., str], table: pd.DataFrame, *columns: str) -> pd.Series:
    """Write each row's values of some columns by a function of as many arguments."""
    written = [write(*row) for row in table[list(columns)].itertuples(index=False)]
    return pd.Series(written, index=table.index, dtype=object)


def _contended(contended: float, passes: float) -> str:
    return f", {contended:.0f} of {passes:.0f} passes contended" if contended > 0 else ""
