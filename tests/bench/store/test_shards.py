"""Shards: a plan split the same everywhere, and put together again only where that is right."""

from __future__ import annotations

import copy
import dataclasses
import os
import random
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from paths import ROOT
from reports import blank_figures
from run_builder import FEW_KERNELS, build_run, save

from bench.analysis.history import changed, comparable_runs, history_of
from bench.cli import main as command
from bench.common.errors import UserError
from bench.common.shard import Shard, plan_key
from bench.plan.benchmark import Benchmark, full_name, planned
from bench.plan.grid import GRIDS, LONGEST_CALL_S
from bench.plan.selection import Selection
from bench.plan.split import case_costs, part_of, split
from bench.report import build as report
from bench.run.journal import Journal
from bench.run.state import Plan
from bench.store.runs import (
    find_runs,
    load_frame,
    load_head,
    load_heads,
    load_run,
    runs_frame,
)
from bench.store.shards import joined, latest_runs, left_out, united
from mlr import KERNELS

TINY = ["--grid=smoke", "--stage=gradient", "--dtype=float64", "--batch=40,50", "--features=5",
        "--outputs=4", "--device=cpu", "--kernel=autograd,matmul"]  # fmt: skip
SIZES = ((33, 6, 3), (100, 6, 3), (1_000, 6, 3))
PATIENCE_S = 120
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def axes(grid: str = "smoke", **given: Any) -> Selection:
    return Selection(grid=grid, device=("cpu",), **given)


def cost_of(part: Iterable[Benchmark], costs: dict[Any, int]) -> int:
    return sum(costs[case] for case in {entry.case for entry in part})


def dearest_at_best(costs: list[int], count: int) -> int:
    """Try every split; return what the dearest shard of the best one costs."""
    return min(
        max(sum(c for c, at in zip(costs, places, strict=True) if at == n) for n in range(count))
        for places in product(range(count), repeat=len(costs))
    )


# --- the split ---------------------------------------------------------------------------------


@pytest.mark.parametrize("grid", [grid for grid in GRIDS if grid != "single"])  # of three cases
@pytest.mark.parametrize("count", [2, 5])
def test_every_case_is_in_one_shard_with_all_its_kernels(grid: str, count: int) -> None:
    plan, longest_s = planned(axes(grid)), LONGEST_CALL_S[grid]
    parts = split(plan, count, longest_s)
    assert Counter(full_name(e) for part in parts for e in part) == Counter(map(full_name, plan))
    for one in parts:
        assert one == [entry for entry in plan if entry.case in {e.case for e in one}]
    costs = case_costs(plan, longest_s)
    loads = [cost_of(part, costs) for part in parts]
    assert min(loads) > 0
    assert max(loads) <= 4 / 3 * sum(loads) / count + max(costs.values())


@pytest.mark.parametrize("seed", range(8))
def test_shards_of_any_axes_cost_about_the_same(seed: int) -> None:
    chance = random.Random(seed)
    batches = tuple({int(10 ** chance.uniform(0, 6)) for _ in range(chance.randint(3, 30))})
    given = axes("wide", batch=batches, features=(6, 64), outputs=(3,))
    plan, count = planned(given), chance.randint(1, 6)
    costs = case_costs(plan, 5.0)
    loads = [cost_of(part, costs) for part in split(plan, count, 5.0)]
    assert max(loads) <= 4 / 3 * sum(loads) / count + max(costs.values())
    few = [entry for entry in plan if entry.case in list(costs)[:7]]
    loads = [cost_of(part, costs) for part in split(few, 3, 5.0)]
    assert max(loads) <= (4 / 3 - 1 / 9) * dearest_at_best([costs[c] for c in list(costs)[:7]], 3)


SPLIT = """
import importlib.abc, sys
class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.split(".")[0] in sys.argv[1].split(","):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Refuse())
from bench.plan.benchmark import planned
from bench.plan.selection import Selection
from bench.plan.benchmark import full_name
from bench.common.shard import Shard
from bench.plan.split import part_of
for grid in ("full", "tall"):
    axes = Selection(grid=grid, device=("cpu", "cuda"))
    for number in range(1, 6):
        part, told = part_of(planned(axes), axes, Shard(number, 5))
        print(told, [full_name(entry) for entry in part])
"""


def test_the_split_is_the_same_in_every_process_and_without_peers(tmp_path: Path) -> None:
    said = [
        subprocess.run(
            [sys.executable, "-c", SPLIT, refused], cwd=ROOT, capture_output=True, text=True,
            check=True, env=os.environ | {"PYTHONHASHSEED": seed},
        ).stdout
        for seed, refused in (("1", "none"), ("2", "jax,jaxlib,opt_einsum,numba,triton"))
    ]  # fmt: skip
    assert said[0] == said[1]
    assert said[0].count("\n") == 10


def test_the_split_asks_neither_the_rule_of_this_machine_nor_the_order_of_the_axes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def parts(given: Selection) -> list[set[str]]:
        return [{full_name(e) for e in part} for part in split(planned(given), 3, 5.0)]

    before = parts(axes("quick"))
    for name, kernel in list(KERNELS.items()):
        if kernel.delegates_to:
            other = dataclasses.replace(kernel, delegates_to=lambda _: KERNELS["jacrev"])
            monkeypatch.setitem(KERNELS, name, other)
    assert parts(axes("quick")) == before
    here, there = axes(batch=(7, 100, 33, 41)), axes(batch=(41, 33, 7, 100))
    assert parts(here) == parts(there)
    told = [part_of(planned(a), a, Shard(1, 3))[1] for a in (here, there, axes(batch=(7,), seed=3))]
    assert told[0] == told[1] != told[2]


def test_the_key_of_a_plan_is_of_its_cases_grid_and_seed() -> None:
    key = plan_key(["a", "b"], "quick", 0)
    assert key == plan_key(["b", "a"], "quick", 0)
    others = plan_key(["a"], "quick", 0), plan_key(["a", "b"], "tall", 0)
    assert len({key, *others, plan_key(["a", "b"], "quick", 1)}) == 4


# --- the command line --------------------------------------------------------------------------


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


# --- measured ----------------------------------------------------------------------------------


def bench(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench", *arguments], cwd=ROOT, capture_output=True, text=True,
        timeout=PATIENCE_S, check=False, env=os.environ | environment,
    )  # fmt: skip


def journal_of(folder: Path, shard: str | None) -> Journal:
    """Leave the journal of a run that was stopped before its first case."""
    (folder / "unfinished").mkdir(parents=True)
    journal = Journal(folder / "unfinished" / "20260101T000000-999999999.jsonl")
    given = Selection(
        grid="smoke", stage=("gradient",), kernel=("autograd", "matmul"), device=("cpu",),
        dtype=("float64",), batch=(40, 50), features=(5,), outputs=(4,),
    )  # fmt: skip
    part, told = part_of(planned(given), given, Shard.read(shard) if shard else None)
    arguments = [
        "--grid=smoke",
        "--stage=gradient",
        "--kernel=autograd,matmul",
        "--device=cpu",
        "--dtype=float64",
        "--batch=40,50",
        "--features=5",
        "--outputs=4",
        "--seed=0",
    ]
    journal.append("plan", **Plan([full_name(e) for e in part], arguments, 1, told)._asdict())
    return journal


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of both shards of a plan of two cases; the first was stopped and gone on with."""
    out = tmp_path_factory.mktemp("measured")
    journal_of(out, "1/2")
    for number, more in ((1, ["--resume"]), (2, [])):
        done = bench("run", *TINY, "--passes=1", f"--shard={number}/2", f"--out={out}", *more)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip().endswith(f"-smoke-{number}of2.json")
    assert not (out / "unfinished").exists()
    return out


def test_each_shard_measures_its_cases_and_says_which(measured: Path) -> None:
    runs = [load_run(path) for path in sorted(find_runs(measured), key=lambda path: path.stem[-4:])]
    assert [run.settings["shard"] for run in runs] == ["1/2", "2/2"]
    assert runs[0].settings["plan"] == runs[1].settings["plan"]
    batches = [{outcome.batch for outcome in run.outcomes} for run in runs]
    assert sorted(map(len, batches)) == [1, 1]
    assert set.union(*batches) == {40, 50}
    for run in runs:
        assert {outcome.kernel for outcome in run.outcomes} == {"autograd", "matmul"}
        assert {outcome.status for outcome in run.outcomes} == {"ok"}


def test_the_report_has_them_as_one_run(measured: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["report", f"--out={measured}", "--format=html,md,csv"]) == 0
    assert capsys.readouterr().err == ""
    out = measured / "report"
    paths = find_runs(measured)
    newest = max(paths, key=lambda path: load_head(path).datetime)
    name = re.sub(r"-\dof2$", "", newest.stem)
    text = (out / "REPORT.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (.*), run (.*)$", text, re.MULTILINE) == [(newest.parent.name, name)]
    (table,) = (pd.read_csv(p) for p in (out / "tables").glob("*-gradient-cpu-float64.csv"))
    parts = load_frame(paths)
    keys = ["kernel", "batch"]
    both = table.merge(parts, on=keys, suffixes=("", "_part"))
    assert len(both) == len(table) == len(parts) == 4
    for column in ("median_s", "speedup", "peak_bytes", "efficiency", "max_rel_error"):
        shown, stored = both[column].fillna(0), both[f"{column}_part"].fillna(0)
        assert shown.to_numpy() == pytest.approx(stored.to_numpy(), rel=1e-15)
    exported = pd.read_csv(out / "results.csv")
    assert set(exported["run"]) == {path.stem for path in paths}
    assert len(exported) == 4
    (run,) = joined({path: load_run(path) for path in paths}).values()
    costs = [load_run(path).cost for path in paths]
    assert run.cost is not None
    assert run.cost.wall_s == pytest.approx(sum(cost.wall_s for cost in costs if cost))
    assert run.datetime == load_head(newest).datetime
    assert run.shard is None


@pytest.mark.parametrize(("theirs", "ours"), [("1/2", "2/2"), ("1/2", None), (None, "1/1")])
def test_the_journal_of_another_shard_is_not_gone_on_with(
    theirs: str | None, ours: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    journal = journal_of(tmp_path, theirs)
    before = journal.path.read_bytes()
    wanted = [f"--shard={ours}"] if ours else []
    arguments = ["run", *TINY, "--passes=1", "--resume", f"--out={tmp_path}", *wanted]
    assert command.main(arguments) == 2
    said = capsys.readouterr().err
    assert "goes on with an unfinished run of the same cases" in said
    assert journal.path.read_bytes() == before


# --- put together ------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the drawing."""
    blank_figures(monkeypatch)


def parts_of(total: int, day: int = 1, commit: str = COMMIT, **given: Any) -> list[dict[str, Any]]:
    """Build a run and take it apart; the shards are an hour apart, the first is the oldest."""
    settings = given.pop("settings", {})
    whole = build_run(["gradient"], SIZES, kernels=FEW_KERNELS, passes=3, **given)
    whole["settings"] |= {"grid": "smoke", **settings}
    whole["commit_info"]["id"] = commit
    names = [one["fullname"] for one in whole["outcomes"]]
    key = plan_key(names, whole["settings"]["grid"], 0)
    found = []
    for number in range(1, total + 1):
        part = copy.deepcopy(whole)
        mine = {f"{m}x{n}x{o}]" for m, n, o in SIZES[number - 1 :: total]}
        for name in ("outcomes", "benchmarks"):
            part[name] = [e for e in part[name] if e["fullname"].rpartition("-")[2] in mine]
        part["settings"] |= {"shard": f"{number}/{total}", "plan": key, "seed": 0}
        part["datetime"] = f"2026-11-{day:02}T{number:02}:00:00+00:00"
        found.append(part)
    return found


def stored(folder: Path, parts: Iterable[dict[str, Any]]) -> list[Path]:
    """Store parts as the command would."""
    paths = []
    for part in parts:
        at = re.sub(r"[-:]", "", part["datetime"])[:15]
        grid, shard = part["settings"]["grid"], part["settings"].get("shard")
        suffix = Shard.read(shard).suffix if shard else ""
        name = f"{at}Z-{part['commit_info']['id'][:8]}-{grid}{suffix}.json"
        paths.append(save(part, folder / part["machine"]["slug"] / name))
    return paths


def read(paths: Iterable[Path]) -> dict[Path, Any]:
    return {path: load_run(path) for path in paths}


def test_shards_become_one_run_and_no_number_changes(tmp_path: Path) -> None:
    parts = parts_of(3)
    paths = stored(tmp_path, reversed(parts))
    ((path, run),) = joined(read(paths)).items()
    assert path.stem == "20261101T030000Z-01234567-smoke"
    assert run.datetime == parts[2]["datetime"]
    assert run.cost.wall_s == 1200
    assert run.shard is None
    assert run.settings["plan"] == parts[0]["settings"]["plan"]
    held = {one.fullname: one.model_dump(by_alias=True) for one in run.benchmarks}
    for number, part in zip((3, 2, 1), read(paths).values(), strict=True):
        assert part.shard == (number, 3)
        for one in part.benchmarks:
            assert held.pop(one.fullname) == one.model_dump(by_alias=True)
    assert not held
    assert len(run.outcomes) == len(SIZES) * 3


def test_a_whole_run_beside_them_stays_as_it_is(tmp_path: Path) -> None:
    whole = build_run(["gradient"], SIZES[:1], kernels=FEW_KERNELS)
    alone = save(whole, tmp_path / "amd-epyc-2-core" / "alone.json")
    paths = stored(tmp_path, parts_of(2))
    runs = read([paths[0], alone, paths[1]])
    found = joined(runs)
    assert list(found) == [alone, paths[1].with_name("20261101T020000Z-01234567-smoke.json")]
    assert found[alone] is runs[alone]
    assert latest_runs(load_heads([*paths, alone])) == [alone, *paths]


def test_a_shard_that_is_missing_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = stored(tmp_path / "runs", parts_of(3))
    given = [str(paths[0]), str(paths[2])]
    assert command.main(["report", f"--out={tmp_path}", *given]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    key = load_head(paths[0]).settings["plan"]
    wanted = f"shard 2 of 3 of plan {key}, commit {COMMIT}, is missing on amd-epyc-2-core"
    assert wanted in said
    assert "--shard 2/3" in said
    paths[1].unlink()
    paths[2].unlink()
    assert command.main(["report", f"--out={tmp_path}"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "shards 2–3 of 3 of plan" in said
    assert "are missing on amd-epyc-2-core" in said
    assert not (tmp_path / "report").exists()


@pytest.mark.usefixtures("quick")
def test_by_default_a_run_that_lacks_a_shard_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    older = stored(tmp_path / "runs", parts_of(2, 1))
    begun = stored(tmp_path / "runs", parts_of(2, 9, f"{9:040}")[:1])
    assert latest_runs(load_heads([*begun, *older])) == older
    assert command.main(["report", f"--out={tmp_path}", "--format=md"]) == 0
    said = capsys.readouterr().err
    assert said.startswith("left out: shard 2 of 2 of plan ")
    assert said.count("\n") == 1
    assert f"shard 2 there is of commit {COMMIT}, the rest of {9:040}" in said
    text = (tmp_path / "report" / "REPORT.md").read_text(encoding="utf-8")
    assert "20261101T020000Z-01234567-smoke" in text
    assert "20261109" not in text.split("## History")[0]
    # What is older than what stands in its place would not be shown were it whole.
    newer = stored(tmp_path / "runs", parts_of(2, 20))
    assert left_out(load_heads([*begun, *older, *newer])) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"commit": "f" * 40}, f"shard 2 there is of commit {'f' * 40}, the rest of {COMMIT}"),
        ({"settings": {"threads": 7}}, "shard 2 there is of setting threads 7, the rest of 2"),
        ({"settings": {"omp_places": "cores"}}, "of setting omp_places cores, the rest of none"),
    ],
)
def test_shards_of_other_code_or_settings_are_refused(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    paths = stored(tmp_path, [parts_of(2)[0], parts_of(2, **change)[1]])
    with pytest.raises(UserError) as refused:
        joined(read(paths))
    message = str(refused.value)
    assert message.isprintable()
    assert "shard 2 of 2 of plan" in message
    assert said in message


def test_shards_of_other_packages_or_with_uncommitted_changes_are_refused(tmp_path: Path) -> None:
    for number, what in enumerate(("package torch", "commit")):
        parts = parts_of(2)
        if what == "commit":
            parts[1]["commit_info"]["dirty"] = True
        else:
            parts[1]["packages"]["torch"] = "3.0"
        with pytest.raises(UserError, match=f"shard 2 there is of {what}"):
            joined(read(stored(tmp_path / str(number), parts)))


def test_of_a_shard_that_was_measured_twice_the_newest_counts(tmp_path: Path) -> None:
    old, new = parts_of(2, 1), parts_of(2, 2)
    for benchmark in new[0]["benchmarks"]:
        benchmark["extra_info"]["peak_bytes"] = 12345
    paths = stored(tmp_path, [*old, new[0]])
    assert latest_runs(load_heads(paths)) == [paths[2], paths[1]]
    ((path, run),) = joined(read(paths)).items()
    assert path.stem == "20261102T010000Z-01234567-smoke"
    assert len(run.benchmarks) == 9
    again = [one for one in run.benchmarks if one.extra_info.peak_bytes == 12345]
    assert {one.fullname for one in again} == {one["fullname"] for one in new[0]["benchmarks"]}
    assert run.cost.wall_s == 800


@pytest.mark.usefixtures("quick")
def test_machines_stand_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here, there = parts_of(3), parts_of(3, slug="zen", settings={"threads": 64})
    stored(tmp_path / "runs", [here[0], here[2], there[1]])
    assert command.main(["report", f"--out={tmp_path}", "--format=md"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    key = here[0]["settings"]["plan"]
    assert f"on amd-epyc-2-core is shards 1, 3 of 3 of plan {key}" in "".join(lines)
    assert f"on zen is shard 2 of 3 of plan {key}" in "".join(lines)
    assert "elsewhere: shard 2 on zen" in "".join(lines)
    assert "elsewhere: shards 1, 3 on amd-epyc-2-core" in "".join(lines)
    text = (tmp_path / "report" / "REPORT.md").read_text(encoding="utf-8")
    found = re.findall(r"^## (.*), run (.*)$", text, re.MULTILINE)
    assert found == [("amd-epyc-2-core", "20261101T030000Z-01234567-smoke-1+3of3"),
                     ("zen", "20261101T020000Z-01234567-smoke-2of3")]  # fmt: skip
    section = text.split("## Sharded runs")[1].split("\n## ")[0]
    assert "elsewhere: shard 2 on zen" in section
    assert "put together from" in section
    tables = {path.name: pd.read_csv(path) for path in (tmp_path / "report" / "tables").iterdir()}
    assert set(tables["zen-gradient-cpu-float64.csv"]["batch"]) == {100}
    assert set(tables["amd-epyc-2-core-gradient-cpu-float64.csv"]["batch"]) == {33, 1_000}


@pytest.mark.usefixtures("quick")
def test_names_of_files_are_data(tmp_path: Path) -> None:
    paths = stored(tmp_path, parts_of(2))
    odd = [path.rename(path.with_name(f"<b>|`{path.stem[-4:]}.json")) for path in paths]
    report.write_report(odd, tmp_path / "out")
    text = (tmp_path / "out" / "REPORT.md").read_text(encoding="utf-8").split("\n", 1)[1]
    assert "<" not in text
    assert "`" not in text.split("## Sharded runs")[1]
    assert "&#124;&#96;1of2" in text


def test_what_another_machine_lacks_too_is_missing(tmp_path: Path) -> None:
    here, there = parts_of(3), parts_of(3, slug="zen")
    paths = stored(tmp_path, [here[0], there[1]])
    with pytest.raises(UserError, match=r"shard 3 of 3 of plan .* is missing on amd-epyc-2-core"):
        joined(read(paths))
    heads = load_heads(paths)
    assert latest_runs(heads) == []
    assert [line.rpartition(" on ")[2].partition(";")[0] for line in left_out(heads)] == [
        "amd-epyc-2-core", "zen",
    ]  # fmt: skip
    other = stored(tmp_path, [parts_of(3, slug="zen", commit="f" * 40)[2]])
    with pytest.raises(UserError, match="shard 3 of 3"):
        joined(read([*paths, *other]))


def test_a_part_is_not_shown_alone_because_another_machine_has_something_newer(
    tmp_path: Path,
) -> None:
    here, there = parts_of(2, 3), parts_of(2, 3, slug="zen")
    shared = stored(tmp_path, [here[0], there[1]])
    assert latest_runs(load_heads(shared)) == shared
    newer = stored(tmp_path, parts_of(2, 5, "f" * 40))
    older = stored(tmp_path, parts_of(1, 1, slug="zen"))
    heads = load_heads([*shared, *newer])
    assert latest_runs(heads) == newer
    (said,) = left_out(heads)
    assert "on zen is a part of plan" in said
    heads = load_heads([*shared, *newer, *older])
    assert latest_runs(heads) == [*newer, *older]
    assert set(joined(read(latest_runs(heads)))) == {
        newer[1].with_name("20261105T020000Z-ffffffff-smoke.json"),
        older[0].with_name("20261101T010000Z-01234567-smoke.json"),
    }


def test_a_machine_that_has_all_shards_is_whole_whatever_another_has(tmp_path: Path) -> None:
    here, there = parts_of(2), parts_of(2, slug="zen")
    found = joined(read(stored(tmp_path, [*here, there[1]])))
    assert [len(run.benchmarks) for run in found.values()] == [9, 3]


@pytest.mark.parametrize("wrong", ["lost", "twice"])
def test_shards_that_do_not_add_up_to_their_plan_are_refused(tmp_path: Path, wrong: str) -> None:
    parts = parts_of(2)
    for name in ("outcomes", "benchmarks"):
        if wrong == "lost":
            parts[1][name].pop()
        else:
            parts[1][name].append(parts[0][name][0])
    runs = read(stored(tmp_path, parts))
    with pytest.raises(UserError, match="have each of its cases once"):
        joined(runs)
    assert len(united(runs)) == (1 if wrong == "lost" else 2)


@pytest.mark.parametrize(
    "settings",
    [
        {"shard": "4/3", "plan": "0123456789ab"},
        {"shard": 2, "plan": "0123456789ab"},
        {"shard": None, "plan": "0123456789ab"},
        {"shard": "1/3\n", "plan": "0123456789ab"},
        {"shard": "1/3"},
        {"shard": "1/3", "plan": "../../etc"},
        {"shard": "1/3", "plan": {"a": 1}},
    ],
)
def test_a_shard_that_is_none_is_refused(tmp_path: Path, settings: dict[str, Any]) -> None:
    run = build_run(["gradient"], SIZES[:1], kernels=FEW_KERNELS)
    run["settings"] |= settings
    path = save(run, tmp_path / "a.json")
    for load in (load_run, load_head):
        with pytest.raises(UserError, match=r"a\.json: settings: ") as refused:
            load(path)
        assert str(refused.value).isprintable()


def test_the_history_of_runs_in_shards_is_that_of_the_runs(tmp_path: Path) -> None:
    paths = []
    for day in range(1, 16):
        parts = parts_of(2, day, f"{day:040}")
        for part in parts:
            for benchmark in part["benchmarks"]:
                if day > 7 and benchmark["extra_info"]["kernel"] == "matmul":
                    for name in ("speedup", "speedup_low", "speedup_high"):
                        benchmark["extra_info"][name] *= 2
        # At first in one, then in parts; half of one run is missing.
        paths += stored(tmp_path, parts[1:] if day == 10 else parts)
    whole = build_run(["gradient"], SIZES, kernels=FEW_KERNELS, passes=5,
                      datetime="2026-11-28T00:00:00+00:00")  # fmt: skip
    whole["settings"]["grid"] = "smoke"
    paths.append(save(whole, tmp_path / "whole.json"))
    (group,) = comparable_runs(load_heads(reversed(paths)))
    history = history_of(runs_frame(united(read(group))), "smoke")
    names = [f"202611{day:02}T020000Z-{0:08}-smoke{'-2of2' * (day == 10)}" for day in range(5, 16)]
    assert list(history.runs) == [*names, "whole"]
    mine = history.points[history.points["kernel"] == "matmul"]
    # The run of which half is missing lacks cases of the newest.
    assert mine["run"].to_list() == [*names[:5], *names[6:], "whole"]
    moved = changed(mine)
    assert moved["run"].to_list() == [names[3], "whole"]
    assert moved["change"].to_list() == pytest.approx([2, 0.5])
