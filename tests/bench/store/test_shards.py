"""Shards of a run: put together where that is right, and refused in one line where it is not."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from run_builder import FEW_KERNELS, build_run, save

from bench.common.errors import UserError
from bench.common.provenance import PlanShard, plan_key
from bench.store.runs import load_head, load_heads, load_run
from bench.store.shards import group_shards, latest_runs, merge_shards

SIZES = ((33, 6, 3), (100, 6, 3), (1_000, 6, 3))
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def parts_of(total: int, day: int = 1, commit: str = COMMIT, **given: Any) -> list[dict[str, Any]]:
    """Build a run and take it apart; the shards are an hour apart, the first is the oldest."""
    settings = given.pop("settings", {})
    whole = build_run(["gradient"], SIZES, kernels=FEW_KERNELS, processes=3, **given)
    whole["settings"] |= {"grid": "smoke", **settings}
    whole["commit_info"]["id"] = commit
    key = plan_key((one["fullname"] for one in whole["outcomes"]), "smoke", 0)
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
        suffix = PlanShard.read(part["settings"]["shard"]).suffix
        name = f"{at}Z-{part['commit_info']['id'][:8]}-smoke{suffix}.json"
        paths.append(save(part, folder / part["machine"]["slug"] / name))
    return paths


def read(paths: Iterable[Path]) -> dict[Path, Any]:
    return {path: load_run(path) for path in paths}


def refusal(paths: Iterable[Path]) -> str:
    with pytest.raises(UserError) as refused:
        merge_shards(read(paths))
    message = str(refused.value)
    assert message.isprintable()
    return message


def test_shards_become_one_run_and_no_number_changes(tmp_path: Path) -> None:
    parts = parts_of(3)
    paths = stored(tmp_path, reversed(parts))
    ((path, run),) = merge_shards(read(paths)).items()
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
    (said,) = (one.describe() for one in group_shards(load_heads(paths)))
    assert said.startswith("20261101T030000Z-01234567-smoke on amd-epyc-2-core is put together")


def test_a_whole_run_beside_them_stays_as_it_is(tmp_path: Path) -> None:
    whole = build_run(["gradient"], SIZES[:1], kernels=FEW_KERNELS)
    alone = save(whole, tmp_path / "amd-epyc-2-core" / "alone.json")
    paths = stored(tmp_path, parts_of(2))
    runs = read([paths[0], alone, paths[1]])
    found = merge_shards(runs)
    assert list(found) == [alone, paths[1].with_name("20261101T020000Z-01234567-smoke.json")]
    assert found[alone] is runs[alone]
    assert latest_runs(load_heads([*paths, alone])) == [alone, *paths]


def test_shards_that_are_missing_are_named(tmp_path: Path) -> None:
    paths = stored(tmp_path, parts_of(3))
    said = refusal([paths[0], paths[2]])
    assert f"a shard of a plan at commit {COMMIT}, of which" in said
    assert said.endswith("shard 2 of 3 is missing; measure it by --shard 2/3")
    assert "shard 2, 3 of 3 is missing" in refusal(paths[:1])


def test_by_default_a_run_that_lacks_a_shard_is_left_out(tmp_path: Path) -> None:
    older = stored(tmp_path, parts_of(2, 1))
    begun = stored(tmp_path, parts_of(2, 9, f"{9:040}")[:1])
    heads = load_heads([*begun, *older])
    assert latest_runs(heads) == older
    assert [one.missing for one in group_shards(heads)] == [[], [2]]
    assert latest_runs(load_heads(begun)) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"commit_info": {"id": "f" * 40, "dirty": False}}, f"commit {'f' * 40}"),
        ({"commit_info": {"id": COMMIT, "dirty": True}}, "with uncommitted changes"),
        ({"settings": {"threads": 7}}, "setting threads 7"),
        ({"settings": {"omp_places": "cores"}}, "setting omp_places cores"),
        ({"packages": {"torch": "3.0"}}, "package torch 3.0"),
        ({"machine": {"slug": "zen"}}, "is missing"),
    ],
)
def test_what_was_measured_otherwise_is_no_part(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    parts = parts_of(2)
    for name, value in change.items():
        parts[1][name] |= value
    message = refusal(stored(tmp_path, parts))
    assert "shard 2 of 2 is missing" in message
    assert said in message


def test_of_a_shard_that_was_measured_twice_the_newest_counts(tmp_path: Path) -> None:
    old, new = parts_of(2, 1), parts_of(2, 2)
    for benchmark in new[0]["benchmarks"]:
        benchmark["extra_info"]["peak_bytes"] = 12345
    paths = stored(tmp_path, [*old, new[0]])
    assert latest_runs(load_heads(paths)) == [paths[2], paths[1]]
    ((path, run),) = merge_shards(read(paths)).items()
    assert path.stem == "20261102T010000Z-01234567-smoke"
    assert len(run.benchmarks) == 9
    again = [one for one in run.benchmarks if one.extra_info.peak_bytes == 12345]
    assert {one.fullname for one in again} == {one["fullname"] for one in new[0]["benchmarks"]}
    assert run.cost.wall_s == 800


def test_shards_that_share_a_case_are_refused(tmp_path: Path) -> None:
    parts = parts_of(2)
    for name in ("outcomes", "benchmarks"):
        parts[1][name].append(parts[0][name][0])
    assert "have each of its cases once" in refusal(stored(tmp_path, parts))


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
