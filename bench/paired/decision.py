"""When a pair passes: the gate's sequential test with one limit, and what else it may fail by."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ..common.units import counted, format_bytes
from ..gate.sequential import IMPROVEMENT, NO_REGRESSION, REGRESSION, CaseState

PASSED, FAILED, INCONCLUSIVE, DIFFERS = "passed", "failed", "inconclusive", "differs"
SLACK_BYTES = 4_096  # of objects of Python's own, which a call may hold beyond `larger_than`
MAX_MISSES = 2  # processes that could not time a pair, before it has failed


class Limit(NamedTuple):
    """One ratio that ours must stay below: what is let pass and what must be found are the same."""

    slower_than: float
    slow_share: float = 0.33  # as `gate.config.Thresholds`

    @property
    def threshold(self) -> float:
        """The limit as a share of theirs' time."""
        return self.slower_than - 1

    @property
    def equivalence_margin(self) -> float:
        """The same."""
        return self.slower_than - 1


@dataclass
class PairState(CaseState):
    """One pair's processes and what is decided of it."""

    def middle(self, values: Sequence[float]) -> float:
        """Return the log-ratio that chance lies around: ours need not take as long as theirs."""
        return statistics.median(values)


@dataclass
class PairRecord:
    """What a session finds out about one pair."""

    id: str
    slower_than: float
    larger_than: float | None = None
    against: str | None = None  # the revision, of one that has no theirs
    ours_s: list[float] = field(default_factory=list)  # medians of the processes
    theirs_s: list[float] = field(default_factory=list)
    ours_bytes: int | None = None
    theirs_bytes: int | None = None
    misses: int = 0  # processes that could not time it
    missed: str | None = None  # why the last of them could not
    reason: str | None = None  # of what it fails by, whatever its times say
    differs: bool = False  # whether that is its results

    def __post_init__(self) -> None:
        """Begin with no process."""
        self.state = PairState(Limit(self.slower_than))

    @property
    def place(self) -> tuple[str, int]:
        """The id of its test, and its number in it."""
        node, _, number = self.id.rpartition("#")
        return node, int(number)

    def take(self, ours_s: float, theirs_s: float, held: Sequence[int] | None) -> None:
        """Take in what a process found: seconds of a call of each, and bytes if it counted them."""
        self.ours_s.append(ours_s)
        self.theirs_s.append(theirs_s)
        if held is None:
            return
        self.ours_bytes, self.theirs_bytes = held
        limit = self.larger_than
        if limit is not None and self.ours_bytes > limit * self.theirs_bytes + SLACK_BYTES:
            self.reason = (
                f"ours holds {format_bytes(self.ours_bytes)} at peak and {self._other} "
                f"{format_bytes(self.theirs_bytes)}; larger_than={limit:g} is the limit"
            )

    def miss(self, reason: str) -> None:
        """Take in that a process could not time it: it ended, or did not come to it."""
        self.misses += 1
        self.missed = reason
        if self.misses == MAX_MISSES and self.reason is None:
            self.reason = f"{MAX_MISSES} processes could not time it; of the last: {reason}"

    def end(self) -> None:
        """Take in that no process follows: a pair that none could time has failed."""
        if self.reason is None and self.missed is not None and not self.ours_s:
            self.reason = f"no process could time it; of the last: {self.missed}"

    @property
    def outcome(self) -> str:
        """How it ended."""
        if self.reason is not None:
            return DIFFERS if self.differs else FAILED
        if self.state.decision == REGRESSION:
            return FAILED
        passes = self.state.decision in (NO_REGRESSION, IMPROVEMENT)
        return PASSED if passes else INCONCLUSIVE

    @property
    def _other(self) -> str:
        return "theirs" if self.against is None else f"{self.against!r}"

    def words(self, hint: str) -> str:
        """Say in one line how it ended; the hint is for one that is not decided."""
        if self.reason is not None:
            return self.reason
        found = self.state.estimate()
        if found is None:
            return f"no process of it has ended: {hint}"
        level = "" if found.low is None else ", 95 %"
        of = f"{counted(found.blocks, 'process')}{level}"
        line = f"ours takes {found} times the time of {self._other} ({of})"
        if self.outcome == FAILED:
            return f"{line}; slower_than={self.slower_than:g} is the limit"
        if self.outcome == PASSED:
            return f"{line}; it is below slower_than={self.slower_than:g}"
        return f"{line}; whether that is below slower_than={self.slower_than:g} is open: {hint}"
