"""The journal of a run as read so far: what is done, what is left, and the run it makes."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from statistics import fmean
from typing import Any, NamedTuple

from pytest_benchmark import __version__ as plugin_version
from pytest_benchmark.stats import Stats

from ..common.errors import UserError
from ..common.units import format_ratio
from ..stats.passes import common_prior, quiet, summarise
from ..store.schema import SCHEMA, Cost
from .journal import Journal

# A case whose least possible time is so long is timed in fewer passes: each takes a minute, and a
# call of a second or more varies little from one process to the next.
LONG_FLOOR_S = 0.5
LONG_PASSES = 2
KINDS = ("warm_up_s", "timing_s", "checking_s", "memory_s")
Event = dict[str, Any]


@dataclass
class Progress:
    """What a run has done so far, for whoever shows it; `total` counts a case once a pass.

    `left_s` is about how long the rest takes, `latest` the last case that got a time and its
    speedup there.
    """

    total: int
    done: int = 0
    current: str = ""
    number: int = 0
    passes: int = 0
    statuses: dict[str, int] = field(default_factory=dict)
    contended: int = 0
    again: int = 0
    wall_s: float = 0.0
    overhead: float = 0.0
    left_s: float | None = None
    latest: str = ""


class Plan(NamedTuple):
    """What a journal is the journal of; of a shard also what its run file says of it."""

    wanted: list[str]
    arguments: list[str]
    passes: int
    shard: dict[str, Any] | None = None


class Followed:
    """The journal of a run as read so far.

    A case is followed by its pass and name; pass 0 is its examination.
    """

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self.plan = Plan([], [], 0)
        self.session: Event | None = None
        self._started: dict[tuple[int, str], Event] = {}
        self._ended: dict[tuple[int, str], Event] = {}
        self._failures: dict[str, Event] = {}
        self._takes: dict[str, list[dict[str, Any]]] = {}
        self._lost: set[tuple[int, str]] = set()
        self._spans: list[list[float]] = []
        self._latest = ""

    def read(self) -> None:
        """Take in what was written since."""
        for event in self.journal.new_events():
            self._take(event)

    def _take(self, event: Event) -> None:
        key = (int(event.get("pass") or 0), str(event.get("fullname")))
        match event["event"]:
            case "plan":
                wanted, arguments, passes = (event[name] for name in Plan._fields[:3])
                self.plan = Plan(wanted, arguments, passes, event.get("shard"))
            case "session":
                self.session = self.session or event
            case "start":
                self._started[key] = event
            case "done":
                self._ended[key] = event
                if event["outcome"]["status"] != "ok":
                    self._failures.setdefault(key[1], event)
                if event["take"]:
                    self._latest = _said(key[1], event["take"].get("log_speedup"))
                    self._takes.setdefault(key[1], []).append(event["take"])
            case "lost":
                self._lost.add(key)
                self._started.pop(key, None)
            case "resume":
                self._started = {one: self._started[one] for one in self._ended}
        if event["event"] in ("plan", "resume"):
            self._spans.append([event["at"], event["at"]])
        self._spans[-1][1] = event["at"]

    def note(self, event: str, **content: Any) -> None:
        """Write an event of the runner's own and take it in.

        Raises:
            UserError: The journal cannot be written.
        """
        try:
            self.journal.append(event, **content)
        except OSError as error:
            raise self.unwritable(str(error.strerror)) from error
        self.read()

    def unwritable(self, why: str) -> UserError:
        """Return the error that ends a run whose journal cannot be written on."""
        return UserError(
            f"what was measured is kept in {self.journal.path}, which cannot be written on ({why});"
            " free space, then `run --resume`"
        )

    @property
    def wall_s(self) -> float:
        """Seconds that runners have worked on this so far."""
        return sum(last - first for first, last in self._spans)

    @property
    def count(self) -> int:
        """How many cases have ended in all passes."""
        return len(self._ended)

    def has(self, number: int, name: str) -> bool:
        """Whether a case has ended in a pass, or needs none."""
        return (number, name) in self._ended or (number > 0 and name in self._failures)

    def passes_of(self, name: str) -> int:
        """Return in how many passes a case is timed: few, where one call takes long at the least.

        Before it is examined that is not known, and all passes are.
        """
        examined = self._ended.get((0, name))
        floor_s = examined["outcome"].get("floor_s") if examined else None
        long = floor_s is not None and floor_s >= LONG_FLOOR_S
        return min(self.plan.passes, LONG_PASSES) if long else self.plan.passes

    def contended(self) -> list[str]:
        """Return the cases with fewer takes of a quiet machine than there should be passes."""
        return [
            name
            for name in self.plan.wanted
            if name not in self._failures
            and sum(not take["contended"] for take in self._takes[name]) < self.passes_of(name)
        ]

    def seconds_of(self, names: list[str]) -> float:
        """Return about how long another pass over these cases takes."""
        last = (self._ended.get((self.passes_of(name), name)) for name in names)
        return sum(sum(event["spent"].values()) for event in last if event is not None)

    @property
    def current(self) -> tuple[int, str] | None:
        """The pass and the name of the case that has started and not ended."""
        return next((key for key in self._started if key not in self._ended), None)

    def lost_before(self) -> bool:
        """Whether the process at the current case was killed from outside once before."""
        return self.current in self._lost

    def lose(self) -> None:
        """Note that the process at the current case was killed: the case begins anew."""
        number, name = self._begun()
        self.note("lost", **{"pass": number}, fullname=name)

    def end(self, status: str, reason: str) -> None:
        """Note the end of the current case, which could not note it itself."""
        number, name = key = self._begun()
        outcome = {**self._started[key]["outcome"], "status": status, "reason": reason}
        self.note("done", **{"pass": number}, fullname=name, outcome=outcome, take=None,
                  benchmark=None, spent={})  # fmt: skip

    def _begun(self) -> tuple[int, str]:
        if self.current is None:
            raise ValueError("no case has started that has not ended")
        return self.current

    @property
    def cost(self) -> dict[str, float]:
        """Where the time went, in seconds, as a run file holds it."""
        spent = {
            kind: sum(event["spent"].get(kind, 0.0) for event in self._ended.values())
            for kind in KINDS
        }
        return {"wall_s": self.wall_s, **spent}

    @property
    def progress(self) -> Progress:
        """How far the run is."""
        wanted, passes = self.plan.wanted, self.plan.passes
        number, name = self.current or (0, "")
        takes = [take for found in self._takes.values() for take in found]
        timed = sum(
            min(len(found), self.passes_of(name))
            for name, found in self._takes.items()
            if name not in self._failures
        )
        timing = sum(self.passes_of(name) for name in wanted if name not in self._failures)
        ends = (self._failures.get(name) or self._ended.get((0, name)) for name in wanted)
        cost = self.cost
        return Progress(
            total=len(wanted) + timing,
            done=sum((0, name) in self._ended for name in wanted) + timed,
            current=name,
            number=number,
            passes=passes,
            statuses=Counter(end["outcome"]["status"] for end in ends if end is not None),
            contended=sum(take["contended"] for take in takes),
            again=sum(take["pass"] > passes for take in takes),
            wall_s=self.wall_s,
            overhead=Cost(**cost).overhead if self.wall_s > 0 else 0.0,
            left_s=self._left_s(),
            latest=self._latest,
        )

    def _left_s(self) -> float | None:
        """Return about how long what is left takes, by what cases have taken; None without any.

        A case that was timed takes as long again; one that was only examined as long as others, in
        proportion to their examinations; and one that was not, as long as the others on average.
        """
        spent = {key: sum(event["spent"].values()) for key, event in self._ended.items()}
        examined = {name: seconds for (number, name), seconds in spent.items() if not number}
        timed: dict[str, list[float]] = {}
        for (number, name), seconds in spent.items():
            if number:
                timed.setdefault(name, []).append(seconds)
        if not sum(spent.values()):
            return None
        usual = sum(examined.values()) / len(examined)
        both = [(fmean(timed[name]), examined[name]) for name in timed if name in examined]
        ratio = sum(a for a, _ in both) / max(sum(b for _, b in both), 1e-9) if both else 1.0
        left = 0.0
        for name in self.plan.wanted:
            if name in self._failures:
                continue
            done = timed.get(name, [])
            each = fmean(done) if done else ratio * examined.get(name, usual)
            left += 0.0 if name in examined else usual
            left += each * max(0, self.passes_of(name) - len(done))
        return float(left * self.wall_s / sum(spent.values()))

    def compose(self) -> dict[str, Any]:
        """Put the journal together into the content of a run file.

        Raises:
            UserError: No process got as far as its first case.
        """
        session = self.session
        if session is None:
            raise UserError("the measuring process ended before its first case; run it again")
        settings = session["surroundings"]["settings"] | {"passes": self.plan.passes}
        settings |= self.plan.shard or {}
        outcomes, benchmarks = [], []
        logs = [self._log_speedups(name) for name in self.plan.wanted]
        prior = common_prior(logs)
        for name in self.plan.wanted:
            columns = self._columns(name, prior)
            outcomes.append({"fullname": name, **columns})
            if columns["status"] == "ok":
                benchmarks.append(self._benchmark(name, columns))
        return {
            "machine_info": session["machine_info"],
            "commit_info": session["commit_info"],
            "benchmarks": benchmarks,
            "datetime": datetime.now(UTC).isoformat(timespec="seconds"),
            "version": plugin_version,
            "schema": SCHEMA,
            "cost": self.cost,
            "outcomes": outcomes,
            **session["surroundings"],
            "settings": settings,
        }

    def _log_speedups(self, name: str) -> list[float]:
        if name in self._failures:
            return []
        logs = (take["log_speedup"] for take in quiet(self._takes[name]))
        return [value for value in logs if value is not None]

    def _columns(self, name: str, prior: Any) -> dict[str, Any]:
        examined: dict[str, Any] = self._ended[0, name]["outcome"]
        failed = self._failures.get(name)
        if failed is None:
            return summarise(examined, self._takes[name], prior)
        outcome: dict[str, Any] = failed["outcome"]
        where = f"in pass {failed['pass']}: " if failed["pass"] else ""
        return outcome | ({"reason": where + outcome["reason"]} if where else {})

    def _benchmark(self, name: str, columns: dict[str, Any]) -> dict[str, Any]:
        """Return pytest-benchmark's entry of a case; each datum is the median of one pass."""
        takes = self._takes[name]
        first = next(e for key, e in self._ended.items() if key[1] == name and e["benchmark"])
        stats, data = Stats(), [take["median_s"] for take in quiet(takes)]
        for value in data:
            stats.update(value)
        found = {key: getattr(stats, key) for key in stats.fields}
        return {
            **first["benchmark"],
            "stats": {**found, "iterations": 1, "data": data},
            "extra_info": columns,
            "takes": takes,
        }


def _said(name: str, log_speedup: float | None) -> str:
    case = name.partition("[")[2].rstrip("]")
    return case if log_speedup is None else f"{case} {format_ratio(math.exp(log_speedup))}"
