"""What differs from run to run: seen where it is, and no change of code is taken for it."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from run_builder import frame_of_rows

from bench.analysis.between import between_runs, widened

KERNELS = ("one", "two", "three", "four", "five")
SPEEDUPS = ["speedup", "speedup_low", "speedup_high"]
WITHIN = 0.02  # standard deviation of a speedup's logarithm over the processes of a run


def runs_of(
    tau: float, seed: int = 0, runs: int = 3, cases: int = 30,
    changed: Mapping[str, float] | None = None, operation: str = "step",
) -> pd.DataFrame:  # fmt: skip
    """Runs of one grid; some kernels have changed by a factor in the last."""
    random = np.random.default_rng(seed)
    rows = []
    for run in range(runs):
        for kernel in KERNELS:
            for case in range(cases):
                error = random.normal(0, tau) + random.normal(0, WITHIN)
                log = 1.0 + case / 10 + error
                if run == runs - 1:
                    log += np.log((changed or {}).get(kernel, 1.0))
                ends = (log, log - 1.96 * WITHIN, log + 1.96 * WITHIN)
                day = datetime(2026, 11, 24, tzinfo=UTC) + timedelta(hours=6 * run)
                rows.append(
                    {"run": str(run), "operation": operation, "batch": case + 1, "kernel": kernel}
                    | {"datetime": day.isoformat()}
                    | dict(zip(SPEEDUPS, np.exp(ends), strict=True))
                )
    return frame_of_rows(rows)


def sd_of(frame: pd.DataFrame) -> float:
    (found,) = between_runs(frame)["between_sd"]
    return float(found)


@pytest.mark.parametrize("tau", [0.0, 0.03, 0.10])
@pytest.mark.parametrize("runs", [2, 4])
def test_a_known_deviation_is_found_again(tau: float, runs: int) -> None:
    found = [sd_of(runs_of(tau, seed, runs)) for seed in range(8)]
    assert np.median(found) == pytest.approx(tau, rel=0.15, abs=0.006)


def test_a_kernel_whose_code_changed_widens_no_interval() -> None:
    """Twice as fast since the last commit, two of five: the others still say what repeats."""
    changed = sd_of(runs_of(0.03, changed={"one": 2.0, "two": 2.0}))
    assert changed == pytest.approx(0.03, rel=0.35)
    two = runs_of(0.0, changed={"one": 2.0})
    assert sd_of(two[two["kernel"].isin(["one", "two"])]) < 0.01


def test_cases_with_one_and_with_two_threads_are_never_the_same_case() -> None:
    """What more threads change of a speedup is no difference between runs."""
    frame = runs_of(0.03)
    more = frame.assign(threads=2, **{name: 3 * frame[name] for name in SPEEDUPS})
    first = frame["run"] == "0"
    assert between_runs(pd.concat([frame[first], more[~first & (frame["run"] == "1")]])).empty
    assert sd_of(pd.concat([frame, more])) == pytest.approx(0.03, rel=0.35)


def outside(frame: pd.DataFrame) -> float:
    """The share of differences of two runs that leave the widths of both, on the logarithm."""
    logs = np.log(frame.set_index(["run", "kernel", "case"])[SPEEDUPS])
    half = (logs["speedup_high"] - logs["speedup_low"]) / 2
    apart = (logs["speedup"]["0"] - logs["speedup"]["1"]).abs()
    return float((apart > np.hypot(half["0"], half["1"])).mean())


def test_widened_intervals_hold_for_another_run_where_those_of_one_run_do_not() -> None:
    frames = [runs_of(0.05, seed) for seed in range(6)]
    assert np.mean([outside(frame) for frame in frames]) > 0.4
    widths = [outside(widened(frame, [frame])) for frame in frames]
    assert np.mean(widths) == pytest.approx(0.05, abs=0.02)


def test_an_interval_is_widened_on_the_logarithm_and_says_from_what() -> None:
    group = runs_of(0.05)
    frame = group[group["run"] == "0"].iloc[:2].reset_index(drop=True)
    frame = frame.assign(speedup_cold=2.0, speedup_cold_low=1.9, speedup_cold_high=2.2)
    table = widened(frame, [group])
    reach = 1.96 * table["between_sd"]
    for name, end in (("speedup", "low"), ("speedup", "high"), ("speedup_cold", "high")):
        before, after = (np.log(one[f"{name}_{end}"] / one[name]) for one in (frame, table))
        assert after.abs().tolist() == pytest.approx(np.hypot(before, reach).tolist())
    assert table["speedup"].tolist() == frame["speedup"].tolist()
    assert table[["between_runs", "between_hours"]].iloc[0].tolist() == [3, 12]


def test_the_largest_of_several_grids_counts_and_of_another_operation_none() -> None:
    quiet, restless = runs_of(0.0), runs_of(0.08)
    other = runs_of(0.3, operation="fit")
    for groups in ([quiet, restless, other], [other, restless, quiet]):
        table = widened(quiet, groups)
        assert table["between_sd"].tolist() == [sd_of(restless)] * len(quiet)
        assert len(table) == len(quiet)


@pytest.mark.parametrize("what", ["one run", "one kernel", "warnings", "no interval", "nothing"])
def test_where_runs_do_not_tell_an_interval_stays_as_it_was_stored(what: str) -> None:
    group = runs_of(0.1)
    told = {
        "one run": group[group["run"] == "0"],
        "one kernel": group[group["kernel"] == "one"],  # whose code may have changed
        "warnings": group.assign(warnings="few rounds: 3 over all processes"),
        "no interval": group.assign(speedup_low=np.nan, speedup_high=np.nan),
        "nothing": group.iloc[:0],
    }[what]
    table = widened(group, [told])
    assert table["between_sd"].isna().all()
    ends = ["speedup_low", "speedup_high"]
    assert table[ends].to_numpy() == pytest.approx(group[ends].to_numpy())
