"""Run a plan in child processes, follow their journal, and store the run.

A child that dies takes only the case with it that it was at: the next child goes on with the rest.
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
from typing import Any

from pytest_benchmark import __version__ as plugin_version

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


class Followed:
    """The journal of a run as read so far."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.session: dict[str, Any] | None = None
        self.started: dict[str, dict[str, Any]] = {}
        self.ended: dict[str, dict[str, Any]] = {}

    def read(self) -> None:
        """Take in what was written since."""
        for event in self.journal.events():
            if event["event"] == "session":
                self.session = self.session or event
            elif event["event"] == "start":
                self.started[event["fullname"]] = event
            else:
                self.ended[event["fullname"]] = event

    @property
    def current(self) -> str | None:
        """The case that has started and not ended."""
        return next((name for name in self.started if name not in self.ended), None)

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
) -> Path:
    """Measure every planned case once and store the run.

    Args:
        plan: The cases.
        axes: The options they came from.
        results: The results folder.
        show: Called now and then with the progress.

    Returns:
        The path of the new run file.

    Raises:
        UserError: If the results folder cannot be written, before anything is measured, or if the
            measuring process cannot be started.
    """
    _require_writable(results)
    with tempfile.TemporaryDirectory(prefix="mlr-run-") as folder:
        followed = Followed(Journal(Path(folder) / "journal.jsonl"))
        wanted = [full_name(entry) for entry in plan]
        while left := [name for name in wanted if name not in followed.ended]:
            _run_child(left, len(wanted), axes, Path(folder), followed, show)
        show(_progress(followed, len(wanted)))
        run = compose(followed, axes)
    path = _run_path(results, run)
    write_run(path, run)
    return path


def _require_writable(results: Path) -> None:
    try:
        folder = results / "runs"
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise UserError(
            f"the results folder must be writable; {results}: {error.strerror}; choose another "
            "with --out"
        ) from error


def _run_child(
    left: list[str],
    total: int,
    axes: Axes,
    folder: Path,
    followed: Followed,
    show: Callable[[Progress], None],
) -> None:
    only, log = folder / "only.json", folder / "child.log"
    only.write_text(json.dumps(left), encoding="utf-8")
    command = [
        *(sys.executable, "-m", "pytest", "bench", "-q", "-p", "no:cacheprovider"),
        *("--journal", str(followed.journal.path), "--only", str(only)),
        *as_arguments(lambda name: _as_text(getattr(axes, name))),
    ]
    with log.open("wb") as output:
        child = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | ENVIRONMENT,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            late = _follow(child, followed, total, show)
        finally:
            child.kill()
            child.wait()
    followed.read()
    if (name := followed.current) is not None:
        if late:
            followed.end(name, "timeout", f"took longer than {LONGEST_CASE_S:g} s; killed")
        else:
            followed.end(name, "crashed", f"its process ended: {_how(child.returncode)}")
    elif any(name not in followed.ended for name in left):
        raise UserError(f"the measuring process failed: {_last_line(log)}")


def _follow(
    child: subprocess.Popen[bytes],
    followed: Followed,
    total: int,
    show: Callable[[Progress], None],
) -> bool:
    """Wait for the child to end; return whether it had to be given up for lateness."""
    current, since = None, time.monotonic()
    while child.poll() is None:
        time.sleep(POLL_S)
        followed.read()
        show(_progress(followed, total))
        if followed.current != current:
            current, since = followed.current, time.monotonic()
        elif current is not None and time.monotonic() - since > LONGEST_CASE_S:
            return True
    return False


def _progress(followed: Followed, total: int) -> Progress:
    progress = Progress(total, len(followed.ended), followed.current or "")
    for event in followed.ended.values():
        status = event["outcome"]["status"]
        progress.statuses[status] = progress.statuses.get(status, 0) + 1
    return progress


def compose(followed: Followed, axes: Axes) -> dict[str, Any]:
    """Put a journal together into the content of a run file."""
    session = followed.session
    if session is None:
        raise UserError("the measuring process ended before its first case; run it again")
    ended = followed.ended.values()
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
