"""The journal of a run, one JSON line an event, on disk at once; what it says of the run so far."""

import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from pytest_benchmark.utils import safe_dumps

from ..common.errors import UserError
from ..plan.grid import Processes
from ..store.columns import SHARED, case_of, sizes_of
from ..store.files import append_line
from .slowdown import with_slowdowns
from .stopping import Timed, is_rival

JOURNAL_LOST = 3  # the exit status of a process that can no longer write down what it measures
DEVICE_LOST = 6  # of one in which a benchmark has ended all use of its device; pytest ends below 6
# A benchmark whose roofline bound is so long is timed in fewer processes: each takes a minute, and
# a call of a second or more varies little from one process to the next.
LONG_CALL_S = 0.5
LONG_PROCESSES = 2
PROBES = 3  # of a device's ceilings: at the beginning, in the middle and at the end of a run


@dataclass(frozen=True, kw_only=True)
class Event:
    """What happened, and when by the system's clock."""

    at: float = field(default_factory=time.time, compare=False)


@dataclass(frozen=True, kw_only=True)
class Plan(Event):
    """A runner begins, or goes on: a benchmark that had begun then begins anew."""

    wanted: dict[str, int]  # the benchmarks by name, with the number of threads of each
    arguments: list[str]
    processes: int
    least: int = 0  # processes of a benchmark that needs no more; 0 where each has all of them


@dataclass(frozen=True, kw_only=True)
class Choice(Event):
    """What a process is to time, where that hangs on what was found before it."""

    process: int
    names: list[str]


@dataclass(frozen=True, kw_only=True)
class Session(Event):
    """Where and how a process measures, as a run file says it."""

    head: dict[str, Any]


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
    sample: dict[str, Any] = field(default_factory=dict)  # empty where it was not timed
    benchmark: dict[str, Any] = field(default_factory=dict)  # pytest-benchmark's entry, likewise

    @property
    def seconds(self) -> float:
        """How long it took."""
        return sum(self.spent.values())


_KINDS: dict[str, type[Event]] = {
    kind.__name__.lower(): kind for kind in (Plan, Choice, Session, Start, Done)
}


class RunState:
    """The journal of a run: what it says so far, and where further events are written.

    Process 0 verifies the benchmarks, the others time them.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.plan = Plan(wanted={}, arguments=[], processes=0)
        self.heads: list[dict[str, Any]] = []  # what each process said of where and how
        self.current: Start | None = None  # the benchmark that has started and not ended
        self.process = 0  # that the last benchmark has started in
        self.chosen: dict[int, frozenset[str]] = {}  # by process, what it is to time
        self.ended = defaultdict[str, dict[int, Done]](dict)  # by name and process
        self.failures: dict[str, Done] = {}  # by name, those that have no numbers
        self.wall_s = 0.0  # that runners have worked on this so far
        self._latest_at = 0.0
        self._read_bytes = 0

    def read(self) -> None:
        """Take in what was written since."""
        for event in self._new_events():
            match event:
                case Plan():
                    self.plan, self.current = event, None
                case Choice():
                    self.chosen[event.process] = frozenset(event.names)
                case Session():
                    self.heads.append(event.head)
                case Done() if event.process in self.ended[event.fullname]:
                    pass  # of a process that outlived its runner
                case Done():
                    self.current, self.ended[event.fullname][event.process] = None, event
                    if event.outcome["status"] != "ok":
                        self.failures.setdefault(event.fullname, event)
                case Start():
                    self.current, self.process = event, event.process
            if not isinstance(event, Plan):
                self.wall_s += event.at - self._latest_at
            self._latest_at = event.at

    def _new_events(self) -> Iterator[Event]:
        """Yield the events not yet read; a line that is not wholly written is left for later."""
        with self.path.open("rb") as file:
            file.seek(self._read_bytes)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self._read_bytes += len(line)
                try:
                    content = json.loads(line)
                    yield _KINDS[content.pop("event")](**content)
                except (AttributeError, KeyError, TypeError, ValueError) as error:
                    raise UserError(
                        f"a journal holds the events of this version; {self.path} holds others; "
                        "remove it, or resume with the code that wrote it"
                    ) from error

    def note(self, event: Event) -> None:
        """Write an event, see it to the disk whole or not at all, and take it in."""
        line = safe_dumps({"event": type(event).__name__.lower(), **vars(event)})
        try:
            append_line(self.path, line)
        except OSError as error:
            raise self.unwritable(str(error.strerror)) from error
        self.read()

    def unwritable(self, why: str) -> UserError:
        """Return the error that ends a run whose journal cannot be written on."""
        return UserError(
            f"what was measured is kept in {self.path}, which cannot be written on ({why});"
            " free space, then `run --resume`"
        )

    def ceilings(self, key: str) -> list[dict[str, Any]]:
        """Return the ceilings of a name that its processes measured, in their order."""
        every = (head["machine"].get("ceilings", {}) for head in self.heads)
        return [one[key] for one in every if key in one]

    def is_to_probe(self, key: str, process: int) -> bool:
        """Say whether it is a process's turn to measure the ceilings of a name: they take long."""
        probed, sure = len(self.ceilings(key)), self.plan.least or self.plan.processes
        return probed < PROBES and process * (PROBES - 1) >= probed * sure

    @property
    def timed(self) -> list[str]:
        """The benchmarks that every process times: those that have not failed."""
        return [name for name in self.plan.wanted if name not in self.failures]

    @property
    def ends(self) -> list[Done]:
        """The ends of all benchmarks in all processes."""
        return [event for some in self.ended.values() for event in some.values()]

    def timings(self, name: str) -> list[Done]:
        """Return the ends of a benchmark in the processes that timed it, in their order."""
        return [event for event in self.ended[name].values() if event.sample]

    def processes_of(self, name: str) -> Processes:
        """Return how many processes time a benchmark: few, where one call takes long at the least.

        Before it is verified that is not known.
        """
        least, most = self.plan.least or self.plan.processes, self.plan.processes
        verified = self.ended[name].get(0)
        if verified and (verified.outcome.get("roofline_s") or 0.0) >= LONG_CALL_S:
            least, most = min(least, LONG_PROCESSES), min(most, LONG_PROCESSES)
        return Processes(least, most)

    def samples(self) -> dict[str, list[dict[str, Any]]]:
        """Return the samples of each benchmark that has not failed, with their slowdowns."""
        timings = {name: self.timings(name) for name in self.timed}
        samples = {name: [end.sample for end in ends] for name, ends in timings.items()}
        cases = {name: _case_of(ends[0].outcome) for name, ends in timings.items() if ends}
        return with_slowdowns({name: samples[name] for name in cases}, cases)

    def timed_so_far(self) -> dict[str, Timed]:
        """Return what decides whether a benchmark that has not failed needs another process."""
        found = {}
        for name, samples in self.samples().items():
            outcome = self.timings(name)[0].outcome
            told = (outcome.get(part, "") for part in ("kernel", "baseline", "role"))
            found[name] = Timed(
                samples,
                self.processes_of(name),
                self.plan.wanted[name],
                _case_of(outcome),
                is_rival(*told),
            )
        return found

    def taken_by(self, process: int) -> list[str]:
        """Return the benchmarks that a process measures, in the order of the plan.

        All of them, up to the least number of processes; after that those that were chosen, which
        is none before the processes until then have ended.
        """
        if process in self.chosen:
            return [name for name in self.timed if name in self.chosen[process]]
        return [name for name in self.timed if process <= self.processes_of(name).least]

    def left(self, process: int, threads: int | None = None) -> list[str]:
        """Return the benchmarks that a process has yet to measure, in the order of the plan.

        Those of one number of threads, or of all.
        """
        return [
            name
            for name in self.taken_by(process)
            if process not in self.ended[name] and threads in (None, self.plan.wanted[name])
        ]


def _case_of(outcome: dict[str, Any]) -> tuple[Any, ...]:
    """Return what all kernels share that are paired with one baseline on the same inputs."""
    known = {**outcome, "case": case_of(sizes_of(outcome))}
    return tuple(known.get(name) for name in SHARED)


@dataclass
class RunProgress:
    """What a run has done so far, for whoever shows it; a benchmark counts once a process."""

    total: int
    done: int = 0
    process: int = 0
    statuses: dict[str, int] = field(default_factory=dict)
    wall_s: float = 0.0
    left_s: float | None = None  # about how long the rest takes
    is_open: bool = False  # whether further processes may be needed, which nothing here counts


def progress(state: RunState) -> RunProgress:
    """Return how far a run is, and by what was done how long the rest takes.

    A benchmark that was timed takes as long in each further process, another as long as all others
    on average.
    """
    wanted, timed, processes = state.plan.wanted, state.timed, range(state.plan.processes + 1)
    ends = (state.failures.get(name) or state.ended[name].get(0) for name in wanted)
    left = [name for process in processes for name in state.left(process)]
    total = len(wanted) + sum(len(state.taken_by(process)) for process in processes[1:])
    sure = state.plan.least or state.plan.processes
    spent, left_s = [end.seconds for end in state.ends], None
    if sum(spent):
        usual = [fmean(spent)]
        each = {name: fmean([e.seconds for e in state.timings(name)] or usual) for name in timed}
        left_s = sum(each[name] for name in left) * state.wall_s / sum(spent)
    return RunProgress(
        total=total,
        done=total - len(left),
        process=state.process,
        statuses=Counter(end.outcome["status"] for end in ends if end is not None),
        wall_s=state.wall_s,
        left_s=left_s,
        is_open=any(process not in state.chosen for process in processes[sure + 1 :]),
    )


def seconds_per_sample(folder: Path, machine: str, grid: str) -> tuple[float, Path] | None:
    """Return the seconds of a sample in the stored run that is most like a new one, and its path.

    That is the newest one of the machine and the grid, or else of the machine, or of the grid. A
    verification counts as a sample.
    """
    from ..store.runs import load_run  # with pandas, which no process that measures loads

    def likeness(path: Path) -> tuple[bool, bool, str]:  # the name begins with the time
        return path.parent.name == machine, path.stem.endswith(f"-{grid}"), path.name

    for path in sorted(folder.glob("*/*.json"), key=likeness, reverse=True):
        run = load_run(path)
        if run.cost is not None and run.benchmarks:
            return run.cost.wall_s / sum(1 + len(one.samples) for one in run.benchmarks), path
    return None
