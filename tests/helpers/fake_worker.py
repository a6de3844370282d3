"""Stands in for the process that measures, without torch: a run's runner is tried with it.

Called as the real one is; FAKE_WORKER in the environment says, in JSON, what a kernel does to its
process: `{"matmul": "abort"}`.
"""

import json
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

from pytest_benchmark.utils import get_commit_info
from run_builder import build_run

from bench.common.errors import UserError
from bench.machine.environment import THREAD_VARIABLES
from bench.run.journal import DEVICE_LOST, JOURNAL_LOST, Done, Event, RunState, Session, Start


def main() -> int:
    given = {sys.argv[n]: sys.argv[n + 1] for n in range(1, 5, 2)}
    state, process = RunState(Path(given["--mlr-journal"])), int(given["--mlr-process"])
    state.read()
    threads = int(sys.argv[-1].removeprefix("--threads="))
    assert {os.environ[name] for name in THREAD_VARIABLES} == {str(threads)}
    behaviour = json.loads(os.environ.get("FAKE_WORKER", "{}"))
    if "room" in behaviour:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (behaviour["room"],) * 2)
    run = build_run(["gradient"], [(7, 3, 2)], processes=2)
    known = {entry["extra_info"]["kernel"]: entry for entry in run["benchmarks"]}
    surroundings = {name: run[name] for name in ("machine", "settings", "packages")}
    note(state, Session(head=surroundings | {"commit_info": get_commit_info()}))
    for name in state.left(process, threads):
        kernel = name.partition("[gradient-")[2].partition("-")[0]
        entry = known[kernel] | {"fullname": name}
        outcome: dict[str, Any] = {**entry.pop("extra_info"), "threads": threads, "warnings": []}
        note(state, Start(process=process, fullname=name, outcome=outcome))
        if behaviour.get(kernel) == "infeasible":
            outcome |= {"status": "infeasible", "reason": "one call takes too long"}
            note(state, Done(process=process, fullname=name, outcome=outcome))
            continue
        if behaviour.get(kernel) == "lost":
            outcome |= {"status": "crashed", "reason": "an illegal memory access"}
            note(state, Done(process=process, fullname=name, outcome=outcome))
            return DEVICE_LOST
        misbehave(behaviour.get(kernel), process)
        log = 0.5 + (0.4 if process % 2 and behaviour.get(kernel) == "varies" else 0.0)
        sample = {"process": process, "median_s": 1e-3, "rounds": 9, "contended": False,
                  "pid": os.getpid(),
                  "log_speedup": None if kernel == "autograd" else log}  # fmt: skip
        note(
            state,
            Done(process=process, fullname=name, outcome=outcome, spent={"timing_s": 0.1},
                 sample=sample if process else {}, benchmark=entry if process else {}),
        )  # fmt: skip
    return 0


def misbehave(how: str | None, process: int) -> None:
    if how == "abort":
        os.abort()
    elif how == "sleep" and process == 1:
        time.sleep(30)
    elif how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)


def note(state: RunState, event: Event) -> None:
    try:
        state.note(event)
    except UserError:
        sys.exit(JOURNAL_LOST)


if __name__ == "__main__":
    sys.exit(main())
