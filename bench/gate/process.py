"""Processes of the gate, seen from their parent: started on a specification, read by events."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ..common.errors import UserError
from ..common.paths import ROOT
from ..machine.environment import environment
from ..run.process import how_ended
from .worker import Spec

LONGEST_CASE_S = 60.0  # of one case in one block
Event = dict[str, Any]


class Child:
    """One measuring process. Leaving it as a context ends the process and clears what it left."""

    def __init__(self, spec: Spec, python: str | None = None) -> None:
        self._spec, self._python = spec, python or sys.executable
        self._case: str | None = None
        self._late = False

    def __enter__(self) -> Self:
        """Start it.

        Raises:
            UserError: Its Python cannot be run.
        """
        # Beside the copied sides: what clears them after a kill, clears this.
        place = Path(self._spec.base).parent
        self._folder = tempfile.TemporaryDirectory(prefix="block-", dir=place)
        path, self._log = Path(self._folder.name, "spec.json"), Path(self._folder.name, "log")
        path.write_text(self._spec.as_json(), encoding="utf-8")
        with self._log.open("wb") as errors:
            try:
                self._process = subprocess.Popen(
                    [self._python, "-m", f"{__package__}.worker", str(path)],
                    cwd=ROOT,
                    env=environment(os.environ),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                    start_new_session=True,
                )
            except OSError as error:
                self._folder.cleanup()
                raise UserError(
                    f"a Python of the gate must be one that can be run; {self._python}: "
                    f"{error.strerror}"
                ) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()
        self._folder.cleanup()

    def read(self) -> Event | None:
        """Return the next event; `died`, with the case it was at, for a bad end; None for a good.

        Raises:
            UserError: It refuses to begin, fails before it is at a case, or what it measures
                prints.
        """
        watch = threading.Timer(LONGEST_CASE_S, self._give_up)
        watch.start()
        try:
            assert self._process.stdout is not None
            line = self._process.stdout.readline()
        finally:
            watch.cancel()
        if not line.endswith("\n"):
            return self._end()
        event = _event(line)
        if event["event"] == "refused":
            raise UserError(event["reason"])
        if event["event"] in ("start", "done"):
            self._case = event["case"] if event["event"] == "start" else None
        return event

    def _give_up(self) -> None:
        self._late = True
        self._process.kill()

    def _end(self) -> Event | None:
        code = self._process.wait()
        if code == 0 and self._case is None:
            return None
        if self._case is None:
            raise UserError(f"the measuring process of {self._python} failed: {self._why(code)}")
        return {"event": "died", "case": self._case, "reason": self._why(code)}

    def _why(self, code: int) -> str:
        if self._late:
            return f"took longer than {LONGEST_CASE_S:g} s; killed"
        said = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return f"its process ended ({how_ended(code)}){': ' + said[-1][:300] if said else ''}"

    def ask(self, what: str) -> Event:
        """Tell it to do something, and return its answer; `died` if it cannot answer."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": what}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it has died: what it was at is read below
        return self.read() or {"event": "died", "case": self._case, "reason": "it ended early"}


def _event(line: str) -> Event:
    try:
        event = json.loads(line)
    except ValueError:
        event = None
    if not (isinstance(event, dict) and "event" in event):
        raise UserError(
            "what a gate measures must print nothing, for its process reports on the standard "
            f"output; got {line.strip()[:100]!r}: print to sys.stderr"
        )
    return event
