"""Run a plan in child processes, follow their journal, and store the run.

Process 0 verifies every benchmark: results, warnings, memory. Each further process times all that
were right, in an order of its own. A process that dies takes only the benchmark with it that it was
at: the next one goes on with the rest. A runner that dies leaves its journal, and `--resume` goes
on from there.
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from pytest_benchmark.utils import get_commit_info

from ..common.errors import UserError
from ..common.provenance import Provenance
from ..machine.environment import pinned_environment
from ..plan.benchmark import Benchmark, full_name
from ..plan.selection import Selection, as_arguments
from ..store.files import ExistsError
from ..store.runs import write_run
from .aggregate import compose
from .eta import RunProgress, progress
from .journal import JOURNAL_LOST, End, Journal, Plan, Resume, RunState
from .process import Exit, WorkerProcess, describe_exit

CASE_TIMEOUT_S = 180.0  # of a benchmark in one process, from its start to its end
POLL_S = 0.5  # the parent sleeps in between: it must not take time from what is measured
MAX_RERUNS = 2  # at most so many more processes for benchmarks that were timed under contention
RERUN_SHARE = 0.1  # of the time that the processes took
KILLED = -9
NOT_TRIED = ("infeasible", "unsupported")
_PYTEST = (
    *(sys.executable, "-m", "pytest", "bench", "-q", "-p", "no:cacheprovider"),
    *("-p", "pytest_benchmark.plugin"),
)
Show = Callable[[RunProgress], None]


class WorkerConfig(NamedTuple):
    """What every measuring process of a run is started with."""

    axes: Selection
    folder: Path
    environment: dict[str, str]


def run_plan(
    plan: list[Benchmark],
    axes: Selection,
    results: Path,
    show: Show,
    *,
    processes: int,
    resume: bool = False,
    pinned: bool = True,
) -> Path:
    """Verify every planned benchmark once, time it in every process, and store the run.

    With `resume` it goes on with the newest unfinished run of the same plan. The caller's
    environment is used where not `pinned`.
    """
    unfinished = results / "unfinished"
    _require_writable(results / "runs", unfinished)
    names = [full_name(entry) for entry in plan]
    what = Plan(wanted=names, arguments=_arguments(axes), processes=processes)
    state = _reopen(what, unfinished) if resume else _open(what, unfinished)
    is_over = False
    try:
        with tempfile.TemporaryDirectory(prefix="mlr-run-") as folder:
            env = pinned_environment(os.environ) if pinned else dict(os.environ)
            _run_processes(WorkerConfig(axes, Path(folder), env), state, show)
        state.note(End())
        show(progress(state))
        run = compose(state)
        is_over = all(one["status"] in NOT_TRIED for one in run["outcomes"])
        if is_over:
            raise _nothing_ran(run["outcomes"])
        path = _store(results, run)
        is_over = True
    finally:
        state.read()  # what ended since the last look
        if is_over or not state.done:
            state.journal.path.unlink()
            if not any(unfinished.iterdir()):
                unfinished.rmdir()
    return path


def _nothing_ran(outcomes: list[dict[str, Any]]) -> UserError:
    first = outcomes[0]
    return UserError(
        f"a run needs a benchmark that can run here; none of {len(outcomes)} could, so nothing is "
        f"stored ({first['kernel']}: {first['reason']}); choose other sizes or kernels, see `plan`"
    )


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
    def text(name: str) -> Any:
        value = getattr(axes, name)
        return ",".join(map(str, value)) if isinstance(value, tuple) else value

    return as_arguments(text)


def _open(plan: Plan, unfinished: Path) -> RunState:
    # The number is for another machine that shares the folder.
    started = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    state = RunState(Journal(unfinished / f"{started}-{os.getpid()}.jsonl"))
    state.note(plan)
    return state


def _reopen(plan: Plan, unfinished: Path) -> RunState:
    for path in sorted(unfinished.glob("*.jsonl"), reverse=True):
        state = RunState(Journal(path))
        state.read()
        if state.plan == plan:
            _require_same_commit(state)
            state.note(Resume())
            return state
    raise UserError(
        f"--resume goes on with an unfinished run of the same cases; {unfinished} holds none; "
        "give the same axes, or leave --resume out"
    )


def _require_same_commit(state: RunState) -> None:
    now = get_commit_info().get("id")
    if state.session is not None and (then := state.session.commit_info.get("id")) != now:
        raise UserError(
            f"a run is of one commit; the unfinished one is of {then}, this is {now}; check that "
            "one out, or leave --resume out"
        )


def _run_processes(config: WorkerConfig, state: RunState, show: Show) -> None:
    last = state.plan.processes
    for number in range(last + 1):
        wanted = [name for name in state.plan.wanted if number <= state.processes_of(name)]
        _run_process(config, state, show, number, wanted)
    timed_s = state.wall_s
    for number in range(last + 1, last + 1 + MAX_RERUNS):
        again = state.contended()
        room_s = RERUN_SHARE * timed_s - (state.wall_s - timed_s)
        if not again or state.seconds_of(again) > room_s:
            return
        _run_process(config, state, show, number, again)


def _run_process(
    config: WorkerConfig, state: RunState, show: Show, number: int, wanted: list[str]
) -> None:
    killed: set[str | None] = set()  # the benchmarks at which it was; None between them
    while left := [name for name in wanted if not state.has(number, name)]:
        before = len(state.done)
        ended = _run_child(config, state, show, number, left)
        if ended.code == JOURNAL_LOST:  # the benchmark that it was at is none the worse for it
            raise state.unwritable("by the process that measures")
        at = state.current.fullname if state.current else None
        again = ended.code == KILLED and not ended.late and at not in killed
        if at is not None:
            _end_current(state, ended, again=again)
        elif len(state.done) == before and not again:
            raise UserError(f"the measuring process failed: {ended.last_line or ended.reason}")
        if again:
            killed.add(at)


def _run_child(
    config: WorkerConfig, state: RunState, show: Show, number: int, left: list[str]
) -> Exit:
    random.Random(f"{config.axes.seed} {number}").shuffle(left)
    select = config.folder / "select.json"
    select.write_text(json.dumps(left), encoding="utf-8")
    command = [
        *_PYTEST,
        *("--mlr-journal", str(state.journal.path.resolve()), "--mlr-select", str(select)),
        *("--mlr-process", str(number), *(["--benchmark-disable"] if number == 0 else [])),
        *_arguments(config.axes),
    ]
    env = {**config.environment, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    with WorkerProcess(command, CASE_TIMEOUT_S, env=env, reports=False) as worker:
        current = state.current
        while not worker.wait(POLL_S):
            state.read()
            show(progress(state))
            if state.current != current:  # each benchmark has its own time
                current = state.current
                worker.extend()
        ended = worker.end()
    state.read()
    return ended


def _end_current(state: RunState, ended: Exit, *, again: bool) -> None:
    if ended.late:
        state.end_current("timeout", ended.reason)
    elif again:
        state.current = None
    elif ended.code == KILLED:
        state.end_current("oom", "its process was killed twice, as if for want of memory")
    else:
        state.end_current("crashed", f"its process ended: {describe_exit(ended.code)}")


def _store(results: Path, run: dict[str, Any]) -> Path:
    """Write a run under the first free name: another runner may end in the same second."""
    origin = Provenance.of(run["commit_info"], datetime.fromisoformat(run["datetime"]))
    folder = results / "runs" / str(run["machine"]["slug"])
    name = origin.file_stem(run["settings"]["grid"])
    for number in count(1):
        with suppress(ExistsError):
            return write_run(folder / f"{name}{f'-{number}' * (number > 1)}.json", run)
    raise AssertionError
