"""The journal of a run, one JSON line an event, on disk at once; what it says of the run so far."""

import json
import math
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from pytest_benchmark.utils import safe_dumps

from ..common.errors import UserError
from ..common.units import format_ratio
from ..store.columns import SIZES
from ..store.files import append_line
from ..store.schema import Cost

JOURNAL_LOST = 3  # the exit status of a process that can no longer write down what it measures
# A benchmark whose roofline bound is so long is timed in fewer processes: each takes a minute, and
# a call of a second or more varies little from one process to the next.
LONG_CALL_S = 0.5
LONG_PROCESSES = 2


@dataclass(frozen=True, kw_only=True)
class Event:
    """What happened, and when by the system's clock."""

    at: float = field(default_factory=time.time, compare=False)


@dataclass(frozen=True, kw_only=True)
class Plan(Event):
    """The benchmarks to measure, first of all."""

    wanted: list[str]
    arguments: list[str]
    processes: int


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
        """Write one event and see it to the disk, whole or not at all."""
        append_line(self.path, safe_dumps({"event": type(event).__name__.lower(), **vars(event)}))

    def new_events(self) -> Iterator[Event]:
        """Yield the events not yet read; a line that is not wholly written is left for later."""
        with self.path.open("rb") as file:
            file.seek(self._read)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._read += len(line)
                try:
                    content = json.loads(line)
                    yield _KINDS[content.pop("event")](**content)
                except (AttributeError, KeyError, TypeError, ValueError) as error:
                    raise UserError(
                        f"a journal holds the events of this version; {self.path} holds others; "
                        "remove it, or resume with the code that wrote it"
                    ) from error


class RunState:
    """The journal of a run as read so far; process 0 verifies, the others time."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.plan = Plan(wanted=[], arguments=[], processes=0)
        self.session: Session | None = None  # before the first process is ready
        self.current: Start | None = None  # the benchmark that has started and not ended
        self.done: dict[tuple[int, str], Done] = {}  # by process and name, in the order of the ends
        self.failures: dict[str, Done] = {}  # by name, those that have no numbers
        self.samples = defaultdict[str, dict[int, dict[str, Any]]](dict)  # by name and process
        self.seconds = defaultdict[str, list[float]](list)  # by name, of each process that timed it
        self.wall_s = 0.0  # that runners have worked on this so far
        self._latest_at = 0.0

    def read(self) -> None:
        """Take in what was written since."""
        for event in self.journal.new_events():
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
            if not isinstance(event, (Plan, Resume)):
                self.wall_s += event.at - self._latest_at
            self._latest_at = event.at

    def _end(self, event: Done) -> None:
        if (event.process, event.fullname) in self.done:  # by a process that outlived its runner
            return
        self.current, self.done[event.process, event.fullname] = None, event
        if event.outcome["status"] != "ok":
            self.failures.setdefault(event.fullname, event)
        if event.sample is not None:
            self.samples[event.fullname][event.process] = event.sample
            self.seconds[event.fullname].append(sum(event.spent.values()))

    def note(self, event: Event) -> None:
        """Write an event of the runner's own and take it in."""
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

    def has(self, process: int, name: str) -> bool:
        """Whether a benchmark has ended in a process, or needs none."""
        return (process, name) in self.done or (process > 0 and name in self.failures)

    @property
    def timed(self) -> list[str]:
        """The benchmarks that every process times: those that have not failed."""
        return [name for name in self.plan.wanted if name not in self.failures]

    def processes_of(self, name: str) -> int:
        """Return how many processes time a benchmark: few, where one call takes long at the least.

        Before it is verified that is not known, and all of them do.
        """
        verified = self.done.get((0, name))
        roofline_s = verified.outcome.get("roofline_s") if verified else None
        most = LONG_PROCESSES if (roofline_s or 0.0) >= LONG_CALL_S else self.plan.processes
        return min(self.plan.processes, most)

    def contended(self) -> list[str]:
        """Return the benchmarks with fewer undisturbed samples than there should be samples."""
        calm = {
            name: sum(not one["contended"] for one in self.samples[name].values())
            for name in self.timed
        }
        return [name for name, count in calm.items() if count < self.processes_of(name)]

    def cost(self) -> Cost:
        """Return where the time of the runners went."""
        phases = [name for name in Cost.model_fields if name != "wall_s"]
        spent = [event.spent for event in self.done.values()]
        total = {phase: sum(one.get(phase, 0.0) for one in spent) for phase in phases}
        return Cost(wall_s=self.wall_s, **total)


@dataclass
class RunProgress:
    """What a run has done so far, for whoever shows it; a benchmark counts once a process."""

    total: int
    done: int = 0
    process: int = 0
    processes: int = 0
    statuses: dict[str, int] = field(default_factory=dict)
    contended: int = 0
    reruns: int = 0  # samples that were taken again because others were contended
    wall_s: float = 0.0
    overhead: float = 0.0
    left_s: float | None = None  # about how long the rest takes
    latest: str = ""  # the last benchmark that got a time, and its speedup there


def progress(state: RunState) -> RunProgress:
    """Return how far a run is."""
    wanted, processes = state.plan.wanted, state.plan.processes
    ends = (state.failures.get(name) or state.done.get((0, name)) for name in wanted)
    samples = [sample for some in state.samples.values() for sample in some.items()]
    taken = (min(len(state.samples[name]), state.processes_of(name)) for name in state.timed)
    timed = (event for event in reversed(state.done.values()) if event.sample is not None)
    return RunProgress(
        total=len(wanted) + sum(map(state.processes_of, state.timed)),
        done=sum((0, name) in state.done for name in wanted) + sum(taken),
        process=state.current.process if state.current else 0,
        processes=processes,
        statuses=Counter(end.outcome["status"] for end in ends if end is not None),
        contended=sum(sample["contended"] for _, sample in samples),
        reruns=sum(number > processes for number, _ in samples),
        wall_s=state.wall_s,
        overhead=state.cost().overhead if state.wall_s > 0 else 0.0,
        left_s=seconds_left(state),
        latest=next(map(_describe, timed), ""),
    )


def _describe(event: Done) -> str:
    outcome, log = event.outcome, (event.sample or {}).get("log_speedup")
    sizes = "x".join(str(outcome[name]) for name in SIZES)
    text = "-".join([*(outcome[name] for name in ("kernel", "device", "dtype")), sizes])
    return text if log is None else f"{text} {format_ratio(math.exp(log))}"


def seconds_left(state: RunState) -> float | None:
    """Return about how long what is left takes, by what was done; None where nothing was.

    A benchmark that was timed takes as long in each further process, another as long as all others
    on average.
    """
    spent = [sum(event.spent.values()) for event in state.done.values()]
    if not sum(spent):
        return None
    usual, left = fmean(spent), 0.0
    for name in state.timed:
        mine = state.seconds[name]
        left += usual * ((0, name) not in state.done)
        left += fmean(mine or [usual]) * max(0, state.processes_of(name) - len(mine))
    return left * state.wall_s / sum(spent)


def seconds_per_sample(folder: Path, machine: str) -> float | None:
    """Return the seconds of a sample in the newest run of a machine; None where none says.

    A verification counts as a sample.
    """
    from ..store.runs import load_run  # with pandas, which no process that measures loads

    for path in sorted((folder / machine).glob("*.json"), reverse=True):  # by the time in its name
        run = load_run(path)
        if run.cost is not None and run.benchmarks:
            return run.cost.wall_s / sum(1 + len(one.samples) for one in run.benchmarks)
    return None
