"""Blocks -> verdicts: is a case slower than it was? Pure, and needs no torch.

A block is one fresh process and gives one value a case: ln(new time / old time). Every case is
screened; nothing fails there. What screening leaves in doubt is confirmed on blocks of its own, so
that a chance that made a case suspect cannot make it fail too. A case is *slower* when the lower
bound of its ratio lies above the tolerance, *not slower* when the upper bound lies under the
target; anything else is *cannot tell*: that nothing was found is no pass.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..stats.passes import hodges_lehmann

SLOWER, NOT_SLOWER, FASTER, CANNOT_TELL = "slower", "not slower", "faster", "cannot tell"

FIRST_LOOK = 6  # blocks of screening before anything is settled; five cannot bound at 2 %
LAST_LOOK = 12  # what is then not settled is confirmed
# Blocks of confirmation at each look, and the share of the suite's error that it may spend.
LOOKS = ((8, 0.4), (12, 0.2), (18, 0.2), (26, 0.2))
THOROUGH = ((8, 0.4), (12, 0.15), (18, 0.15), (26, 0.1), (40, 0.1), (60, 0.1))
# The fewest blocks that a verdict can rest on: by screening alone, and by the first look after it.
LEAST_TO_PASS = FIRST_LOOK
LEAST_TO_FAIL = FIRST_LOOK + LOOKS[0][0]


def most_blocks(*, thorough: bool) -> tuple[int, int]:
    """Return how many blocks the first look at what is suspect takes at most, and the last."""
    looks = THOROUGH if thorough else LOOKS
    return LAST_LOOK + looks[0][0], LAST_LOOK + looks[-1][0]


class Rule(NamedTuple):
    """What counts as slower, and how often that may be said wrongly.

    Attributes:
        tolerance: A slow-down up to this share is let pass.
        target: A slow-down of this share is to be found.
        alpha: The chance that a suite without a slow-down fails.
        beta: The chance that one look passes a case which is slower by the target.
    """

    tolerance: float = 0.02
    target: float = 0.05
    alpha: float = 0.01
    beta: float = 0.02


def _signed_rank(count: int) -> NDArray[np.float64]:
    """Return P(T <= t), t = 0 ..., of the signed-rank statistic of so many values."""
    ways = np.ones(1)
    for rank in range(1, count + 1):
        longer = np.zeros(len(ways) + rank)
        longer[: len(ways)] += ways
        longer[rank:] += ways
        ways = longer
    return np.cumsum(ways) / 2.0**count


def lower_bound(values: Sequence[float], alpha: float) -> float:
    """Return the one-sided lower bound of the centre, by inverting the exact signed-rank test.

    The centre of symmetric values lies below it with a chance of at most alpha (Hollander, Wolfe
    and Chicken 2014, "Nonparametric Statistical Methods", section 3.3). Minus infinity where there
    are too few values to say.
    """
    below = int(np.searchsorted(_signed_rank(len(values)), alpha, side="right"))
    if below == 0:
        return -math.inf
    array = np.asarray(values)
    means = (array[:, None] + array[None, :]) / 2
    return float(np.sort(means[np.triu_indices(len(array))])[below - 1])


def upper_bound(values: Sequence[float], alpha: float) -> float:
    """Return the one-sided upper bound of the centre; see `lower_bound`."""
    return -lower_bound([-value for value in values], alpha)


def p_value(values: Sequence[float], above: float) -> float:
    """Return the chance of values so high if their centre were at most `above`, exactly."""
    if not values:
        return 1.0
    array = np.asarray(values) - above
    means = (array[:, None] + array[None, :])[np.triu_indices(len(array))]
    not_above = int((means <= 0).sum())  # the signed-rank statistic of the values turned round
    return float(_signed_rank(len(values))[not_above])


@dataclass
class Case:
    """One case's blocks and what is known of it."""

    rule: Rule
    screened: list[float] = field(default_factory=list)
    confirmed: list[float] = field(default_factory=list)
    verdict: str | None = None

    @property
    def values(self) -> list[float]:
        """The blocks that its verdict rests on."""
        return self.confirmed or self.screened

    def passes(self) -> str | None:
        """Return `not slower` or `faster` where the upper bound says so, or None."""
        high = upper_bound(self.values, self.rule.beta)
        if high < -math.log1p(self.rule.tolerance):
            return FASTER
        return NOT_SLOWER if high < math.log1p(self.rule.target) else None


class Finding(NamedTuple):
    """What is known of a case at the end; ratios are new time over old.

    Attributes:
        verdict: `slower`, `not slower`, `faster` or `cannot tell`.
        ratio: Hodges and Lehmann's centre over the blocks.
        low: The lower end of its 95 % interval; None with too few blocks.
        high: The upper end.
        smallest: The smallest slow-down, as a share, that so many blocks could have shown.
        blocks: How many blocks it rests on.
    """

    verdict: str
    ratio: float | None
    low: float | None
    high: float | None
    smallest: float | None
    blocks: int


class Deciding:
    """The state of a suite: which cases a next block should measure, and what is decided."""

    def __init__(self, rules: Mapping[str, Rule], *, thorough: bool = False) -> None:
        self.cases = {name: Case(rule) for name, rule in rules.items()}
        self.looks = THOROUGH if thorough else LOOKS
        self.suspects: list[str] | None = None

    def wanted(self) -> list[str]:
        """Return the cases that another block should measure; none when all is decided."""
        return [name for name, case in self.cases.items() if case.verdict is None]

    def add(self, block: Mapping[str, float]) -> None:
        """Take in a block: one log-ratio for each case that was wanted and could be measured."""
        confirming = self.suspects is not None
        for name, value in block.items():
            case = self.cases[name]
            (case.confirmed if confirming else case.screened).append(value)
        if confirming:
            self._confirm()
        else:
            self._screen()

    def _screen(self) -> None:
        for name in self.wanted():
            if len(self.cases[name].screened) >= FIRST_LOOK:
                self.cases[name].verdict = self.cases[name].passes()
        rest = self.wanted()
        settled = all(self._is_suspect(self.cases[name]) for name in rest)
        if settled:
            self.suspects = rest

    def _is_suspect(self, case: Case) -> bool:
        """Say whether more screening of a case that has not passed would be for nothing."""
        count = len(case.screened)
        if count < FIRST_LOOK:
            return False
        doubtful = math.log1p((case.rule.tolerance + case.rule.target) / 2)
        return count >= LAST_LOOK or hodges_lehmann(case.screened) > doubtful

    def _confirm(self) -> None:
        names = self.wanted()
        count = min((len(self.cases[name].confirmed) for name in names), default=0)
        share = dict(self.looks).get(count)
        if share is None:
            return
        self._find_slower(names, share)
        for name in self.wanted():
            self.cases[name].verdict = self.cases[name].passes()
        if count >= self.looks[-1][0]:
            self.close()

    def _find_slower(self, names: list[str], share: float) -> None:
        """Apply Holm's procedure to the suspects, at this look's share of the error."""
        assert self.suspects is not None
        chances = {}
        for name in names:
            case = self.cases[name]
            chances[name] = p_value(case.confirmed, math.log1p(case.rule.tolerance))
        left = sum(self.cases[name].verdict != SLOWER for name in self.suspects)
        for name in sorted(chances, key=chances.__getitem__):
            rule = self.cases[name].rule
            if chances[name] > share * rule.alpha / left:
                return
            self.cases[name].verdict = SLOWER
            left -= 1

    def give_up(self, name: str) -> None:
        """Leave a case undecided: it cannot be measured."""
        self.cases[name].verdict = CANNOT_TELL

    def close(self) -> None:
        """Leave undecided whatever is not yet decided: time is up."""
        for name in self.wanted():
            self.give_up(name)

    def finding(self, name: str) -> Finding:
        """Return what is known of a case."""
        case = self.cases[name]
        return found_in(case.values, case.rule, case.verdict or CANNOT_TELL)


def found_in(values: Sequence[float], rule: Rule, verdict: str) -> Finding:
    """Return what the values of some blocks say, beside a verdict on them."""
    if not values:
        return Finding(verdict, None, None, None, None, 0)
    centre = hodges_lehmann(values)
    low, high = lower_bound(values, 0.025), upper_bound(values, 0.025)
    reach = math.log1p(rule.tolerance) + centre - lower_bound(values, rule.alpha)
    return Finding(
        verdict,
        math.exp(centre),
        math.exp(low) if math.isfinite(low) else None,
        math.exp(high) if math.isfinite(high) else None,
        math.expm1(reach) if math.isfinite(reach) else None,
        len(values),
    )
