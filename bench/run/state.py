"""The state of a run, replayed from its journal: what is done, and what is left."""

from __future__ import annotations

from typing import Any

from ..common.errors import UserError
from .journal import Done, Event, Journal, Plan, Resume, Session, Start

# A benchmark whose roofline bound is so long is timed in fewer processes: each takes a minute, and
# a call of a second or more varies little from one process to the next.
LONG_CALL_S = 0.5
LONG_PROCESSES = 2


class RunState:
    """The journal of a run as read so far; process 0 verifies, the others time.

    Attributes:
        plan: What is to be measured.
        session: Where and how; None before the first process is ready.
        current: The benchmark that has started and not ended.
        done: What ended, by process and name, in the order in which it ended.
        failures: By name, how a benchmark ended that has no numbers.
        samples: By name, what each process measured.
    """

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.plan = Plan(wanted=[], arguments=[], processes=0)
        self.session: Session | None = None
        self.current: Start | None = None
        self.done: dict[tuple[int, str], Done] = {}
        self.failures: dict[str, Done] = {}
        self.samples: dict[str, dict[int, dict[str, Any]]] = {}
        self._spans: list[list[float]] = []

    def read(self) -> None:
        """Take in what was written since."""
        for event in self.journal.new_events():
            self._replay(event)

    def _replay(self, event: Event) -> None:
        match event:
            case Plan():
                self.plan = event
            case Session():
                self.session = self.session or event
            case Done():
                self._end(event)
            case Start():
                self.current = event
            case Resume():
                self.current = None
        if isinstance(event, (Plan, Resume)) or not self._spans:
            self._spans.append([event.at, event.at])
        self._spans[-1][1] = event.at

    def _end(self, event: Done) -> None:
        key = event.process, event.fullname
        if key in self.done:  # by a process that outlived its runner
            return
        self.current, self.done[key] = None, event
        if event.outcome["status"] != "ok":
            self.failures.setdefault(event.fullname, event)
        if event.sample is not None:
            self.samples.setdefault(event.fullname, {})[event.process] = event.sample

    def note(self, event: Event) -> None:
        """Write an event of the runner's own and take it in.

        Raises:
            UserError: The journal cannot be written.
        """
        try:
            self.journal.append(event)
        except OSError as error:
            raise self.unwritable(str(error.strerror)) from error
        self.read()

    def unwritable(self, why: str) -> UserError:
        """Return the error that ends a run whose journal cannot be written on."""
        return UserError(
            f"what was measured is kept in {self.journal.path}, which cannot be written on ({why});"
            " free space, then `run --resume`"
        )

    def end_current(self, status: str, reason: str) -> None:
        """Note the end of the current benchmark, which could not note it itself.

        Raises:
            UserError: The journal cannot be written.
        """
        if self.current is None:
            raise ValueError("no benchmark has started that has not ended")
        outcome = {**self.current.outcome, "status": status, "reason": reason}
        self.note(
            Done(process=self.current.process, fullname=self.current.fullname, outcome=outcome)
        )

    @property
    def wall_s(self) -> float:
        """Seconds that runners have worked on this so far."""
        return sum(last - first for first, last in self._spans)

    def has(self, process: int, name: str) -> bool:
        """Whether a benchmark has ended in a process, or needs none."""
        return (process, name) in self.done or (process > 0 and name in self.failures)

    def processes_of(self, name: str) -> int:
        """Return how many processes time a benchmark: few, where one call takes long at the least.

        Before it is verified that is not known, and all of them do.
        """
        verified = self.done.get((0, name))
        roofline_s = verified.outcome.get("roofline_s") if verified else None
        long = roofline_s is not None and roofline_s >= LONG_CALL_S
        return min(self.plan.processes, LONG_PROCESSES) if long else self.plan.processes

    def contended(self) -> list[str]:
        """Return the benchmarks with fewer undisturbed samples than there should be samples."""
        return [
            name
            for name in self.plan.wanted
            if name not in self.failures
            and sum(not one["contended"] for one in self.samples[name].values())
            < self.processes_of(name)
        ]

    def seconds_of(self, names: list[str]) -> float:
        """Return about how long another process takes over these benchmarks."""
        last = (self.done.get((self.processes_of(name), name)) for name in names)
        return sum(sum(event.spent.values()) for event in last if event is not None)
