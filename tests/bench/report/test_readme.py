"""A README's generated parts: kept up to date, and nothing else of it is touched."""

import errno
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from reports import blank_figures, links, snapshot
from run_builder import FEW_KERNELS, build_run, fail, save

from bench.common.errors import UserError
from bench.common.units import format_ratio, format_time
from bench.experiments.gate_power import analysis as gate_power
from bench.overhead.section import every_subject
from bench.report.build import write_report
from bench.report.publishing import check_readme, readme_blocks, update_readme
from bench.store.runs import load_frame

EVERY = every_subject()
FEW = ((33, 6, 3), (100, 6, 3), (100, 6, 30), (10_000, 256, 64))


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = build_run(["gradient", "step"], FEW, kernels=FEW_KERNELS)
    return save(run, tmp_path_factory.mktemp("runs") / "amd" / "a.json")


@pytest.fixture(scope="module")
def frame(stored: Path) -> pd.DataFrame:
    return load_frame([stored])


README = """# mlr\r
<!-- generated: fastest-step -->
<!-- end: fastest-step -->
kept
<!-- generated: jacobian -->
old
<!-- end: jacobian -->
the end"""


def test_readme_is_kept_up_to_date(tmp_path: Path, frame: pd.DataFrame) -> None:
    readme = tmp_path / "README.md"
    readme.write_bytes(README.encode())
    assert update_readme(readme, frame, others=EVERY)
    assert not update_readme(readme, frame, others=EVERY)
    text = readme.read_bytes().decode()
    assert text.startswith("# mlr\r\n")
    assert text.endswith("the end")
    assert "kept" in text
    assert "old" not in text
    assert links(text) == ["results/figures/jacobian.png"]
    readme.write_bytes(text.replace("fused_addmm", "einsum").encode())
    assert update_readme(readme, frame, others=EVERY)
    assert readme.read_bytes().decode() == text
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]


def test_readme_figures_are_those_of_the_report(
    tmp_path: Path, stored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blank_figures(monkeypatch)
    write_report([stored], tmp_path / "results", EVERY)
    blocks = readme_blocks(load_frame([stored]), others=EVERY)
    assert (tmp_path / links(blocks["jacobian"])[0]).is_file()
    assert "Measured on amd-epyc-2-core, commit 0123456789" in blocks["fastest-step"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no marks", "each block once"),
        ("<!-- generated: gate -->\n", "each block once"),
        ("<!-- end: gate -->\n<!-- generated: gate -->\n", "each block once"),
        ("<!-- generated: gate -->\n<!-- end: jacobian -->", "each block once"),
        ("<!-- generated: gate -->\n<!-- end: gate -->\n" * 2, "each block once"),
        ("<!-- generated: other -->\n<!-- end: other -->", "are fastest-.* has other; rename"),
    ],
)
def test_readme_with_marks_out_of_order(
    text: str, said: str, tmp_path: Path, frame: pd.DataFrame
) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(text)
    with pytest.raises(UserError, match=said):
        update_readme(readme, frame)
    with pytest.raises(UserError, match=said):
        check_readme(readme)
    assert readme.read_text() == text
    with pytest.raises(UserError, match="readable"):
        update_readme(tmp_path / "none.md", frame)


def test_full_disk_keeps_the_readme(
    tmp_path: Path, frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    readme = tmp_path / "README.md"
    readme.write_bytes(README.encode())
    monkeypatch.setattr(shutil, "copymode", _full)
    with pytest.raises(UserError, match="as it was"):
        update_readme(readme, frame, others=EVERY)
    assert snapshot(tmp_path) == {"README.md": README.encode()}


def _full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_every_block_has_a_text_whatever_is_stored(tmp_path: Path, frame: pd.DataFrame) -> None:
    runs = {
        "empty": build_run([], slug="empty"),
        "failed": build_run(["gradient"], FEW[:1], slug="failed"),
        "step": build_run(["step"], FEW[:1], slug="step"),
        "light": build_run(["gradient"], FEW[:1], slug="light",
                           kernels={"gradient": {"autograd": (1e-4, 1e-11, "n")}}),
    }  # fmt: skip
    for outcome in runs["failed"]["outcomes"]:
        fail(runs["failed"], outcome, "timeout", None)
    paths = {name: save(run, tmp_path / f"{name}.json") for name, run in runs.items()}
    some = readme_blocks(load_frame([paths[name] for name in ("empty", "failed", "step")]))
    assert set(some) == {"fastest-gradient", "fastest-step"}
    assert "No case has a time." in some["fastest-gradient"]
    light = readme_blocks(load_frame([paths["light"]]), others=EVERY)
    assert set(light) == {"fastest-gradient", "jacobian"}
    assert links(light["jacobian"]) == []
    empty = load_frame([paths["empty"]])
    nothing = readme_blocks(empty, others=[*EVERY, gate_power.subject({})])
    assert set(nothing) == {"gate", "jacobian"}
    assert nothing["jacobian"].startswith("No gradient is stored yet")
    readme = tmp_path / "README.md"
    readme.write_text("<!-- generated: fastest-step -->\n<!-- end: fastest-step -->\n")
    check_readme(readme)
    assert update_readme(readme, empty)
    assert "\nNo step is stored yet.\n" in readme.read_text()


def test_the_first_table_is_of_steps_which_do_equal_work(frame: pd.DataFrame) -> None:
    said = readme_blocks(frame)["fastest-step"]
    rows = [line for line in said.splitlines() if "→" in line][1:]
    assert len(rows) == len(FEW)
    for row in rows:
        assert re.search(r"\d (ns|µs|ms|s) +\| [\d.,]+×", row), row
    assert "fastest-step" not in readme_blocks(frame[frame["operation"] == "gradient"])


def test_the_first_table_is_of_the_run_with_most_operations(stored: Path, tmp_path: Path) -> None:
    """One of steps alone has more sizes, and later ones, which are all much alike."""
    tall = build_run(["step"], [(33 * rows, 6, 3) for rows in range(1, 30)], kernels=FEW_KERNELS)
    tall["datetime"] = "2030-01-01T00:00:00+00:00"
    both = load_frame([stored, save(tall, tmp_path / "amd" / "tall.json")])
    own = readme_blocks(load_frame([stored]))
    assert readme_blocks(both)["fastest-step"] == own["fastest-step"]
    alone = both[both["run"] == "tall"]
    assert "run tall" in " ".join(readme_blocks(alone)["fastest-step"].split())


def test_of_runs_with_as_many_operations_the_newest_is_shown(stored: Path, tmp_path: Path) -> None:
    """Also where an older one, of another machine, has more sizes."""
    newer = build_run(["gradient", "step"], FEW[:1], kernels=FEW_KERNELS, slug="there")
    newer["datetime"] = "2030-01-01T00:00:00+00:00"
    both = load_frame([stored, save(newer, tmp_path / "there" / "newer.json")])
    assert "run newer" in " ".join(readme_blocks(both)["fastest-step"].split())


def test_hot_and_cold_stand_side_by_side_once_a_run_has_both(frame: pd.DataFrame) -> None:
    cold = frame.assign(cold_s=frame["median_s"] * 2, speedup_cold=frame["speedup"] / 2,
                        speedup_cold_low=frame["speedup"] / 2.2,
                        speedup_cold_high=frame["speedup"] / 1.9)  # fmt: skip
    for name in ("fastest-step", "fastest-gradient"):
        hot, both = (" ".join(readme_blocks(one)[name].split()) for one in (frame, cold))
        assert "cold" not in hot
        assert "| time, cold " in both
        assert "| speedup, cold " in both
        assert "Timed in 1 process, with inputs in the processor's caches where they fit." in hot
        assert "where they fit (hot) and, where *cold* is said, from memory." in both
    row = frame[(frame["operation"] == "step") & (frame["kernel"] != frame["baseline"])].iloc[0]
    for written in (format_time(2 * row["median_s"]),
                    format_ratio(*(row["speedup"] / np.array([2, 2.2, 1.9])))):  # fmt: skip
        assert f"| {written} " in readme_blocks(cold)["fastest-step"]


def test_a_caption_says_what_an_interval_covers(frame: pd.DataFrame) -> None:
    said = readme_blocks(frame)["fastest-step"]
    assert "cover the processes of one run: on another day a speedup may lie outside." in said
    told = frame.assign(between_sd=0.025, between_runs=3.0, between_hours=50.0)
    text = " ".join(readme_blocks(told)["fastest-step"].split())
    assert "Between runs that was: step, a standard deviation of 2.50 % in 3 runs" in text
    single = frame.assign(speedup_low=np.nan, speedup_high=np.nan)
    assert "timed in one process has no interval" in readme_blocks(single)["fastest-step"]
    uneven = frame.assign(processes=np.where(frame["batch"] > 33, 2, 5))
    assert "Timed in 2 to 5 processes," in readme_blocks(uneven)["fastest-step"]
