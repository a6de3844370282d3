"""How kernels, `auto`, peers and the roofline bound compare, against ratios worked out by hand."""

import pandas as pd
import pytest
from run_builder import build_run, frame_of, play

from bench.analysis.ranking import (
    mean_ratios,
    relative_performance,
    roofline_efficiency,
    slow_first_calls,
)
from bench.report.sections import peer_tables
from bench.report.tables import EFFICIENCIES, FIRST_CALLS, RATIOS, render

SIZES = ((33, 6, 3), (1_000_000, 6, 3))
LAW = (1e-5, 1e-10, "m * o")
SPEEDUPS = {"torch_nn": 1.0, "ours": 4.0, "slower": 3.0, "chooser": 3.0, "theirs": 2.0}


@pytest.fixture
def frame() -> pd.DataFrame:
    run = build_run(("step",), SIZES, kernels={"step": dict.fromkeys(SPEEDUPS, LAW)})
    play(run, "chooser", "auto")
    play(run, "theirs", "peer")
    for entry in run["benchmarks"]:
        extra = entry["extra_info"]
        speedup = SPEEDUPS[extra["kernel"]] * (2 if extra["batch"] > 100 else 1)
        speedup = 1.0 if extra["kernel"] == "torch_nn" else speedup
        extra |= {"speedup": speedup, "speedup_low": speedup, "speedup_high": speedup}
        extra |= {"first_call_s": 1.5 if extra["kernel"] == "theirs" else 1e-4}
    frame = frame_of(run)
    bound = frame["batch"].gt(100).map({True: "memory", False: "compute"})
    return frame.assign(bound=bound, efficiency=frame["speedup"] / 9, roofline_s=1e-3)


def test_ratios_are_quotients_of_paired_ratios(frame: pd.DataFrame) -> None:
    table = relative_performance(frame)
    assert table["kernel"].tolist() == ["ours", "ours"]
    assert table["speedup"].tolist() == [4.0, 8.0]
    assert table["speedup_vs_peer"].tolist() == [2.0, 2.0]
    assert table["auto_vs_best"].tolist() == [0.75, 0.75]
    assert table["auto_vs_peer"].tolist() == [1.5, 1.5]


def test_means_are_geometric_and_the_least_is_named(frame: pd.DataFrame) -> None:
    table = mean_ratios(relative_performance(frame))
    first = table.set_index("ratio").loc["fastest kernel ÷ torch.nn"]
    assert (first["cases"], first["least"], first["batch"]) == (2, 4.0, 33)
    assert first["mean"] == pytest.approx(32**0.5)
    assert "| 5.66×            | 4.00×   | 33 × 6 → 3, float64" in render(table, RATIOS)


def test_efficiency_is_of_the_fastest_and_split_by_what_bounds_it(frame: pd.DataFrame) -> None:
    table = roofline_efficiency(relative_performance(frame))
    assert table["bound"].tolist() == ["memory", "compute"]
    assert table["cases"].tolist() == [1, 1]
    assert table["least"].tolist() == pytest.approx([8 / 9, 4 / 9])
    text = render(table, EFFICIENCIES)
    assert "| about 90 %" in text
    assert "| 44 %" in text
    short = frame.assign(roofline_s=1e-6)
    assert roofline_efficiency(relative_performance(short)).empty
    by_dispatch = relative_performance(short.assign(bound="dispatch"))
    assert roofline_efficiency(by_dispatch)["cases"].tolist() == [2]


def test_where_no_peer_runs_there_is_no_ratio(frame: pd.DataFrame) -> None:
    alone = relative_performance(frame[frame["role"] == "kernel"])
    assert alone["speedup_vs_peer"].isna().all()
    assert peer_tables(alone) == []
    assert len(mean_ratios(alone)) == 1
    assert relative_performance(frame.iloc[:0]).empty


def test_a_baseline_may_be_the_fastest(frame: pd.DataFrame) -> None:
    table = relative_performance(frame[frame["kernel"].isin(["torch_nn", "theirs"])])
    assert table["kernel"].tolist() == ["torch_nn", "torch_nn"]
    assert table["speedup_vs_peer"].tolist() == [0.5, 0.25]


def test_only_long_first_calls_are_told(frame: pd.DataFrame) -> None:
    assert "1.50 s" in render(slow_first_calls(frame), FIRST_CALLS)
    assert slow_first_calls(frame)["kernel"].tolist() == ["theirs"]
