"""Tables: pure, complete, with units, and the right numbers in them."""

import doctest
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from run_builder import SIZES, build_run, doubt, fail, rename

from bench.analysis import frame as tables
from bench.analysis import jacobian as price
from bench.analysis import ranking
from bench.analysis.frame import (
    MARK,
    Slice,
    display,
    display_doubts,
    doubts,
    numbers,
    problems,
    slices,
)
from bench.analysis.jacobian import display_price, jacobian_price
from bench.analysis.ranking import display_summary, fastest, summary, with_intervals
from bench.common import units
from bench.common.units import digits, format_bytes, format_ratio, format_time
from bench.store import runs as store
from bench.store.runs import runs_frame
from bench.store.schema import Run


def frame_of(run: dict[str, Any], name: str = "a") -> pd.DataFrame:
    return runs_frame({Path(f"{name}.json"): Run.model_validate(run)})


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return frame_of(build_run())


@pytest.mark.parametrize("module", [units, store, tables, price, ranking])
def test_examples(module: Any) -> None:
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(1e-10, "0.100 ns"), (9.996e-7, "1.00 µs"), (1.23e-2, "12.3 ms"), (4321, "4,320 s")],
)
def test_times_have_units(seconds: float, text: str) -> None:
    assert format_time(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.00 KiB"),
        (2**20 - 1, "1.00 MiB"),
        (2.0**80, "1.00 YiB"),
        (2.0**110, "1,070,000,000 YiB"),
    ],
)
def test_bytes_have_binary_units(count: float, text: str) -> None:
    assert format_bytes(count) == text


def test_no_number_is_a_dash() -> None:
    nan = float("nan")
    assert {format_time(nan), format_bytes(nan), format_ratio(nan)} == {"–"}
    assert format_ratio(2, nan, 3) == "2.00×"
    assert digits(2347827) == "2,350,000"


def test_slices_are_ordered_and_never_pooled(frame: pd.DataFrame) -> None:
    assert [part.stage for part in slices(frame)] == ["gradient", "step", "fit"]
    assert sum(len(part.of(frame)) for part in slices(frame)) == len(frame)
    other = frame_of(build_run(["gradient"], slug="zen"), "b")
    both = pd.concat([frame, other], ignore_index=True)
    assert len(slices(both)) == 4
    assert set(slices(both)[-1].of(both)["machine"]) == {"zen"}


def test_inputs_stay_as_they_are(frame: pd.DataFrame) -> None:
    before = frame.copy(deep=True)
    part = slices(frame)[0]
    for make in (problems, jacobian_price, fastest, summary):
        make(frame)
    display(part.of(frame))
    pd.testing.assert_frame_equal(frame, before)


def test_display_groups_by_size_fastest_first(frame: pd.DataFrame) -> None:
    part = slices(frame)[0]
    text, raw = display(part.of(frame)), numbers(part.of(frame))
    assert len(text) == len(raw) == len(part.of(frame))
    assert text["batch × in → out"].ne("").sum() == len(SIZES)
    first = text.iloc[0]
    assert first["batch × in → out"] == "33 × 6 → 3"
    assert first["time: median (q1–q3)"].startswith("8.63 µs (8.37–9.32)")
    assert set(text.loc[text["kernel"] == "autograd", "speedup to torch.nn"]) == {"baseline"}
    failed = text[text["status"] == "infeasible"]
    assert len(failed) == 3
    assert set(failed["time: median (q1–q3)"]) == {"–"}
    assert "–" not in set(failed["predicted"])


def test_efficiency_is_left_out_where_unknown(frame: pd.DataFrame) -> None:
    rows = slices(frame)[0].of(frame)
    assert "floor ÷ time" in display(rows)
    assert "floor ÷ time" not in display(rows.assign(efficiency=float("nan")))


def test_price_is_heavy_over_light(frame: pd.DataFrame) -> None:
    price = jacobian_price(frame).set_index("case")
    one = frame[(frame["stage"] == "gradient") & (frame["case"] == "1000x16x10")]
    kron, matmul = (one[one["kernel"] == name].iloc[0] for name in ("kron_einsum", "matmul"))
    row = price.loc["1000x16x10"]
    assert row["time_ratio"] == kron["median_s"] / matmul["median_s"]
    assert row["time_ratio_low"] < row["time_ratio"] < row["time_ratio_high"]
    assert row["memory_ratio"] == kron["peak_bytes"] / matmul["peak_bytes"]
    gone = price.loc["10000x256x64"]
    assert pd.isna(gone["time_ratio"])
    assert (gone["status"], gone["kernel"]) == ("infeasible", "kron_einsum")
    assert gone["predicted_memory_ratio"] > 1000
    assert "kron_einsum: infeasible" in set(display_price(jacobian_price(frame))["status"])


def test_price_copes_with_no_memory_and_no_pair(frame: pd.DataFrame) -> None:
    nothing = frame.assign(peak_bytes=0.0, predicted_peak_bytes=0.0)
    assert jacobian_price(nothing)["memory_ratio"].isna().all()
    for rows in (frame[frame["kernel"] == "matmul"], frame.iloc[:0]):
        assert jacobian_price(rows).empty
        assert display_price(jacobian_price(rows)).empty


def test_problems_name_every_case_without_numbers() -> None:
    run = build_run(["gradient"], [(33, 6, 3)])
    for status, outcome in zip(("oom", "timeout", "crashed"), run["outcomes"], strict=False):
        fail(run, outcome, status, None if status == "oom" else f"why {status}")
    table = problems(frame_of(run))
    assert list(table["status"]) == ["crashed", "oom", "timeout"]
    assert list(table["reason"]) == ["why crashed", "no reason was recorded", "why timeout"]


def test_fastest_tells_ties_and_baseline(frame: pd.DataFrame) -> None:
    best = fastest(frame)
    assert set(best.loc[best["stage"] == "gradient", "kernel"]) == {"matmul"}
    assert (best["baseline_s"] > best["median_s"]).all()
    assert set(best.loc[best["stage"] == "gradient", "also"]) == {""}
    winner = frame[frame["kernel"] == "matmul"].set_index("case")["speedup"]
    einsum = frame["kernel"] == "einsum"
    ends = ["speedup_low", "speedup_high"]
    for share, told_apart in ((0.95, False), (0.85, True)):
        tied = frame.copy()
        tied[ends] = np.nan
        tied.loc[einsum, "speedup"] = share * tied.loc[einsum, "case"].map(winner)
        also = "" if told_apart else "einsum"
        assert set(fastest(tied).loc[lambda t: t["stage"] == "gradient", "also"]) == {also}
        shown = set(display_summary(summary(tied))["fastest"])
        assert ("matmul ≈ einsum" in shown) is not told_apart
    tied[ends] = tied[["speedup", "speedup"]].to_numpy() * [0.99, 1.2]
    assert set(fastest(tied).loc[lambda t: t["stage"] == "gradient", "also"]) == {"einsum"}


def test_times_taken_apart_are_no_ranking(frame: pd.DataFrame) -> None:
    """One kernel was timed while the machine was slow: its paired ratio knows better."""
    drifted = frame.copy()
    drifted.loc[drifted["kernel"] == "matmul", ["median_s", "q1_s", "q3_s"]] *= 30
    best = fastest(drifted)
    assert set(best.loc[best["stage"] == "gradient", "kernel"]) == {"matmul"}
    ratios = ["time_ratio", "time_ratio_low", "time_ratio_high"]
    pd.testing.assert_frame_equal(jacobian_price(drifted)[ratios], jacobian_price(frame)[ratios])


def test_summary_spreads_over_the_sizes(frame: pd.DataFrame) -> None:
    table = summary(frame, limit=4)
    work = table[["batch", "in_features", "out_features"]].prod(axis=1)
    assert len(table) == 4
    assert work.is_monotonic_increasing
    assert (work.min(), work.max()) == (33 * 6 * 3, 10_000 * 256 * 64)
    assert display_summary(table).iloc[-1]["Jacobian: time"] == "infeasible"


def test_everything_copes_with_little() -> None:
    run = build_run(["gradient"], [(33, 6, 3)])
    for outcome in run["outcomes"]:
        fail(run, outcome, "wrong", "off")
    for some in (frame_of(run), frame_of(run).iloc[:1], frame_of(run).iloc[:0]):
        assert fastest(some).empty
        assert display_summary(summary(some)).empty
        assert len(problems(some)) == len(display(some)) == len(some)


def test_many_kernels() -> None:
    laws = {f"kernel_{place}": (1e-5 * (place + 1), 1e-10, "m") for place in range(25)}
    run = build_run(["gradient"], [(33, 6, 3)], kernels={"gradient": laws})
    rename(run, "kernel_3", "a|b\n")
    assert len(display(frame_of(run))) == 25
    assert isinstance(slices(frame_of(run))[0], Slice)


def test_an_interval_tells_apart_where_10_percent_would_not(frame: pd.DataFrame) -> None:
    """Passes know better than the rule of thumb for a single process, either way."""
    one = frame[(frame["stage"] == "gradient") & (frame["case"] == "1000x16x10")].copy()
    one = one[one["kernel"].isin(["matmul", "einsum", "autograd"])].set_index("kernel")
    columns = ["speedup", "speedup_low", "speedup_high"]
    for einsum, also in (((1.96, 1.95, 1.97), ""), ((1.8, 1.5, 2.2), "einsum")):
        one.loc["matmul", columns] = (2.0, 1.98, 2.02)
        one.loc["einsum", columns] = einsum
        assert list(fastest(one.reset_index())["also"]) == [also]
    # The baseline's own speedup is 1 and nothing else.
    for high, also in ((0.99, ""), (1.01, "matmul")):
        one.loc["matmul", columns] = (0.97, 0.95, high)
        one.loc["einsum", columns] = (0.5, 0.4, 0.6)
        best = fastest(one.reset_index()).iloc[0]
        assert (best["kernel"], best["also"]) == ("autograd", also)


def test_every_row_has_an_interval(frame: pd.DataFrame) -> None:
    single = frame.assign(speedup_low=np.nan, speedup_high=np.nan)
    for rows in (frame, single):
        ends = with_intervals(rows[rows["status"] == "ok"])
        assert (ends["low"] <= ends["speedup"]).all()
        assert (ends["speedup"] <= ends["high"]).all()
    ends = with_intervals(single[single["status"] == "ok"])
    assert (ends["high"] / ends["low"]).to_numpy() == pytest.approx(1.1)


def test_doubtful_cases_are_marked_and_listed() -> None:
    run = build_run(["gradient"], [(33, 6, 3)], passes=5)
    planned = {outcome["kernel"]: outcome for outcome in run["outcomes"]}
    doubt(run, planned["jacrev"], ["few rounds: 3 over all passes", "it sleeps?"])
    doubt(run, planned["einsum"], [], outside_torch_bytes=2**20)
    doubt(run, planned["matmul"], [], contended_passes=2, outside_torch_bytes=0)
    frame = frame_of(run)
    text = display(frame)
    marked = {kernel for kernel in text["kernel"] if MARK in kernel}
    assert marked == {f"jacrev {MARK}", f"einsum {MARK}"}
    status = text.set_index("kernel")["status"]
    assert status["matmul"] == "ok, 2 of 5 passes contended"
    assert status["autograd"] == "ok"
    listed = display_doubts(doubts(frame)).set_index("kernel")
    assert list(listed.index) == ["einsum", "jacrev"]
    assert listed.loc["jacrev", "what is doubtful"] == "few rounds: 3 over all passes; it sleeps?"
    assert listed.loc["einsum", "outside torch, at least"] == "1.00 MiB"
    nothing = frame[frame["kernel"] == "jacrev"]
    assert "outside torch, at least" not in display_doubts(doubts(nothing))
    assert doubts(frame[frame["kernel"] == "autograd"]).empty
    assert {"suspicions", "outside_torch_bytes", "contended_passes"} <= set(numbers(frame))


def test_device_times_only_where_there_are_any() -> None:
    names = ["device time, cold", "device time, hot", "launch gap"]
    on_gpu = frame_of(build_run(["gradient"], [(33, 6, 3)], device="cuda", passes=5))
    row = display(on_gpu).iloc[0]
    assert list(row[names]) == ["5.18 µs", "4.31 µs", "3.45 µs"]
    assert not set(names) & set(display(frame_of(build_run(["gradient"], [(33, 6, 3)], passes=5))))
