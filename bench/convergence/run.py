"""A convergence run: every trainer until its loss is low enough, in fresh processes."""

import sys
from collections.abc import Callable, Sequence
from operator import itemgetter
from pathlib import Path

from ..common.errors import UserError
from ..machine.info import machine_slug
from ..run.process import Event, WorkerProcess
from .records import ConvergenceRun, TaskInfo, TrainerResult

WORKER = (sys.executable, "-m", f"{__package__}.worker")
EVENT_TIMEOUT_S = 600.0  # from one event of a process to the next


def measure_convergence(
    task: TaskInfo, processes: int, out: Path, show: Callable[[str], None]
) -> tuple[Path, ConvergenceRun]:
    """Train with every trainer in so many fresh processes, store what was found and return it."""
    found = [_run_process(task, number, show) for number in range(processes)]
    accounts = [sorted(one.pop("results"), key=itemgetter("trainer")) for one in found]
    results = [merge_processes(same) for same in zip(*accounts, strict=True)]
    run = ConvergenceRun.of(machine=machine_slug(), task=task, results=results, **found[0])
    return run.store(out), run


def _run_process(task: TaskInfo, number: int, show: Callable[[str], None]) -> Event:
    event: Event = {}
    command = [*WORKER, task.model_dump_json(), str(number)]
    show(f"process {number + 1}: getting ready")
    with WorkerProcess(command, EVENT_TIMEOUT_S) as process:
        for event in process.events():
            show(f"process {number + 1}: {event.get('trainer', 'done')}")
        exit_ = process.end()
    if exit_.code != 0:
        hint = "; give fewer rows or a higher learning rate" if exit_.late else ""
        raise UserError(
            f"a convergence run needs all of its processes; one failed: {exit_.reason}{hint}"
        )
    return event


def merge_processes(accounts: Sequence[Event]) -> TrainerResult:
    """Return the first account that failed, or the first one with the seconds of every process."""
    failed = [account for account in accounts if account["status"] != "ok"]
    seconds = [one for account in accounts for one in account.get("seconds", [])]
    return TrainerResult.model_validate(failed[0] if failed else accounts[0] | {"seconds": seconds})
