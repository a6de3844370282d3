"""Cases with different numbers of threads: side by side, and never in one number."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from reports import blank_figures
from run_builder import FEW_KERNELS, build_run, cases, frame_of, play, save
from stored_runs import PATHS, stored_run

from bench.analysis.compare import ONLY_FIRST, ONLY_SECOND, compare_runs, history_of
from bench.analysis.ranking import (
    fastest,
    mean_ratios,
    relative_performance,
    roofline_efficiency,
)
from bench.analysis.sizes import crossovers, growth_exponents
from bench.cli.commands.tune import fastest_rows, make_table
from bench.overhead.pairs import PAIRS, overhead
from bench.report.build import write_report
from bench.report.publishing import readme_blocks
from bench.report.sections import peer_tables
from bench.store.runs import load_frame, load_run, runs_frame

SIZES = ((10, 6, 3), (100, 6, 3), (1_000, 6, 3), (10_000, 6, 3))
Part = dict[str, Any]


def run_of(threads: int, faster: float = 1.0) -> Part:
    """A run with a number of threads, with which some kernels are so much faster a row."""
    run = build_run(["gradient", "step"], SIZES, kernels=FEW_KERNELS)
    run["settings"]["threads"] = [threads]
    for entry in cases(run):
        entry["threads"] = threads
        if entry.get("speedup") and entry["kernel"] in ("matmul", "fused_addmm"):
            for column in ("speedup", "speedup_low", "speedup_high"):
                entry[column] *= faster ** entry["batch"]
    if threads != 1:
        for entry in (*run["outcomes"], *run["benchmarks"]):
            entry["fullname"] = entry["fullname"].replace("]", f"-{threads}threads]")
    play(run, "fused_addmm", "peer")
    return run


def joined(*runs: Part) -> Part:
    """Return the run that has the cases of all of them."""
    both = runs[0] | {"outcomes": [], "benchmarks": []}
    for name in ("outcomes", "benchmarks"):
        both[name] = [entry for run in runs for entry in run[name]]
    counts = [count for run in runs for count in run["settings"]["threads"]]
    return both | {"settings": runs[0]["settings"] | {"threads": counts}}


@pytest.mark.parametrize(
    "analyse",
    [fastest, partial(overhead, pair=PAIRS[0]), relative_performance, growth_exponents, crossovers],
)
def test_each_number_of_threads_is_analysed_as_if_it_were_alone(
    analyse: Callable[[pd.DataFrame], pd.DataFrame],
) -> None:
    # With two threads the order of the kernels turns round along the batch, with one it does not.
    one, two = run_of(1), run_of(2, 0.999)
    assert len(crossovers(frame_of(one))) < len(crossovers(frame_of(two)))
    found = analyse(frame_of(joined(one, two)))
    for run, threads in ((one, 1), (two, 2)):
        alone = analyse(frame_of(run))
        own = found[found["threads"] == threads].reset_index(drop=True)
        assert len(own) == len(alone)
        if len(alone):
            pd.testing.assert_frame_equal(own, alone.reset_index(drop=True), check_dtype=False)


def test_no_mean_is_over_two_numbers_of_threads() -> None:
    frame = frame_of(joined(run_of(1), run_of(2, 1.001)))
    tables = peer_tables(relative_performance(frame))
    assert [name for name, *_ in tables] == ["Step on cpu"] * 2
    for (_, ratios, efficiency, _), threads in zip(tables, (1, 2), strict=True):
        relative = relative_performance(frame[frame["threads"] == threads])
        steps = relative[relative["operation"] == "step"]
        pd.testing.assert_frame_equal(ratios, mean_ratios(steps))
        pd.testing.assert_frame_equal(efficiency, roofline_efficiency(steps))


def test_runs_are_compared_at_equal_numbers_of_threads() -> None:
    first, second = run_of(1), joined(run_of(1), run_of(2, 1.01))
    table = compare_runs(frame_of(first), frame_of(second))
    of_one, of_two = (table[table["threads"] == count] for count in (1, 2))
    assert set(of_two["why"]) == {ONLY_SECOND}
    assert not set(of_one["why"]) & {ONLY_FIRST, ONLY_SECOND}
    assert of_one["ratio"].dropna().eq(1).all()


def test_a_history_follows_each_number_of_threads() -> None:
    frames = [frame_of(run_of(1), "a"), frame_of(run_of(2, 1.01), "b")]
    assert history_of(pd.concat(frames, ignore_index=True), "quick") is None
    frames.append(frame_of(run_of(1, 1.02), "c"))
    found = history_of(pd.concat(frames, ignore_index=True), "quick")
    assert found is not None
    assert set(found.points["run"]) == {"a", "c"}
    assert set(found.points["threads"]) == {1}
    # With two threads another term of the roofline may be the longest.
    both = [frame_of(joined(run_of(1), run_of(2)), name) for name in "ab"]
    frame = pd.concat(both, ignore_index=True)
    found = history_of(frame.assign(bound=frame["threads"].map({1: "cache", 2: "memory"})), "quick")
    assert found is not None
    pairs = found.points[["threads", "bound"]].drop_duplicates()
    assert pairs.to_numpy().tolist() == [[1, "cache"], [2, "memory"]]


def test_tuning_takes_one_number_of_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that a program has, or what was measured nearest to it."""
    from bench.cli.commands import tune

    monkeypatch.setattr(tune, "machine_slug", lambda: "amd-epyc-2-core")
    monkeypatch.setattr(tune, "measure_part_flops", lambda: None)
    taken: list[set[int]] = []

    def rows_of(frame: pd.DataFrame) -> pd.DataFrame:
        taken.append(set(frame["threads"]))
        return fastest_rows(frame)

    monkeypatch.setattr(tune, "fastest_rows", rows_of)
    path = save(joined(run_of(1), run_of(4)), tmp_path / "a.json")
    for here, expected in ((1, 1), (2, 1), (4, 4), (64, 4)):
        monkeypatch.setattr(tune.torch, "get_num_threads", lambda here=here: here)
        _, told = make_table([path])
        assert taken[-1] == {expected}
        assert f"with {expected} thread" in told


def test_every_part_of_a_report_says_how_many_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blank_figures(monkeypatch)  # of them their names are read, and the texts in their place
    run = joined(run_of(1), run_of(2, 1.001))
    path = save(run, tmp_path / "a.json")
    write_report([path], tmp_path / "out", page=True)
    text = (tmp_path / "out" / "REPORT.md").read_text(encoding="utf-8")
    titles = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert titles[:2] == [f"amd-epyc-2-core, cpu, {count}" for count in ("1 thread", "2 threads")]
    rows = [line for line in text.splitlines() if "→" in line and "batch ×" not in line]
    assert all(line.split("|")[-2].strip() in ("1", "2") for line in rows if line[0] == "|")
    captions = re.findall(r"!\[(.*?)\]", text)
    assert captions
    for caption in captions:
        assert len(re.findall("1 thread|2 threads", caption)) == 1, caption
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    for count in ("1 thread", "2 threads"):
        assert f": amd-epyc-2-core, run a, {count}</summary>" in page
    figures = {figure.name for figure in (tmp_path / "out" / "figures").iterdir()}
    assert "amd-epyc-2-core-gradient-cpu-float64-error.png" in figures
    assert "amd-epyc-2-core-gradient-cpu-float64-2threads-error.png" in figures
    blocks = readme_blocks(load_frame([path]))
    assert "run a, 1 thread." in blocks["fastest-step"]
    assert "2 threads" not in blocks["fastest-step"]


def test_stored_runs_say_it_in_their_settings() -> None:
    for path in PATHS:
        run = stored_run(path)
        said = set(np.atleast_1d(run.settings["threads"]))
        assert set(runs_frame([(path, run)])["threads"]) == said


@pytest.mark.parametrize(
    ("settings", "expected"),
    [({}, 1), ({"threads": 3}, 3), ({"threads": "many"}, 1), ({"threads": -2}, 1),
     ({"threads": 10**30}, 1), ({"threads": [1, 2]}, 1)],
)  # fmt: skip
def test_what_an_older_run_says_of_its_threads_is_data(settings: Part, expected: int) -> None:
    run = build_run(["step"], SIZES[:1], kernels=FEW_KERNELS)
    del run["settings"]["threads"]
    run["settings"] |= settings
    assert set(frame_of(run)["threads"]) == {expected}


def test_an_outcome_and_its_benchmark_have_the_same_number(tmp_path: Path) -> None:
    run = run_of(1)
    run["benchmarks"][0]["extra_info"]["threads"] = 2
    with pytest.raises(Exception, match="differ in the case"):
        load_run(save(run, tmp_path / "a.json"))
