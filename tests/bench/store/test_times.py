"""Times out of the paired slices: they divide to speedups, whatever the machine did meanwhile."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from run_builder import add_case, build_run, frame_of
from stored_runs import stored_frame

CASE = ["run", "threads", "operation", "device", "dtype", "case"]
BASELINE_S, KERNEL_S, LOOP_S = 150e-6, 300e-9, 50e-9


def run_of(*speeds: float, **changed: Any) -> dict[str, Any]:
    """Return a run of a baseline and a kernel of 300 ns: a process at each relative speed."""
    run = build_run([])
    for name in ("torch_nn", "quick"):
        add_case(run, "step", name, (33, 6, 3))
    baseline, quick = run["benchmarks"]
    for benchmark, seconds in ((baseline, BASELINE_S), (quick, KERNEL_S)):
        benchmark["extra_info"] |= {"processes": len(speeds), "speedup": BASELINE_S / seconds}
        benchmark["extra_info"] |= {"speedup_low": None, "speedup_high": None}
        one = seconds + LOOP_S  # pytest-benchmark's loop takes longer
        benchmark["stats"] |= dict.fromkeys(("min", "q1", "median", "q3", "max", "mean"), one)
        benchmark["samples"] = [
            {"process": place, "median_s": one, "rounds": 10, "contended": False}
            for place in range(1, 1 + len(speeds))
        ]
    for sample, speed in zip(quick["samples"], speeds, strict=True):
        sample |= {"paired_s": KERNEL_S / speed, "log_speedup": math.log(BASELINE_S / KERNEL_S)}
        sample |= changed
    return run


def times_of(run: dict[str, Any]) -> pd.Series:
    return frame_of(run).set_index("kernel")["median_s"]


def test_the_loop_around_a_kernel_of_300_ns_is_in_no_time() -> None:
    times = times_of(run_of(1.0, 1.0, 1.0))
    assert times["quick"] == pytest.approx(KERNEL_S)
    assert times["torch_nn"] == pytest.approx(BASELINE_S)


def test_a_kernel_that_met_a_slow_minute_is_no_slower_for_it() -> None:
    """Another kernel of the same process was paired before, when the machine was quick."""
    run = run_of(1.0, 1.0, 1.0)
    for name in ("other", "third"):
        add_case(run, "step", name, (33, 6, 3))
        entry = run["benchmarks"][-1]
        entry["extra_info"] |= {"processes": 3, "speedup": 1.0}
        entry["extra_info"] |= {"speedup_low": None, "speedup_high": None}
        entry["samples"] = [
            {"process": place, "median_s": 1.0, "rounds": 9, "paired_s": BASELINE_S}
            | {"log_speedup": 0.0, "contended": False}
            for place in (1, 2, 3)
        ]
    slow = run["benchmarks"][1]
    for sample in slow["samples"]:
        sample["paired_s"] *= 5
    times = times_of(run)
    assert times["quick"] == pytest.approx(KERNEL_S)
    assert times["torch_nn"] == pytest.approx(BASELINE_S)


def test_disturbed_samples_count_only_where_all_do() -> None:
    run = run_of(1.0, 0.1, 1.0)
    quick = run["benchmarks"][1]
    quick["samples"][1]["contended"] = True
    quick["samples"][1]["log_speedup"] = 0.0
    quick["extra_info"]["processes"] = 2
    assert times_of(run)["quick"] == pytest.approx(KERNEL_S)
    alone = run_of(0.1)
    alone["benchmarks"][1]["samples"][0]["contended"] = True
    assert times_of(alone)["quick"] == pytest.approx(10 * KERNEL_S)


def test_the_spread_keeps_its_scale() -> None:
    run = run_of(1.0, 1.0)
    run["benchmarks"][1]["stats"] |= {"q1": 3e-7, "q3": 4e-7, "min": 2e-7, "max": 9e-7}
    row = frame_of(run).set_index("kernel").loc["quick"]
    assert row["q1_s"] / row["median_s"] == pytest.approx(3e-7 / (KERNEL_S + LOOP_S))
    assert row["q3_s"] / row["median_s"] == pytest.approx(4e-7 / (KERNEL_S + LOOP_S))


def test_without_samples_the_time_is_that_of_its_own_pairs() -> None:
    run = run_of(1.0)
    for entry in run["benchmarks"]:
        entry["samples"] = []
    assert times_of(run)["quick"] == pytest.approx(KERNEL_S + LOOP_S)  # nothing else is known
    run["benchmarks"][1]["extra_info"]["paired_s"] = KERNEL_S
    assert times_of(run)["quick"] == pytest.approx(KERNEL_S)


def test_a_kernel_without_a_pair_is_not_as_slow_as_the_baseline() -> None:
    run = run_of(1.0, 1.0)
    add_case(run, "step", "unpaired", (33, 6, 3))
    entry = run["benchmarks"][-1]
    entry["extra_info"] |= {"processes": 2, "speedup": 1.0}
    entry["extra_info"] |= {"speedup_low": None, "speedup_high": None}
    entry["samples"] = run["benchmarks"][0]["samples"]
    assert times_of(run)["unpaired"] == pytest.approx(entry["stats"]["median"])


def test_times_of_stored_runs_divide_to_their_speedups() -> None:
    frame = stored_frame()
    base = frame[frame["kernel"] == frame["baseline"]].set_index(CASE)["median_s"]
    rows = frame[frame["speedup_low"].notna()].set_index(CASE)
    ratio = base.reindex(rows.index) / rows["median_s"]
    assert len(rows) > 400
    np.testing.assert_allclose(ratio, rows["speedup"], rtol=1e-12)
