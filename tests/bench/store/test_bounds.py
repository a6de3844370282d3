"""Ceilings: the best of processes and of stored runs of one machine; times beyond their bounds."""

from pathlib import Path
from typing import Any

import pytest
from run_builder import build_run, save

from bench.report.build import write_report
from bench.store.bounds import best_ceilings
from bench.store.runs import load_frame, load_heads
from bench.store.schema import Ceilings, Machine

ONE, TWO = "cpu, 1 thread", "cpu, 2 threads"
WORK = {"least_flops": 10, "least_bytes": 10**8, "input_bytes": 10**8}  # 5 ms of 20 GB/s


def reached(dispatch_s: float, rate: float, peak: float) -> Ceilings:
    return Ceilings(
        dispatch_s=dispatch_s,
        bandwidth_bytes_per_s=[[1024.0, rate], [2048.0, 2 * rate]],
        flops_per_s={"float32": peak},
        cold_bytes_per_s=rate / 2,
    )


def test_ceilings_are_the_best_of_all_processes_with_the_worst_beside() -> None:
    seen = [{ONE: reached(2e-7, 5e9, 3e9)}, {TWO: reached(9e-7, 99e9, 99e9)},
            {ONE: reached(1e-7, 4e9, 2e9)}, {ONE: reached(3e-7, 6e9, 1e9)}]  # fmt: skip
    found = best_ceilings(seen)
    worst = {"worst": reached(3e-7, 4e9, 1e9)}
    assert found[ONE] == reached(1e-7, 6e9, 3e9).model_copy(update=worst)
    # What another number of threads reached is none of it; a single process is best and worst.
    assert found[TWO] == seen[1][TWO].model_copy(update={"worst": seen[1][TWO]})
    fewer = Ceilings(bandwidth_bytes_per_s=[[1024.0, 1e9]])  # of a process that had less memory
    assert (
        best_ceilings([seen[0], {ONE: fewer}])[ONE].model_copy(update={"worst": None})
        == (seen[0][ONE])
    )
    again = best_ceilings([found, {ONE: reached(2e-7, 1e9, 2e9)}])[ONE]
    assert again.model_copy(update={"worst": None}) == reached(1e-7, 6e9, 3e9)
    assert again.worst == reached(3e-7, 1e9, 1e9)
    machine = Machine(slug="a", ceilings=found)
    assert machine.ceilings_of("cpu", 2).dispatch_s == 9e-7
    assert machine.ceilings_of("cpu", 3).dispatch_s is None


def test_an_older_run_has_ceilings_of_its_only_number_of_threads() -> None:
    machine = Machine.model_validate({"slug": "a", "ceilings": {"cpu": {"dispatch_s": 1e-6}}})
    assert machine.ceilings_of("cpu", 2).dispatch_s == 1e-6


def run_with(rate: float, hour: int, last_cache_bytes: int = 2**25, **options: Any) -> dict:
    """A run of one step, of 3 ms hot and cold, on a machine whose memory gave it such a rate."""
    law = {"step": {"torch_nn": (3e-3, 0.0, "m")}}
    at = f"2026-11-23T{hour:02}:00:00+00:00"
    run = build_run(["step"], [(1_000, 6, 3)], kernels=law, datetime=at, **options)
    ceilings = Ceilings(
        bandwidth_bytes_per_s=[[1e6, rate], [1e9, rate]], last_cache_bytes=last_cache_bytes
    )
    run["machine"]["ceilings"] = {ONE: ceilings.model_dump(exclude_none=True)}
    for outcome in run["outcomes"]:
        outcome |= WORK
    for one in run["benchmarks"]:
        said = ["faster than the roofline bound: 0.10 of the least time", "few rounds: 2"]
        one["extra_info"] |= {"cold_s": 3e-3, "warnings": said}
    return run


def test_another_run_of_the_machine_takes_back_what_a_busy_memory_said(tmp_path: Path) -> None:
    """A run that found 20 GB/s says that 3 ms for 100 MB are too few; another found 50 GB/s."""
    low = save(run_with(2e10, 1), tmp_path / "low.json")
    alone = load_frame([low]).iloc[0]
    assert alone["roofline_s"] == pytest.approx(5e-3)
    kept, hot, cold = alone["warnings"].split("; ")
    assert kept == "few rounds: 2"
    assert (
        hot == f"faster than the roofline bound: {alone['median_s'] / 5e-3:.2f} of the least time"
    )
    assert cold == "faster than the roofline bound of inputs from memory: 0.60 of the least time"
    high = save(run_with(5e10, 2), tmp_path / "high.json")
    both = load_frame([low, high])
    assert both["roofline_s"].tolist() == pytest.approx([2e-3, 2e-3])
    assert set(both["warnings"]) == {"few rounds: 2"}
    # So it is where only one of them is shown, and told what the other reached.
    assert load_frame([low], load_heads([low, high]))["roofline_s"].item() == pytest.approx(2e-3)
    _, shown = write_report([low], tmp_path / "out", heads=load_heads([low, high]))
    assert shown["roofline_s"].item() == pytest.approx(2e-3)


@pytest.mark.parametrize("other", ["machine", "threads", "cache"])
def test_what_was_reached_elsewhere_is_no_ceiling(tmp_path: Path, other: str) -> None:
    low = save(run_with(2e10, 1), tmp_path / "low.json")
    options: dict[str, Any] = {"machine": {"slug": "there"}, "cache": {"last_cache_bytes": 2**26}}
    run = run_with(5e10, 2, **options.get(other, {}))
    if other == "threads":
        run["machine"]["ceilings"] = {TWO: run["machine"]["ceilings"][ONE]}
    high = save(run, tmp_path / "high.json")
    heads = load_heads([low, high])
    assert load_frame([low], heads)["roofline_s"].item() == pytest.approx(5e-3)
