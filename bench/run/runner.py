"""Run a plan in child processes, follow their journal, and store the run.

Pass 0 examines every case: checks, suspicions, memory. Each further pass times all that were right,
in a fresh process and an order of its own. A child that dies takes only the case with it that it
was at: the next child goes on with the rest. A runner that dies leaves its journal, and `--resume`
goes on from there.
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from pytest_benchmark.utils import get_commit_info

from ..common.errors import UserError
from ..common.shard import Shard
from ..machine.environment import environment
from ..machine.info import oom_kills
from ..plan.benchmark import Benchmark, full_name
from ..plan.selection import Selection, as_arguments
from ..store.runs import StoredError, write_run
from .journal import JOURNAL_LOST, Journal
from .process import Exit, WorkerProcess, how_ended
from .state import Followed, Plan, Progress

LONGEST_CASE_S = 180.0  # of one pass, from its start to its end
POLL_S = 0.5  # the parent sleeps in between: it must not take time from what is measured
MOST_STARTS = 3  # in a row of a process that is killed before it has done anything
EXTRA_PASSES = 2  # at most so many more processes for cases that were timed under contention
EXTRA_SHARE = 0.1  # of the time that the passes took
NOT_TRIED = ("infeasible", "unsupported")


def run_plan(
    plan: list[Benchmark],
    axes: Selection,
    results: Path,
    show: Callable[[Progress], None],
    *,
    passes: int,
    resume: bool = False,
    steady: bool = True,
    shard: dict[str, Any] | None = None,
) -> Path:
    """Examine every planned case once, time it in every pass, and store the run.

    Args:
        plan: The cases.
        axes: The options they came from.
        results: The results folder.
        show: Called now and then with the progress.
        passes: How many fresh processes time each case.
        resume: Go on with the newest run of the same plan that was not finished.
        steady: Give the measuring processes the steady environment, not the caller's own.
        shard: Where the cases are a shard of a plan, what the run file is to say of it.

    Returns:
        The path of the new run file.

    Raises:
        UserError: If the results folder cannot be written or there is nothing to resume, before
            anything is measured, or if the measuring process cannot be started.
    """
    unfinished = results / "unfinished"
    _require_writable(results / "runs", unfinished)
    what = Plan([full_name(entry) for entry in plan], _arguments(axes), passes, shard)
    followed = _reopen(what, unfinished) if resume else _open(what, unfinished)
    path, empty = None, False
    try:
        with tempfile.TemporaryDirectory(prefix="mlr-run-") as folder:
            surroundings = environment(os.environ) if steady else dict(os.environ)
            _run_passes(Child(axes, Path(folder), surroundings), followed, show)
        followed.note("end")
        show(followed.progress)
        run = followed.compose()
        empty = all(one["status"] in NOT_TRIED for one in run["outcomes"])
        if empty:
            raise _nothing_ran(run["outcomes"])
        path = _store(results, run)
    finally:
        followed.read()  # what ended since the last look
        if path is not None or empty or not followed.count:  # stored, or nothing there to keep
            followed.journal.path.unlink()
            if not any(unfinished.iterdir()):
                unfinished.rmdir()
    return path


def _nothing_ran(outcomes: list[dict[str, Any]]) -> UserError:
    first = outcomes[0]
    return UserError(
        f"a run needs a benchmark that can run here; none of {len(outcomes)} could, so nothing is "
        f"stored ({first['kernel']}: {first['reason']}); choose other sizes or kernels, see `plan`"
    )


class Child(NamedTuple):
    """What every measuring process of a run is started with."""

    axes: Selection
    folder: Path
    environment: dict[str, str]


class Ended(NamedTuple):
    """How a measuring process ended: its exit status, whether at a case, what it said last."""

    code: int
    began: bool
    last_line: str


def _run_passes(child: Child, followed: Followed, show: Callable[[Progress], None]) -> None:
    for number in range(followed.plan.passes + 1):
        wanted = [n for n in followed.plan.wanted if number <= followed.passes_of(n)]
        _run_pass(child, followed, show, number, wanted)
    timed = followed.wall_s
    for number in range(followed.plan.passes + 1, followed.plan.passes + 1 + EXTRA_PASSES):
        again = followed.contended()
        room = EXTRA_SHARE * timed - (followed.wall_s - timed)
        cost = followed.seconds_of(again)
        if not again or cost > room:
            return
        _run_pass(child, followed, show, number, again)


def _run_pass(
    child: Child,
    followed: Followed,
    show: Callable[[Progress], None],
    number: int,
    wanted: list[str],
) -> None:
    """Take cases through a pass, in as many processes as it takes."""
    starts = 0
    while left := [name for name in wanted if not followed.has(number, name)]:
        before = followed.count
        ended = _run_child(child, followed, show, number, left)
        starts = 0 if followed.count > before else starts + 1
        # One that somebody killed before its first case, or between two, is started again.
        if starts and not ended.began and (ended.code != -9 or starts > MOST_STARTS):
            raise UserError(f"the measuring process failed: {ended.last_line}")


def _require_writable(*folders: Path) -> None:
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise UserError(
                f"the results folder must be writable; {folder}: {error.strerror}; choose another "
                "with --out"
            ) from error


def _arguments(axes: Selection) -> list[str]:
    return as_arguments(lambda name: _as_text(getattr(axes, name)))


def _open(plan: Plan, unfinished: Path) -> Followed:
    started = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    followed = Followed(Journal(unfinished / f"{started}-{os.getpid()}.jsonl"))
    followed.note("plan", **plan._asdict())
    return followed


def _reopen(plan: Plan, unfinished: Path) -> Followed:
    for path in sorted(unfinished.glob("*.jsonl"), reverse=True):
        followed = Followed(Journal(path))
        followed.read()
        if followed.plan == plan and not _is_alive(path):
            _require_same_commit(followed)
            # Taken over by renaming: of two runners only one finds it.
            mine = path.with_name(f"{path.stem.partition('-')[0]}-{os.getpid()}.jsonl")
            path.rename(mine)
            followed.journal.path = mine
            followed.journal.drop_torn_end()
            followed.note("resume")
            return followed
    raise UserError(
        f"--resume goes on with an unfinished run of the same cases; {unfinished} holds none; "
        "give the same axes and shard, or leave --resume out"
    )


def _require_same_commit(followed: Followed) -> None:
    if followed.session is None:
        return
    then, now = followed.session["commit_info"].get("id"), get_commit_info().get("id")
    if then != now:
        raise UserError(
            f"a run is of one commit; the unfinished one is of {then}, this is {now}; check that "
            "one out, or leave --resume out"
        )


def _is_alive(journal: Path) -> bool:
    """Say whether the runner whose number a journal's name ends in still runs."""
    try:
        os.kill(int(journal.stem.rpartition("-")[2]), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _run_child(
    what: Child,
    followed: Followed,
    show: Callable[[Progress], None],
    number: int,
    left: list[str],
) -> Ended:
    random.Random(f"{what.axes.seed} {number}").shuffle(left)
    only = what.folder / "only.json"
    only.write_text(json.dumps(left), encoding="utf-8")
    command = [
        *(sys.executable, "-m", "pytest", "bench", "-q", "-p", "no:cacheprovider"),
        *("-p", "pytest_benchmark.plugin"),
        *("--journal", str(followed.journal.path.resolve()), "--only", str(only)),
        *("--pass", str(number), *(["--benchmark-disable"] if number == 0 else [])),
        *_arguments(what.axes),
    ]
    kills = oom_kills()
    env = {**what.environment, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    with WorkerProcess(command, LONGEST_CASE_S, env=env, reports=False) as worker:
        _follow(worker, followed, show)
        ended = worker.end()
        last_line = worker.last_line or "no output"
    followed.read()
    began = followed.current is not None
    if began:
        _end_current(followed, ended, oom_kills() > kills)
    return Ended(ended.code, began, last_line)


def _end_current(followed: Followed, ended: Exit, out_of_memory: bool) -> None:
    """Give the case that a child died at its end, or another try if somebody killed the child.

    Raises:
        UserError: The child could not write the journal: the case is none the worse for it.
    """
    code = ended.code
    if code == JOURNAL_LOST:
        raise followed.unwritable("by the process that measures")
    if ended.late:
        followed.end("timeout", ended.reason)
    elif code == -9 and out_of_memory:
        followed.end("oom", "its process was killed by the system for want of memory")
    elif code == -9 and not followed.lost_before():
        followed.lose()
    else:
        followed.end("crashed", f"its process ended: {how_ended(code)}")


def _follow(worker: WorkerProcess, followed: Followed, show: Callable[[Progress], None]) -> None:
    """Show the progress until the worker ends; each case has its own time."""
    current = followed.current
    while not worker.wait(POLL_S):
        followed.read()
        show(followed.progress)
        if followed.current != current:
            current = followed.current
            worker.extend()


def _store(results: Path, run: dict[str, Any]) -> Path:
    """Write a run under the first free name: another runner may end in the same second."""
    path = first = _run_path(results, run)
    count = 1
    while True:
        try:
            return write_run(path, run)
        except StoredError:
            count += 1
            path = first.with_stem(f"{first.stem}-{count}")


def _run_path(results: Path, run: dict[str, Any]) -> Path:
    taken = datetime.fromisoformat(run["datetime"]).strftime("%Y%m%dT%H%M%SZ")
    commit = str(run["commit_info"].get("id", "nogit"))[:8]
    settings = run["settings"]
    part = Shard.read(settings["shard"]).suffix if "shard" in settings else ""
    name = f"{taken}-{commit}-{settings['grid']}{part}.json"
    return results / "runs" / str(run["machine"]["slug"]) / name


def _as_text(value: Any) -> Any:
    return ",".join(str(part) for part in value) if isinstance(value, tuple) else value
