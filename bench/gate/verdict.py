"""What a gate found, as data: of each case what failed and what its times say, and of the whole."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from mlr import Case

from ..machine.devices import device_of
from ..measure.witness import CALL_COUNTS
from .blocks import Found, KernelCase
from .sequential import IMPROVEMENT, INCONCLUSIVE, NO_REGRESSION, REGRESSION, Estimate, ExitStatus

OK, STATUS = "ok", "status"
FAILED, UNTIMED = "failed", "not timed"
WORST_FIRST = (FAILED, REGRESSION, INCONCLUSIVE, UNTIMED, IMPROVEMENT, NO_REGRESSION)
FLOPS = "flops"
# What does not vary from call to call and is compared exactly, by its key in stored verdicts.
EXACT_METRICS = {
    "peak_bytes": "bytes at peak",
    "leak_bytes": "bytes leaked by a call",
    FLOPS: "operations of a call",
}


class Verified(NamedTuple):
    """What the verification of one version found on a case."""

    failure: str | None = None  # begins with `wrong`, `unsupported`, `oom` or `crashed`
    metrics: Mapping[str, int] = {}  # the exact metrics by name, where it has not failed
    work: Mapping[str, int] = {}  # the counts of `count_work` that could be had


@dataclass(frozen=True)
class Difference:
    """What is exact and differs between the versions."""

    metric: str  # the name of an exact metric, or `status`
    base: int | str
    head: int | str
    text: str  # the difference in words


def compare_exactly(
    case: Case, base: Verified, head: Verified
) -> tuple[list[Difference], list[Difference]]:
    """Return the differences that fail a case, and those that are worth a note."""
    if base.failure is not None:
        words = head.failure or f"was {base.failure}"
        return [], [Difference(STATUS, base.failure, head.failure or OK, words)]
    if head.failure is not None:
        return [Difference(STATUS, OK, head.failure, head.failure)], []
    failures, changes = [], []
    for name, words in EXACT_METRICS.items():
        old, new = base.metrics[name], head.metrics[name]
        difference = Difference(name, old, new, f"{words}: {new:,} instead of {old:,}")
        # A caching allocator rounds each block up.
        slack = 0 if name == FLOPS else device_of(case.device).block_slack_bytes
        if new > old + slack:
            failures.append(difference)
        elif new < old:
            changes.append(difference)
    return failures, changes


def compare_work(base: Verified, head: Verified) -> dict[str, tuple[int, int]]:
    """Return the counts of a call that are known of both versions, as base and head."""
    return {name: (n, head.work[name]) for name, n in base.work.items() if name in head.work}


@dataclass(frozen=True)
class CaseVerdict:
    """One case at the end."""

    benchmark: KernelCase
    timing: str | None = None  # what its times decide; None where it was not timed
    estimate: Estimate | None = None  # of its times; None where there are none
    failures: Sequence[Difference] = ()  # what fails it whatever its times say
    changes: Sequence[Difference] = ()  # what differs and fails nothing
    is_allowed: bool = False  # whether its kernel may fail
    crash: str | None = None  # why its process ended while it was timed
    work: Mapping[str, tuple[int, int]] = field(default_factory=dict)  # from `compare_work`

    @property
    def verdict(self) -> str:
        """The worst that is known of it."""
        return FAILED if self.failures and not self.is_allowed else self.timing or UNTIMED

    @property
    def remarks(self) -> list[str]:
        """What is worth knowing besides its times, in words."""
        allowed = "allowed: " if self.is_allowed else ""
        crash = [f"while timed: {self.crash}"] if self.crash else []
        failures = [f"{allowed}{one.text}" for one in self.failures]
        changes = [one.text for one in self.changes]
        return [*failures, *changes, *self._remarks_on_work(), *crash]

    def _remarks_on_work(self) -> Iterator[str]:
        """Say which counts differ or, of a slower case, that none does."""
        words = {name: name.replace("_", " ") for name in self.work}
        pairs = self.work.items()
        found = [f"{old:,} → {new:,} {words[name]}" for name, (old, new) in pairs if new != old]
        if found:
            grows = any(name in CALL_COUNTS and new > old for name, (old, new) in pairs)
            yield f"{'more' if grows else 'other'} work: {', '.join(found)}"
        elif self.work and self.timing == REGRESSION:
            same = (f"{count:,} {words[name]}" for name, (count, _) in pairs)
            yield f"the same work, slower: {', '.join(same)}"


@dataclass
class Verdict:
    """What a gate found."""

    cases: list[CaseVerdict]
    removed: list[str]  # kernels that the head lacks, unless they may be removed
    added: list[str]  # kernels that the base lacks
    control: Estimate | None  # of the A/A control, the base against itself
    noisy: bool  # whether that differs, or could not be shown to be alike
    wall_s: float
    blocks: list[Found]
    notes: list[str] = field(default_factory=list)  # sentences on the whole of it

    @property
    def exit_status(self) -> ExitStatus:
        """The worst that is known; noise explains a time, and nothing that is exact."""
        found = {case.verdict for case in self.cases}
        if self.removed or FAILED in found:
            return ExitStatus.REGRESSION
        if self.noisy and found & {REGRESSION, INCONCLUSIVE}:
            return ExitStatus.TOO_NOISY
        if REGRESSION in found:
            return ExitStatus.REGRESSION
        return ExitStatus.INCONCLUSIVE if INCONCLUSIVE in found else ExitStatus.NO_REGRESSION
