"""The roofline bound: attacked with tables of ceilings in which an easy look-up is no bound."""

from math import nan
from typing import Any

import pandas as pd
import pytest
from run_builder import build_run, frame_of
from stored_runs import stored_frame

from bench.common.units import format_efficiency
from bench.store.columns import BOUNDS
from bench.store.schema import Ceilings

MIB = 2**20
CEILINGS = Ceilings(
    dispatch_s=1e-6,
    bandwidth_bytes_per_s=[[16 * MIB, 80e9], [MIB, 120e9], [64 * MIB, 27e9], [128 * MIB, 30e9]],
    flops_per_s={"float32": 2e9, "float64": 1e9},
    last_cache_bytes=32 * MIB,
)


@pytest.mark.parametrize(
    ("dtype", "flops", "moved", "seconds", "bound"),
    [
        ("float64", 10, 10, 1e-6, "dispatch"),
        ("float64", 10**6, 10, 1e-3, "compute"),
        ("float32", 10**6, 10, 5e-4, "compute"),
        ("bfloat16", 10**6, 10, 5e-4, "compute"),  # not measured: the highest rate that was
        ("float64", 10, MIB / 2, MIB / 2 / 120e9, "cache"),  # smaller than any: the fastest
        ("float64", 10, MIB, MIB / 120e9, "cache"),
        ("float64", 10, 15 * MIB, 15 * MIB / 120e9, "cache"),
        ("float64", 10, 32 * MIB, 32 * MIB / 80e9, "cache"),
        ("float64", 10, 33 * MIB, 33 * MIB / 80e9, "memory"),
        ("float64", 10, 64 * MIB, 64 * MIB / 30e9, "memory"),  # of a larger set, and faster
        ("float64", 10, 10**10, 10**10 / 30e9, "memory"),
    ],
)
def test_the_bound_is_the_longest_of_work_traffic_and_dispatch(
    dtype: str, flops: float, moved: float, seconds: float, bound: str
) -> None:
    found = CEILINGS.roofline(dtype, flops, moved)
    assert found.hot_s == pytest.approx(seconds)
    assert found.bound == bound in BOUNDS


@pytest.mark.parametrize("moved", [20 * MIB, 33 * MIB, 48 * MIB, 63 * MIB])
def test_a_case_that_lies_partly_in_a_cache_is_not_held_against_the_memory(moved: int) -> None:
    """What fits the cache comes at its rate: the rate of the next larger set is no bound."""
    cached = min(moved, 32 * MIB)
    possible_s = cached / 80e9 + (moved - cached) / 30e9
    rates = CEILINGS.bandwidth_bytes_per_s
    old_s = moved / max(rate for size, rate in rates if size >= moved)
    assert CEILINGS.roofline("float64", 0, moved).hot_s <= possible_s < old_s


def test_cold_inputs_come_from_memory_and_nothing_else_does() -> None:
    found = CEILINGS.roofline("float64", 10, 8 * MIB, 6 * MIB)
    assert found.hot_s == pytest.approx(8 * MIB / 120e9)
    assert found.cold_s == pytest.approx(6 * MIB / 30e9)
    evicted = CEILINGS.model_copy(update={"cold_bytes_per_s": 40e9})
    assert evicted.roofline("float64", 0, 8 * MIB, 6 * MIB).cold_s == pytest.approx(6 * MIB / 40e9)
    slower = CEILINGS.model_copy(update={"cold_bytes_per_s": 20e9})  # than the memory's own
    assert slower.roofline("float64", 0, 8 * MIB, 6 * MIB).cold_s == found.cold_s
    busy = CEILINGS.roofline("float64", 10**9, 8 * MIB, 6 * MIB)
    assert busy.cold_s == busy.hot_s == 1.0


def test_what_was_not_measured_bounds_nothing() -> None:
    assert Ceilings().roofline("float64", 10**9, 10**9, 10**9)[:2] == (0.0, 0.0)
    peak = Ceilings(flops_per_s={"float64": 1e9})
    assert peak.roofline("float64", 10**9, 10**9, 10**9) == (1.0, 1.0, "compute")


def row_of(run: dict[str, Any], **work: float) -> pd.Series:
    run["machine"]["ceilings"] = {"cpu": CEILINGS.model_dump()}
    for outcome in run["outcomes"]:
        outcome |= work
    return frame_of(run).iloc[0]


def test_the_frame_holds_a_case_against_the_work_of_its_operation() -> None:
    run = build_run(["step"], [(1_000, 6, 3)])
    work = {"least_flops": 10.0, "least_bytes": 64.0 * MIB, "input_bytes": 60.0 * MIB}
    run["benchmarks"][0]["extra_info"]["cold_s"] = 0.01
    row = row_of(run, **work)
    assert row["bound"] == "memory"
    assert row["roofline_s"] == pytest.approx(64 * MIB / 30e9)
    assert row["efficiency"] == row["roofline_s"] / row["median_s"]
    assert row["efficiency_cold"] == row["roofline_cold_s"] / 0.01


def test_an_older_run_is_held_against_the_least_of_its_formulas() -> None:
    run = build_run(["step"], [(1_000, 6, 3)])
    run["outcomes"][-1] |= {"flops": 5_000_000, "bytes_moved": 64 * MIB}
    for outcome, flops in zip(run["outcomes"], (9e6, 4e6, 0, 5e6), strict=True):
        outcome |= {"flops": flops, "bytes_moved": 100.0}  # one was unsupported: it says nothing
    row = row_of(run)
    assert (row["roofline_s"], row["bound"]) == (pytest.approx(4e-3), "compute")


def test_without_ceilings_there_is_no_bound() -> None:
    run = build_run(["step"], [(1_000, 6, 3)])
    run["machine"]["ceilings"] = {}
    frame = frame_of(run)
    assert frame[["efficiency", "bound"]].isna().all(axis=None)


def test_no_stored_case_is_faster_than_its_bound_without_a_warning() -> None:
    frame = stored_frame()
    measured = frame[frame["status"] == "ok"]
    assert measured["efficiency"].notna().all()
    assert {"dispatch", "cache", "compute"} <= set(measured["bound"]) <= set(BOUNDS)
    beyond = measured[measured["efficiency"] > 1.11]
    assert beyond["warnings"].str.contains("faster than the roofline bound").all()
    assert len(beyond) < 20


def test_nothing_that_rests_on_a_bandwidth_is_claimed_to_the_per_cent() -> None:
    written = {bound: format_efficiency(0.877, bound) for bound in BOUNDS}
    exact, about = "88 %", "about 90 %"
    assert written == {"dispatch": exact, "cache": about, "memory": about, "compute": exact}
    assert format_efficiency(0.01, "memory") == "under 5 %"
    assert format_efficiency(0.001, "compute") == "under 1 %"
    assert format_efficiency(nan, "compute") == "–"
