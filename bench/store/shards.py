"""Shards that one machine measured alike -> the run that they make together. Needs no torch.

Nothing measured changes: the cases are put together, and what each part cost is summed. Shards of
several machines are never put together.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from ..common.errors import UserError
from ..common.shard import plan_key
from .runs import moment, plain
from .schema import Cost, Head, Run
from .settings import flat


class Sweep(NamedTuple):
    """The shards of one plan that one machine measured alike.

    Attributes:
        machine: Its slug.
        total: In how many shards the plan was split.
        facts: All that must be the same in each: the plan, the commit, settings and packages.
        paths: The file of each shard that is stored, by number; measured twice, the newest.
        newest: That of the one that was measured last.
    """

    machine: str
    total: int
    facts: dict[str, str]
    paths: dict[int, Path]
    newest: Path

    @property
    def whole(self) -> bool:
        """Whether no shard is missing."""
        return len(self.paths) == self.total

    @property
    def plan(self) -> tuple[str, int, str]:
        """What the shards of several machines share."""
        return self.facts["setting plan"], self.total, self.facts["commit"]

    @property
    def shown(self) -> Path:
        """What the run is called: as its newest part, without the number of it once it is whole."""
        if not self.whole and len(self.paths) == 1:
            return self.newest
        numbers = _ranges(self.paths).replace("–", "-").replace(", ", "+")
        suffix = "" if self.whole else f"-{numbers}of{self.total}"
        stem = re.sub(r"-\d+of\d+(?=(-\d+)?$)", suffix, self.newest.stem)
        return self.newest.with_name(f"{stem}{self.newest.suffix}")


def gather(heads: Mapping[Path, Head]) -> list[Sweep]:
    """Return the runs that were measured in shards, in the order of their newest parts."""
    found: dict[tuple[str, int, str], Sweep] = {}
    for path in sorted(heads, key=lambda path: (moment(heads[path].datetime), path)):
        head = heads[path]
        if head.shard is None:
            continue
        number, total = head.shard
        facts = _facts(head)
        key = head.machine.slug, total, json.dumps(facts)
        earlier = found.pop(key).paths if key in found else {}
        paths = dict(sorted({**earlier, number: path}.items()))
        found[key] = Sweep(head.machine.slug, total, facts, paths, path)
    return list(found.values())


def _facts(head: Head) -> dict[str, str]:
    commit = head.commit_info
    settings = {name: value for name, value in head.settings.items() if name != "shard"}
    return {
        "commit": f"{commit.id}{' with uncommitted changes' * commit.dirty}",
        **{f"setting {name}": value for name, value in flat(settings).items()},
        **{f"package {name}": version for name, version in sorted(head.packages.items())},
    }


def latest_runs(heads: Mapping[Path, Head]) -> list[Path]:
    """Return the newest run of each machine and grid, sorted by both.

    Of a run in shards those are all of its parts. One that lacks a shard is passed over, unless
    other machines show what it lacks: then each machine's part is a run of its own.
    """
    sweeps = gather(heads)
    usable = [one for one in sweeps if not _lacking(one, sweeps)]
    while True:
        parts = {path: one for one in usable for path in one.paths.values()}
        newest: dict[tuple[str, str], tuple[datetime, Path]] = {}
        for path, head in heads.items():
            if head.shard is None or path in parts:
                entry = (moment(head.datetime), path)
                newest[_kind(head)] = max(entry, newest.get(_kind(head), entry))
        chosen = [newest[kind][1] for kind in sorted(newest)]
        shown = [parts[path] for path in chosen if path in parts]
        # On another machine a newer run may stand in the place of what this one lacks.
        short = [one for one in usable if one in shown and _lacking(one, shown)]
        if not short:
            return [path for one in chosen for path in _files(one, parts)]
        usable.remove(short[-1])


def _kind(head: Head) -> tuple[str, str]:
    return head.machine.slug, str(head.settings.get("grid"))


def _files(path: Path, parts: Mapping[Path, Sweep]) -> list[Path]:
    return list(parts[path].paths.values()) if path in parts else [path]


def left_out(heads: Mapping[Path, Head]) -> list[str]:
    """Say of each run that `latest_runs` passes over for want of a shard what it lacks.

    One that is older than what is shown in its place is not worth a word.
    """
    sweeps, chosen = gather(heads), latest_runs(heads)
    shown: dict[tuple[str, str], datetime] = {}
    for head in (heads[path] for path in chosen):
        at = moment(head.datetime)
        shown[_kind(head)] = max(at, shown.get(_kind(head), at))
    found = []
    for one in sweeps:
        at, kind = moment(heads[one.newest].datetime), _kind(heads[one.newest])
        if one.whole or one.newest in chosen or at < shown.get(kind, at):
            continue
        if _lacking(one, sweeps):
            found.append(_said_lacking(one, sweeps))
        else:
            found.append(
                f"{plain(one.shown.stem)} on {one.machine} is a part of plan {one.plan[0]}, and a "
                "machine that has another part has a newer run"
            )
    return found


def elsewhere(heads: Mapping[Path, Head]) -> list[str]:
    """Say of each part of a run that several machines share where the other shards are."""
    sweeps = gather(heads)
    found = []
    for one in sweeps:
        others = {
            number: other.machine
            for other in sweeps
            if other.plan == one.plan and other.machine != one.machine
            for number in other.paths
            if number not in one.paths
        }
        if others and not _lacking(one, sweeps):
            places = [
                f"{_shards([n for n in others if others[n] == machine])} on {machine}"
                for machine in sorted(set(others.values()))
            ]
            found.append(
                f"{plain(one.shown.stem)} on {one.machine} is {_shards(one.paths)} of {one.total} "
                f"of plan {one.plan[0]}, and no whole run; elsewhere: {', '.join(places)}; what "
                "several machines measured is never put together"
            )
    return found


def sources(heads: Mapping[Path, Head]) -> list[str]:
    """Say of each run that is put together from several shards from which."""
    return [
        f"{plain(one.shown.stem)} on {one.machine} is put together from "
        f"{', '.join(plain(path.stem) for path in one.paths.values())}: its cases are theirs, its "
        "cost is their sum, its ceilings are those of the newest"
        for one in gather(heads)
        if len(one.paths) > 1
    ]


def joined(runs: Mapping[Path, Run]) -> dict[Path, Run]:
    """Put the shards of each machine together; other runs stay as they are.

    Raises:
        UserError: A shard is missing on every machine, or was measured at another commit or under
            other settings than the rest; or the shards do not add up to their plan.
    """
    sweeps = gather(runs)
    for one in sweeps:
        if _lacking(one, sweeps):
            raise UserError(f"a run in shards is reported whole; {_said_lacking(one, sweeps)}")
        names, settings = _names(one, runs), runs[one.newest].settings
        key = plan_key(names, str(settings.get("grid")), settings.get("seed", 0))
        if len(set(names)) < len(names) or (one.whole and key != one.plan[0]):
            raise UserError(
                f"the shards of a plan have each of its cases once; those of plan {one.plan[0]} on "
                f"{one.machine} have not; measure all of them anew with the same code"
            )
    return united(runs)


def united(runs: Mapping[Path, Run]) -> dict[Path, Run]:
    """Put together what shards there are, where no case is in two; other runs stay as they are.

    A run stands where its newest part stood. A shard that was measured anew is left out.
    """
    sweeps = {one.newest: one for one in gather(runs)}
    found = {}
    for path, run in runs.items():
        if run.shard is None:
            found[path] = run
        elif path in sweeps:
            one = sweeps[path]
            names = _names(one, runs)
            if len(set(names)) == len(names):
                found[one.shown] = _together(one, runs)
            else:
                found |= {part: runs[part] for part in one.paths.values()}
    return found


def _names(one: Sweep, runs: Mapping[Path, Run]) -> list[str]:
    return [outcome.fullname for path in one.paths.values() for outcome in runs[path].outcomes]


def _together(one: Sweep, runs: Mapping[Path, Run]) -> Run:
    parts, newest = [runs[path] for path in one.paths.values()], runs[one.newest]
    if len(parts) == 1 and not one.whole:
        return newest
    return newest.model_copy(
        update={
            "settings": {name: value for name, value in newest.settings.items() if name != "shard"},
            "cost": _summed([part.cost for part in parts]),
            "outcomes": [outcome for part in parts for outcome in part.outcomes],
            "benchmarks": [benchmark for part in parts for benchmark in part.benchmarks],
        }
    )


def _summed(costs: list[Cost | None]) -> Cost | None:
    known = [cost for cost in costs if cost is not None]
    if len(known) < len(costs):
        return None
    names = Cost.model_fields
    return Cost(**{name: sum(getattr(cost, name) for cost in known) for name in names})


def _lacking(one: Sweep, sweeps: Iterable[Sweep]) -> set[int]:
    """Return the shards that neither this machine nor another has of the same plan and commit."""
    others = (other for other in sweeps if other.plan == one.plan and other.machine != one.machine)
    there = {number for other in others for number in other.paths}
    return set(range(1, one.total + 1)) - set(one.paths) - there


def _said_lacking(one: Sweep, sweeps: Iterable[Sweep]) -> str:
    """Name the shards that are missing, and why one that is stored does not count."""
    numbers = _lacking(one, sweeps)
    said = (
        f"{_shards(numbers)} of {one.total} of plan {one.plan[0]}, commit {plain(one.plan[2])}, "
        f"{'is' if len(numbers) == 1 else 'are'} missing on {one.machine}"
    )
    for other in sweeps:
        same = (other.machine, other.plan[:2]) == (one.machine, one.plan[:2])
        apart = numbers & set(other.paths)
        if same and apart:
            name = _differing(one.facts, other.facts)
            ours, theirs = (plain(facts.get(name, "none")) for facts in (one.facts, other.facts))
            said += f"; shard {min(apart)} there is of {plain(name)} {theirs}, the rest of {ours}"
            break
    return f"{said}; measure it by --shard {min(numbers)}/{one.total}"


def _differing(ours: Mapping[str, str], theirs: Mapping[str, str]) -> str:
    names = [*ours, *(name for name in theirs if name not in ours)]
    return next(name for name in names if ours.get(name) != theirs.get(name))


def _shards(numbers: Iterable[int]) -> str:
    found = list(numbers)
    return f"shard{'s' * (len(found) > 1)} {_ranges(found)}"


def _ranges(numbers: Iterable[int]) -> str:
    """Return whole numbers as text: `1–3, 5`."""
    placed = ((number - place, number) for place, number in enumerate(sorted(numbers)))
    runs = [[number for _, number in some] for _, some in groupby(placed, key=lambda one: one[0])]
    return ", ".join(f"{run[0]}–{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
