"""Shards of one plan that one machine measured alike -> the run that they make together.

Nothing measured changes: the cases are put together, and what each shard cost is summed. Shards of
several machines, commits or settings are never put together. Needs no torch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from ..common.errors import UserError, single_line
from ..common.provenance import Provenance, parse_utc
from .schema import Cost, Head, Run, flatten_settings

Facts = tuple[tuple[str, str], ...]


class ShardSet(NamedTuple):
    """The shards of one plan that one machine measured alike."""

    machine: str  # its slug
    total: int  # in how many shards the plan was split
    facts: Facts  # what must be the same in each: the plan, the commit, settings and packages
    paths: dict[int, Path]  # of each shard that is stored, by number; measured twice, the newest
    newest: Path  # of the one that was measured last

    @property
    def missing(self) -> list[int]:
        """The shards that are not stored."""
        return [number for number in range(1, self.total + 1) if number not in self.paths]

    @property
    def merged(self) -> Path:
        """What the run of all shards is called: as the newest of them, without its number."""
        stem = re.sub(r"-\d+of\d+(?=(-\d+)?$)", "", self.newest.stem)
        return self.newest.with_name(f"{stem}{self.newest.suffix}")

    def describe(self) -> str:
        """Say which files the run is made from, or which shards are missing."""
        shown = self.newest if self.missing else self.merged
        name = f"{single_line(shown.stem)} on {self.machine}"
        if not self.missing:
            stems = ", ".join(single_line(path.stem) for path in self.paths.values())
            return (
                f"{name} is put together from {stems}: its cases are theirs, its cost is their "
                "sum, its ceilings are those of the newest"
            )
        commit = single_line(dict(self.facts)["commit"])
        return (
            f"{name} is a shard of a plan at commit {commit}, of which, measured under the same "
            f"settings, shard {', '.join(map(str, self.missing))} of {self.total} is missing; "
            f"measure it by --shard {self.missing[0]}/{self.total}"
        )


def group_shards(heads: Mapping[Path, Head]) -> list[ShardSet]:
    """Return the runs that were measured in shards, in the order of their newest parts."""
    found: dict[tuple[str, int, Facts], ShardSet] = {}
    for path in _by_time(heads):
        head = heads[path]
        if head.shard is None:
            continue
        number, total = head.shard
        key = head.machine.slug, total, _facts(head)
        earlier = found.pop(key).paths if key in found else {}
        found[key] = ShardSet(*key, dict(sorted({**earlier, number: path}.items())), path)
    return list(found.values())


def _by_time(heads: Mapping[Path, Head]) -> list[Path]:
    return sorted(heads, key=lambda path: (parse_utc(heads[path].datetime), path))


def _facts(head: Head) -> Facts:
    settings = {name: value for name, value in head.settings.items() if name != "shard"}
    commit = Provenance.of({"id": head.commit_info.id, "dirty": head.commit_info.dirty})
    return (
        ("commit", str(commit)),
        *((f"setting {name}", value) for name, value in flatten_settings(settings).items()),
        *((f"package {name}", version) for name, version in sorted(head.packages.items())),
    )


def latest_runs(heads: Mapping[Path, Head]) -> list[Path]:
    """Return the newest run of each machine and grid, sorted by both.

    Of a run in shards those are all of its parts; one that lacks a shard is passed over.
    """
    whole = [one for one in group_shards(heads) if not one.missing]
    parts = {path: list(one.paths.values()) for one in whole for path in one.paths.values()}
    newest: dict[tuple[str, str], list[Path]] = {}
    for path in _by_time(heads):
        head = heads[path]
        if head.shard is None or path in parts:
            newest[head.machine.slug, str(head.settings.get("grid"))] = parts.get(path, [path])
    return [path for kind in sorted(newest) for path in newest[kind]]


def merge_shards(runs: Mapping[Path, Run]) -> dict[Path, Run]:
    """Put the shards of each machine together; other runs stay as they are.

    A run stands where its newest shard stood. A shard that was measured anew is left out.
    """
    sets = {one.newest: one for one in group_shards(runs)}
    found = {}
    for path, run in runs.items():
        if run.shard is None:
            found[path] = run
        elif path in sets:
            one = sets[path]
            if one.missing:
                why = _differing(one, [other for other in sets.values() if other is not one])
                raise UserError(f"a run in shards is reported whole; {one.describe()}{why}")
            found[one.merged] = _merge(one, runs)
    return found


def _differing(one: ShardSet, others: list[ShardSet]) -> str:
    for other in others:
        if (other.machine, other.total) == (one.machine, one.total):
            (name, value), *_ = sorted(set(other.facts) - set(one.facts))
            return f"; that of {single_line(name)} {single_line(value)} is no part of it"
    return ""


def _merge(one: ShardSet, runs: Mapping[Path, Run]) -> Run:
    parts, newest = [runs[path] for path in one.paths.values()], runs[one.newest]
    outcomes = [outcome for part in parts for outcome in part.outcomes]
    if len({outcome.fullname for outcome in outcomes}) < len(outcomes):
        raise UserError(
            "the shards of a plan have each of its cases once; those of "
            f"{single_line(one.merged.stem)} on {one.machine} have not; measure all of them "
            "anew with the same code"
        )
    return newest.model_copy(
        update={
            "settings": {name: value for name, value in newest.settings.items() if name != "shard"},
            "cost": _sum_costs([part.cost for part in parts]),
            "outcomes": outcomes,
            "benchmarks": [benchmark for part in parts for benchmark in part.benchmarks],
        }
    )


def _sum_costs(costs: list[Cost | None]) -> Cost | None:
    known = [cost.model_dump() for cost in costs if cost is not None]
    if len(known) < len(costs):
        return None
    return Cost(**{name: sum(cost[name] for cost in known) for name in Cost.model_fields})
