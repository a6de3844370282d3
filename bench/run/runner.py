"""Run a plan in child processes, follow their journal, and store the run.

Process 0 verifies every benchmark: results, warnings, memory. Each further process times those
that were right, in an order of its own: all of them up to the least number of processes, and then
those whose intervals need it. Of each number there is a process for every number of threads.
A process that dies takes only the benchmark with it that it was at: the next one goes on with the
rest. One whose device is lost to it, as after an illegal access, ends by itself once that benchmark
is written down. A runner that dies leaves its journal, and `--resume` goes on from there.
"""

import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from ..common.errors import UserError
from ..common.paths import FOLDER, IS_INSTALLED
from ..common.provenance import commit_info
from ..machine.environment import pinned_environment
from ..plan.benchmark import Benchmark, full_name, require_tried, was_tried
from ..plan.grid import Processes
from ..plan.selection import Selection
from ..store.files import ExistsError, file_stem, require_writable
from ..store.runs import write_run
from .aggregate import compose
from .journal import JOURNAL_LOST, Choice, Done, Plan, RunProgress, RunState, progress
from .process import Exit, WorkerProcess, describe_exit
from .stopping import wanting

CASE_TIMEOUT_S = 180.0  # of a benchmark in one process, from its start to its end
POLL_S = 0.5  # the parent sleeps in between: it must not take time from what is measured
MAX_RERUNS = 2  # at most so many more processes for benchmarks that were timed under contention
RERUN_SHARE = 0.2  # of the time that the processes took
# Of an installed suite pytest finds its settings beside it, in the copy of pyproject.toml that the
# wheel has; it writes nothing there, and puts none of it on the path.
PYTEST = (
    *(sys.executable, "-m", "pytest", str(FOLDER), "-p", "no:cacheprovider", "--assert=plain"),
    *(("-o", "pythonpath=") if IS_INSTALLED else ()),
)
_PYTEST = (*PYTEST, "-q", "-p", "pytest_benchmark.plugin")


def run_plan(
    plan: list[Benchmark],
    axes: Selection,
    results: Path,
    show: Callable[[RunProgress], None],
    *,
    processes: Processes,
    resume: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Path:
    """Verify every planned benchmark once, time it in its processes, and store the run.

    With `resume` it goes on with the newest unfinished run of the same plan, and says where there
    is none.
    """
    unfinished = results / "unfinished"
    require_writable("the results folder", results / "runs", unfinished)
    wanted = {full_name(entry): entry.threads for entry in plan}
    least, most = processes
    what = Plan(
        wanted=wanted,
        arguments=axes.as_arguments(),
        processes=most,
        least=least if least < most else 0,
    )
    state = _reopen(what, unfinished) if resume else None
    if state is None:  # the number is for another machine that shares the folder
        if resume:
            say(f"{unfinished} has no unfinished run of these benchmarks; a new run starts")
        name = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{os.getpid()}.jsonl"
        state = RunState(unfinished / name)
    state.note(what)
    path = None
    try:
        Runner(state, show).run()
        show(progress(state))
        path = _store(results, compose(state))
    finally:
        state.read()  # what ended since the last look
        tried = any(was_tried(end.outcome) for end in state.ends)
        if path is not None or not tried:
            state.path.unlink()
            with suppress(OSError):  # it holds the journals of other runs
                unfinished.rmdir()
    return path


def _reopen(plan: Plan, unfinished: Path) -> RunState | None:
    """Return the newest unfinished run of a plan, which must be of this commit."""
    for path in sorted(unfinished.glob("*.jsonl"), reverse=True):
        state = RunState(path)
        state.read()
        if state.plan == plan:
            break
    else:
        return None
    now = commit_info().get("id")
    if state.heads and (then := state.heads[0]["commit_info"].get("id")) != now:
        raise UserError(
            f"a run is of one commit; the unfinished one is of {then}, this is {now}; check that "
            "one out, or leave --resume out"
        )
    return state


class Runner(NamedTuple):
    """What measures what is left of a run: how its processes are started, and who follows them."""

    state: RunState
    show: Callable[[RunProgress], None]

    def run(self) -> None:
        """Verify all benchmarks, time them in their processes, and contended ones in a few more."""
        state, last, timed_s = self.state, self.state.plan.processes, 0.0
        for number in range(last + 1 + MAX_RERUNS):
            if number > (state.plan.least or last) and number not in state.chosen:
                state.note(Choice(process=number, names=wanting(state.timed_so_far())))
            if number > last:
                usual_s = [fmean(e.seconds for e in state.timings(n)) for n in state.left(number)]
                spare_s = RERUN_SHARE * timed_s - (state.wall_s - timed_s)
                if not usual_s or sum(usual_s) > spare_s:
                    return
            for threads in dict.fromkeys(state.plan.wanted.values()):
                self.run_process(number, threads)
            if number == last:
                timed_s = state.wall_s

    def run_process(self, number: int, threads: int) -> None:
        """Have measured what is left in a process, in another of its number after each crash."""
        state = self.state
        while left := state.left(number, threads):
            ended = self._run_child(number, threads)
            if ended.code == JOURNAL_LOST:  # the benchmark that it was at is none the worse for it
                raise state.unwritable("by the process that measures")
            if (at := state.current) is not None:
                outcome = at.outcome | _status_of(ended)
                state.note(Done(process=at.process, fullname=at.fullname, outcome=outcome))
            elif state.left(number, threads) == left:
                raise UserError(f"the measuring process failed: {ended.reason}")

    def _run_child(self, number: int, threads: int) -> Exit:
        journal = self.state.path.resolve()
        command = [
            *_PYTEST,
            *("--mlr-journal", str(journal), "--mlr-process", str(number)),
            f"--benchmark-storage=file://{journal.parent}",  # it makes its own folder otherwise
            *(["--benchmark-disable"] if number == 0 else []),
            *(*self.state.plan.arguments, f"--threads={threads}"),
        ]
        env = pinned_environment(os.environ, threads) | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        with WorkerProcess(command, CASE_TIMEOUT_S, env=env, reports=False) as worker:
            current = self.state.current
            while not worker.wait(POLL_S):
                self.state.read()
                self.show(progress(self.state))
                if self.state.current != current:  # each benchmark has its own time
                    current = self.state.current
                    worker.extend()
            ended = worker.end()
        self.state.read()
        return ended


def _status_of(ended: Exit) -> dict[str, str]:
    if ended.late:
        return {"status": "timeout", "reason": ended.reason}
    if ended.code == -signal.SIGKILL:
        return {"status": "oom", "reason": "its process was killed, as if for want of memory"}
    return {"status": "crashed", "reason": f"its process ended: {describe_exit(ended.code)}"}


def _store(results: Path, run: dict[str, Any]) -> Path:
    """Write a run under the first free name: another runner may end in the same second."""
    require_tried(run["outcomes"])
    folder = results / "runs" / str(run["machine"]["slug"])
    name = file_stem(run["commit_info"]["id"], run["datetime"], run["settings"]["grid"])
    for number in count(1):
        with suppress(ExistsError):
            return write_run(folder / f"{name}{f'-{number}' * (number > 1)}.json", run)
    raise AssertionError
