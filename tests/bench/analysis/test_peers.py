"""How kernels, `auto`, peers and the roofline bound compare, against ratios worked out by hand."""

import pandas as pd
import pytest
from run_builder import build_run, frame_of, play

from bench.analysis.ranking import (
    fastest,
    mean_ratios,
    relative_performance,
    roofline_efficiency,
    slow_first_calls,
)
from bench.report.markdown import render_template
from bench.report.sections import peer_tables
from bench.report.tables import EFFICIENCIES, FASTEST, FIRST_CALLS, RATIOS, render

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
    table = mean_ratios(relative_performance(frame.assign(bound="cache")))
    first = table.set_index("ratio").loc["fastest kernel ÷ baseline"]
    assert (first["cases"], first["least"], first["most"], first["case"]) == (
        *(2, 4.0, 8.0), "33x6x3",
    )  # fmt: skip
    assert first["mean"] == pytest.approx(32**0.5)
    assert "| 5.66×            | 8.00×  | 4.00×   | 33 × 6 → 3, float64" in render(table, RATIOS)


@pytest.mark.parametrize("bounds", [("dispatch", "compute"), ("dispatch", "memory")])
def test_a_mean_is_of_cases_with_one_kind_of_bound(
    bounds: tuple[str, str], frame: pd.DataFrame
) -> None:
    """A call of which dispatch is most, and a large one: their mean would be of neither."""
    mixed = frame.assign(bound=frame["batch"].map(dict(zip((33, 1_000_000), bounds, strict=True))))
    table = mean_ratios(relative_performance(mixed))
    first = table[table["column"] == "speedup"]
    assert first["bound"].tolist() == list(bounds)
    assert first["cases"].tolist() == [1, 1]
    assert first["mean"].tolist() == pytest.approx([4.0, 8.0])


@pytest.mark.parametrize("doubted", ["ours", "theirs"])
def test_what_has_a_warning_is_in_no_mean_and_never_wins(doubted: str, frame: pd.DataFrame) -> None:
    """Nor is the next one in its place: a mean over torch.nn itself would tell nothing."""
    frame.loc[frame["kernel"] == doubted, "warnings"] = "few rounds: 3 over all processes"
    table = relative_performance(frame)
    assert table["kernel"].tolist() == ([] if doubted == "ours" else ["ours"] * 2)
    assert table["speedup_vs_peer"].isna().all()
    best = fastest(frame)
    assert best["kernel"].tolist() == (["slower"] * 2 if doubted == "ours" else ["ours"] * 2)
    assert best["doubtful"].tolist() == ([["ours"]] * 2 if doubted == "ours" else [[]] * 2)
    assert ("slower; not ranked: ours †" in render(best, FASTEST)) is (doubted == "ours")
    assert not any(doubted in ties for ties in best["ties"])
    nothing = frame.assign(warnings="few rounds: 3 over all processes")
    assert fastest(nothing).empty
    assert relative_performance(nothing).empty


def test_where_auto_is_the_fastest_kernel_itself_their_quotient_is_an_a_a(
    frame: pd.DataFrame,
) -> None:
    """The same callable twice: how far off a quotient is, and no result of any kernel."""
    names = {"ours": "one_pass_step", "chooser": "auto_step"}
    same = frame.assign(kernel=frame["kernel"].replace(names), bound="cache")
    table = relative_performance(same)
    assert table["a_a"].tolist() == [0.75, 0.75]
    assert table["auto_vs_best"].isna().all()
    assert "auto_vs_best" not in set(mean_ratios(table)["column"])
    said = render_template("peers", peers=peer_tables(table))
    assert "A/A measurement and no result. Over 2 cases it is 0.750× to 0.750×" in said
    assert "auto ÷ fastest kernel" not in said
    # `auto` took another kernel here: what it holds says so.
    same.loc[same["role"] == "auto", "peak_bytes"] += 8
    other = relative_performance(same)
    assert other["a_a"].isna().all()
    assert other["auto_vs_best"].tolist() == [0.75, 0.75]
    assert "A/A" not in render_template("peers", peers=peer_tables(other))


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
    assert set(mean_ratios(alone)["column"]) == {"speedup"}
    assert relative_performance(frame.iloc[:0]).empty


def test_a_baseline_may_be_the_fastest(frame: pd.DataFrame) -> None:
    table = relative_performance(frame[frame["kernel"].isin(["torch_nn", "theirs"])])
    assert table["kernel"].tolist() == ["torch_nn", "torch_nn"]
    assert table["speedup_vs_peer"].tolist() == [0.5, 0.25]


def test_only_long_first_calls_are_told(frame: pd.DataFrame) -> None:
    assert "1.50 s" in render(slow_first_calls(frame), FIRST_CALLS)
    assert slow_first_calls(frame)["kernel"].tolist() == ["theirs"]
