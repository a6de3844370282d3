"""A convergence run: every trainer until its loss is low enough, in fresh processes."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from pytest_benchmark.utils import get_commit_info

from ..common.errors import UserError
from ..common.provenance import Provenance
from ..machine.info import machine_slug
from ..run.process import Event, WorkerProcess
from ..store.files import store_model
from .records import ConvergenceRun, TaskInfo, TrainerResult

WORKER = (sys.executable, "-m", f"{__package__}.worker")
EVENT_TIMEOUT_S = 600.0  # from one event of a process to the next


def measure_convergence(
    task: TaskInfo, processes: int, out: Path, show: Callable[[str], None]
) -> tuple[Path, ConvergenceRun]:
    """Train with every trainer in so many fresh processes, store what was found and return it."""
    events = [_events_of_process(task, number, show) for number in range(processes)]
    names = sorted({event["trainer"] for some in events for event in some if "trainer" in event})
    head = events[0][0]
    now = Provenance.of(get_commit_info())
    run = ConvergenceRun.model_validate({
        "schema": 2,
        "datetime": now.at.isoformat(timespec="seconds"),
        "commit_info": {"id": now.commit, "dirty": now.dirty},
        "machine": machine_slug(),
        **{key: head[key] for key in ("settings", "packages", "closed_form_loss", "target")},
        "task": task,
        "results": [merge_processes(name, head["target"], events) for name in names],
    })  # fmt: skip
    path = out / run.machine / f"{now.file_stem('').removesuffix('-')}.json"
    return store_model(path, run, ConvergenceRun, "a convergence run"), run


def _events_of_process(task: TaskInfo, number: int, show: Callable[[str], None]) -> list[Event]:
    events = []
    command = [*WORKER, task.model_dump_json(), str(number)]
    with WorkerProcess(command, EVENT_TIMEOUT_S) as process:
        for event in process.events():
            events.append(event)
            doing = event.get("trainer") or event.get("timed") or "getting ready"
            show(f"process {number + 1}: {doing}")
        exit_ = process.end()
    if exit_.code != 0:
        hint = "; give fewer rows or a higher learning rate" if exit_.late else ""
        raise UserError(
            f"a convergence run needs all of its processes; one failed: {exit_.reason}{hint}"
        )
    return events


def merge_processes(name: str, target: float, events: Sequence[Sequence[Event]]) -> TrainerResult:
    """Return a trainer's first account, with its median seconds in each process.

    One that failed in any process has no times, and says why.
    """
    accounts = [
        TrainerResult.model_validate(event)
        for some in events for event in some if event.get("trainer") == name
    ]  # fmt: skip
    failed = [account for account in accounts if account.status != "ok"]
    if failed:
        return failed[0]
    timed = [[event for event in some if event.get("timed") == name] for some in events]
    for event in (event for some in timed for event in some):
        if not event["loss"] <= target * (1 + 1e-9):
            reason = f"when timed, it ended at a loss of {event['loss']:.6g}, not at the target"
            return accounts[0].model_copy(update={"status": "not reached", "reason": reason})
    seconds = [statistics.median(event["seconds"] for event in some) for some in timed]
    return accounts[0].model_copy(update={"seconds": seconds})
