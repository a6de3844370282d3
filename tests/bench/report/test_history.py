"""History: a change of the code is seen, noise is not, and nothing alike is joined by mistake."""

from pathlib import Path
from typing import Any

import pytest
from run_builder import FEW_KERNELS, build_run, save

from bench.report.build import write_report
from bench.report.history import alike, chapters, history_figures, history_section
from bench.store.runs import load_heads, load_run

SIZES = ((33, 6, 3), (100, 6, 3), (1_000, 6, 3))


def run_of(day: int, faster: float = 1.0, slug: str = "here", **settings: Any) -> dict[str, Any]:
    """A run of a day, with `matmul` so many times as fast as it was; another commit each day."""
    run = build_run(["gradient"], SIZES, kernels=FEW_KERNELS, passes=5, slug=slug,
                    datetime=f"2026-11-{day:02}T05:00:00+00:00")  # fmt: skip
    run["commit_info"]["id"] = f"{day:040}"
    run["settings"] |= settings
    for benchmark in run["benchmarks"]:
        if benchmark["extra_info"]["kernel"] == "matmul":
            for name in ("speedup", "speedup_low", "speedup_high"):
                benchmark["extra_info"][name] *= faster
    return run


def told(folder: Path, *runs: dict[str, Any]) -> list[Any]:
    paths = [save(run, folder / f"{place}.json") for place, run in enumerate(runs)]
    groups = alike(load_heads(reversed(paths)))
    return chapters({path: load_run(path) for path in some} for some in groups)


def test_a_change_is_seen_where_it_was_made(tmp_path: Path) -> None:
    (chapter,) = told(tmp_path, run_of(1), run_of(2, faster=2), run_of(3, faster=2))
    steps = chapter.steps
    assert list(chapter.runs) == ["0", "1", "2"]
    changed = steps[steps["changed"]]
    assert list(changed["kernel"]) == ["matmul"]
    assert list(changed["after"]) == ["1"]
    assert changed["ratio"].iloc[0] == pytest.approx(2)
    assert changed["low"].iloc[0] < 2 < changed["high"].iloc[0]
    assert set(steps["kernel"]) == {"matmul", "kron_einsum"}  # the baseline has no ratio
    assert steps.loc[~steps["changed"], "ratio"].to_list() == pytest.approx([1] * 3)
    text = history_section(chapter, {"what": "figures/a.png"})
    assert "| matmul " in text
    assert "0000000000" in text
    assert "2.00×" in text


def test_what_is_within_the_noise_is_no_change(tmp_path: Path) -> None:
    (chapter,) = told(tmp_path, run_of(1), run_of(2, faster=1.01))
    assert not chapter.steps["changed"].any()


def test_a_kernel_that_a_run_leaves_out_goes_on_from_the_run_before(tmp_path: Path) -> None:
    without = run_of(2)
    for name in ("outcomes", "benchmarks"):
        without[name] = [one for one in without[name] if "matmul" not in one["fullname"]]
    (chapter,) = told(tmp_path, run_of(1), without, run_of(3, faster=2))
    mine = chapter.steps[chapter.steps["kernel"] == "matmul"]
    assert mine[["before", "after"]].to_numpy().tolist() == [["0", "2"]]
    assert len(history_figures(chapter)) == 1


def test_machines_and_settings_are_never_joined(tmp_path: Path) -> None:
    assert told(tmp_path, run_of(1), run_of(2, slug="there"), run_of(3, threads=7)) == []
    apart = told(tmp_path / "more", run_of(1), run_of(2), run_of(3, slug="there"),
                 run_of(4, slug="there"), run_of(5, grid="full"))  # fmt: skip
    assert [(one.machine, len(one.runs)) for one in apart] == [("here", 3), ("there", 2)]


def test_it_is_in_the_report(tmp_path: Path) -> None:
    paths = [save(run_of(day, faster=day), tmp_path / f"{day}.json") for day in (1, 2)]
    write_report(paths[-1:], tmp_path / "out", history=load_heads(paths), page=True)
    text = (tmp_path / "out" / "REPORT.md").read_text(encoding="utf-8")
    assert "## History on here, 2 runs" in text
    assert "2.00×" in text.split("## History")[1]
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert 'alt="gradient on cpu in float64 on here: speed from run to run"' in page
    assert (tmp_path / "out" / "figures" / "here-history-1-1.png").is_file()
