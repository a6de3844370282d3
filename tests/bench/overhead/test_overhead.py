"""What one kernel costs over another: the right ratios, on their map, in every form."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from reports import draw, render, words
from run_builder import FEW_KERNELS, build_run, fail, frame_of, frame_of_rows

from bench.overhead.pairs import PAIRS, Pair, on_map, overhead
from bench.overhead.section import COLUMNS, overhead_figure, subject
from bench.report.tables import render as render_table

JACOBIAN = PAIRS[0]
OTHER = Pair("price", "softmax", "slow", "fast", ("heads", "classes"), "Price", "What price?",
             "The slow one", "the fast one", "price over heads and classes", "Text.")  # fmt: skip


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    return frame_of(build_run(["gradient"], kernels=FEW_KERNELS))


def figure(frame: pd.DataFrame, pair: Pair = JACOBIAN) -> Any:
    return draw(lambda: overhead_figure(pair, overhead(frame, pair), frame))


def test_a_ratio_is_of_the_first_over_the_second(frame: pd.DataFrame) -> None:
    table = overhead(frame, JACOBIAN).set_index("case")
    one = frame[frame["case"] == "1000x16x10"]
    first, second = (one[one["kernel"] == n].iloc[0] for n in (JACOBIAN.kernel, JACOBIAN.over))
    row = table.loc["1000x16x10"]
    assert row["time_ratio"] == first["median_s"] / second["median_s"]
    assert row["time_ratio_low"] < row["time_ratio"] < row["time_ratio_high"]
    assert row["memory_ratio"] == first["peak_bytes"] / second["peak_bytes"]
    gone = table.loc["10000x256x64"]
    assert pd.isna(gone["time_ratio"])
    assert (gone["status"], gone["kernel"]) == ("infeasible", JACOBIAN.kernel)
    assert gone["predicted_memory_ratio"] > 1000
    assert f"{JACOBIAN.kernel}: infeasible" in render_table(overhead(frame, JACOBIAN), COLUMNS)


def test_times_taken_apart_are_no_ratio(frame: pd.DataFrame) -> None:
    drifted = frame.copy()
    drifted.loc[drifted["kernel"] == JACOBIAN.over, ["median_s", "q1_s", "q3_s"]] *= 30
    ratios = ["time_ratio", "time_ratio_low", "time_ratio_high"]
    pd.testing.assert_frame_equal(
        overhead(drifted, JACOBIAN)[ratios], overhead(frame, JACOBIAN)[ratios]
    )


def test_without_memory_or_a_pair_there_is_no_ratio(frame: pd.DataFrame) -> None:
    nothing = frame.assign(peak_bytes=0.0, predicted_peak_bytes=0.0)
    assert overhead(nothing, JACOBIAN)["memory_ratio"].isna().all()
    for rows in (frame[frame["kernel"] == JACOBIAN.over], frame.iloc[:0]):
        assert overhead(rows, JACOBIAN).empty
        told = subject(JACOBIAN, rows)
        assert (told.part, dict(told.figures), dict(told.published)) == (None, {}, {})
        assert list(told.answer(rows)) == list(told.sections({})) == []
        assert told.readme["jacobian"].startswith("No gradient is stored yet")


def test_the_figure_has_each_ratio_and_hatches_what_has_none(frame: pd.DataFrame) -> None:
    rows, held = on_map(overhead(frame, JACOBIAN), JACOBIAN)
    assert held == {"batch": 1_000}
    assert len(rows) == rows["across"].nunique() * rows["up"].nunique()
    assert "7.84×" in words(figure(frame))
    assert "cost at m = 1,000?" in words(figure(frame))
    assert "not planned" not in words(figure(frame))
    holed = frame[frame["case"] != "1000x16x10"]
    assert words(figure(holed)).count("not planned") == 6
    assert "infeasible" in words(figure(frame[frame["batch"] == 10_000]))
    run = build_run(["gradient"], [(33, 6, 3), (100, 6, 3)], kernels=FEW_KERNELS)
    for outcome in run["outcomes"]:
        fail(run, outcome, "oom", None)
    assert render(figure(frame_of(run)))


def test_another_pair_is_told_of_by_its_own_axes() -> None:
    rows = [
        {"operation": "softmax", "kernel": kernel, "baseline": "fast", "speedup": speed,
         "sizes": {"batch": 8, "heads": heads, "classes": classes, "deep": 2}, "peak_bytes": 8.0,
         "commit": "0" * 40}
        for kernel, speed in (("fast", 1.0), ("slow", 0.25))
        for heads in (1, 2) for classes in (10, 20)
    ]  # fmt: skip
    frame = frame_of_rows(rows)
    told = subject(OTHER, frame)
    assert told.part is not None
    assert told.part.shown == ("price", "memory-softmax")
    (answer,) = told.answer(frame)
    assert (answer.question, answer.figure) == ("What price?", "4.00×")
    assert (
        "The slow one takes 4.00× the time and 1.00× the memory of the fast one (4" in answer.said
    )
    (section,) = told.sections({})
    assert section.title.startswith("Price overhead: here, run a")
    assert [heat.corner for heat in section.heats] == ["classes \\ heads"] * 2
    assert section.heats[0].caption == "time with ÷ without, at batch = 8, deep = 2"
    assert section.heats[0].rows[0] == (10, [("4.00×", 10), ("4.00×", 10)])
    text = words(figure(frame, OTHER))
    assert "What price at batch = 8, deep = 2?" in text
    assert {"heads", "classes"} <= set(text.splitlines())
    assert np.isfinite(overhead(frame, OTHER)["memory_ratio"]).all()
