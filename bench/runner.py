"""Run a plan in child processes, follow their journal, and store the run.

A child that dies takes only the case with it that it was at: the next child goes on with the rest.
A runner that dies leaves its journal, and `--resume` goes on from there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from pytest_benchmark import __version__ as plugin_version
from pytest_benchmark.utils import get_commit_info

from bench.axes import as_arguments
from bench.errors import UserError
from bench.grid import Axes, Planned
from bench.journal import Journal
from bench.schema import SCHEMA
from bench.store import write_run

ROOT = Path(__file__).resolve().parent.parent
LONGEST_CASE_S = 180.0  # from its start to its end: checks, warm-up, rounds, ratio and memory
POLL_S = 0.5  # the parent sleeps in between: it must not take time from what is measured
ENVIRONMENT = {"KINETO_LOG_LEVEL": "99"}  # the profiler announces every start otherwise
SIGNALS = {-6: "aborted", -7: "bus error", -9: "killed", -11: "segmentation fault"}


def full_name(entry: Planned) -> str:
    """Return pytest's id of a planned case, which is its `fullname` in a run file."""
    stage = entry.case.stage
    return f"bench/bench_{stage}.py::bench_{stage}[{entry.id}]"


@dataclass
class Progress:
    """What a run has done so far, for whoever shows it."""

    total: int
    done: int = 0
    current: str = ""
    statuses: dict[str, int] = field(default_factory=dict)


class Plan(NamedTuple):
    """What a journal is the journal of."""

    wanted: list[str]
    arguments: list[str]


class Followed:
    """The journal of a run as read so far."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.plan = Plan([], [])
        self.session: dict[str, Any] | None = None
        self.started: dict[str, dict[str, Any]] = {}
        self.ended: dict[str, dict[str, Any]] = {}

    def read(self) -> None:
        """Take in what was written since."""
        for event in self.journal.new_events():
            match event["event"]:
                case "plan":
                    self.plan = Plan(event["wanted"], event["arguments"])
                case "session":
                    self.session = self.session or event
                case "start":
                    self.started[event["fullname"]] = event
                case "done":
                    self.ended[event["fullname"]] = event
                case "resume":
                    self.started = {name: self.started[name] for name in self.ended}

    @property
    def current(self) -> str | None:
        """The case that has started and not ended."""
        return next((name for name in self.started if name not in self.ended), None)

    @property
    def left(self) -> list[str]:
        """The cases that have not ended."""
        return [name for name in self.plan.wanted if name not in self.ended]

    @property
    def progress(self) -> Progress:
        """How far the run is."""
        progress = Progress(len(self.plan.wanted), len(self.ended), self.current or "")
        for event in self.ended.values():
            status = event["outcome"]["status"]
            progress.statuses[status] = progress.statuses.get(status, 0) + 1
        return progress

    def end(self, name: str, status: str, reason: str) -> None:
        """Note the end of a case that could not note it itself."""
        outcome = {**self.started[name]["outcome"], "status": status, "reason": reason}
        self.journal.append("done", fullname=name, outcome=outcome, benchmark=None)
        self.read()


def run_plan(
    plan: list[Planned],
    axes: Axes,
    results: Path,
    show: Callable[[Progress], None],
    *,
    resume: bool = False,
) -> Path:
    """Measure every planned case once and store the run.

    Args:
        plan: The cases.
        axes: The options they came from.
        results: The results folder.
        show: Called now and then with the progress.
        resume: Go on with the newest run of the same plan that was not finished.

    Returns:
        The path of the new run file.

    Raises:
        UserError: If the results folder cannot be written or there is nothing to resume, before
            anything is measured, or if the measuring process cannot be started.
    """
    unfinished = results / "unfinished"
    _require_writable(results / "runs", unfinished)
    what = Plan([full_name(entry) for entry in plan], _arguments(axes))
    followed = _reopen(what, unfinished) if resume else _open(what, unfinished)
    path = None
    try:
        with tempfile.TemporaryDirectory(prefix="mlr-run-") as folder:
            while followed.left:
                _run_child(axes, Path(folder), followed, show)
        show(followed.progress)
        run = compose(followed)
        path = write_run(_run_path(results, run), run)
    finally:
        followed.read()  # what ended since the last look
        if path is not None or not followed.ended:  # all of it is stored, or there is nothing
            followed.journal.path.unlink()
            if not any(unfinished.iterdir()):
                unfinished.rmdir()
    return path


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


def _arguments(axes: Axes) -> list[str]:
    return as_arguments(lambda name: _as_text(getattr(axes, name)))


def _open(plan: Plan, unfinished: Path) -> Followed:
    started = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    followed = Followed(Journal(unfinished / f"{started}-{os.getpid()}.jsonl"))
    followed.journal.append("plan", **plan._asdict())
    followed.read()
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
            followed.journal.append("resume")
            followed.read()
            return followed
    raise UserError(
        f"--resume goes on with an unfinished run of the same cases; {unfinished} holds none; "
        "give the same axes, or leave --resume out"
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
    axes: Axes, folder: Path, followed: Followed, show: Callable[[Progress], None]
) -> None:
    only, log, left = folder / "only.json", folder / "child.log", followed.left
    only.write_text(json.dumps(left), encoding="utf-8")
    command = [
        *(sys.executable, "-m", "pytest", "bench", "-q", "-p", "no:cacheprovider"),
        *("--journal", str(followed.journal.path.resolve()), "--only", str(only)),
        *_arguments(axes),
    ]
    with log.open("wb") as output:
        child = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | ENVIRONMENT,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # Ctrl-C is the runner's to handle
        )
        try:
            late = _follow(child, followed, show)
        finally:
            child.kill()
            child.wait()
    followed.read()
    if (name := followed.current) is not None:
        if late:
            followed.end(name, "timeout", f"took longer than {LONGEST_CASE_S:g} s; killed")
        else:
            followed.end(name, "crashed", f"its process ended: {_how(child.returncode)}")
    elif followed.left == left:
        raise UserError(f"the measuring process failed: {_last_line(log)}")


def _follow(
    child: subprocess.Popen[bytes], followed: Followed, show: Callable[[Progress], None]
) -> bool:
    """Wait for the child to end; return whether it had to be given up for lateness."""
    current, since = None, time.monotonic()
    while child.poll() is None:
        time.sleep(POLL_S)
        followed.read()
        show(followed.progress)
        if followed.current != current:
            current, since = followed.current, time.monotonic()
        elif current is not None and time.monotonic() - since > LONGEST_CASE_S:
            return True
    return False


def compose(followed: Followed) -> dict[str, Any]:
    """Put a journal together into the content of a run file."""
    session = followed.session
    if session is None:
        raise UserError("the measuring process ended before its first case; run it again")
    ended = [followed.ended[name] for name in followed.plan.wanted]
    return {
        "machine_info": session["machine_info"],
        "commit_info": session["commit_info"],
        "benchmarks": [event["benchmark"] for event in ended if event["benchmark"] is not None],
        "datetime": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": plugin_version,
        "schema": SCHEMA,
        "outcomes": [{"fullname": event["fullname"], **event["outcome"]} for event in ended],
        **session["surroundings"],
    }


def _run_path(results: Path, run: dict[str, Any]) -> Path:
    taken = datetime.fromisoformat(run["datetime"]).strftime("%Y%m%dT%H%M%SZ")
    commit = str(run["commit_info"].get("id", "nogit"))[:8]
    name = f"{taken}-{commit}-{run['settings']['grid']}.json"
    return results / "runs" / str(run["machine"]["slug"]) / name


def _as_text(value: Any) -> Any:
    return ",".join(str(part) for part in value) if isinstance(value, tuple) else value


def _how(code: int) -> str:
    return SIGNALS.get(code, f"exit status {code}" if code >= 0 else f"signal {-code}")


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "no output"
