"""Processes of the gate, seen from their parent: given a specification, read by events."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from ..common.errors import UserError
from ..run.process import Event, WorkerProcess
from .spec import SPEC, Spec

CASE_TIMEOUT_S = 60.0  # of one case in one block


class CrashError(Exception):
    """A process ended while it was at a case; the text says how."""


class Worker(WorkerProcess):
    """A process that works on a specification."""

    kernels: dict[str, dict[str, str]]  # the operation of each, by the versions that it has loaded
    case: str | None = None  # that it is at

    def read(self) -> Event | None:
        """Return the next event; None after a good end.

        Raises:
            CrashError: It ended while it was at a case.
            UserError: A version cannot be used, it failed outside of any case, or it prints.
        """
        event = super().read()
        if event is None:
            end = self.end()
            if self.case is not None:
                raise CrashError(end.reason)
            if end.code != 0:
                raise UserError(f"the measuring process of {self._command[0]} failed: {end.reason}")
        elif event["event"] == "refused":
            raise UserError(event["reason"])
        elif event["event"] in ("start", "done"):
            self.case = event["case"] if event["event"] == "start" else None
        return event

    def expect(self, name: str) -> Event:
        """Read on to an event of this name; raises as `read`, and a CrashError without any."""
        for event in self.events():
            if event["event"] == name:
                return event
        raise CrashError("it ended early")


@contextmanager
def started(
    spec: Spec, *module: str, python: str | None = None, timeout_s: float = CASE_TIMEOUT_S
) -> Iterator[Worker]:
    """Give a process that works on a specification.

    Args:
        spec: The versions and the cases; a case whose kernel a version lacks is left out.
        module: What the process runs, as after `python -m`.
        python: Its interpreter; this one's where none is given.
        timeout_s: How long it may be silent.

    Raises:
        UserError: Its Python cannot be run; or as of `Worker.read`.
    """
    with Worker([python or sys.executable, "-m", *module], timeout_s) as worker:
        worker.kernels = worker.ask(SPEC.dump_python(spec, mode="json")) or {}
        yield worker


class Block(NamedTuple):
    """What one process found: the kernels it loaded, and what it says of each case by name."""

    kernels: dict[str, dict[str, str]]
    found: dict[str, dict[str, Any]]


def run_block(spec: Spec, *module: str, python: str | None = None) -> Block:
    """Measure in one process; one that ends at a case finds `{"crashed": reason}` and no more."""
    found = {}
    with started(spec, *module, python=python) as worker:
        try:
            for event in worker.events():
                if event.pop("event") == "done":
                    found[event.pop("case")] = event
        except CrashError as error:
            found[str(worker.case)] = {"crashed": str(error)}
    return Block(worker.kernels, found)
