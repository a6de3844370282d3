"""Two runs compared, filtered, and written as one table."""

import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from run_builder import build_run, fail, frame_of, save

from bench.analysis.compare import (
    FASTER,
    NOT_COMPARED,
    ONLY_FIRST,
    SLOWER,
    UNCHANGED,
    compare_runs,
)
from bench.cli.commands.report import keep_cases, print_compared
from bench.cli.main import main
from bench.common.errors import UserError
from bench.store.runs import load_frame

SIZES = ((33, 6, 3), (1_000, 6, 3))


def run_of(moved: float = 1.0, **changed: Any) -> dict[str, Any]:
    """Return a run in which one case is faster than in another by a factor."""
    run = build_run(("step",), SIZES, processes=5)
    for entry in run["benchmarks"]:
        extra = entry["extra_info"]
        if extra["kernel"] == "fused_addmm" and extra["batch"] == 33:
            extra |= {key: extra[key] * moved for key in ("speedup", "speedup_low", "speedup_high")}
    return run | changed


@pytest.mark.parametrize(("moved", "said"), [(1.0, UNCHANGED), (1.5, FASTER), (0.7, SLOWER)])
def test_one_case_moved_and_the_others_did_not(moved: float, said: str) -> None:
    table = compare_runs(frame_of(run_of()), frame_of(run_of(moved), "b")).set_index(
        ["kernel", "case"]
    )
    row = table.loc[("fused_addmm", "33x6x3")]
    assert row["verdict"] == said
    assert row["ratio"] == pytest.approx(moved)
    # Both intervals are from 0.97 to 1.04 of the speedup.
    reach = math.sqrt(2) * math.log(1.04 / 0.97) / 2
    assert row["high"] == pytest.approx(moved * math.exp(reach))
    others = table.drop(index=("fused_addmm", "33x6x3"))["verdict"]
    assert set(others) == {UNCHANGED, NOT_COMPARED}
    assert set(others[others == NOT_COMPARED].index.get_level_values(0)) == {"torch_nn"}


def test_what_only_one_run_has_is_not_comparable() -> None:
    second = run_of()
    fail(second, second["outcomes"][-1], "wrong", "error 3")
    second["outcomes"].pop(0)
    second["benchmarks"].pop(0)
    table = compare_runs(frame_of(run_of()), frame_of(second, "b"))
    table = table[table["verdict"] == NOT_COMPARED]
    assert sorted(table["why"]) == ["baseline", "ok → wrong", ONLY_FIRST]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"machine": {"slug": "elsewhere"}}, "on one machine"),
        ({"settings": {"tf32": True}}, "tf32 is false in a.json and true in b.json"),
        ({"settings": {"allocator": {"MALLOC_MMAP_THRESHOLD_": "1"}}}, "allocator.MALLOC"),
    ],
)
def test_runs_that_differ_in_more_are_refused_by_name(
    changed: dict[str, Any], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    second, third = run_of(), run_of()
    for key, value in changed.items():
        second[key] = second[key] | value
    third["settings"] |= {"grid": "full", "processes": 3, "threads": [2]}
    runs = zip("abc", (run_of(), second, third), strict=True)
    first, *others = [str(save(run, tmp_path / f"{name}.json")) for name, run in runs]
    assert [main(["report", "--compare", first, other]) for other in others] == [2, 0]
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_the_command_tells_what_moved(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [save(run_of(), tmp_path / "a.json"), save(run_of(1.5), tmp_path / "b.json")]
    assert main(["report", "--compare", *map(str, paths)]) == 0
    said = capsys.readouterr().out
    assert max(map(len, said.splitlines())) <= 80
    assert "fused_addmm" in said
    assert "1.50× (1.43–1.58)" in said
    assert "1 faster" in said
    assert main(["report", "--compare", str(paths[0])]) == 2
    assert "takes two runs" in capsys.readouterr().err


def shown(first: dict[str, Any], second: dict[str, Any], capsys: Any) -> list[str]:
    """Return the lines that two runs give on a terminal of 80 columns, none of them longer."""
    print_compared(compare_runs(frame_of(first), frame_of(second, "b")))
    lines: list[str] = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    assert "nan" not in "".join(lines)
    return [" ".join(line.split()) for line in lines]


def test_cases_of_one_run_only_are_counted_and_not_listed(
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = build_run(("step",), ((33, 6, 3), (100, 6, 3)), processes=5)
    lines = shown(run_of(), other, capsys)
    per_size = len(other["outcomes"]) // 2
    assert lines[0] == f"{per_size - 1} no significant change"
    apart = [f"{per_size} only in the {run} run" for run in ("first", "second")]
    assert lines[1] == f"not compared: 1 baseline, {', '.join(apart)}"
    strange = build_run(("step",), ((7, 6, 3),), processes=5)
    lines = shown(run_of(), strange, capsys)
    assert lines[0] == "No case can be compared."


def test_the_counts_say_why_a_case_is_not_compared(capsys: pytest.CaptureFixture[str]) -> None:
    first, second = run_of(), run_of()
    for run, status in ((first, "ok"), (second, "wrong")):
        infeasible, wrong = (
            next(o for o in run["outcomes"] if o["kernel"] == kernel and o["batch"] == 1_000)
            for kernel in ("kron_update", "matmul_update")
        )
        fail(run, infeasible, "infeasible", "too much")
        if status != "ok":
            fail(run, wrong, status, "error 3")
    lines = shown(first, second, capsys)
    assert lines[0] == "step, cpu, float64, 1 thread"
    assert lines[2:5] == ["1,000 × 6 → 3", "matmul_update ok → wrong –", ""]
    assert lines[5] == "4 no significant change"
    assert lines[6] == "not compared: 2 baseline, 1 infeasible, 1 ok → wrong"


def test_memory_that_moved_by_little_is_not_told(capsys: pytest.CaptureFixture[str]) -> None:
    second = run_of()
    for entry in second["benchmarks"]:
        if entry["extra_info"]["kernel"] == "fused_addmm":
            entry["extra_info"]["peak_bytes"] += 8 if entry["extra_info"]["batch"] > 33 else 2_000
    lines = shown(run_of(), second, capsys)
    size, told = lines[2:4]
    assert size == "33 × 6 → 3"
    assert told.startswith("fused_addmm")
    assert told.endswith("3.40× no significant change")
    assert sum("fused_addmm" in line for line in lines) == 1


def test_a_filter_keeps_what_it_is_true_of() -> None:
    frame = frame_of(run_of())
    kept = keep_cases("kernel in ['fused_addmm', 'torch_nn'] and batch < 2 * 33", frame)
    assert set(kept["kernel"]) == {"fused_addmm", "torch_nn"}
    assert set(kept["batch"]) == {33}
    assert keep_cases(None, frame) is frame
    with pytest.raises(UserError, match="leaves none of"):
        keep_cases("kernel == 'nobody'", frame)


@pytest.mark.parametrize(
    "text",
    [
        *("kernel", "colour == 'red'", "kernel ==", "=", "@x == 1", "batch == @pd", "1", ""),
        *("kernel.str.len() > 3", "__import__('os').system('true') == 0", "abs(batch) == 1"),
        *("batch.__class__ == 1", "`kernel` == 1", "batch == 1; batch", "kernel[0] == 'm'"),
        *("(x := batch) == 1", "[b for b in batch] == 1", "(lambda: 1) == 1", "f'{batch}' == 1"),
        *("kernel = 'a'", "batch == 1\x00", "not " * 100_000 + "batch"),
        *("(" * 500 + "batch" + ")" * 500 + " == 1",),
        *("kernel > 3", "batch == 1 and kernel - 2 == 0"),  # which only pandas can tell
    ],
)
def test_a_filter_that_is_none_is_one_line(text: str) -> None:
    with pytest.raises(UserError, match="--filter takes an expression") as error:
        keep_cases(text, frame_of(run_of()))
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 700


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_every_case_in_one_table(suffix: str, tmp_path: Path) -> None:
    path = save(run_of(), tmp_path / "a.json")
    argv = ["report", str(path), "--format", suffix, "--out", str(tmp_path / "out")]
    assert main([*argv, "--filter", "kernel == 'fused_addmm'"]) == 0
    (written,) = (tmp_path / "out" / "report").iterdir()
    read = pd.read_csv if suffix == "csv" else pd.read_parquet
    table = read(written)
    frame = load_frame([path])
    assert list(table.columns) == list(frame.columns)
    kept = frame["kernel"] == "fused_addmm"
    assert table["median_s"].tolist() == pytest.approx(frame.loc[kept, "median_s"].tolist())


def test_a_report_of_what_a_filter_leaves(tmp_path: Path) -> None:
    path = save(run_of(), tmp_path / "a.json")
    out = tmp_path / "out"
    chosen = "--filter=kernel in ['torch_nn', 'fused_addmm']"
    assert main(["report", str(path), "--format=md", f"--out={out}", chosen]) == 0
    text = (out / "report" / "REPORT.md").read_text()
    assert "fused_addmm" in text
    assert "matmul_update" not in text
