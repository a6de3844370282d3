"""What a gate found, as data: of each case what failed and what its times say, and of the whole."""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from torch import finfo

from mlr import Case
from mlr.case import DTYPES

from ..measure.work import CALL_COUNTS
from .blocks import BASE, HEAD, Found, KernelCase
from .sequential import (
    IMPROVEMENT,
    INCONCLUSIVE,
    MIN_SCREENING,
    NO_REGRESSION,
    REGRESSION,
    CaseState,
    Estimate,
    ExitStatus,
)

OK, STATUS = "ok", "status"
FAILED, UNTIMED = "failed", "not timed"
WORST_FIRST = (FAILED, REGRESSION, INCONCLUSIVE, UNTIMED, IMPROVEMENT, NO_REGRESSION)


class ExactMetric(NamedTuple):
    """A metric of the file `metrics.toml`, which explains its parts."""

    words: str
    factor: float = 1
    noted: float = 1
    roundings: int = 0
    slack: float = 0
    peak_share: float = 0


_DECLARED = tomllib.loads(Path(__file__).with_name("metrics.toml").read_text(encoding="utf-8"))
EXACT_METRICS = {name: ExactMetric(**one) for name, one in _DECLARED.items()}


class Verified(NamedTuple):
    """What the verification of one version found on a case."""

    failure: str | None = None  # begins with `wrong`, `unsupported`, `oom` or `crashed`
    # The exact metrics by name, where it has not failed; None for what it cannot count.
    metrics: Mapping[str, float | None] = {}
    work: Mapping[str, int] = {}  # the counts of `count_work` that could be had
    judged_by_base: bool = True  # and not by the oracle of the harness's own `mlr`


@dataclass(frozen=True)
class Difference:
    """What differs between the versions beside their times."""

    metric: str  # the name of an exact metric, or `status`
    base: float | str
    head: float | str
    text: str  # the difference in words


def compare_exactly(
    case: Case, base: Verified, head: Verified, first_call_s: Mapping[str, float]
) -> tuple[list[Difference], list[Difference]]:
    """Return the differences that fail a case, and those that are worth a note."""
    if base.failure or head.failure:
        words = head.failure or f"was {base.failure}"
        found = [Difference(STATUS, base.failure or OK, head.failure or OK, words)]
        return ([], found) if base.failure else (found, [])
    failures, changes = [], []
    unit = finfo(DTYPES[case.dtype]).eps / 2
    before = {**base.metrics, "first_call_s": first_call_s.get(BASE)}
    after = {**head.metrics, "first_call_s": first_call_s.get(HEAD)}
    for name, metric in EXACT_METRICS.items():
        old, new = before.get(name), after.get(name)
        if old is None:
            continue
        if new is None:
            text = f"{metric.words}: not counted instead of {old:,}"
            changes.append(Difference(name, old, "not counted", text))
            continue
        texts = [f"{one:,}" if isinstance(one, int) else f"{one:.2g}" for one in (new, old)]
        difference = Difference(name, old, new, f"{metric.words}: {' instead of '.join(texts)}")
        slack = metric.slack + metric.peak_share * (before.get("peak_bytes") or 0)
        if new > max(metric.factor * old, metric.roundings * unit) + slack:
            failures.append(difference)
        elif max(new, old) > metric.noted * min(new, old) + slack:
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
    work: Mapping[str, tuple[int, int]] = field(default_factory=dict)  # from `compare_work`

    @property
    def verdict(self) -> str:
        """The worst that is known of it."""
        return FAILED if self.failures and not self.is_allowed else self.timing or UNTIMED

    @property
    def words(self) -> str:
        """Its verdict, with the slow-down that it excludes."""
        if self.verdict != NO_REGRESSION or self.estimate is None:
            return self.verdict
        return f"{NO_REGRESSION} of {100 * self.estimate.margin:g} % or more (typical process)"

    @property
    def remarks(self) -> list[str]:
        """What is worth knowing besides its times, in words."""
        allowed = "allowed: " if self.is_allowed else ""
        failures = [f"{allowed}{one.text}" for one in self.failures]
        if self.is_allowed and self.timing == REGRESSION:
            failures.append(f"{allowed}slower")
        changes = [one.text for one in self.changes]
        return [*failures, *changes, *self._remarks_on_work()]

    def _remarks_on_work(self) -> list[str]:
        """Say which counts differ or, of a slower case, that none does."""
        counts, lead = self.work.items(), "other work"
        found = [f"{old:,} → {new:,} {name}" for name, (old, new) in counts if new != old]
        if any(name in CALL_COUNTS and new > old for name, (old, new) in counts):
            lead = "more work"
        elif not found and self.timing == REGRESSION:
            lead, found = "the same work, slower", [f"{old:,} {name}" for name, (old, _) in counts]
        return [f"{lead}: {', '.join(found)}".replace("_", " ")] if found else []


def judge(
    one: KernelCase,
    base: Verified,
    head: Verified,
    timed: CaseState | None,
    events: Sequence[Mapping[str, Any]],
    is_allowed: bool,
) -> CaseVerdict:
    """Say what is known of a case, from both verifications and the events of its blocks."""
    failures, changes = compare_exactly(one.case, base, head, least_first_call_s(events))
    crashes = [event["crashed"] for event in events if "crashed" in event]
    changes += [Difference(STATUS, OK, "crashed", f"while timed: {how}") for how in crashes[-1:]]
    times = (timed.decision, timed.estimate()) if timed else (None, None)
    return CaseVerdict(one, *times, failures, changes, is_allowed, compare_work(base, head))


def least_first_call_s(events: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the seconds of each version's first call, the least of enough of its processes."""
    found = [event["first_call_s"] for event in events if "log_ratio" in event]
    sides = (BASE, HEAD) if len(found) >= MIN_SCREENING else ()
    return {side: min(seconds[side] for seconds in found) for side in sides}


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
    def worst_first(self) -> list[CaseVerdict]:
        """Its cases, from what failed to what is fine."""
        return sorted(self.cases, key=lambda case: WORST_FIRST.index(case.verdict))

    @property
    def exit_status(self) -> ExitStatus:
        """The worst that is known; noise explains a time, and nothing that is exact."""
        found = {case.verdict for case in self.cases if not case.is_allowed}
        if self.removed or FAILED in found:
            return ExitStatus.REGRESSION
        if self.noisy and found & {REGRESSION, INCONCLUSIVE}:
            return ExitStatus.TOO_NOISY
        if REGRESSION in found:
            return ExitStatus.REGRESSION
        return ExitStatus.INCONCLUSIVE if INCONCLUSIVE in found else ExitStatus.NO_REGRESSION
