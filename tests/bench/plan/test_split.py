"""Shards of a plan: every case in one of them, with all of its kernels."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from bench.cli import main as command
from bench.common.provenance import PlanShard, plan_key
from bench.plan.benchmark import Benchmark, full_name, planned, select_shard
from bench.plan.grid import GRIDS
from bench.plan.selection import Selection

TINY = ["--grid=smoke", "--operation=gradient", "--dtype=float64", "--batch=40,50", "--features=5",
        "--outputs=4", "--device=cpu", "--kernel=autograd,matmul"]  # fmt: skip


def axes(grid: str = "smoke", **given: Any) -> Selection:
    return Selection(grid=grid, device=("cpu",), **given)


def shards(given: Selection, total: int) -> list[list[Benchmark]]:
    plan = planned(given)
    return [select_shard(plan, given, PlanShard(i + 1, total))[0] for i in range(total)]


@pytest.mark.parametrize("grid", [grid for grid in GRIDS if grid != "single"])  # of three cases
@pytest.mark.parametrize("count", [2, 5])
def test_every_case_is_in_one_shard_with_all_its_kernels(grid: str, count: int) -> None:
    plan, parts = planned(axes(grid)), shards(axes(grid), count)
    assert Counter(full_name(e) for part in parts for e in part) == Counter(map(full_name, plan))
    for one in parts:
        assert one == [entry for entry in plan if entry.case in {e.case for e in one}]
    numbers = [len({entry.case for entry in part}) for part in parts]
    assert max(numbers) - min(numbers) <= 1


def test_a_run_file_says_which_shard_of_which_plan_it_is() -> None:
    told = [
        select_shard(planned(given), given, PlanShard.read(text))[1]
        for given, text in ((axes(), "1/2"), (axes(), "2/2"), (axes(seed=3), "1/2"))
    ]
    assert [one and one["shard"] for one in told] == ["1/2", "2/2", "1/2"]
    keys = [one and one["plan"] for one in told]
    assert keys[0] == keys[1] != keys[2]
    assert select_shard(planned(axes()), axes(), None) == (planned(axes()), None)


def test_the_key_of_a_plan_is_of_its_cases_grid_and_seed() -> None:
    key = plan_key(["a", "b"], "quick", 0)
    others = (["a"], "quick", 0), (["a", "b"], "tall", 0), (["a", "b"], "quick", 1)
    assert len({key, *(plan_key(*other) for other in others)}) == 4


@pytest.mark.parametrize("name", ["run", "plan"])
@pytest.mark.parametrize(
    "shard", ["0/3", "4/3", "a/b", "2", "1/0", "-1/3", "1/2/3", "01/2", "1 /2", "¹/2", "1/2\n", ""]
)
def test_a_bad_shard_is_one_line(name: str, shard: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        command.main([name, *TINY, f"--shard={shard}"])
    assert left.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"--shard: takes i/k with i from 1 to k, say 2/3; got {shard!r}" in said


@pytest.mark.parametrize("name", ["run", "plan"])
@pytest.mark.parametrize("shard", ["1/3", "3/3", "999999/999999"])
def test_a_shard_without_a_case_is_one_line(
    name: str, shard: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main([name, *TINY, f"--shard={shard}"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "each shard must have a case; the axes leave 2, got" in said
