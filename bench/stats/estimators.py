"""Samples -> a robust centre, its interval and bounds, the exact test of it; quartiles.

A process is one sample. What its rounds say goes into one value; the interval is over processes.
"""

import math
import statistics
from collections.abc import Iterable, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

ERROR = 0.05  # how often an interval may miss what is true


class Estimate(NamedTuple):
    """A centre and the ends of its interval; the ends are None where there is no interval."""

    centre: float
    low: float | None
    high: float | None

    def holds(self, value: float) -> bool:
        """Say whether a value lies in the interval; in none where there is none."""
        return self.low is not None and self.high is not None and self.low <= value <= self.high

    def overlaps(self, other: "Estimate") -> bool:
        """Say whether both may be equal: their intervals overlap, or one of them has none."""
        if self.low is None or self.high is None or other.low is None or other.high is None:
            return True
        return self.low <= other.high and other.low <= self.high


class Prior(NamedTuple):
    """What the variances of a run's cases have in common: a scale, and its weight in samples."""

    variance: float  # the typical one of one sample
    freedom: float  # its degrees of freedom, at most those of all cases together


def hodges_lehmann(values: Sequence[float]) -> float:
    """Return the median of the means of all pairs, each value with itself included.

    One wild process in five does not move it far; for two values it is their mean.
    """
    return float(np.median(_walsh_sums(values))) / 2


def common_prior(samples: Iterable[Sequence[float]]) -> Prior | None:
    """Estimate from all cases of a run how much a sample varies, and how alike the cases are.

    With few samples a case's own variance says little; the others' help. The method of moments on
    the logarithms of the variances, of Smyth 2004, "Linear models and empirical Bayes methods for
    assessing differential expression", section 6.2; but where that finds all cases alike, what they
    have in common is known no better than all their samples tell. Cases with fewer than two values
    do not count; None where fewer than three do.
    """
    from scipy import optimize, special

    kept = [values for values in samples if len(values) > 1]
    if len(kept) < 3:
        return None
    freedom = np.array([len(values) - 1 for values in kept]) / 2
    variances = np.array([statistics.variance(values) for values in kept])
    known = np.log(np.maximum(variances, 1e-14)) - special.digamma(freedom) + np.log(freedom)
    centre = float(known.mean())
    excess = float(known.var(ddof=1) - special.polygamma(1, freedom).mean())
    total = float(2 * freedom.sum())
    if excess <= 1e-4:
        return Prior(float(np.average(variances, weights=freedom)), total)
    half = optimize.brentq(lambda x: float(special.polygamma(1, x)) - excess, 1e-6, 1e9)
    scale = math.exp(centre + float(special.digamma(half)) - math.log(half))
    return Prior(scale, min(2 * half, total))


@cache
def repeated_error(first: int, last: int, error: float = ERROR) -> float:
    """Return the error that each interval may have where one of several is taken.

    There is one of the `first` values, one of the first and the next, and so on to the `last`. All
    of them together hold the truth but for `error`, so whoever looks at each and stops when it
    pleases, for whatever reason, has an interval that does: repeated confidence intervals (Jennison
    and Turnbull 1989, "Interim analyses: the repeated confidence interval approach"), with the same
    error for each (Pocock 1977, "Group sequential methods in the design and analysis of clinical
    trials"). The sum of normal values that was within its bounds so far is followed from value to
    value, by the integrals of Armitage, McPherson and Rowe 1969, "Repeated significance tests on
    accumulating data".
    """
    if first == last:
        return error
    from scipy import optimize

    nodes, weights = np.polynomial.legendre.leggauss(64)

    def missed(reach: float) -> float:
        sums, mass, spread = np.zeros(1), np.ones(1), math.sqrt(first)
        for count in range(first, last + 1):
            bound = reach * math.sqrt(count)
            steps = (bound * nodes[:, None] - sums) / spread
            density = np.exp(-(steps**2) / 2) @ mass / (math.sqrt(2 * math.pi) * spread)
            sums, mass, spread = bound * nodes, bound * weights * density, 1.0
        return 1 - float(mass.sum())

    reach = optimize.brentq(lambda reach: missed(reach) - error, 0.5, 10)
    return math.erfc(reach / math.sqrt(2))


def estimate(values: Sequence[float], prior: Prior | None, error: float = ERROR) -> Estimate:
    """Return the centre of one case's values, one a process, and an interval that may so often err.

    The centre is Hodges and Lehmann's. The interval is Student's, with the case's variance drawn
    towards the run's by its prior, which adds degrees of freedom: s̃² = (d₀s₀² + ds²)/(d₀ + d).
    """
    from scipy import special  # not above: a process that measures imports this, and needs none

    centre = hodges_lehmann(values)
    count = len(values)
    if count < 2:
        return Estimate(centre, None, None)
    own, freedom = statistics.variance(values), float(count - 1)
    if prior is not None:
        total = prior.freedom + freedom
        own = (prior.freedom * prior.variance + freedom * own) / total
        freedom = total
    # The variance of the median of Walsh averages over that of the mean, for normal values.
    loss = math.pi / 3 if count > 2 else 1.0
    reach = float(special.stdtrit(freedom, 1 - error / 2)) * math.sqrt(loss * own / count)
    return Estimate(centre, centre - reach, centre + reach)


def quartiles(values: Iterable[float]) -> tuple[float, float, float]:
    """Return the lower quartile, the median and the upper one; NaN without a value."""
    low, middle, high = np.quantile(list(values) or [math.nan], [0.25, 0.5, 0.75])
    return float(low), float(middle), float(high)


@cache
def _distribution(count: int) -> NDArray[np.float64]:
    ways = np.ones(1)
    for rank in range(1, count + 1):
        ways = np.pad(ways, (0, rank)) + np.pad(ways, (rank, 0))
    return np.cumsum(ways) / 2.0**count


_pairs = cache(np.triu_indices)  # of so many values, each with itself included


def _walsh_sums(values: Sequence[float], centre: float = 0.0) -> NDArray[np.float64]:
    array = np.asarray(values) - centre
    first, second = _pairs(len(array))
    return array[first] + array[second]


def lower_bound(values: Sequence[float], alpha: float) -> float:
    """Return the one-sided lower bound of the centre, by inverting the exact signed-rank test.

    The centre of symmetric values lies below it with a probability of at most alpha (Hollander,
    Wolfe and Chicken 2014, "Nonparametric Statistical Methods", section 3.3). Minus infinity where
    there are too few values to say.
    """
    below = int(np.searchsorted(_distribution(len(values)), alpha, side="right"))
    return float(np.sort(_walsh_sums(values))[below - 1]) / 2 if below else -math.inf


def upper_bound(values: Sequence[float], alpha: float) -> float:
    """Return the one-sided upper bound of the centre; see `lower_bound`."""
    return -lower_bound([-value for value in values], alpha)


def share_bound(count: int, of: int, error: float) -> float:
    """Return Clopper and Pearson's exact upper bound of a share, from `count` found among `of`."""
    from scipy import special

    return float(special.betaincinv(count + 1, of - count, 1 - error)) if count < of else 1.0


def p_value(values: Sequence[float], centre: float) -> float:
    """Return the exact probability of values so high if their centre were at most `centre`."""
    if not values:
        return 1.0
    not_above = int((_walsh_sums(values, centre) <= 0).sum())  # the statistic of negated values
    return float(_distribution(len(values))[not_above])
