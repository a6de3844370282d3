"""Tables: pure, complete, with units, and the right numbers in them."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from run_builder import SIZES, build_run, doubt, fail, frame_of, rename

from bench.analysis.frame import (
    facets,
    flagged_results,
    in_order,
    is_flagged,
    longest_line,
    missing_results,
)
from bench.analysis.ranking import fastest, spread, with_intervals
from bench.common.units import digits, format_bytes, format_ratio, format_time
from bench.report.tables import FASTEST, FLAGGED, render, results_columns

RESULTS = [
    column for column in results_columns(frame_of(build_run())) if column.names != ["remark"]
]


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return frame_of(build_run())


@pytest.mark.parametrize(
    ("write", "value", "text"),
    [
        *((format_time, 1e-10, "0.100 ns"), (format_time, 9.996e-7, "1.00 µs")),
        *((format_time, 1.23e-2, "12.3 ms"), (format_time, 4321, "4,320 s")),
        *((format_bytes, 0, "0 B"), (format_bytes, 1023, "1023 B")),
        (format_bytes, 1024, "1.00 KiB"),
        *((format_bytes, 2**20 - 1, "1.00 MiB"), (format_bytes, 2.0**80, "1.00 YiB")),
        (format_bytes, 2.0**110, "1,070,000,000 YiB"),
    ],
)
def test_numbers_have_units(write: Any, value: float, text: str) -> None:
    assert write(value) == text


def test_no_number_is_a_dash() -> None:
    nan = float("nan")
    assert {format_time(nan), format_bytes(nan), format_ratio(nan)} == {"–"}
    assert format_ratio(2, nan, 3) == "2.00×"
    assert digits(2347827) == "2,350,000"


def test_slices_are_ordered_and_never_pooled(frame: pd.DataFrame) -> None:
    assert [part.operation for part in facets(frame)] == ["gradient", "step", "fit"]
    assert sum(len(part.of(frame)) for part in facets(frame)) == len(frame)
    other = frame_of(build_run(["gradient"], slug="zen"), "b")
    both = pd.concat([frame, other], ignore_index=True)
    assert len(facets(both)) == 4
    assert set(facets(both)[-1].of(both)["machine"]) == {"zen"}


def cells(frame: pd.DataFrame, columns: Any) -> pd.DataFrame:
    """Return a table of a report as its cells."""
    lines = [line.split("|")[1:-1] for line in render(frame, columns).splitlines()]
    head, _, *rows = [[cell.strip() for cell in line] for line in lines]
    return pd.DataFrame(rows, columns=head)


def test_inputs_stay_as_they_are(frame: pd.DataFrame) -> None:
    before = frame.copy(deep=True)
    part = facets(frame)[0]
    for make in (missing_results, fastest, spread):
        make(frame)
    in_order(part.of(frame))
    pd.testing.assert_frame_equal(frame, before)


def test_results_are_by_size_and_the_fastest_first(frame: pd.DataFrame) -> None:
    rows = facets(frame)[0].of(frame)
    text = cells(in_order(rows), RESULTS)
    assert len(text) == len(rows)
    assert text["batch × in → out"].nunique() == len(SIZES)
    first = text.iloc[0]
    assert first["batch × in → out"] == "33 × 6 → 3"
    assert first["time: median (q1–q3)"].startswith("8.63 µs (8.37–9.32)")
    assert set(text.loc[text["kernel"] == "autograd", "speedup vs. autograd"]) == {"baseline"}
    failed = text[text["status"] == "infeasible"]
    assert len(failed) == 3
    assert set(failed["time: median (q1–q3)"]) == {"–"}
    assert "–" not in set(failed["predicted"])


def test_efficiency_is_left_out_where_unknown(frame: pd.DataFrame) -> None:
    rows = in_order(facets(frame)[0].of(frame))
    assert "roofline efficiency" in cells(rows, RESULTS)
    unknown = rows.assign(efficiency=float("nan"))
    assert "roofline efficiency" not in cells(unknown, RESULTS)
    undeclared = cells(unknown.assign(least_flops=float("nan")), RESULTS)
    assert set(undeclared["roofline efficiency"]) == {"not declared", "–"}


def test_every_case_without_a_result_is_named() -> None:
    run = build_run(["gradient"], [(33, 6, 3)])
    for status, outcome in zip(("oom", "timeout", "crashed"), run["outcomes"], strict=False):
        fail(run, outcome, status, None if status == "oom" else f"why {status}")
    table = missing_results(frame_of(run))
    assert list(table["status"]) == ["crashed", "oom", "timeout"]
    assert list(table["reason"]) == ["why crashed", "no reason was recorded", "why timeout"]


def test_the_longest_line_is_that_with_the_most_points(frame: pd.DataFrame) -> None:
    rows = facets(frame)[0].of(frame)
    line = longest_line(rows, "batch")
    assert set(line["in_features"]) == {6}
    assert set(line["out_features"]) == {3}
    assert line["batch"].nunique() == 6


def test_fastest_tells_ties_and_baseline(frame: pd.DataFrame) -> None:
    best = fastest(frame)
    assert set(best.loc[best["operation"] == "gradient", "kernel"]) == {"matmul"}
    assert (best["baseline_s"] > best["median_s"]).all()
    assert best.loc[best["operation"] == "gradient", "ties"].tolist() == [[]] * len(SIZES)
    winner = frame[frame["kernel"] == "matmul"].set_index("case")["speedup"]
    einsum = frame["kernel"] == "einsum"
    ends = ["speedup_low", "speedup_high"]
    for share, told_apart in ((0.95, False), (0.85, True)):
        tied = frame.copy()
        tied[ends] = np.nan
        tied.loc[einsum, "speedup"] = share * tied.loc[einsum, "case"].map(winner)
        ties = [] if told_apart else ["einsum"]
        found = fastest(tied).loc[lambda t: t["operation"] == "gradient", "ties"]
        assert found.tolist() == [ties] * len(SIZES)
        shown = set(cells(fastest(tied), FASTEST)["fastest"])
        assert ("matmul ≈ einsum" in shown) is not told_apart
    tied[ends] = tied[["speedup", "speedup"]].to_numpy() * [0.99, 1.2]
    found = fastest(tied).loc[lambda t: t["operation"] == "gradient", "ties"]
    assert found.tolist() == [["einsum"]] * len(SIZES)


def test_times_taken_apart_are_no_ranking(frame: pd.DataFrame) -> None:
    """One kernel was timed while the machine was slow: its paired ratio knows better."""
    drifted = frame.copy()
    drifted.loc[drifted["kernel"] == "matmul", ["median_s", "q1_s", "q3_s"]] *= 30
    best = fastest(drifted)
    assert set(best.loc[best["operation"] == "gradient", "kernel"]) == {"matmul"}


def test_a_few_sizes_are_spread_from_the_least_to_the_most_work(frame: pd.DataFrame) -> None:
    table = spread(fastest(frame[frame["operation"] == "gradient"]))
    work = table[["batch", "in_features", "out_features"]].prod(axis=1)
    assert len(table) == 6
    assert work.is_monotonic_increasing
    assert (work.min(), work.max()) == (33 * 6 * 3, 10_000 * 256 * 64)


def test_everything_copes_with_little() -> None:
    run = build_run(["gradient"], [(33, 6, 3)])
    for outcome in run["outcomes"]:
        fail(run, outcome, "wrong", "off")
    for some in (frame_of(run), frame_of(run).iloc[:1], frame_of(run).iloc[:0]):
        assert fastest(some).empty
        assert len(missing_results(some)) == len(cells(in_order(some), RESULTS)) == len(some)


def test_many_kernels() -> None:
    laws = {f"kernel_{place}": (1e-5 * (place + 1), 1e-10, "m") for place in range(25)}
    run = build_run(["gradient"], [(33, 6, 3)], kernels={"gradient": laws})
    rename(run, "kernel_3", "a|b\n")
    assert len(cells(in_order(frame_of(run)), RESULTS)) == 25


def test_an_interval_tells_apart_where_10_percent_would_not(frame: pd.DataFrame) -> None:
    """Passes know better than the rule of thumb for a single process, either way."""
    one = frame[(frame["operation"] == "gradient") & (frame["case"] == "1000x16x10")].copy()
    one = one[one["kernel"].isin(["matmul", "einsum", "autograd"])].set_index("kernel")
    columns = ["speedup", "speedup_low", "speedup_high"]
    for einsum, ties in (((1.96, 1.95, 1.97), []), ((1.8, 1.5, 2.2), ["einsum"])):
        one.loc["matmul", columns] = (2.0, 1.98, 2.02)
        one.loc["einsum", columns] = einsum
        assert list(fastest(one.reset_index())["ties"]) == [ties]
    # The baseline's own speedup is 1 and nothing else.
    for high, ties in ((0.99, []), (1.01, ["matmul"])):
        one.loc["matmul", columns] = (0.97, 0.95, high)
        one.loc["einsum", columns] = (0.5, 0.4, 0.6)
        best = fastest(one.reset_index()).iloc[0]
        assert (best["kernel"], best["ties"]) == ("autograd", ties)


def test_every_row_has_an_interval(frame: pd.DataFrame) -> None:
    single = frame.assign(speedup_low=np.nan, speedup_high=np.nan)
    for rows in (frame, single):
        ends = with_intervals(rows[rows["status"] == "ok"])
        assert (ends["low"] <= ends["speedup"]).all()
        assert (ends["speedup"] <= ends["high"]).all()
    ends = with_intervals(single[single["status"] == "ok"])
    assert (ends["high"] / ends["low"]).to_numpy() == pytest.approx(1.1)


def test_results_with_a_warning_are_marked_and_listed() -> None:
    run = build_run(["gradient"], [(33, 6, 3)], processes=5)
    planned = {outcome["kernel"]: outcome for outcome in run["outcomes"]}
    doubt(run, planned["jacrev"], ["few rounds: 3 over all processes", "it sleeps?"])
    doubt(run, planned["einsum"], [], untracked_bytes=2**20)
    doubt(run, planned["matmul"], [], untracked_bytes=0)
    frame = frame_of(run)
    assert set(frame.loc[is_flagged(frame), "kernel"]) == {"jacrev", "einsum"}
    listed = cells(flagged_results(frame), FLAGGED).set_index("kernel")
    assert list(listed.index) == ["einsum", "jacrev"]
    assert listed.loc["jacrev", "warning"] == "few rounds: 3 over all processes; it sleeps?"
    assert listed.loc["einsum", "outside torch, at least"] == "1.00 MiB"
    nothing = frame[frame["kernel"] == "jacrev"]
    assert "outside torch, at least" not in cells(flagged_results(nothing), FLAGGED)
    assert flagged_results(frame[frame["kernel"] == "autograd"]).empty


def test_device_times_only_where_there_are_any() -> None:
    names = ["device time, cold", "device time, hot", "launch gap"]
    on_gpu = frame_of(build_run(["gradient"], [(33, 6, 3)], device="cuda", processes=5))
    row = cells(in_order(on_gpu), RESULTS).iloc[0]
    assert list(row[names]) == ["5.18 µs", "4.31 µs", "3.45 µs"]
    on_cpu = frame_of(build_run(["gradient"], [(33, 6, 3)], processes=5))
    assert not set(names) & set(cells(in_order(on_cpu), RESULTS))
