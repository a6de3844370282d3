"""Blocks to decisions: has a case regressed? A sequential test; pure, and needs no torch.

A block is one fresh process and gives one value a case: ln(head time / base time). Every case is
screened; nothing fails there. What screening leaves open is confirmed on blocks of its own, so that
the chance that made a case suspect cannot make it fail too. A case is a *regression* when the lower
bound of its ratio lies above the threshold, *no regression* when the upper bound lies under the
equivalence margin, and *inconclusive* otherwise: that nothing was found is no pass.

These bounds are of the typical process: the centre does not move for code that is slower in a few
processes only. So a case passes only if the share of such processes is bounded too.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Protocol

from ..common.units import counted, format_time
from ..stats.estimators import hodges_lehmann, lower_bound, p_value, share_bound, upper_bound

REGRESSION, NO_REGRESSION = "regression", "no regression"
IMPROVEMENT, INCONCLUSIVE = "improvement", "inconclusive"

ALPHA = 0.01  # the probability that a suite without a regression fails
BETA = 0.05  # the probability that a case slower by the equivalence margin passes at any look
SLOW_ERROR = 0.1  # the probability that a bound of the share of slow processes does not hold
# Looks of screening, where a case can pass: after how many blocks, and per cent of beta each.
SCREENING = {6: 32, 9: 12, 12: 12}
MIN_SCREENING, MAX_SCREENING = min(SCREENING), max(SCREENING)  # what is then open is confirmed


class ExitStatus(IntEnum):
    """How a gate ends; 2 is any command's status for what it could not do."""

    NO_REGRESSION = 0
    REGRESSION = 1
    UNMEASURED = 2
    INCONCLUSIVE = 3
    TOO_NOISY = 4


# Looks at what is confirmed: after how many blocks, and per cent of alpha and of beta each.
LOOKS = ((8, 40, 16), (12, 15, 8), (18, 15, 6), (26, 10, 6), (40, 10, 4), (60, 10, 4))
MIN_TO_FAIL = MIN_SCREENING + LOOKS[0][0]  # the fewest blocks that find a regression


class Limits(Protocol):
    """What a case is held against: shares of the base's time, as `config.Thresholds` has them."""

    @property
    def threshold(self) -> float:
        """A slow-down that is let pass."""

    @property
    def equivalence_margin(self) -> float:
        """A slow-down that must be found."""

    @property
    def slow_share(self) -> float:
        """An excess of processes with such a slow-down that must be found."""


@dataclass
class CaseState:
    """One case's blocks and what is decided of it."""

    thresholds: Limits
    screened: list[float] = field(default_factory=list)
    confirmed: list[float] = field(default_factory=list)
    decision: str | None = None

    @property
    def values(self) -> list[float]:
        """The blocks that its decision rests on."""
        return self.confirmed or self.screened

    def passes(self, per_cent: int) -> str | None:
        """Return `no regression` or `improvement` where the bounds say so, at so much of beta."""
        if self.slow_processes()[-1] > self.thresholds.slow_share:
            return None
        high = upper_bound(self.values, per_cent / 100 * BETA)
        if high >= math.log1p(self.thresholds.equivalence_margin):
            return None
        return IMPROVEMENT if high < -math.log1p(self.thresholds.threshold) else NO_REGRESSION

    def middle(self, values: Sequence[float]) -> float:
        """Return the log-ratio that chance lies around: no change."""
        return 0.0

    def slow_processes(self) -> tuple[int, int, int, float]:
        """Count processes slower by the margin or more, as much faster, and all; bound the excess.

        The excess is the share of the slow less that of the fast, which chance makes alike; it is
        bounded by the upper bound of the one and the lower bound of the other.
        """
        every = [*self.screened, *self.confirmed]
        margin, count = math.log1p(self.thresholds.equivalence_margin), len(every)
        fastest = 2 * self.middle(every) - margin
        slow, fast = sum(one >= margin for one in every), sum(one <= fastest for one in every)
        bounds = (share_bound(some, count, SLOW_ERROR) for some in (slow, count - fast))
        return slow, fast, count, sum(bounds) - 1

    def estimate(self) -> "Estimate | None":
        """Estimate its ratio from what its decision rests on; None without a block."""
        if not self.values:
            return None
        ends = (lower_bound(self.values, 0.025), upper_bound(self.values, 0.025))
        low, high = (math.exp(end) if math.isfinite(end) else None for end in ends)
        shown = math.exp(hodges_lehmann(self.values)), low, high, len(self.values)
        return Estimate(*shown, self.thresholds.equivalence_margin, *self.slow_processes())

    @property
    def is_suspect(self) -> bool:
        """Whether more screening of a case that has not passed would decide nothing."""
        count = len(self.screened)
        middle = (self.thresholds.threshold + self.thresholds.equivalence_margin) / 2
        return count >= MAX_SCREENING or (
            count >= MIN_SCREENING and hodges_lehmann(self.screened) > math.log1p(middle)
        )

    @property
    def is_noisy(self) -> bool:
        """Whether an A/A control differs, or could not be shown to be alike."""
        if len(self.values) < MIN_SCREENING:
            return False
        reach = math.log1p(self.thresholds.threshold)
        low, high = (bound(self.values, ALPHA / 2) for bound in (lower_bound, upper_bound))
        widest = upper_bound(self.values, SCREENING[MIN_SCREENING] / 100 * BETA)
        differs = low > reach or high < -reach
        return differs or widest > math.log1p(self.thresholds.equivalence_margin)


class SequentialTest:
    """The state of a suite: which cases a next block should measure, and what is decided."""

    def __init__(self, thresholds: Mapping[str, Limits]) -> None:
        self.cases = {name: CaseState(own) for name, own in thresholds.items()}
        self.suspects: list[CaseState] | None = None  # what screening left, once it is done
        self._looks = list(LOOKS)  # still to come

    def open_cases(self) -> dict[str, CaseState]:
        """Return the cases that another block should measure; none when all is decided."""
        return {name: case for name, case in self.cases.items() if case.decision is None}

    def add(self, block: Mapping[str, float]) -> None:
        """Take in a block: one log-ratio for each open case that could be measured."""
        for name, value in block.items():
            case = self.cases[name]
            (case.screened if self.suspects is None else case.confirmed).append(value)
        if self.suspects is not None:
            self._confirm()
            return
        for case in self.open_cases().values():
            if per_cent := SCREENING.get(len(case.screened)):
                case.decision = case.passes(per_cent)
        left = list(self.open_cases().values())
        if all(case.is_suspect for case in left):
            self.suspects = left

    def _confirm(self) -> None:
        """Look once all open cases have the blocks for it; every look spends its share once.

        Regressions are found by Holm's procedure over the suspects, at the look's share of alpha.
        """
        cases, (needed, of_alpha, of_beta) = list(self.open_cases().values()), self._looks[0]
        if min((len(case.confirmed) for case in cases), default=0) < needed:
            return
        del self._looks[0]
        left = sum(case.decision != REGRESSION for case in self.suspects or ())
        chances = [p_value(one.confirmed, math.log1p(one.thresholds.threshold)) for one in cases]
        for chance, case in sorted(zip(chances, cases, strict=True), key=lambda pair: pair[0]):
            if chance > of_alpha / 100 * ALPHA / left:
                break
            case.decision = REGRESSION
            left -= 1
        for case in self.open_cases().values():
            case.decision = case.passes(of_beta)
        if not self._looks:
            self.leave_open(self.open_cases())

    def leave_open(self, names: Iterable[str]) -> None:
        """Leave cases undecided: they cannot be measured, or time is up."""
        for name in names:
            self.cases[name].decision = INCONCLUSIVE


@dataclass(frozen=True)
class Estimate:
    """What some blocks say of a ratio, head time over base time; None where they are too few."""

    ratio: float  # Hodges and Lehmann's centre over the blocks
    low: float | None  # the ends of its 95 % interval
    high: float | None
    blocks: int
    margin: float  # the slow-down that must be found
    slow: int  # how many processes were slower by that or more
    fast: int  # how many were as much faster
    processes: int  # of all, also of the screening where the ratio is of the confirmation
    excess_bound: float  # the upper bound of the share of slow ones beyond that of fast ones

    def __str__(self) -> str:
        """Write the ratio with its interval: `1.052 (1.041-1.063)`."""
        ends = "" if self.low is None else f" ({self.low:.3f}–{self.high:.3f})"
        return f"{self.ratio:.3f}{ends}"


def explain_timeout(max_time_s: float, reached_s: Sequence[float]) -> str:
    """Say how long a block takes, how many a decision takes, and which time allows for them.

    The time to try suffices for the first look at what is suspect, or, where that was had, for the
    last. Without a block, one is taken to last as long as the verification. `reached_s`: seconds
    from the start to the end of the verification and of each block after it.
    """
    count, verified_s = len(reached_s) - 1, reached_s[0]
    block_s = (reached_s[-1] - verified_s) / count if count else verified_s
    last, minutes = MAX_SCREENING + LOOKS[-1][0], minutes_to_try(count, block_s, verified_s)
    return (
        f"The time limit of {max_time_s:g} s ended after {counted(count, 'block')} of about "
        f"{format_time(block_s)}. A case takes at least {MIN_SCREENING} blocks to pass, at least "
        f"{MIN_TO_FAIL} to be found a regression, and at most {last}: try --max-time "
        f"{minutes}m."
    )


def minutes_to_try(count: int, block_s: float, before_s: float = 0.0) -> int:
    """Return the minutes that suffice for the first look at what is suspect, or else the last.

    `count` blocks of `block_s` seconds were had, `before_s` seconds after the start.
    """
    first, *_, last = (MAX_SCREENING + done for done, *_ in LOOKS)
    enough = next((blocks for blocks in (first, last) if blocks > count), 2 * count)
    return math.ceil((before_s + enough * block_s) / 60)
