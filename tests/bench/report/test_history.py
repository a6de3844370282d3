"""History: a change of the code is seen, noise is not, and nothing alike is joined by mistake."""

from pathlib import Path
from typing import Any

import pytest
from reports import blank_figures
from run_builder import FEW_KERNELS, build_run, save

from bench.analysis.compare import changed, comparable_runs, history_of
from bench.report.build import write_report
from bench.report.sections import history_subject
from bench.store.runs import load_heads, load_run, runs_frame

SIZES = ((33, 6, 3), (100, 6, 3), (1_000, 6, 3))


def run_of(day: int, faster: float = 1.0, slug: str = "here", **settings: Any) -> dict[str, Any]:
    """A run of a day, with `matmul` so many times as fast as it was; another commit each day."""
    run = build_run(["gradient"], SIZES, kernels=FEW_KERNELS, processes=5, slug=slug,
                    datetime=f"2026-11-{day:02}T05:00:00+00:00")  # fmt: skip
    run["commit_info"]["id"] = f"{day:040}"
    run["settings"] |= settings
    for benchmark in run["benchmarks"]:
        benchmark["extra_info"]["roofline_s"] = 1e-6  # a call's dispatch, which bounds all of them
        if benchmark["extra_info"]["kernel"] == "matmul":
            for name in ("speedup", "speedup_low", "speedup_high"):
                benchmark["extra_info"][name] *= faster
    return run


def histories(folder: Path, *runs: dict[str, Any]) -> list[Any]:
    paths = [save(run, folder / f"{place}.json") for place, run in enumerate(runs)]
    groups = comparable_runs(load_heads(reversed(paths)))
    return [history_of(runs_frame((path, load_run(path)) for path in some), "quick")
            for some in groups]  # fmt: skip


def test_a_change_is_seen_where_it_was_made(tmp_path: Path) -> None:
    (history,) = histories(tmp_path, run_of(1), run_of(2, faster=2), run_of(3, faster=2))
    assert list(history.runs) == ["0", "1", "2"]
    moved = changed(history.points)
    assert moved[["kernel", "run", "previous"]].to_numpy().tolist() == [["matmul", "1", "0"]]
    assert moved["change"].iloc[0] == pytest.approx(2)
    assert moved["change_low"].iloc[0] < 2 < moved["change_high"].iloc[0]
    points = history.points.set_index(["kernel", "run"])
    assert set(history.points["kernel"]) == {"matmul", "kron_einsum"}  # the baseline has no ratio
    assert points.loc["kron_einsum", "change"].to_list()[1:] == pytest.approx([1, 1])
    before, after = points.loc[("matmul", "0")], points.loc[("matmul", "2")]
    assert after["speedup"] == pytest.approx(2 * before["speedup"])
    assert before["low"] < before["speedup"] < before["high"]
    (section,) = history_subject(1, history).sections({})
    for said in ("| matmul ", "0000000000", "2.00×"):
        assert said in section.body


def test_what_is_within_the_noise_is_no_change(tmp_path: Path) -> None:
    (history,) = histories(tmp_path, run_of(1), run_of(2, faster=1.01))
    assert changed(history.points).empty


def test_a_kernel_that_a_run_leaves_out_goes_on_from_the_run_before(tmp_path: Path) -> None:
    without = run_of(2)
    for name in ("outcomes", "benchmarks"):
        without[name] = [one for one in without[name] if "matmul" not in one["fullname"]]
    (history,) = histories(tmp_path, run_of(1), without, run_of(3, faster=2))
    mine = history.points[history.points["kernel"] == "matmul"]
    assert mine["run"].to_list() == ["0", "2"]
    assert mine["change"].iloc[1] == pytest.approx(2)
    assert len(history_subject(1, history).figures) == 1


def test_speedups_are_compared_over_the_same_cases(tmp_path: Path) -> None:
    few = run_of(2)
    for name in ("outcomes", "benchmarks"):
        few[name] = [one for one in few[name] if "1000x6x3" not in one["fullname"]]
    (history,) = histories(tmp_path, run_of(1), few, run_of(3))
    assert set(history.points["run"]) == {"0", "2"}  # the second lacks a case of the newest
    (history,) = histories(
        tmp_path / "more", run_of(1), run_of(2), few | {"datetime": "2026-12-01T05:00:00+00:00"}
    )
    assert set(history.points["cases"]) == {2}
    assert changed(history.points).empty


def test_machines_settings_and_grids_are_never_joined(tmp_path: Path) -> None:
    assert histories(tmp_path, run_of(1), run_of(2, slug="there"), run_of(3, tf32=True)) == []
    apart = histories(tmp_path / "more", run_of(1), run_of(2), run_of(3, slug="there"),
                      run_of(4, slug="there"), run_of(5, grid="full"))  # fmt: skip
    assert [(one.machine, len(one.runs)) for one in apart] == [("here", 2), ("there", 2)]


def test_it_is_in_the_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blank_figures(monkeypatch)
    paths = [save(run_of(day, faster=day), tmp_path / f"{day}.json") for day in (1, 2)]
    heads = load_heads(paths)
    write_report(paths[-1:], tmp_path / "out", page=True, heads=heads, history=True)
    text = (tmp_path / "out" / "REPORT.md").read_text(encoding="utf-8")
    assert "2.00×" in text.split("## What changed?")[1].split("\n## ")[0]
    assert "1 of 2 speeds changed by more than their interval. 0 speedups fell and 1 rose" in text
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "<summary>History on here, grid quick, 2 runs</summary>" in page
    said = "Gradient on cpu in float64 with 1 thread, dispatch-bound on here"
    assert f'alt="{said}: speedup from run to run"' in page
    assert (tmp_path / "out" / "figures" / "here-history-1-1.png").is_file()
