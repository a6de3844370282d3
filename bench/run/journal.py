"""The journal of a run: one JSON line an event, on disk as soon as it is known."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from pytest_benchmark.utils import safe_dumps

from ..common.errors import UserError
from ..store.files import append_line

JOURNAL_LOST = 3  # the exit status of a process that can no longer write down what it measures


@dataclass(frozen=True, kw_only=True)
class Event:
    """What happened, and when by the system's clock."""

    at: float = field(default_factory=time.time)


@dataclass(frozen=True, kw_only=True)
class Plan(Event):
    """The benchmarks to measure, first of all; of a shard also what its run file says of it."""

    wanted: list[str]
    arguments: list[str]
    processes: int
    shard: dict[str, Any] | None = None

    def is_of(self, other: Plan) -> bool:
        """Whether the same is to be measured in the same way."""
        mine, theirs = (
            (one.wanted, one.arguments, one.processes, one.shard) for one in (self, other)
        )
        return mine == theirs


@dataclass(frozen=True, kw_only=True)
class Session(Event):
    """Where and how a measuring process runs."""

    machine_info: dict[str, Any]
    commit_info: dict[str, Any]
    surroundings: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Start(Event):
    """A benchmark begins in a process; process 0 verifies, the others time."""

    process: int
    fullname: str
    outcome: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Done(Start):
    """A benchmark ended in a process, with its outcome, its sample, and where its time went."""

    spent: dict[str, float] = field(default_factory=dict)
    sample: dict[str, Any] | None = None
    benchmark: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Resume(Event):
    """Another runner goes on; a benchmark that had begun then begins anew."""


@dataclass(frozen=True, kw_only=True)
class End(Event):
    """The runner has nothing left to measure."""


_KINDS: dict[str, type[Event]] = {
    kind.__name__.lower(): kind for kind in (Plan, Session, Start, Done, Resume, End)
}


class Journal:
    """Append events to a file, and read on from where reading had got to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._read = 0

    def append(self, event: Event) -> None:
        """Write one event and see it to the disk, whole or not at all.

        Raises:
            OSError: It cannot be written; the journal is as it was.
        """
        content = {one.name: getattr(event, one.name) for one in fields(event)}
        append_line(self.path, safe_dumps({"event": type(event).__name__.lower(), **content}))

    def new_events(self) -> Iterator[Event]:
        """Yield the events not yet read; a line that is not wholly written is left for later.

        Raises:
            UserError: It was written by other code.
        """
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._read)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._read += len(line)
                yield self._event(line)

    def _event(self, line: bytes) -> Event:
        try:
            content = json.loads(line)
            return _KINDS[content.pop("event")](**content)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"a journal holds the events of this version; {self.path} holds others; remove it, "
                "or resume with the code that wrote it"
            ) from error
