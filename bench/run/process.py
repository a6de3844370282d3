"""A child process that measures: started, followed and ended with all that it started itself.

It has a pinned environment, a session of its own and a log. What it reports are JSON objects, one a
line of its standard output; what it is asked comes to its standard input in the same form. One that
reports nothing for too long is killed.
"""

import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Timer
from typing import Any, NamedTuple, Self

from ..common.errors import UserError
from ..common.paths import ROOT
from ..machine.environment import pinned_environment

LONGEST_LINE = 300
Event = dict[str, Any]


class Exit(NamedTuple):
    """How a process ended."""

    code: int  # its exit status; negative for the signal that ended it
    late: bool  # whether it was killed because it took too long
    reason: str  # both in words, with the last line of its log


class WorkerProcess:
    """A child process. Leaving it as a context kills its process group and reaps it.

    It has `timeout_s` from one sign of progress to the next: an event read, or `extend`. What it
    `reports` on its standard output is read by `read` and `ask`; else that goes to the log.
    """

    def __init__(
        self,
        command: Sequence[str],
        timeout_s: float,
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path = ROOT,
        reports: bool = True,
    ) -> None:
        self._command, self._timeout_s, self._reports = command, timeout_s, reports
        self._cwd = cwd
        self._env = pinned_environment(os.environ) if env is None else env
        self._late = False
        self._timer = Timer(timeout_s, self._give_up)

    def __enter__(self) -> Self:
        """Start it."""
        self._log = tempfile.TemporaryFile()
        try:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._cwd,
                env=self._env,
                stdin=subprocess.PIPE if self._reports else subprocess.DEVNULL,
                stdout=subprocess.PIPE if self._reports else self._log,
                stderr=self._log,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,  # Ctrl-C is its parent's to handle
            )
        except OSError as error:
            self._log.close()
            raise UserError(
                f"a measuring process needs a program that can be run; {self._command[0]}: "
                f"{error.strerror}; give another interpreter"
            ) from error
        self.extend()
        return self

    def __exit__(self, *_: object) -> None:
        """Kill it and all of its group, and wait for it."""
        self._timer.cancel()
        self._kill()
        self._process.wait()
        for file in (self._process.stdin, self._process.stdout, self._log):
            with suppress(BrokenPipeError):  # of a question that it did not read
                if file is not None:
                    file.close()

    def extend(self) -> None:
        """Count the time until it is killed from now on."""
        self._timer.cancel()
        self._timer = Timer(self._timeout_s, self._give_up)
        self._timer.daemon = True
        self._timer.start()

    def _give_up(self) -> None:
        self._late = True
        self._kill()

    def _kill(self) -> None:
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):  # nobody is left in it
            self._process.kill()

    def wait(self, seconds: float) -> bool:
        """Sleep for so many seconds unless it has ended; return whether it has.

        `Popen.wait` would look after it twenty times a second, and so disturb what it measures.
        """
        if self._process.poll() is None:
            time.sleep(seconds)
        return self._process.poll() is not None

    def read(self) -> Event | None:
        """Return the next event; None once there will be no more."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        self.extend()
        if not line.endswith("\n"):
            return None
        try:
            event = json.loads(line)
        except ValueError:
            event = None
        if not isinstance(event, dict):
            raise UserError(
                "what is measured must print nothing, for its process reports on the standard "
                f"output; got {line.strip()[:100]!r}: print to sys.stderr"
            )
        return event

    def events(self) -> Iterator[Event]:
        """Return what it reports until its end."""
        return iter(self.read, None)

    def ask(self, question: Event) -> Event | None:
        """Hand it a question and return the event that answers it; None where it has ended."""
        self.send(question)
        return self.read()

    def send(self, question: Event) -> None:
        """Hand it a question."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended; what it reported before is still read
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()

    def end(self) -> Exit:
        """Wait for its end and say how it ended."""
        code = self._process.wait()
        self._timer.cancel()
        if self._late:
            return Exit(code, True, f"took longer than {self._timeout_s:g} s; killed")
        said = f": {last}" if (last := self._last_line()) else ""
        return Exit(code, False, f"its process ended ({describe_exit(code)}){said}")

    def _last_line(self) -> str:
        log = self._log.fileno()
        start = max(0, os.fstat(log).st_size - 10 * LONGEST_LINE)
        # Not by seek: the process writes where this file's position is.
        text = os.pread(log, 10 * LONGEST_LINE, start).decode(errors="replace")
        return text.strip().rpartition("\n")[2][:LONGEST_LINE]


def describe_exit(code: int) -> str:
    """Say how a process with this return code ended."""
    if code >= 0:
        return f"exit status {code}"
    return (signal.strsignal(-code) or f"signal {-code}").lower()
